package symbolize

import (
	"bytes"
	"strings"
	"sync/atomic"

	"github.com/goinquest/inquest"
)

// goFunctions are Go's functions of a table.
type goFunctions struct {
	start, end uint64 // of the code; entries count from start
	names      uint64 // size of the names, which are the first of the strings

	entries []uint32 // and the end of the last
	records []uint32 // offsets of the records, and the end of the last
	answers answers

	// What follows is used under the table's lock.
	pages   *pages
	recPart part
	strPart part
	index   part
	rec     record
	strings map[uint32]string // by offset +1
	kept    int               // bytes of strings
	maxKept int
}

// answer is what is known of one address. It does not change.
type answer struct {
	addr   uint64
	frames []inquest.Frame
}

// answers remembers what was asked. A profile asks for few addresses, and
// often. There are places where an address may be: a few neighbours.
type answers struct {
	places []atomic.Pointer[answer] // their number is a power of two
	turn   atomic.Uint32
}

const (
	ways        = 4   // neighbours
	answerBytes = 160 // what a place takes with its answer
	minAnswers  = 1 << 10
	maxAnswers  = 1 << 17
)

// newAnswers makes room for answers of so many bytes.
func newAnswers(bytes uint64) answers {
	n := uint64(minAnswers)
	for n < maxAnswers && n*2*answerBytes <= bytes {
		n *= 2
	}
	return answers{places: make([]atomic.Pointer[answer], n)}
}

func (a *answers) neighbours(addr uint64) []atomic.Pointer[answer] {
	const mix = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	i := (addr * mix >> 40) * ways & uint64(len(a.places)-1)
	return a.places[i : i+ways]
}

func (a *answers) get(addr uint64) *answer {
	ps := a.neighbours(addr)
	for i := range ps {
		if x := ps[i].Load(); x != nil && x.addr == addr {
			return x
		}
	}
	return nil
}

// put remembers an answer in an empty place, else in the place of another.
func (a *answers) put(x *answer) {
	ps := a.neighbours(x.addr)
	for i := range ps {
		if ps[i].CompareAndSwap(nil, x) {
			return
		}
	}
	ps[a.turn.Add(1)%ways].Store(x)
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
	return lo, lo < len(g.entries)-1 && g.entries[lo] <= off
}

// maxDepth bounds the frames of one address; a damaged table could have
// callers in a circle.
const maxDepth = 512

// lookup reads what is known of an address.
func (g *goFunctions) lookup(addr uint64) (*answer, error) {
	i, ok := g.find(addr)
	if !ok {
		return nil, nil
	}
	if g.records[i+1] < g.records[i] {
		return nil, errRecord
	}
	b, err := g.pages.read(g.recPart, uint64(g.records[i]), uint64(g.records[i+1]-g.records[i]))
	if err != nil {
		return nil, err
	}
	at, ok, err := g.rec.decode(b, uint32(addr-g.start)-g.entries[i])
	if err != nil || !ok {
		return nil, err
	}
	n := 1
	for c := at.call; n < maxDepth && g.rec.calls[c].caller >= 0; n++ {
		c = g.rec.calls[c].caller
	}
	out := &answer{addr: addr, frames: make([]inquest.Frame, n)}
	for j := range out.frames {
		c := &g.rec.calls[at.call]
		f := &out.frames[j]
		f.Line, f.StartLine = int(at.line), int(c.start)
		if f.Function, err = g.name(c.name); err != nil {
			return nil, err
		}
		if strings.Contains(f.Function, generic) {
			if f.Symbol, err = g.intern(^c.name, uint64(c.name)-1, func(s []byte) string { return string(s) }); err != nil {
				return nil, err
			}
		}
		if at.file >= 0 {
			if f.File, err = g.file(g.rec.files[at.file]); err != nil {
				return nil, err
			}
		}
		at = span{call: c.caller, file: c.file, line: c.line}
	}
	return out, nil
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
	if g.kept += len(s) + mapBytes; g.kept > g.maxKept {
		g.strings, g.kept = map[uint32]string{}, len(s)+mapBytes // answers keep theirs
	}
	g.strings[key] = s
	return s, nil
}

const (
	maxStringBytes = 1 << 16
	mapBytes       = 40 // what a string takes in the map, besides itself
)

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
func printed(name []byte) string {
	i, j := bytes.IndexByte(name, '['), bytes.LastIndexByte(name, ']')
	if i < 0 || j <= i {
		return string(name)
	}
	return string(name[:i]) + generic + string(name[j+1:])
}

// generic stands for the arguments of a generic function.
const generic = "[...]"

// named returns the functions of a name, as Frames spells it.
func (g *goFunctions) named(name string) ([]Range, error) {
	refs, err := g.refs(name)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	var out []Range
	n := uint64(len(g.records) - 1)
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
