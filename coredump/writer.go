package coredump

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"

	"github.com/goinquest/inquest"
	"github.com/klauspost/compress/zstd"
)

// writerCPUs is how many blocks are packed at once at most.
const writerCPUs = 4

// Writer writes an image file: in one pass, front to back, with a few MiB of
// memory however large the core is. It is for one goroutine. One that is not
// closed leaves what OpenImage can open, and nothing to clean up.
type Writer struct {
	w      io.Writer
	header *Header
	head   []byte
	core   inquest.Core
	mini   uint64
	total  uint64
	pos    uint64 // of the stream
	off    int64  // of the file, of what is written
	blocks []Block
	skips  []skip
	enc    *zstd.Encoder
	cur    *packing
	queue  []*packing // being packed, oldest first
	free   []*packing
	cpus   int
	buf    []byte // a frame
	err    error
}

// packing is a block on its way through the writer.
type packing struct {
	raw    []byte
	from   uint64 // of the stream
	to     uint64 // where it is full
	skips  []byte
	packed []byte // room for the packed bytes
	stored []byte // raw, packed or empty
	sum    [32]byte
	done   chan struct{}
}

// NewWriter checks h, which must not change any more, and writes the head of
// an image file. w is written to in large pieces, only by calls of the Writer.
func NewWriter(w io.Writer, h *Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	cpus := min(runtime.GOMAXPROCS(0), writerCPUs)
	// The options are constants and known to be right, so there is no error.
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(cpus),
		zstd.WithWindowSize(BlockBytes), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	head, err := packHead(h, enc)
	if err != nil {
		return nil, err
	}
	iw := &Writer{w: w, header: h, head: head, core: h.Core, enc: enc, cpus: cpus}
	iw.mini, iw.total = h.bytes()
	return iw, iw.write(head)
}

// Describe replaces what is said of the core: what was learned while it was
// copied, as Missing and Blanked. It counts if Close is reached.
func (w *Writer) Describe(c inquest.Core) { w.core = c }

// Stored is how many bytes of the file are written so far.
func (w *Writer) Stored() int64 { return w.off }

// Write takes the next bytes of the extents, in the order of the header.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.room(uint64(len(p))); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		b := w.block()
		n := min(len(p)-done, int(b.to-w.pos))
		b.raw = append(b.raw, p[done:done+n]...)
		if err := w.advance(n); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Skip says that the next n bytes could not be read. They are missing then:
// reading them is an error, not zeros.
func (w *Writer) Skip(n uint64) error {
	if err := w.room(n); err != nil {
		return err
	}
	for n > 0 {
		b := w.block()
		k := min(n, b.to-w.pos)
		if err := b.skip(w.pos, k); err != nil {
			w.err = err
			return err
		}
		b.raw = b.raw[:len(b.raw)+int(k)]
		clear(b.raw[len(b.raw)-int(k):])
		if err := w.advance(int(k)); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// room checks that n more bytes may come.
func (w *Writer) room(n uint64) error {
	if w.err != nil {
		return w.err
	}
	if n > w.total-w.pos {
		return inquest.Errorf(inquest.ErrInvalid, "image: %d bytes are too many: %d of %d are left", n, w.total-w.pos, w.total)
	}
	return nil
}

// block is the one that is being filled.
func (w *Writer) block() *packing {
	if w.cur != nil {
		return w.cur
	}
	var b *packing
	if k := len(w.free); k > 0 {
		b, w.free = w.free[k-1], w.free[:k-1]
	} else {
		b = &packing{raw: make([]byte, 0, min(BlockBytes, w.total-w.pos))}
	}
	_, from, to := blockAt(w.pos, w.mini, w.total)
	b.raw, b.skips, b.from, b.to = b.raw[:0], b.skips[:0], from, to
	if uint64(cap(b.raw)) < to-from {
		b.raw = make([]byte, 0, to-from)
	}
	w.cur = b
	return b
}

// skip notes that [pos, pos+n) of the stream is not here.
func (b *packing) skip(pos, n uint64) error {
	if k := len(b.skips); k > 0 {
		last := b.skips[k-skipSize:]
		if end := wire.Uint32(last) + wire.Uint32(last[4:]); uint64(end) == pos-b.from {
			wire.PutUint32(last[4:], wire.Uint32(last[4:])+uint32(n))
			return nil
		}
	}
	if len(b.skips) >= maxBlockSkips*skipSize {
		return inquest.Errorf(inquest.ErrTooLarge, "image: more than %d gaps in one block", maxBlockSkips)
	}
	b.skips = wire.AppendUint32(b.skips, uint32(pos-b.from))
	b.skips = wire.AppendUint32(b.skips, uint32(n))
	return nil
}

// advance moves on by n bytes that are in the current block.
func (w *Writer) advance(n int) error {
	w.pos += uint64(n)
	if w.pos == w.cur.to {
		return w.submit()
	}
	return nil
}

// submit has the current block packed.
func (w *Writer) submit() error {
	b := w.cur
	w.cur = nil
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		b.pack(w.enc)
	}()
	w.queue = append(w.queue, b)
	if len(w.queue) > w.cpus {
		return w.flush()
	}
	return nil
}

func (b *packing) pack(enc *zstd.Encoder) {
	switch {
	case allZero(b.raw):
		b.stored = nil
	default:
		b.packed = enc.EncodeAll(b.raw, b.packed[:0])
		b.stored = b.packed
		if len(b.packed) >= len(b.raw) {
			b.stored = b.raw
		}
	}
	b.sum = sha256.Sum256(b.stored)
}

// allZero reports whether b has nothing but zeros.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// flush writes the oldest block that is being packed.
func (w *Writer) flush() error {
	b := w.queue[0]
	w.queue = w.queue[1:]
	<-b.done
	f := frame{
		number: uint32(len(w.blocks)),
		block:  Block{Size: uint32(len(b.raw)), Stored: uint32(len(b.stored)), Sum: b.sum},
		skips:  b.skips,
	}
	w.blocks = append(w.blocks, f.block)
	for s := b.skips; len(s) > 0; s = s[skipSize:] {
		w.skips = append(w.skips, skip{b.from + uint64(wire.Uint32(s)), uint64(wire.Uint32(s[4:]))})
	}
	w.buf = f.append(w.buf[:0])
	if err := w.write(w.buf); err != nil {
		return err
	}
	if err := w.write(b.stored); err != nil {
		return err
	}
	w.free = append(w.free, b)
	return nil
}

func (w *Writer) write(b []byte) error {
	if w.err != nil {
		return w.err
	}
	n, err := w.w.Write(b)
	w.off += int64(n)
	if err != nil {
		w.err = fmt.Errorf("write the image of a core: %w", err)
	}
	return w.err
}

// Close writes what is left and the trailer, and returns the ledger of the
// image. What was announced and not written is missing.
func (w *Writer) Close() (*Ledger, error) {
	if w.err != nil {
		return nil, w.err
	}
	if w.cur != nil {
		if err := w.submit(); err != nil {
			return nil, err
		}
	}
	for len(w.queue) > 0 {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	l, err := newLedger(w.header, w.head, w.core, w.pos, w.blocks, w.skips)
	if err != nil {
		return nil, err
	}
	if err := w.write(l.raw[l.head:]); err != nil {
		return nil, err
	}
	w.err = inquest.Errorf(inquest.ErrInvalid, "image: written to after it was closed")
	w.cur, w.queue, w.free = nil, nil, nil
	return l, nil
}
