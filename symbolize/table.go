// Package symbolize turns addresses into functions, files and lines, given
// the executable they are from, and says what an executable is. It works on
// an io.ReaderAt, by ranges, and needs no debug information for Go: the
// table of functions that Go puts into every program is enough, for stripped
// ones, too.
//
// A Table is what is needed of an executable, a small part of it, in a blob
// of our own. It is written once by WriteTable, and opened as often as
// needed; layout.go has its format.
//
// Input is not trusted. Wrong files give errors of kind inquest.ErrInvalid,
// and take neither more memory than a few times their size nor much time.
package symbolize

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/goinquest/inquest"
)

// Range is a range of addresses, half-open, as linked.
type Range struct {
	Start, End uint64
}

// Input is a file to be read.
type Input struct {
	io.ReaderAt
	Size int64 // bytes
}

// WriteTable writes the table of an executable. Where debug is not nil it is
// the executable's companion, see Pair, and says what functions there are that
// are not Go's. A large program of Go takes less than a tenth of a second; memory is
// what Go's table of functions takes, which is a quarter of a program, and debug
// information unpacked. The error is of kind inquest.ErrNotFound if nothing tells functions.
func WriteTable(w io.Writer, exe Input, debug *Input) error {
	f, err := openELF(exe, exe.Size)
	if err != nil {
		return err
	}
	if f.broken != nil {
		return f.broken
	}
	out := newPartWriter(w)
	out.begin(partSegments)
	if _, err := out.Write(f.loaded().encode()); err != nil {
		return err
	}
	text, noGo := writeGo(out, f)
	if noGo != nil && !errors.Is(noGo, inquest.ErrNotFound) && !errors.Is(noGo, inquest.ErrInvalid) {
		return noGo
	}
	if debug == nil {
		debug = &exe
	}
	if err := writeNative(out, exe, *debug, text); err != nil && noGo != nil {
		return errors.Join(noGo, err)
	}
	return out.finish()
}

// textPadding is what may follow Go's code in its section without being code.
const textPadding = 64

// writeNative writes the part of functions that are not Go's, if there is code
// that is not. What is wrong with their names does no harm to Go's.
func writeNative(w *partWriter, exe, debug Input, text Range) error {
	f, err := openNativeFile(exe, exe.Size)
	if err != nil {
		return err
	}
	others := func(c nativeRange) bool { return c.lo < text.Start || c.hi > text.End+textPadding }
	if text.End > text.Start && !slices.ContainsFunc(f.code, others) {
		return nil
	}
	b, err := encodeNative(debug, debug.Size, [2]uint64{text.Start, text.End})
	if err != nil {
		return err
	}
	if t, err := openNative(b); err != nil || t.count == 0 {
		return cmp.Or(err, inquest.Errorf(inquest.ErrNotFound, "neither debug information nor symbols"))
	}
	w.begin(partNative)
	_, err = w.Write(b)
	return err
}

// Table resolves addresses of one executable. It is safe for concurrent use,
// and needs no closing; the reader it was opened with must stay usable.
type Table struct {
	segments segments
	golang   *goFunctions // nil: no Go functions
	native   *nativeTable // nil: no others

	mu  sync.Mutex // held while something is read
	err atomic.Pointer[error]
}

// OpenTable opens a table of size bytes. It keeps an index of the functions
// (8 bytes each) and, once asked, what was last asked for: three quarters
// of the size of the table. The error is of kind inquest.ErrInvalid if r is not a table
// or a damaged one; see also Err.
func OpenTable(r io.ReaderAt, size int64) (*Table, error) {
	p, err := openPages(r, size)
	if err != nil {
		return nil, err
	}
	q := p.part(partSegments)
	if q.size > maxELFHeaders*segmentRowBytes {
		return nil, inquest.Errorf(inquest.ErrInvalid, "table of symbols: %d bytes of segments", q.size)
	}
	b, err := p.read(q, 0, q.size)
	if err != nil {
		return nil, err
	}
	t := &Table{}
	if t.segments, err = decodeSegments(b); err != nil {
		return nil, err
	}
	if t.golang, err = openGo(p); err != nil {
		return nil, err
	}
	if q := p.part(partNative); q.size > 0 {
		b, err := p.read(q, 0, q.size)
		if err != nil {
			return nil, err
		}
		if t.native, err = openNative(b); err != nil {
			return nil, err
		}
	}
	return t, nil
}

const maxKeptBytes = 16 << 20 // of strings

// openGo reads the index of Go's functions; nil if there are none.
func openGo(p *pages) (*goFunctions, error) {
	q := p.part(partGo)
	if q.size == 0 {
		return nil, nil
	}
	le := binary.LittleEndian
	head, err := p.read(q, 0, 32)
	if err != nil {
		return nil, err
	}
	g := &goFunctions{
		start: le.Uint64(head), end: le.Uint64(head[8:]), names: le.Uint64(head[24:]),
		pages: p, recPart: p.part(partRecords), strPart: p.part(partStrings), index: p.part(partIndex),
		strings: map[uint32]string{},
		maxKept: int(min(p.size/4, maxKeptBytes)),
		answers: newAnswers(p.size / 2),
	}
	n := le.Uint64(head[16:])
	if n == 0 || n > maxPartBytes/8 || g.index.size != (3*n+2)*4 || g.end < g.start || g.names > g.strPart.size {
		return nil, inquest.Errorf(inquest.ErrInvalid, "table of symbols: an index of %d bytes for %d functions", g.index.size, n)
	}
	if g.entries, err = p.numbers(g.index, 0, n+1); err != nil {
		return nil, err
	}
	if g.records, err = p.numbers(g.index, (n+1)*4, n+1); err != nil {
		return nil, err
	}
	return g, nil
}

// numbers reads numbers of four bytes.
func (p *pages) numbers(q part, off, n uint64) ([]uint32, error) {
	out := make([]uint32, 0, n)
	for n > 0 {
		b, err := p.read(q, off, min(n*4, pageBytes))
		if err != nil {
			return nil, err
		}
		off, n = off+uint64(len(b)), n-uint64(len(b)/4)
		for ; len(b) > 0; b = b[4:] {
			out = append(out, binary.LittleEndian.Uint32(b))
		}
	}
	return out, nil
}

// Frames appends the functions at an address as linked, innermost first, and
// nothing if it is not known. An address that a call returns to belongs to
// the line after the call: callers subtract one, as profiles of Go have it.
//
// The frames are those of runtime.CallersFrames: wrappers that the compiler
// made are hidden where something was inlined into them, and shown if they
// are the innermost. The arguments of generic functions are "[...]", as in
// stack traces; Go's own profiles spell them out. File is empty where
// the runtime says "?". All strings are shared by all answers of the table.
func (t *Table) Frames(dst []inquest.Frame, addr uint64) []inquest.Frame {
	g := t.golang
	if g == nil || addr < g.start || addr >= g.end {
		if t.native != nil {
			return t.native.frames(dst, addr)
		}
		return dst
	}
	x := g.answers.get(addr)
	if x == nil {
		if x = t.lookup(addr); x == nil {
			return dst
		}
	}
	return append(dst, x.frames...)
}

// lookup reads what is known of an address; nil if that is nothing.
func (t *Table) lookup(addr uint64) *answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, err := t.golang.lookup(addr)
	if err != nil {
		t.fail(err)
	}
	if x != nil {
		t.golang.answers.put(x)
	}
	return x
}

func (t *Table) fail(err error) { t.err.CompareAndSwap(nil, &err) }

// Err returns the first error that kept Frames or Functions from an answer:
// the table is damaged, or cannot be read any more. nil: all is well.
func (t *Table) Err() error {
	if err := t.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Functions returns where the functions of a name are, as Frames spells it:
// none if there is none, several for a generic function. Ranges end where
// the next function begins. Where a function was inlined is not looked for.
func (t *Table) Functions(name string) []Range {
	var ranges []Range
	if t.golang != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		var err error
		if ranges, err = t.golang.named(name); err != nil {
			t.fail(err)
		}
	}
	if t.native != nil {
		for _, r := range t.native.functions(name) {
			ranges = append(ranges, Range{r[0], r[1]})
		}
	}
	return ranges
}

// Address returns the address, as linked, of an offset in the file: what
// Frames takes. Profiles of programs that are loaded anywhere have addresses
// as (address − start of the mapping + offset of the mapping). ok is false if
// that offset is not loaded.
func (t *Table) Address(fileOffset uint64) (addr uint64, ok bool) {
	return t.segments.address(fileOffset)
}

// Offset is where an address, as linked, is in the file: the way back from
// Address. ok is false if it is not loaded from there.
func (t *Table) Offset(addr uint64) (fileOffset uint64, ok bool) {
	return t.segments.offset(addr)
}
