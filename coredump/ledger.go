package coredump

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"

	"github.com/goinquest/inquest"
)

// Block is one piece of an image's memory, packed for itself.
type Block struct {
	Offset int64    // of the stored bytes in a whole image file
	Stored uint32   // bytes; Size if they are not packed, 0 if all of the block is zero
	Size   uint32   // bytes of memory
	Sum    [32]byte // SHA-256 of the stored bytes
}

// skip is a range of the stream of an image that could not be read.
type skip struct{ pos, size uint64 }

// Ledger is all of an image but its blocks: what it holds, and of each block
// its hash. It does not change.
type Ledger struct {
	header  *Header
	raw     []byte // head and trailer
	head    int    // bytes of raw that are the head
	blocks  []Block
	skips   []skip // by position, disjoint, none over the border of a block
	first   []int  // index in skips of the first of each block, and their number
	mini    uint64 // bytes of the stream that are the minicore
	total   uint64 // bytes of the stream, as announced
	written uint64 // of them
	root    [32]byte
}

// Bytes is the ledger as it is sent and kept. It is not to be changed.
func (l *Ledger) Bytes() []byte { return l.raw }

// Header is what the image holds. Its Core is complete: as it was described
// when the image was closed, with ID and sizes. It is not to be changed.
func (l *Ledger) Header() *Header { return l.header }

// Blocks are all blocks of the image. They are not to be changed.
func (l *Ledger) Blocks() []Block { return l.blocks }

// MiniBlocks is how many leading blocks are the minicore.
func (l *Ledger) MiniBlocks() int { return min(blocksOf(l.mini), len(l.blocks)) }

// ID names the core by what it holds: 32 hex digits.
func (l *Ledger) ID() string { return hex.EncodeToString(l.root[:16]) }

// Size is how long the whole image file is, in bytes.
func (l *Ledger) Size() int64 {
	n := int64(l.head)
	if k := len(l.blocks); k > 0 {
		n = l.blocks[k-1].Offset + int64(l.blocks[k-1].Stored)
	}
	return n + int64(len(l.raw)-l.head)
}

func blocksOf(bytes uint64) int { return int((bytes + BlockBytes - 1) / BlockBytes) }

// blockAt returns the number of the block that has position pos of the
// stream, where it begins, and where it ends if it is whole.
func blockAt(pos, mini, total uint64) (n int, from, to uint64) {
	if pos < mini {
		n = int(pos / BlockBytes)
		from = uint64(n) * BlockBytes
		return n, from, min(from+BlockBytes, mini)
	}
	k := (pos - mini) / BlockBytes
	from = mini + k*BlockBytes
	return blocksOf(mini) + int(k), from, min(from+BlockBytes, total)
}

// newLedger makes the ledger of what was written. The blocks have their
// stored sizes and sums; head is kept.
func newLedger(h *Header, head []byte, core inquest.Core, written uint64, blocks []Block, skips []skip) (*Ledger, error) {
	l := &Ledger{header: h, head: len(head), blocks: blocks, skips: skips, written: written}
	l.mini, l.total = h.bytes()
	l.index()
	b, err := json.Marshal(described(core))
	if err != nil {
		return nil, err
	}
	if len(b) > maxCoreBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "image: a description of %d bytes, at most %d", len(b), maxCoreBytes)
	}
	if len(skips) > maxSkips {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "image: %d gaps, at most %d", len(skips), maxSkips)
	}
	raw := make([]byte, 0, len(head)+trailerFixed+len(b)+len(blocks)*rowSize+len(skips)*skipSize+footerFixed)
	raw = append(raw, head...)
	raw = append(raw, magicTrailer...)
	raw = wire.AppendUint32(raw, uint32(len(blocks)))
	raw = wire.AppendUint64(raw, written)
	raw = wire.AppendUint32(raw, uint32(len(skips)))
	raw = wire.AppendUint32(raw, uint32(len(b)))
	raw = wire.AppendUint64(raw, 0)
	raw = append(raw, b...)
	for i := range blocks {
		raw = wire.AppendUint32(raw, blocks[i].Stored)
		raw = wire.AppendUint32(raw, uint32(l.first[i+1]-l.first[i]))
		raw = append(raw, blocks[i].Sum[:]...)
	}
	for i := range blocks {
		raw = l.appendSkips(raw, i)
	}
	l.root = sha256.Sum256(raw)
	raw = append(raw, l.root[:]...)
	raw = wire.AppendUint32(raw, uint32(len(raw)-len(head)+8))
	l.raw = append(raw, magicEnd...)
	l.complete(core)
	return l, nil
}

// appendSkips appends the skips of a block as frames and the trailer have them.
func (l *Ledger) appendSkips(b []byte, block int) []byte {
	from := l.start(block)
	for _, s := range l.skips[l.first[block]:l.first[block+1]] {
		b = wire.AppendUint32(b, uint32(s.pos-from))
		b = wire.AppendUint32(b, uint32(s.size))
	}
	return b
}

// start is the position of the stream where a block begins.
func (l *Ledger) start(block int) uint64 {
	if k := blocksOf(l.mini); block >= k {
		return l.mini + uint64(block-k)*BlockBytes
	}
	return uint64(block) * BlockBytes
}

// index fills in what follows from the rest: which skips are whose, sizes and
// offsets of blocks.
func (l *Ledger) index() {
	l.first = make([]int, len(l.blocks)+1)
	next, off := 0, int64(l.head)
	for i := range l.blocks {
		b := &l.blocks[i]
		from, to := l.start(i), min(l.written, l.total)
		if i+1 < len(l.blocks) {
			to = l.start(i + 1)
		}
		l.first[i] = next
		for next < len(l.skips) && l.skips[next].pos < to {
			next++
		}
		b.Size = uint32(to - from)
		b.Offset = off + frameFixed + int64(next-l.first[i])*skipSize
		off = b.Offset + int64(b.Stored)
	}
	l.first[len(l.blocks)] = next
}

// complete fills the Core of the header in.
func (l *Ledger) complete(core inquest.Core) {
	c := described(core)
	c.ID = l.ID()
	c.Blocks = len(l.blocks)
	c.MemoryBytes = int64(l.written)
	for _, s := range l.skips {
		c.MemoryBytes -= int64(s.size)
	}
	for i := range l.blocks {
		c.StoredBytes += int64(l.blocks[i].Stored)
	}
	c.VirtualBytes = l.virtual()
	c.Complete = l.written == l.total && len(l.skips) == 0
	h := *l.header
	h.Core = c
	l.header = &h
}

// ParseLedger reads what Bytes returned, and checks all of it.
func ParseLedger(b []byte) (*Ledger, error) {
	if len(b) > maxLedgerBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "image: a ledger of %d bytes, at most %d", len(b), maxLedgerBytes)
	}
	n, err := headSize(b)
	if err != nil {
		return nil, err
	}
	if n > len(b) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: the ledger ends within its head")
	}
	h, err := unpackHead(b[:n:n])
	if err != nil {
		return nil, err
	}
	return parseTrailer(h, b, n)
}

var errTrailer = inquest.Errorf(inquest.ErrInvalid, "image: the trailer is damaged")

// parseTrailer makes a ledger of a header and raw, whose first head bytes are
// the head and the rest is the trailer.
func parseTrailer(h *Header, raw []byte, head int) (*Ledger, error) {
	t := raw[head:]
	if len(t) < trailerFixed+footerFixed || string(t[:4]) != magicTrailer || string(t[len(t)-4:]) != magicEnd ||
		uint64(wire.Uint32(t[len(t)-8:])) != uint64(len(t)) {
		return nil, errTrailer
	}
	l := &Ledger{header: h, raw: raw, head: head}
	l.root = sha256.Sum256(raw[:len(raw)-footerFixed])
	if !bytes.Equal(l.root[:], t[len(t)-footerFixed:len(t)-8]) {
		return nil, errTrailer
	}
	blocks, skips, size := wire.Uint32(t[4:]), wire.Uint32(t[16:]), wire.Uint32(t[20:])
	l.written = wire.Uint64(t[8:])
	if blocks > maxBlocks || skips > maxSkips || size > maxCoreBytes || wire.Uint64(t[24:]) != 0 ||
		int(blocks)*rowSize+int(skips)*skipSize+int(size) != len(t)-trailerFixed-footerFixed {
		return nil, errTrailer
	}
	l.mini, l.total = h.bytes()
	if l.written > l.total || int(blocks) != blocksWritten(l.written, l.mini, l.total) {
		return nil, errTrailer
	}
	t = t[trailerFixed : len(t)-footerFixed]
	var core inquest.Core
	if err := json.Unmarshal(t[:size], &core); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "image: read the description: %w", err)
	}
	if err := l.parseRows(t[size:], int(blocks), int(skips)); err != nil {
		return nil, err
	}
	l.index()
	for i := range l.blocks {
		if l.blocks[i].Stored > l.blocks[i].Size {
			return nil, errTrailer
		}
	}
	l.complete(core)
	return l, nil
}

// blocksWritten is how many blocks there are once so much was written.
func blocksWritten(written, mini, total uint64) int {
	if written == 0 {
		return 0
	}
	n, _, _ := blockAt(written-1, mini, total)
	return n + 1
}

// parseRows reads the table of blocks and their skips.
func (l *Ledger) parseRows(t []byte, blocks, skips int) error {
	at := t[blocks*rowSize:]
	l.blocks = make([]Block, blocks)
	l.skips = make([]skip, 0, skips)
	for i := range l.blocks {
		row := t[i*rowSize:]
		l.blocks[i].Stored = wire.Uint32(row)
		copy(l.blocks[i].Sum[:], row[8:rowSize])
		n := uint64(wire.Uint32(row[4:]))
		if n > maxBlockSkips || n*skipSize > uint64(len(at)) {
			return errTrailer
		}
		_, from, to := blockAt(l.start(i), l.mini, l.total)
		to = min(to, l.written)
		var ok bool
		if l.skips, ok = appendParsed(l.skips, at[:n*skipSize], from, to); !ok {
			return errTrailer
		}
		at = at[n*skipSize:]
	}
	if len(at) != 0 {
		return errTrailer
	}
	return nil
}

// appendParsed appends the skips of a block that has [from, to) of the
// stream, and reports whether they are right.
func appendParsed(skips []skip, b []byte, from, to uint64) ([]skip, bool) {
	for last := from; len(b) > 0; b = b[skipSize:] {
		s := skip{from + uint64(wire.Uint32(b)), uint64(wire.Uint32(b[4:]))}
		if s.size == 0 || s.pos < last || s.pos > math.MaxInt64 || s.pos+s.size > to {
			return nil, false
		}
		last = s.pos + s.size
		skips = append(skips, s)
	}
	return skips, true
}

// virtual is how much memory a core file of all that was announced has: what
// is zero is in it too, as holes.
func (l *Ledger) virtual() int64 {
	n := l.total
	seg := l.header.Segments
	for _, s := range seg {
		if s.Fill == FillZero {
			n += s.Size
		}
	}
	i := 0
	for _, k := range byAddress(l.header.Extents) {
		e := l.header.Extents[k]
		for seg[i].End() <= e.Addr {
			i++
		}
		if seg[i].Fill == FillZero {
			n -= e.Size
		}
	}
	return int64(n)
}
