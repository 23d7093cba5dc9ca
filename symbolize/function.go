package symbolize

import (
	"bytes"
	"strings"
	"sync/atomic"

	"github.com/goinquest/inquest"
)

// function is a record that was read, ready to answer. It does not change.
type function struct {
	spans []span
	calls []namedCall
	files []string
	bytes int         // what it takes, without the strings
	used  atomic.Bool // since the last sweep
}

// namedCall is a call with its name.
type namedCall struct {
	name   string
	start  int32
	caller int32
	file   int32
	line   int32
}

// What things of a function take.
const (
	spanBytes     = 16
	callBytes     = 32
	stringBytes   = 16
	functionBytes = 128
)

// maxDepth bounds the frames of one address; a damaged table could have
// callers in a circle.
const maxDepth = 512

// frames appends the frames of an offset from the function's entry.
func (f *function) frames(dst []inquest.Frame, off uint32) []inquest.Frame {
	if !f.used.Load() {
		f.used.Store(true)
	}
	i := findSpan(f.spans, off)
	if i == len(f.spans) {
		return dst
	}
	at, file, line := f.spans[i].call, f.spans[i].file, f.spans[i].line
	for range maxDepth {
		c := &f.calls[at]
		fr := inquest.Frame{Function: c.name, Line: int(line), StartLine: int(c.start)}
		if file >= 0 {
			fr.File = f.files[file]
		}
		dst = append(dst, fr)
		if c.caller < 0 {
			break
		}
		at, file, line = c.caller, c.file, c.line
	}
	return dst
}

// goFunctions are Go's functions of a table.
type goFunctions struct {
	start, end uint64 // of the code; entries count from start
	names      uint64 // size of the names, which are the first of the strings

	entries []uint32 // and the end of the last
	records []uint32 // offsets of the records, and the end of the last
	cache   []atomic.Pointer[function]

	// What follows is used under the table's lock.
	pages    *pages
	recPart  part
	strPart  part
	index    part
	rec      record
	strings  map[uint32]string // by offset +1 of a name, by offset of a file
	inUse    int               // bytes of functions in the cache, and of strings
	maxBytes int
}

// find returns the function that an address is in.
func (g *goFunctions) find(addr uint64) (i int, ok bool) {
	if addr < g.start || addr >= g.end {
		return 0, false
	}
	off := uint32(addr - g.start)
	lo, hi := 0, len(g.entries) // the last entry that is not behind off
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) >> 1); g.entries[mid] <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, lo < len(g.cache) && g.entries[lo] <= off
}

// load reads function i into the cache.
func (g *goFunctions) load(i int) (*function, error) {
	if g.records[i+1] < g.records[i] {
		return nil, errRecord
	}
	b, err := g.pages.read(g.recPart, uint64(g.records[i]), uint64(g.records[i+1]-g.records[i]))
	if err != nil {
		return nil, err
	}
	if err := g.rec.decode(b); err != nil {
		return nil, err
	}
	f := &function{spans: append([]span(nil), g.rec.spans...)}
	f.files = make([]string, len(g.rec.files))
	for j, off := range g.rec.files {
		if f.files[j], err = g.file(off); err != nil {
			return nil, err
		}
	}
	f.calls = make([]namedCall, len(g.rec.calls))
	for j, c := range g.rec.calls {
		name, err := g.name(c.name)
		if err != nil {
			return nil, err
		}
		f.calls[j] = namedCall{name, c.start, c.caller, c.file, c.line}
	}
	f.bytes = functionBytes + len(f.spans)*spanBytes + len(f.calls)*callBytes + len(f.files)*stringBytes
	f.used.Store(true)
	if g.inUse += f.bytes; g.inUse > g.maxBytes {
		g.sweep()
		g.inUse += f.bytes
	}
	g.cache[i].Store(f)
	return f, nil
}

// sweep makes room: functions go that were not asked for since the last
// time, all of them if that is not enough, and the strings.
func (g *goFunctions) sweep() {
	g.inUse = 0
	for i := range g.cache {
		if f := g.cache[i].Load(); f != nil && f.used.Swap(false) {
			g.inUse += f.bytes
		} else {
			g.cache[i].Store(nil)
		}
	}
	clear(g.strings)
	if g.inUse > g.maxBytes/2 {
		for i := range g.cache {
			g.cache[i].Store(nil)
		}
		g.inUse = 0
	}
}

// name returns the name at an offset that is one too large; "" for 0.
func (g *goFunctions) name(ref uint32) (string, error) {
	if ref == 0 {
		return "", nil
	}
	return g.intern(ref, uint64(ref)-1, printed)
}

func (g *goFunctions) file(off uint32) (string, error) {
	if uint64(off) < g.names {
		return "", errRecord
	}
	return g.intern(off+1, uint64(off), func(s []byte) string { return string(s) })
}

// intern returns a string that is made once.
func (g *goFunctions) intern(key uint32, off uint64, spell func([]byte) string) (string, error) {
	if s, ok := g.strings[key]; ok {
		return s, nil
	}
	b, err := g.str(off)
	if err != nil {
		return "", err
	}
	s := spell(b)
	g.strings[key] = s
	g.inUse += len(s) + 4*stringBytes // with its place in the map
	return s, nil
}

const maxStringBytes = 1 << 16

// str reads up to the zero byte.
func (g *goFunctions) str(off uint64) ([]byte, error) {
	for n := uint64(128); off < g.strPart.size; n *= 4 {
		n = min(n, g.strPart.size-off)
		b, err := g.pages.read(g.strPart, off, n)
		if err != nil {
			return nil, err
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return b[:i], nil
		}
		if n == g.strPart.size-off || n > maxStringBytes {
			break
		}
	}
	return nil, errRecord
}

// printed spells a name as the runtime does: what is between the first and
// the last bracket, the arguments of a generic function, becomes "...".
// (Go 1.20 prints it so in stack traces, but not in profiles.)
func printed(name []byte) string {
	i, j := bytes.IndexByte(name, '['), bytes.LastIndexByte(name, ']')
	if i < 0 || j <= i {
		return string(name)
	}
	return string(name[:i]) + "[...]" + string(name[j+1:])
}

// named returns the functions of a name, as Frames spells it.
func (g *goFunctions) named(name string) ([]Range, error) {
	refs, err := g.refs(name)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	var out []Range
	n := uint64(len(g.cache))
	const step = 1024
	for at := uint64(0); at < n; at += step {
		b, err := g.pages.read(g.index, (2*(n+1)+at)*4, min(step, n-at)*4)
		if err != nil {
			return nil, err
		}
		for i := range len(b) / 4 {
			if refs[uint32(b[4*i])|uint32(b[4*i+1])<<8|uint32(b[4*i+2])<<16|uint32(b[4*i+3])<<24] {
				f := at + uint64(i)
				out = append(out, Range{g.start + uint64(g.entries[f]), g.start + uint64(g.entries[f+1])})
			}
		}
	}
	return out, nil
}

// refs finds the offsets (+1) of all names that are spelled like this.
func (g *goFunctions) refs(name string) (map[uint32]bool, error) {
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return nil, nil
	}
	start, _, _ := strings.Cut(name, "[")
	want := append([]byte{0}, start...)
	refs := map[uint32]bool{}
	const step = pageBytes * 4
	for at := uint64(0); at < g.names; at += step {
		n := min(step+uint64(len(want)), g.names-at)
		b, err := g.pages.read(g.strPart, at, n)
		if err != nil {
			return nil, err
		}
		for i := 0; ; i++ {
			j := bytes.Index(b[i:], want)
			if j < 0 {
				break
			}
			i += j
			off := at + uint64(i) + 1
			if s, err := g.str(off); err == nil && printed(s) == name {
				refs[uint32(off)+1] = true
			}
		}
	}
	return refs, nil
}
