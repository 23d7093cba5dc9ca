package symbolize

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/goinquest/inquest"
)

const (
	dwarfMaxText  = 32 << 10 // bytes of a name; longer ones are cut
	dwarfMaxDepth = 1 << 10  // of entries within entries
	dwarfMaxChain = 16       // of entries that stand for others
	dwarfMaxRows  = 1 << 24  // of all line tables
)

type dwarfDeclsKey struct {
	off  uint64
	wide bool
}

// dwarfData is the debug information of a file and what a walk over it finds.
// The standard library's reader is not used: it reads every attribute of every
// entry, and damaged tables can have it work or allocate without end. Here
// each kind of work has a budget that follows from the size of its section.
type dwarfData struct {
	file *nativeFile

	info, abbrev, line, str, lineStr, strOffsets, addr, ranges, rnglists []byte

	tables      map[dwarfDeclsKey]*dwarfDecls
	programs    map[uint64]bool // offsets of line programs that were run
	declBudget  int             // bytes of .debug_abbrev to be read
	fieldBudget int             // entries and attributes to be read
	rangeBudget int             // entries of range lists to be read
	lineBudget  int             // bytes of .debug_line to be read
	entryBudget int             // functions and inlined calls to be kept

	found *nativeFound
	subs  []dwarfSub // by offset, ascending
	scope []dwarfScope

	linked map[dwarfText]string // mangled names as people write them

	// Mangled names of functions that have none in the debug information, by
	// the offset of the entry with the plain name: see nameBySymbols.
	mangled map[uint64]string

	units   int
	damaged int
	damage  error // the first
}

// dwarfSub is an entry of a function: one that has code, or what others refer to.
type dwarfSub struct {
	off, origin   uint64 // in .debug_info; origin is 0 if it stands for itself
	name, linkage dwarfText
	scope         int32
	line          uint32 // where it is declared
}

// dwarfScope is a namespace or type around functions.
type dwarfScope struct {
	parent int32
	name   dwarfText
}

// openDWARF returns nil if the file has no debug information.
func openDWARF(f *nativeFile, found *nativeFound) (*dwarfData, error) {
	d := &dwarfData{
		file: f, found: found, scope: make([]dwarfScope, 1),
		tables: map[dwarfDeclsKey]*dwarfDecls{}, programs: map[uint64]bool{}, linked: map[dwarfText]string{},
	}
	if f.section(".debug_info") == nil && f.section(".zdebug_info") == nil {
		return nil, nil
	}
	for name, to := range map[string]*[]byte{
		"info": &d.info, "abbrev": &d.abbrev, "line": &d.line, "str": &d.str, "line_str": &d.lineStr,
		"str_offsets": &d.strOffsets, "addr": &d.addr, "ranges": &d.ranges, "rnglists": &d.rnglists,
	} {
		b, err := f.debug(name)
		if err != nil {
			return nil, err
		}
		*to = b
	}
	const spare = 1 << 16
	d.declBudget = spare + 8*len(d.abbrev)
	d.fieldBudget = spare + 2*len(d.info)
	d.rangeBudget = spare + len(d.ranges)/4 + len(d.rnglists)
	d.lineBudget = spare + 2*len(d.line)
	d.entryBudget = spare + len(d.info)/8
	found.rows = make([]nativeRow, 0, len(d.line)/4)
	return d, nil
}

// text returns a name; it stays the section's.
func (d *dwarfData) text(t dwarfText) []byte {
	var section []byte
	switch t &^ textPlace {
	case textInfo:
		section = d.info
	case textStr:
		section = d.str
	case textLineStr:
		section = d.lineStr
	case textLine:
		section = d.line
	case textAnonymous:
		return []byte("(anonymous namespace)")
	}
	at := uint64(t & textPlace)
	if at >= uint64(len(section)) {
		return nil
	}
	b := section[at:min(uint64(len(section)), at+dwarfMaxText)]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		return b[:end]
	}
	return b
}

// sub returns the function entry at an offset of .debug_info, nil if none is.
func (d *dwarfData) sub(off uint64) *dwarfSub {
	i, ok := slices.BinarySearchFunc(d.subs, off, func(s dwarfSub, off uint64) int { return cmp.Compare(s.off, off) })
	if !ok {
		return nil
	}
	return &d.subs[i]
}

// function names the function of an entry. What the entry does not say itself
// is taken from the one it stands for; damaged ones may go in a circle.
func (d *dwarfData) function(off uint64) nativeFunction {
	fn := nativeFunction{source: sourceDWARF}
	linked, plain, line := d.resolve(off)
	fn.line = line
	switch {
	case linked != nil:
		fn.name = d.linked[linked.linkage]
		if fn.name == "" {
			fn.name = nativeName(string(d.text(linked.linkage)))
			d.linked[linked.linkage] = fn.name
		}
	case plain != nil && d.mangled[plain.off] != "":
		fn.name = nativeName(d.mangled[plain.off])
	case plain != nil:
		fn.name = d.qualified(plain)
	}
	return fn
}

// resolve follows an entry to the one with a mangled name, or else to the last
// one with a plain name, and finds the line of its declaration.
func (d *dwarfData) resolve(off uint64) (linked, plain *dwarfSub, line uint32) {
	for range dwarfMaxChain {
		s := d.sub(off)
		if s == nil {
			break
		}
		if line == 0 {
			line = s.line
		}
		if s.linkage != 0 {
			return s, plain, line
		}
		if s.name != 0 {
			plain = s
		}
		if off = s.origin; off == 0 {
			break
		}
	}
	return nil, plain, line
}

// nameBySymbols gives mangled names to functions that only symbols have them
// for: compilers leave out those of local functions, so that a lambda would
// be just "operator()". Where it is inlined it gets the same name.
func (d *dwarfData) nameBySymbols(symbols *nativeSymbols) {
	d.mangled = map[uint64]string{}
	for _, s := range d.found.spans {
		n := d.found.nodes[s.node]
		if n.parent >= 0 {
			continue
		}
		linked, plain, _ := d.resolve(n.function)
		if linked != nil || plain == nil {
			continue
		}
		if name := symbols.at(s.lo); nativeMangled(name) && len(name) <= nativeMaxName {
			d.mangled[plain.off] = name
		}
	}
}

// qualified is the name of a function with the namespaces and types around it.
func (d *dwarfData) qualified(s *dwarfSub) string {
	parts := [][]byte{d.text(s.name)}
	for at := s.scope; at != 0 && len(parts) < dwarfMaxChain; at = d.scope[at].parent {
		if b := d.text(d.scope[at].name); len(b) > 0 {
			parts = append(parts, b)
		}
	}
	slices.Reverse(parts)
	name := bytes.Join(parts, []byte("::"))
	return string(name[:min(len(name), dwarfMaxText)])
}

// walk reads all units. A damaged unit is left out and counted; only a budget
// that is used up ends the walk.
func (d *dwarfData) walk() error {
	for off := uint64(0); off < uint64(len(d.info)); {
		u, err := d.openUnit(off)
		if u == nil { // where the next unit is cannot be told
			d.note(err)
			return nil
		}
		d.units++
		if err == nil {
			err = d.walkUnit(u)
		}
		if err != nil {
			d.note(inquest.Errorf(inquest.ErrInvalid, "unit at %#x of .debug_info: %w", off, err))
		}
		if d.fieldBudget < 0 || d.rangeBudget < 0 || d.lineBudget < 0 || d.declBudget < 0 || d.entryBudget < 0 || len(d.found.rows) > dwarfMaxRows {
			return inquest.Errorf(inquest.ErrTooLarge, "unit at %#x of .debug_info: the debug information unfolds to far more than its size, or has more than %d lines", off, dwarfMaxRows)
		}
		off = u.end
	}
	return nil
}

func (d *dwarfData) note(err error) {
	if d.damaged++; d.damage == nil {
		d.damage = err
	}
}
