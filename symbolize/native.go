package symbolize

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// encodeNative makes the table of a file's native functions, those not of Go:
// for openNative. r is an ELF file of size bytes, a debug companion as well,
// and goText the addresses [lo, hi) of Go's code, which is left out. Names come
// from DWARF, where that has none from the symbols.
//
// Debug information that is damaged in parts is used for the rest, which the
// table says (damage). The errors are ErrInvalid for what is no such file, and
// ErrTooLarge for one that unfolds beyond all measure.
func encodeNative(r io.ReaderAt, size int64, goText ...[2]uint64) ([]byte, error) {
	f, err := openNativeFile(r, size)
	if err != nil {
		return nil, fmt.Errorf("read ELF: %w", err)
	}
	b := &nativeBuilder{nativeFound: newNativeFound()}
	if b.symbols, err = f.symbols(); err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	if b.dwarf, err = openDWARF(f, b.nativeFound); err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	if b.dwarf != nil {
		if err := b.dwarf.walk(); err != nil {
			return nil, fmt.Errorf("read DWARF: %w", err)
		}
		b.dwarf.nameBySymbols(b.symbols)
	}
	b.merge(goText)
	return b.encode()
}

// nativeBuilder puts what was found in order: one list of segments, each with
// the node and line that its addresses have.
type nativeBuilder struct {
	*nativeFound
	dwarf   *dwarfData
	symbols *nativeSymbols

	segments  []nativeSegment
	kept      []nativeNode // nodes of segments, parents first; function is an index of functions
	keptAs    []uint32     // of each node: index of kept + 1, then + 1; 0 if it was not asked for
	functions []nativeFunction
	known     map[nativeFunction]uint32 // index of functions
	byEntry   map[uint64]uint32         // entry → index of functions
}

// nativeSegment is where code begins that has the same frames up to the next
// segment.
type nativeSegment struct {
	addr uint64
	node uint32 // index of nodes + 1; 0: nothing is known
	file uint32
	line uint32
}

// merge lays the functions of DWARF over those of the symbols, and the lines
// beside them.
func (b *nativeBuilder) merge(goText [][2]uint64) {
	b.known, b.byEntry = map[nativeFunction]uint32{}, map[uint64]uint32{}
	spans := b.spans
	b.spans = nil
	layers := [4]nativeSteps{nativeInnermost(spans), nil, b.lines(), nil}
	for i, s := range b.symbols.list {
		b.add(nativeNode{function: uint64(i), parent: -1, symbol: true}, 0, []nativeRange{s.nativeRange})
	}
	layers[1] = nativeInnermost(b.spans)
	b.keptAs = make([]uint32, len(b.nodes))
	b.spans = nil
	for i, r := range goText {
		if r[0] < r[1] {
			b.spans = append(b.spans, nativeSpan{nativeRange{r[0], r[1]}, int32(i), 0})
		}
	}
	layers[3] = nativeInnermost(b.spans)
	at := [4]int32{-1, -1, -1, -1}
	for {
		addr, more := uint64(math.MaxUint64), false
		for _, l := range layers {
			if len(l) > 0 {
				addr, more = min(addr, l[0].addr), true
			}
		}
		if !more {
			return
		}
		for i, l := range layers {
			if len(l) > 0 && l[0].addr == addr {
				at[i], layers[i] = l[0].what, l[1:]
			}
		}
		b.segment(addr, at)
	}
}

// segment appends what begins at an address: a node of DWARF, else of the
// symbols, and a row, where it is not Go's.
func (b *nativeBuilder) segment(addr uint64, at [4]int32) {
	s := nativeSegment{addr: addr}
	node := at[0]
	if node < 0 {
		node = at[1]
	}
	if at[3] < 0 {
		s.node = b.keep(node)
	}
	if s.node > 0 && at[2] >= 0 {
		s.file, s.line = b.rows[at[2]].file, b.rows[at[2]].line
	}
	if n := len(b.segments); n > 0 {
		if last := b.segments[n-1]; last.node == s.node && last.file == s.file && last.line == s.line {
			return
		}
	} else if s.node == 0 {
		return
	}
	b.segments = append(b.segments, s)
}

// keep returns the number of a node, which it and those around it get when they are
// needed first; 0 for none. A node without a name is that of its caller.
func (b *nativeBuilder) keep(node int32) uint32 {
	if node < 0 {
		return 0
	}
	if id := b.keptAs[node]; id > 0 {
		return id - 1
	}
	n := b.nodes[node]
	parent := b.keep(n.parent) // nodes are not deeper than nativeMaxDepth
	function, ok := b.function(n)
	id := parent
	if ok {
		n.function, n.parent = uint64(function), int32(parent)
		b.kept = append(b.kept, n)
		id = uint32(len(b.kept))
	}
	b.keptAs[node] = id + 1
	return id
}

// function returns the index of a node's function, false if it has no name.
func (b *nativeBuilder) function(n nativeNode) (uint32, bool) {
	var fn nativeFunction
	if n.symbol {
		fn.source = b.symbols.source
		fn.name = nativeName(b.symbols.name(b.symbols.list[n.function]))
	} else {
		if id, ok := b.byEntry[n.function]; ok {
			return id, true
		}
		fn = b.dwarf.function(n.function)
	}
	if fn.name == "" || b.textBytes+len(fn.name) > nativeMaxText {
		return 0, false
	}
	id, ok := b.known[fn]
	if !ok {
		b.textBytes += len(fn.name)
		id = uint32(len(b.functions))
		b.functions = append(b.functions, fn)
		b.known[fn] = id
	}
	if !n.symbol {
		b.byEntry[n.function] = id
	}
	return id, true
}

// encode writes the table; see nativelayout.go.
func (b *nativeBuilder) encode() ([]byte, error) {
	if len(b.functions) > math.MaxInt32 || len(b.segments) > math.MaxInt32 {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "the file has %d functions in %d segments", len(b.functions), len(b.segments))
	}
	order := make([]uint32, len(b.functions))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return strings.Compare(b.functions[x].name, b.functions[y].name) })
	place := make([]uint64, len(order))
	var names nativeTexts
	var functions [3][]uint64 // name, line, source
	for i, x := range order {
		place[x] = uint64(i)
		fn := b.functions[x]
		functions[0] = append(functions[0], names.add(fn.name))
		functions[1] = append(functions[1], uint64(fn.line))
		functions[2] = append(functions[2], uint64(slices.Index(nativeSources[:], fn.source)))
	}
	var files nativeTexts
	files.add("")
	fileAs := make([]uint64, len(b.files))
	file := func(id uint32) uint64 {
		if id > 0 && fileAs[id] == 0 {
			fileAs[id] = files.add(b.files[id])
		}
		return fileAs[id]
	}
	var nodes [4][]uint64 // function, parent + 1, file and line of the call
	for _, n := range b.kept {
		for i, v := range [4]uint64{place[n.function], uint64(n.parent), file(n.callFile), uint64(n.callLine)} {
			nodes[i] = append(nodes[i], v)
		}
	}
	for i := range b.segments {
		b.segments[i].file = uint32(file(b.segments[i].file))
	}
	w := nativeWriter{b: []byte(nativeMagic)}
	w.text([]byte(b.damage()))
	w.texts(&names)
	w.texts(&files)
	for _, c := range slices.Concat(functions[:], nodes[:]) {
		w.column(c)
	}
	w.segments(b.segments)
	return w.b, nil
}

// damage says for people what of the debug information could not be read.
func (b *nativeBuilder) damage() string {
	if b.dwarf == nil || b.dwarf.damaged == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d units of debug information cannot be read; the first: %v", b.dwarf.damaged, max(b.dwarf.units, b.dwarf.damaged), b.dwarf.damage)
}
