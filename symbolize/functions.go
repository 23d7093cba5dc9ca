package symbolize

import (
	"debug/buildinfo"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/goinquest/inquest"
)

// Functions resolves addresses of one Go executable right out of its file: no
// table is written, and little is read. It is for few addresses, and where the
// first answer must come within milliseconds. It is safe for concurrent use;
// the reader it was opened with must stay usable.
type Functions struct {
	f       *image
	t       *pclntab // without its pools
	end     uint64   // of Go's code
	answers answers

	version func() string

	mu       sync.Mutex // held while something is read
	file     fileWindow
	pools    uint64 // offset in the file of the table
	left     int    // bytes of pc tables that the answer may still take
	ids      funcIDs
	idsKnown bool
}

// OpenFunctions finds Go's table of functions in an executable of size bytes.
// It keeps a few hundred kilobytes. The error is of kind inquest.ErrNotFound if
// there is no such table (of Go 1.20 or later), inquest.ErrInvalid if the file is damaged.
func OpenFunctions(r io.ReaderAt, size int64) (*Functions, error) {
	f, err := openELF(r, size)
	if err != nil {
		return nil, err
	}
	t, err := locatePclntab(f)
	if err != nil {
		return nil, err
	}
	at, left, ok := f.fileRange(t.addr)
	if !ok || left < t.bytes {
		return nil, inquest.Errorf(inquest.ErrInvalid, "Go's table of functions has %d bytes, %d of them in the file", t.bytes, left)
	}
	fs := &Functions{f: f, t: t, file: fileWindow{f: f}, pools: at, answers: newAnswers(0)}
	fs.version = sync.OnceValue(func() string {
		info, err := buildinfo.Read(r)
		if err != nil {
			return ""
		}
		return info.GoVersion
	})
	last, err := fs.number(t.pclnOff + uint64(t.nfunc)*8)
	if err != nil {
		return nil, err
	}
	fs.end = t.text + uint64(last)
	return fs, nil
}

// GoVersion is the release the executable was built with ("go1.26.8"), "" if
// it does not say so.
func (f *Functions) GoVersion() string { return f.version() }

// Entry is where the program begins, as linked: what a process has as AT_ENTRY
// less this is how far it was moved.
func (f *Functions) Entry() uint64 { return f.f.entry }

// Text is where Go's code is, as linked.
func (f *Functions) Text() Range { return Range{f.t.text, f.end} }

// Data is where Go's variables are, as linked: the initialized without and with
// pointers, then those that begin as zero, with and without pointers.
func (f *Functions) Data() [4]Range { return f.t.data }

// Types is where the descriptions of Go's types are, as linked: what an
// interface points to, and the names that these have by their distance from Start.
func (f *Functions) Types() Range { return f.t.types }

// ReadLinked reads what the file has at an address, as linked: the constants of
// the program. Where it may be loaded anywhere, pointers in there may be zero. It
// returns how many bytes there are, up to len(p).
func (f *Functions) ReadLinked(p []byte, addr uint64) int {
	off, left, ok := f.f.fileRange(addr)
	if !ok {
		return 0
	}
	p = p[:min(uint64(len(p)), left)]
	if err := f.f.readInto(p, off); err != nil {
		return 0
	}
	return len(p)
}

// Frames is what Table.Frames is.
func (f *Functions) Frames(dst []inquest.Frame, addr uint64) []inquest.Frame {
	if addr < f.t.text || addr >= f.end {
		return dst
	}
	if x := f.answers.get(addr); x != nil {
		return append(dst, x.frames...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	row, err := f.find(addr)
	if err != nil {
		return dst
	}
	frames, err := f.frames(&row, uint32(addr-f.t.text)-row.entry)
	if err != nil {
		return dst
	}
	f.answers.put(&answer{addr, frames})
	return append(dst, frames...)
}

// Function is the function whose code an address is in, as the linker has it,
// whatever was inlined there.
func (f *Functions) Function(addr uint64) (name string, entry uint64, ok bool) {
	if addr < f.t.text || addr >= f.end {
		return "", 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	row, err := f.find(addr)
	if err != nil {
		return "", 0, false
	}
	raw, err := f.name(row.number(funcName))
	return printed(raw), f.t.text + uint64(row.entry), err == nil
}

// FrameBytes is how many bytes a function has taken on its stack when it is at
// an address, without the return address (PCDATA of the stack pointer). ok is false if that is not known.
func (f *Functions) FrameBytes(addr uint64) (bytes uint64, ok bool) {
	if addr < f.t.text || addr >= f.end {
		return 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	row, err := f.find(addr)
	if err != nil {
		return 0, false
	}
	v, err := f.value(row.number(funcPcsp), uint32(addr-f.t.text)-row.entry)
	return uint64(max(v, 0)), err == nil && v >= 0
}

// goRow is one function of the table.
type goRow struct {
	order      binary.ByteOrder
	entry, end uint32 // from the start of the text
	at         uint64 // of the rest, in the table
	b          [funcSize]byte
}

func (r *goRow) number(at int) uint32 { return r.order.Uint32(r.b[at:]) }

// read reads a range of the table. The result is valid until the next call.
func (f *Functions) read(off, n uint64) ([]byte, error) {
	if off > f.t.bytes || n > f.t.bytes-off {
		return nil, errRow
	}
	return f.file.read(f.pools+off, n)
}

var errRow = inquest.Errorf(inquest.ErrInvalid, "Go's table of functions is damaged")

func (f *Functions) number(off uint64) (uint32, error) {
	b, err := f.read(off, 4)
	if err != nil {
		return 0, err
	}
	return f.t.order.Uint32(b), nil
}

// maxAnswerBytes is how many bytes of pc tables are read for one answer. Those
// of very large functions have some ten thousand.
const maxAnswerBytes = 4 << 20

// find searches the rows for the function that an address of the text is in,
// for an answer.
func (f *Functions) find(addr uint64) (row goRow, err error) {
	f.left = maxAnswerBytes
	off := uint32(addr - f.t.text)
	lo, hi := 0, f.t.nfunc // the last entry that is not behind off
	for hi-lo > 1 {
		mid := int(uint(lo+hi) >> 1)
		entry, err := f.number(f.t.pclnOff + uint64(mid)*8)
		if err != nil {
			return row, err
		}
		if entry <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	return row, f.row(&row, lo)
}

// row reads function i.
func (f *Functions) row(row *goRow, i int) error {
	b, err := f.read(f.t.pclnOff+uint64(i)*8, 12)
	if err != nil {
		return err
	}
	row.order = f.t.order
	row.end = f.t.order.Uint32(b[8:])
	row.entry, row.at = f.t.order.Uint32(b), f.t.pclnOff+uint64(f.t.order.Uint32(b[4:]))
	if b, err = f.read(row.at, funcSize); err != nil {
		return err
	}
	copy(row.b[:], b)
	return nil
}

// str reads a string of a pool, which ends before the offset end.
func (f *Functions) str(off, end uint64) ([]byte, error) {
	for n := uint64(128); off < end && n <= maxStringBytes; n *= 8 {
		n = min(n, end-off)
		b, err := f.read(off, n)
		if err != nil {
			return nil, err
		}
		for i, c := range b {
			if c == 0 {
				return b[:i], nil
			}
		}
		if n == end-off {
			return b, nil
		}
	}
	return nil, errRow
}

// name reads the name at an offset of the pool; nil if it is not in there.
func (f *Functions) name(off uint32) ([]byte, error) {
	at := f.t.nameOff + uint64(off)
	if at >= f.t.cuOff {
		return nil, nil
	}
	return f.str(at, f.t.cuOff)
}

// value is what a pc table says of an offset in its function, -1 if nothing.
func (f *Functions) value(table, off uint32) (int32, error) {
	at := f.t.pctabOff + uint64(table)
	if table == 0 || at >= f.t.pclnOff {
		return -1, nil
	}
	for n := uint64(256); ; n *= 8 {
		n = min(n, f.t.pclnOff-at)
		b, err := f.read(at, n)
		if err != nil {
			return 0, err
		}
		if f.left -= int(n); f.left < 0 {
			return 0, errRow
		}
		c := pcCursor{p: b, quantum: f.t.quantum, val: -1}
		for c.pc <= uint64(off) {
			c.next()
		}
		// A number is at most five bytes, a step two of them. With so many left
		// it was the table that ended.
		if c.pc != math.MaxUint64 || len(c.p) >= 10 || n == f.t.pclnOff-at {
			return c.val, nil
		}
	}
}

// inlineRecord reads a record of an inline tree.
func (f *Functions) inlineRecord(tree uint64, index int32) (b [inlineSize]byte, ok bool) {
	if index < 0 || index >= maxInlineIndex {
		return b, false
	}
	off, left, ok := f.f.fileRange(tree + uint64(index)*inlineSize)
	if !ok || left < inlineSize {
		return b, false
	}
	p, err := f.file.read(off, inlineSize)
	copy(b[:], p)
	return b, err == nil
}

// spell makes the names of a frame out of that in the table.
func spell(fr *inquest.Frame, raw []byte) {
	if fr.Function = printed(raw); strings.Contains(fr.Function, generic) {
		fr.Symbol = string(raw)
	}
}
