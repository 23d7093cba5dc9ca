package store

import (
	"github.com/goinquest/inquest"
)

// tables are the contents of one dictionary: everything the samples of one
// service refer to, as columns that only grow. Ids are positions. A copy of
// the struct is a snapshot: what is in it never changes.
type tables struct {
	strings   []string // [0] is ""
	functions []function
	mappings  []mapping
	locations []location
	lines     []line   // of all locations
	stackUp   []uint32 // parent of a stack node; node 0 is the root
	stackLoc  []uint32 // location of a stack node
	stackFunc []uint32 // function-level node of a stack node
	labelEnds []uint32 // sample-label sets: labels[labelEnds[i-1]:labelEnds[i]]; set 0 is empty
	labels    []sampleLabel
	leaves    []uint32 // series: stack node of the leaf
	labelSet  []uint32 // series: sample-label set
	metaSets  [][]pair // label sets of profiles
	processes []uint32 // strings; [0] is ""
	forms     []form
	layouts   []layout

	// The function-level tree, which follows from the above.
	names    []string // distinct names; [0] is "", the root's
	noSymbol []bool   // names made of an address
	funcUp   []int32  // parent; node 0 is the root, -1
	funcName []uint32 // index into names
	series   []uint32 // function-level node of each series

	// What labels and metaSets, processes and forms refer to: strings itself in
	// a head; a block keeps the strings of each apart.
	labelText, metaText []string

	// Of a tree that Symbols had a part in; not stored:
	resolved map[string]FuncInfo // where the functions are that they knew
	added    int                 // names beyond those that are stored
}

type function struct {
	name, system, file uint32 // strings
	start              int64
}

type mapping struct {
	start, limit, offset uint64
	file, buildID        uint32 // strings
	flags                uint8  // mapFunctions …
}

const (
	mapFunctions = 1 << iota
	mapFilenames
	mapLineNumbers
	mapInlineFrames
)

type location struct {
	mapping  uint32 // id + 1, 0 if there is none
	folded   bool
	from, to uint32 // lines
	address  uint64
}

type line struct {
	function  uint32
	line, col int64
}

type sampleLabel struct {
	key, str, unit uint32 // strings
	num            int64
}

type pair struct{ name, value uint32 } // strings

// form is what many profiles have in common beside their samples.
type form struct {
	periodType, periodUnit, defaultType, drop, keep, doc uint32 // strings
	comments                                             []uint32
	mappings                                             []uint32 // the profile's, in order
}

// layout is what makes a section: a kind and its sample types.
type layout struct {
	kind  uint32 // string
	types []pair // sample type and unit
}

// marks are lengths of tables.
type marks [numTables]uint32

func (t *tables) marks() marks {
	return marks{
		tabStrings:   uint32(len(t.strings)),
		tabFunctions: uint32(len(t.functions)),
		tabMappings:  uint32(len(t.mappings)),
		tabLocations: uint32(len(t.locations)),
		tabStacks:    uint32(len(t.stackUp)),
		tabLabelSets: uint32(len(t.labelEnds)),
		tabSeries:    uint32(len(t.leaves)),
		tabMetaSets:  uint32(len(t.metaSets)),
		tabProcesses: uint32(len(t.processes)),
		tabForms:     uint32(len(t.forms)),
		tabSections:  uint32(len(t.layouts)),
	}
}

// firstMarks are the marks of a new dictionary: the entries that every one
// has and that are neither logged nor stored.
var firstMarks = marks{tabStrings: 1, tabStacks: 1, tabLabelSets: 1, tabProcesses: 1}

func newTables() tables {
	return tables{
		strings:   []string{""},
		stackUp:   []uint32{0},
		stackLoc:  []uint32{0},
		stackFunc: []uint32{0},
		labelEnds: []uint32{0},
		processes: []uint32{0},
		names:     []string{""},
		noSymbol:  []bool{false},
		funcUp:    []int32{-1},
		funcName:  []uint32{0},
	}
}

func (t *tables) setLabels(set uint32) []sampleLabel {
	if set == 0 {
		return t.labels[:t.labelEnds[0]]
	}
	return t.labels[t.labelEnds[set-1]:t.labelEnds[set]]
}

func (t *tables) profileLabels(set uint32) inquest.Labels {
	ls := make(inquest.Labels, len(t.metaSets[set]))
	for i, p := range t.metaSets[set] {
		ls[i] = inquest.Label{Name: t.metaText[p.name], Value: t.metaText[p.value]}
	}
	return ls
}

// dict is a dictionary that grows: the tables and the look-ups that keep the
// function-level tree a tree. Everything else that finds entries by content
// is in interner, which replay does without.
type dict struct {
	tables
	bytes    int64             // of text, and of what entries have of their own
	nameID   map[string]uint32 // names of functions
	nameOf   []uint32          // function → name + 1, 0 = not looked up yet
	addrID   map[string]uint32 // names made of an address
	children childIndex        // of function-level nodes by name
}

func newDict() *dict {
	return &dict{tables: newTables(), nameID: map[string]uint32{"": 0}, addrID: map[string]uint32{}}
}

func (d *dict) addString(s string) uint32 {
	d.strings = append(d.strings, s)
	d.bytes += int64(len(s))
	return uint32(len(d.strings) - 1)
}

func (d *dict) addFunction(f function) uint32 {
	d.functions = append(d.functions, f)
	return uint32(len(d.functions) - 1)
}

func (d *dict) addMapping(m mapping) uint32 {
	d.mappings = append(d.mappings, m)
	return uint32(len(d.mappings) - 1)
}

// addLocation adds a location whose lines the caller has appended to lines.
func (d *dict) addLocation(l location) uint32 {
	d.locations = append(d.locations, l)
	return uint32(len(d.locations) - 1)
}

// addStack adds a stack node and the function-level nodes it needs.
func (d *dict) addStack(parent, loc uint32) uint32 {
	d.stackUp = append(d.stackUp, parent)
	d.stackLoc = append(d.stackLoc, loc)
	d.stackFunc = append(d.stackFunc, d.locationNode(d.stackFunc[parent], loc))
	return uint32(len(d.stackUp) - 1)
}

// locationNode is the function-level node of a location called from node up:
// the innermost of its lines.
func (d *dict) locationNode(up, loc uint32) uint32 {
	l := &d.locations[loc]
	if l.from == l.to {
		return d.funcNode(up, d.internName(addressName(&d.tables, l), true))
	}
	for i := l.to; i > l.from; i-- {
		up = d.funcNode(up, d.lineName(l, d.lines[i-1].function))
	}
	return up
}

// lineName is the name of a function, or of the address where the function
// has none.
func (d *dict) lineName(l *location, function uint32) uint32 {
	for len(d.nameOf) < len(d.functions) {
		d.nameOf = append(d.nameOf, 0)
	}
	if id := d.nameOf[function]; id != 0 {
		return id - 1
	}
	f := &d.functions[function]
	s := f.name
	if s == 0 {
		s = f.system
	}
	if s == 0 {
		return d.internName(addressName(&d.tables, l), true)
	}
	id := d.internName(d.strings[s], false)
	d.nameOf[function] = id + 1
	return id
}

// derive extends the function-level tree over stacks and series that were
// appended to the tables without it.
func (d *dict) derive() {
	for i := len(d.stackFunc); i < len(d.stackUp); i++ {
		d.stackFunc = append(d.stackFunc, d.locationNode(d.stackFunc[d.stackUp[i]], d.stackLoc[i]))
	}
	for i := len(d.series); i < len(d.leaves); i++ {
		d.series = append(d.series, d.stackFunc[d.leaves[i]])
	}
}

func (d *dict) funcNode(up, name uint32) uint32 {
	if id, ok := d.children.find(up, name, d.funcName); ok {
		return id
	}
	id := uint32(len(d.funcUp))
	d.funcUp = append(d.funcUp, int32(up))
	d.funcName = append(d.funcName, name)
	d.children.add(up, name, id)
	return id
}

func (d *dict) internName(s string, address bool) uint32 {
	ids := d.nameID
	if address {
		ids = d.addrID
	}
	if id, ok := ids[s]; ok {
		return id
	}
	id := uint32(len(d.names))
	d.names = append(d.names, s)
	d.noSymbol = append(d.noSymbol, address)
	ids[s] = id
	if address {
		d.bytes += int64(len(s))
	}
	return id
}

// addLabelSet closes a set of sample labels that the caller has appended to
// labels.
func (d *dict) addLabelSet() uint32 {
	d.labelEnds = append(d.labelEnds, uint32(len(d.labels)))
	return uint32(len(d.labelEnds) - 1)
}

func (d *dict) addSeries(leaf, labels uint32) uint32 {
	d.leaves = append(d.leaves, leaf)
	d.labelSet = append(d.labelSet, labels)
	d.series = append(d.series, d.stackFunc[leaf])
	return uint32(len(d.leaves) - 1)
}

func (d *dict) addMetaSet(set []pair) uint32 {
	d.metaSets = append(d.metaSets, set)
	d.bytes += 8 * int64(cap(set))
	return uint32(len(d.metaSets) - 1)
}

func (d *dict) addProcess(s uint32) uint32 {
	d.processes = append(d.processes, s)
	return uint32(len(d.processes) - 1)
}

func (d *dict) addForm(f form) uint32 {
	d.forms = append(d.forms, f)
	d.bytes += 4 * int64(cap(f.comments)+cap(f.mappings))
	return uint32(len(d.forms) - 1)
}

func (d *dict) addLayout(l layout) uint32 {
	d.layouts = append(d.layouts, l)
	d.bytes += 8 * int64(cap(l.types))
	return uint32(len(d.layouts) - 1)
}

// cut shortens a table to n entries, without touching memory that snapshots
// share.
func (d *dict) cut(table int, n uint32) {
	if n == d.marks()[table] {
		return
	}
	switch table {
	case tabStrings:
		d.strings = d.strings[:n:n]
	case tabFunctions:
		d.functions = d.functions[:n:n]
	case tabMappings:
		d.mappings = d.mappings[:n:n]
	case tabLocations:
		lines := 0
		if n > 0 {
			lines = int(d.locations[n-1].to)
		}
		d.locations, d.lines = d.locations[:n:n], d.lines[:lines:lines]
	case tabStacks:
		d.stackUp, d.stackLoc = d.stackUp[:n:n], d.stackLoc[:n:n]
		d.stackFunc = d.stackFunc[:min(n, uint32(len(d.stackFunc))):n]
	case tabLabelSets:
		labels := d.labelEnds[n-1]
		d.labelEnds, d.labels = d.labelEnds[:n:n], d.labels[:labels:labels]
	case tabSeries:
		d.leaves, d.labelSet = d.leaves[:n:n], d.labelSet[:n:n]
		d.series = d.series[:min(n, uint32(len(d.series))):n]
	case tabMetaSets:
		d.metaSets = d.metaSets[:n:n]
	case tabProcesses:
		d.processes = d.processes[:n:n]
	case tabForms:
		d.forms = d.forms[:n:n]
	case tabSections:
		d.layouts = d.layouts[:n:n]
	}
}

// addressName spells a frame of which only the address is known, see
// inquest.Address.
func addressName(t *tables, l *location) string {
	if l.mapping == 0 {
		return inquest.Address{Offset: l.address}.String()
	}
	m := &t.mappings[l.mapping-1]
	if m.file == 0 || t.strings[m.file] == "" {
		return inquest.Address{Offset: l.address}.String()
	}
	return inquest.NewAddress(t.strings[m.file], t.strings[m.buildID], l.address-m.start+m.offset).String()
}
