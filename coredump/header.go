package coredump

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"

	"github.com/goinquest/inquest"
	"github.com/klauspost/compress/zstd"
)

// Fill says what those bytes of a segment are that no extent has.
type Fill uint8

const (
	FillZero    Fill = iota // they are zero
	FillMissing             // they were left out: what is there is not known
)

// Segment is one mapping of the process, or a part of one, as a core has them.
type Segment struct {
	Extent
	Flags uint32 // elf.PF_R, PF_W, PF_X
	Fill  Fill
}

// Header says what an image will hold. It is written before any memory is.
type Header struct {
	Core     inquest.Core // ID and the numbers of what is here are filled in by the image
	Notes    []byte       // content of the core's PT_NOTE segment
	Machine  uint16       // elf.Machine
	Segments []Segment    // by address, disjoint
	// Extents are what is here of the segments, in the order in which their
	// bytes come, most useful first; disjoint, each within one segment.
	Extents []Extent
	Mini    int // number of leading extents that make the minicore; 0: all
}

// check reports what is wrong with a header.
func (h *Header) check() error {
	invalid := func(format string, args ...any) error {
		return inquest.Errorf(inquest.ErrInvalid, "image: "+format, args...)
	}
	switch {
	case len(h.Segments) > MaxExtents || len(h.Extents) > MaxExtents:
		return inquest.Errorf(inquest.ErrTooLarge, "image: %d segments and %d extents; at most %d of each", len(h.Segments), len(h.Extents), MaxExtents)
	case len(h.Notes) > MaxNotesBytes:
		return inquest.Errorf(inquest.ErrTooLarge, "image: %d bytes of notes, at most %d", len(h.Notes), MaxNotesBytes)
	case h.Mini < 0 || h.Mini > len(h.Extents):
		return invalid("a minicore of %d extents, there are %d", h.Mini, len(h.Extents))
	}
	var end, virtual uint64
	for i, s := range h.Segments {
		if s.Size == 0 || s.Addr < end || s.Size > math.MaxUint64-s.Addr {
			return invalid("segment %d (%#x, %d bytes) is empty, or not behind the one before it", i, s.Addr, s.Size)
		}
		if s.Fill > FillMissing {
			return invalid("segment %d: unknown fill %d", i, s.Fill)
		}
		end = s.End()
		if virtual += s.Size; virtual > maxVirtual {
			return inquest.Errorf(inquest.ErrTooLarge, "image: segments of more than %d bytes", uint64(maxVirtual))
		}
	}
	return h.checkExtents(invalid)
}

func (h *Header) checkExtents(invalid func(string, ...any) error) error {
	var total uint64
	end, seg := uint64(0), 0
	for _, i := range byAddress(h.Extents) {
		e := h.Extents[i]
		if e.Size == 0 || e.Size > math.MaxUint64-e.Addr {
			return invalid("extent %d (%#x, %d bytes) is empty or too long", i, e.Addr, e.Size)
		}
		if e.Addr < end {
			return invalid("extent %d (%#x, %d bytes) overlaps another", i, e.Addr, e.Size)
		}
		end = e.End()
		for seg < len(h.Segments) && h.Segments[seg].End() <= e.Addr {
			seg++
		}
		if seg == len(h.Segments) || e.Addr < h.Segments[seg].Addr || end > h.Segments[seg].End() {
			return invalid("extent %d (%#x, %d bytes) is not within one segment", i, e.Addr, e.Size)
		}
		total += e.Size // cannot overflow: extents are within the segments
	}
	if total > (maxBlocks-1)*BlockBytes {
		return inquest.Errorf(inquest.ErrTooLarge, "image: %d bytes of memory, at most %d", total, uint64((maxBlocks-1)*BlockBytes))
	}
	return nil
}

// byAddress returns the indexes of extents by address.
func byAddress(extents []Extent) []int32 {
	order := make([]int32, len(extents))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(extents[a].Addr, extents[b].Addr) })
	return order
}

// bytes returns the sizes of the stream: of the minicore, and of all.
func (h *Header) bytes() (mini, total uint64) {
	for i, e := range h.Extents {
		total += e.Size
		if i == h.Mini-1 {
			mini = total
		}
	}
	if h.Mini == 0 {
		mini = total
	}
	return mini, total
}

// appendRaw appends the header as it is packed.
func (h *Header) appendRaw(b []byte) ([]byte, error) {
	core, err := json.Marshal(described(h.Core))
	if err != nil {
		return nil, err
	}
	if len(core) > maxCoreBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "image: a description of %d bytes, at most %d", len(core), maxCoreBytes)
	}
	b = binary.AppendUvarint(b, uint64(len(core)))
	b = append(b, core...)
	b = binary.AppendUvarint(b, uint64(h.Machine))
	b = binary.AppendUvarint(b, uint64(len(h.Segments)))
	end := uint64(0)
	for _, s := range h.Segments {
		b = binary.AppendUvarint(b, s.Addr-end)
		b = binary.AppendUvarint(b, s.Size)
		b = binary.AppendUvarint(b, uint64(s.Flags)<<1|uint64(s.Fill))
		end = s.End()
	}
	b = binary.AppendUvarint(b, uint64(len(h.Extents)))
	end = 0
	for _, e := range h.Extents {
		b = binary.AppendVarint(b, int64(e.Addr-end))
		b = binary.AppendUvarint(b, e.Size)
		end = e.End()
	}
	b = binary.AppendUvarint(b, uint64(h.Mini))
	b = binary.AppendUvarint(b, uint64(len(h.Notes)))
	return append(b, h.Notes...), nil
}

// described is a Core without what an image computes.
func described(c inquest.Core) inquest.Core {
	c.ID, c.VirtualBytes, c.MemoryBytes, c.StoredBytes, c.Blocks, c.Complete = "", 0, 0, 0, 0, false
	return c
}

// parseHeader reads what appendRaw wrote, and checks it.
func parseHeader(b []byte) (*Header, error) {
	p := &parser{b: b}
	h := &Header{}
	core := p.take(p.count(maxCoreBytes))
	h.Machine = uint16(p.count(math.MaxUint16))
	n := p.count(MaxExtents)
	if p.err == nil {
		h.Segments = make([]Segment, 0, min(n, len(p.b)/3))
	}
	end := uint64(0)
	for range n {
		s := Segment{Extent: Extent{Addr: end + p.uvarint(), Size: p.uvarint()}}
		f := p.uvarint()
		s.Flags, s.Fill = uint32(f>>1), Fill(f&1)
		if p.err != nil {
			return nil, p.err
		}
		h.Segments = append(h.Segments, s)
		end = s.End()
	}
	n = p.count(MaxExtents)
	if p.err == nil {
		h.Extents = make([]Extent, 0, min(n, len(p.b)/2))
	}
	end = 0
	for range n {
		e := Extent{Addr: end + uint64(p.varint()), Size: p.uvarint()}
		if p.err != nil {
			return nil, p.err
		}
		h.Extents = append(h.Extents, e)
		end = e.End()
	}
	h.Mini = p.count(MaxExtents)
	h.Notes = p.take(p.count(MaxNotesBytes))
	if p.err != nil {
		return nil, p.err
	}
	if len(p.b) != 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: %d bytes behind the header", len(p.b))
	}
	if err := json.Unmarshal(core, &h.Core); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: read the description: %w", err)
	}
	h.Core = described(h.Core)
	return h, h.check()
}

// parser reads numbers off the front of bytes that may be wrong.
type parser struct {
	b   []byte
	err error
}

func (p *parser) fail() {
	p.b = nil
	if p.err == nil {
		p.err = inquest.Errorf(inquest.ErrInvalid, "image: the header ends too early, or has a wrong number")
	}
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) count(most int) int {
	v := p.uvarint()
	if v > uint64(most) {
		p.fail()
		return 0
	}
	return int(v)
}

func (p *parser) take(n int) []byte {
	if n > len(p.b) {
		p.fail()
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

// packHead returns the head of an image file.
func packHead(h *Header, enc *zstd.Encoder) ([]byte, error) {
	raw, err := h.appendRaw(nil)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxHeaderBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "image: a header of %d bytes, at most %d", len(raw), maxHeaderBytes)
	}
	head := enc.EncodeAll(raw, make([]byte, headFixed, headFixed+len(raw)/2+1024))
	packed := head[headFixed:]
	copy(head, magicHead)
	wire.PutUint32(head[4:], imageVersion)
	wire.PutUint32(head[8:], uint32(len(raw)))
	wire.PutUint32(head[12:], uint32(len(packed)))
	sum := sha256.Sum256(packed)
	copy(head[16:], sum[:])
	return head, nil
}

// headSize is how long the head is that begins with these bytes.
func headSize(fixed []byte) (int, error) {
	if len(fixed) < headFixed || string(fixed[:4]) != magicHead {
		return 0, inquest.Errorf(inquest.ErrInvalid, "not an image of a core")
	}
	if v := wire.Uint32(fixed[4:]); v != imageVersion {
		return 0, inquest.Errorf(inquest.ErrInvalid, "image: version %d; %d is known", v, imageVersion)
	}
	raw, packed := wire.Uint32(fixed[8:]), wire.Uint32(fixed[12:])
	if raw > maxHeaderBytes || packed > maxHeaderBytes {
		return 0, inquest.Errorf(inquest.ErrTooLarge, "image: a header of %d bytes, %d packed; at most %d", raw, packed, maxHeaderBytes)
	}
	return headFixed + int(packed), nil
}

// unpackHead reads a whole head.
func unpackHead(head []byte) (*Header, error) {
	n, err := headSize(head)
	if err != nil {
		return nil, err
	}
	if n != len(head) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: the head has %d bytes, not %d", len(head), n)
	}
	packed := head[headFixed:]
	if sum := sha256.Sum256(packed); !bytes.Equal(sum[:], head[16:headFixed]) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: the head is damaged")
	}
	raw, err := unpack(packed, int(wire.Uint32(head[8:])))
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: unpack the head: %w", err)
	}
	return parseHeader(raw)
}

// unpack returns the size bytes a zstd frame stands for. Never more than
// these are allocated, and less if the frame has not the bytes for them.
func unpack(packed []byte, size int) ([]byte, error) {
	dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
	return unpackWith(dec, packed, make([]byte, 0, size))
}

// unpackWith fills into to its capacity.
func unpackWith(dec *zstd.Decoder, packed, into []byte) ([]byte, error) {
	out, err := dec.DecodeAll(packed, into[:0])
	if err != nil {
		return nil, err
	}
	if len(out) != cap(into) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d bytes, not %d", len(out), cap(into))
	}
	return out, nil
}
