package symbolize

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/ianlancetaylor/demangle"
)

const (
	nativeMaxDepth = 256     // of inlined calls
	nativeMaxText  = 1 << 28 // bytes of all names and files
	nativeMaxName  = 4 << 10 // bytes of a mangled name that is taken apart
)

// Where the name of a function comes from.
const (
	sourceDWARF  = "dwarf"  // debug information, with files and lines
	sourceSymtab = "symtab" // the linker's symbols
	sourceDynsym = "dynsym" // symbols that other files may use
)

// nativeSources are the sources as they are encoded, by number.
var nativeSources = [...]string{sourceDWARF, sourceSymtab, sourceDynsym}

// nativeFunction is a function as the table has it.
type nativeFunction struct {
	name   string
	line   uint32 // where it is declared, 0 if unknown
	source string
}

// nativeNode is a function that has code of its own, or a call of one that is
// inlined there.
type nativeNode struct {
	function uint64 // the offset of its entry, or the index of its symbol
	parent   int32  // -1: not inlined
	callFile uint32 // where it is called
	callLine uint32
	symbol   bool // function is the index of a symbol
}

// nativeSpan is code of a node.
type nativeSpan struct {
	nativeRange
	node  int32
	depth int32 // of inlined calls; deeper ones hide what they are in
}

// nativeRow is where a line begins.
type nativeRow struct {
	addr uint64
	file uint32
	line uint32
}

// nativeSequence is rows [from, until) that have no gaps between them.
type nativeSequence struct {
	nativeRange
	from, until int
}

// nativeFound is what is found in a file before it is put in order.
type nativeFound struct {
	nodes     []nativeNode
	spans     []nativeSpan
	rows      []nativeRow
	sequences []nativeSequence
	files     []string // by number; 0 is an unknown one
	fileIDs   map[string]uint32
	textBytes int
}

func newNativeFound() *nativeFound {
	return &nativeFound{files: make([]string, 1), fileIDs: map[string]uint32{}}
}

func (f *nativeFound) add(n nativeNode, depth int32, code []nativeRange) int32 {
	id := int32(len(f.nodes))
	f.nodes = append(f.nodes, n)
	for _, r := range code {
		f.spans = append(f.spans, nativeSpan{r, id, depth})
	}
	return id
}

func (f *nativeFound) fileID(name string) uint32 {
	id, ok := f.fileIDs[name]
	if !ok && f.textBytes+len(name) <= nativeMaxText {
		f.textBytes += len(name)
		id = uint32(len(f.files))
		f.files = append(f.files, name)
		f.fileIDs[name] = id
	}
	return id
}

func (f *nativeFound) addSequence(rows []nativeRow, end uint64) {
	from := len(f.rows)
	f.rows = append(f.rows, rows...)
	f.sequences = append(f.sequences, nativeSequence{nativeRange{rows[0].addr, end}, from, len(f.rows)})
}

// nativeStep is where something begins that reaches to the next step; what is
// the index of a node or row, -1 for nothing.
type nativeStep struct {
	addr uint64
	what int32
}

// nativeSteps are steps in ascending order, no two at one address.
type nativeSteps []nativeStep

func (s *nativeSteps) add(addr uint64, what int32) {
	if n := len(*s); n > 0 {
		last := &(*s)[n-1]
		if last.what == what {
			return
		}
		if last.addr == addr {
			last.what = what
			return
		}
	}
	*s = append(*s, nativeStep{addr, what})
}

// nativeInnermost says for every address which span is the innermost. Spans
// that overlap without one being in the other are cut: the deeper or else the
// later one goes on.
func nativeInnermost(spans []nativeSpan) nativeSteps {
	slices.SortFunc(spans, func(a, b nativeSpan) int {
		return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.depth, b.depth), cmp.Compare(b.hi, a.hi), cmp.Compare(a.node, b.node))
	})
	var steps nativeSteps
	var open []nativeSpan
	closeTo := func(addr uint64) {
		for n := len(open); n > 0 && open[n-1].hi <= addr; n = len(open) {
			hi := open[n-1].hi
			open = open[:n-1]
			outer := int32(-1)
			if n > 1 {
				outer = open[n-2].node
			}
			steps.add(hi, outer)
		}
	}
	for _, s := range spans {
		closeTo(s.lo)
		for n := len(open); n > 0 && open[n-1].depth >= s.depth && open[n-1].hi < s.hi; n = len(open) {
			open = open[:n-1]
		}
		if n := len(open); n > 0 {
			in := open[n-1]
			if in.nativeRange == s.nativeRange && in.depth == s.depth {
				continue // folded functions: the first counts
			}
			s.hi = min(s.hi, in.hi)
		}
		open = append(open, s)
		steps.add(s.lo, s.node)
	}
	closeTo(math.MaxUint64)
	return steps
}

// lines puts the rows in order. Where sequences overlap, the earlier one ends.
func (f *nativeFound) lines() nativeSteps {
	slices.SortStableFunc(f.sequences, func(a, b nativeSequence) int { return cmp.Compare(a.lo, b.lo) })
	var steps nativeSteps
	for i, q := range f.sequences {
		hi := q.hi
		if i+1 < len(f.sequences) {
			hi = min(hi, f.sequences[i+1].lo)
		}
		for k := q.from; k < q.until && f.rows[k].addr < hi; k++ {
			steps.add(f.rows[k].addr, int32(k))
		}
		if hi > q.lo {
			steps.add(hi, -1)
		}
	}
	return steps
}

// nativeLine is a line number as it is kept; what cannot be one is unknown.
func nativeLine(n uint64) uint32 {
	if n > math.MaxInt32 {
		return 0
	}
	return uint32(n)
}

// nativeName is the name of a function as people write it: C++ and Rust names
// are taken apart, parameters are left out.
func nativeName(s string) string {
	if len(s) > nativeMaxName || !nativeMangled(s) {
		return s
	}
	return demangle.Filter(s, demangle.NoParams, demangle.NoClones, demangle.MaxLength(14))
}

func nativeMangled(s string) bool {
	return strings.HasPrefix(s, "_Z") || strings.HasPrefix(s, "_R")
}
