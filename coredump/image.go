package coredump

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/goinquest/inquest"
)

// Image is the memory of a process as an image file has it. It is safe for
// concurrent use.
type Image struct {
	ledger *Ledger
	has    func(n int) bool
	stored func(n int) ([]byte, error)
	runs   []run
	memory *memory
}

// NewImage is an image whose blocks are kept by somebody else. block returns
// the stored bytes of one, which are not changed; it is an error if it has not
// got one. has says which are here, as long as the image is used; nil stands
// for all of them. What is in other blocks is missing.
func NewImage(l *Ledger, block func(n int) ([]byte, error), has func(n int) bool) *Image {
	im := &Image{ledger: l, has: has, stored: block}
	im.runs = l.runs(has)
	im.memory = &memory{runs: im.runs, ledger: l, block: block}
	return im
}

// Ledger is all of the image but its blocks.
func (im *Image) Ledger() *Ledger { return im.ledger }

// Has reports whether a block is here.
func (im *Image) Has(n int) bool { return im.has == nil || im.has(n) }

// Stored returns the stored bytes of a block, checked against its hash.
func (im *Image) Stored(n int) ([]byte, error) {
	if !im.Has(n) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "block %d of core %s is not here", n, im.ledger.ID())
	}
	return im.ledger.checked(n, im.stored)
}

// checked reads a block and compares its hash.
func (l *Ledger) checked(n int, block func(int) ([]byte, error)) ([]byte, error) {
	if l.blocks[n].Stored == 0 {
		return nil, nil
	}
	b, err := block(n)
	if err != nil {
		return nil, fmt.Errorf("read block %d of core %s: %w", n, l.ID(), err)
	}
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], l.blocks[n].Sum[:]) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "block %d of core %s is damaged", n, l.ID())
	}
	return b, nil
}

// OpenImage opens an image file of size bytes. One that was cut off has what
// is whole of it; its ledger, and so its ID, is that of what is there. Blocks
// are read and checked when they are needed.
func OpenImage(r io.ReaderAt, size int64) (*Image, error) {
	head, h, err := readHead(r, size)
	if err != nil {
		return nil, err
	}
	l, err := readTrailer(r, size, head, h)
	if err == nil && l.Size() == size {
		return NewImage(l, fileBlocks(r, l, nil), nil), nil
	}
	s := &scan{r: r, size: size, off: int64(len(head)), ledger: l}
	s.mini, s.total = h.bytes()
	s.all()
	if l == nil {
		if l, err = newLedger(h, head, h.Core, s.pos, s.blocks, s.skips); err != nil {
			return nil, err
		}
	}
	offsets := s.offsets
	return NewImage(l, fileBlocks(r, l, offsets), func(n int) bool { return n < len(offsets) && offsets[n] >= 0 }), nil
}

// readHead reads and checks the head of a file.
func readHead(r io.ReaderAt, size int64) ([]byte, *Header, error) {
	fixed := make([]byte, min(headFixed, max(0, size)))
	if err := readFull(r, fixed, 0); err != nil {
		return nil, nil, fmt.Errorf("read the head of an image: %w", err)
	}
	n, err := headSize(fixed)
	if err != nil {
		return nil, nil, err
	}
	if int64(n) > size {
		return nil, nil, inquest.Errorf(inquest.ErrInvalid, "image: the file of %d bytes ends within its head of %d", size, n)
	}
	head := make([]byte, n)
	if err := readFull(r, head, 0); err != nil {
		return nil, nil, fmt.Errorf("read the head of an image: %w", err)
	}
	h, err := unpackHead(head)
	return head, h, err
}

// readTrailer reads the ledger of a file that has its end.
func readTrailer(r io.ReaderAt, size int64, head []byte, h *Header) (*Ledger, error) {
	foot := make([]byte, footerFixed)
	if size < int64(len(head))+trailerFixed+footerFixed {
		return nil, errTrailer
	}
	if err := readFull(r, foot, size-footerFixed); err != nil {
		return nil, err
	}
	n := int64(wire.Uint32(foot[footerFixed-8:]))
	if string(foot[footerFixed-4:]) != magicEnd || n > maxTrailer || n > size-int64(len(head)) {
		return nil, errTrailer
	}
	raw := make([]byte, len(head)+int(n))
	copy(raw, head)
	if err := readFull(r, raw[len(head):], size-n); err != nil {
		return nil, err
	}
	return parseTrailer(h, raw, len(head))
}

// fileBlocks reads blocks of a file; offsets are where they are if that does
// not follow from the ledger.
func fileBlocks(r io.ReaderAt, l *Ledger, offsets []int64) func(int) ([]byte, error) {
	return func(n int) ([]byte, error) {
		off := l.blocks[n].Offset
		if offsets != nil {
			off = offsets[n]
		}
		b := make([]byte, l.blocks[n].Stored)
		return b, readFull(r, b, off)
	}
}

// readFull reads all of b, or says what is wrong.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return inquest.Errorf(inquest.ErrInvalid, "the file ends at %d, within %d bytes at %d", off+int64(n), len(b), off)
	}
	return err
}

// scan walks over the frames of a file.
type scan struct {
	r           io.ReaderAt
	size, off   int64
	mini, total uint64
	pos         uint64  // of the stream
	ledger      *Ledger // of the file, if its end is there
	blocks      []Block
	skips       []skip
	offsets     []int64 // of each block; -1: not here
}

// all goes on until something is not as it should be: there the file was cut
// off, or ends.
func (s *scan) all() {
	for s.pos < s.total && s.one() {
	}
}

func (s *scan) one() bool {
	var room [frameFixed + 64*skipSize]byte
	b := room[:frameFixed]
	if s.off+frameFixed > s.size || readFull(s.r, b, s.off) != nil {
		return false
	}
	f, n, err := parseFrame(b)
	if err != nil || s.off+int64(frameFixed+n) > s.size {
		return false
	}
	if frameFixed+n > len(room) {
		b = make([]byte, frameFixed+n)
	} else {
		b = room[:frameFixed+n]
	}
	if readFull(s.r, b, s.off) != nil || checkFrame(b) != nil {
		return false
	}
	number, from, to := blockAt(s.pos, s.mini, s.total)
	if int(f.number) != number || from != s.pos || uint64(f.block.Size) > to-from || f.block.Size == 0 {
		return false
	}
	to = from + uint64(f.block.Size)
	skips, ok := appendParsed(s.skips, b[frameFixed:], from, to)
	if !ok || len(skips) > maxSkips || !s.agrees(number, f.block) {
		return false
	}
	at := s.off + int64(len(b))
	if f.absent {
		if s.ledger == nil {
			return false // nothing says what it was
		}
		s.off, at = at, -1
	} else if s.off = at + int64(f.block.Stored); s.off > s.size {
		return false
	}
	s.skips, s.pos = skips, to
	s.blocks = append(s.blocks, f.block)
	s.offsets = append(s.offsets, at)
	return f.block.Size == BlockBytes || to == s.mini || to == s.total
}

// agrees reports whether a frame is the one the trailer knows.
func (s *scan) agrees(n int, b Block) bool {
	if s.ledger == nil {
		return true
	}
	if n >= len(s.ledger.blocks) {
		return false
	}
	want := s.ledger.blocks[n]
	return want.Stored == b.Stored && want.Size == b.Size && want.Sum == b.Sum
}

// WriteTo writes the image as a file. Blocks that are not here are left out,
// and known to be so when it is opened.
func (im *Image) WriteTo(w io.Writer) (int64, error) {
	l := im.ledger
	var written int64
	write := func(b []byte) error {
		n, err := w.Write(b)
		written += int64(n)
		return err
	}
	if err := write(l.raw[:l.head]); err != nil {
		return written, err
	}
	for n := range l.blocks {
		f := frame{number: uint32(n), block: l.blocks[n], skips: l.appendSkips(nil, n), absent: !im.Has(n)}
		if err := write(f.append(nil)); err != nil {
			return written, err
		}
		if f.absent {
			continue
		}
		b, err := im.Stored(n)
		if err != nil {
			return written, err
		}
		if err := write(b); err != nil {
			return written, err
		}
	}
	return written, write(l.raw[l.head:])
}

// Process is the process whose memory this is.
func (im *Image) Process() (*Process, error) {
	p, err := im.ledger.header.process()
	if err != nil {
		return nil, err
	}
	p.Memory = im.memory
	return p, nil
}
