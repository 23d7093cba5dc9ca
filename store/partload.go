package store

import (
	"errors"
	"math"
)

// What a part has loaded of its dictionary.
const (
	loadedCore   = 1 << iota // function-level tree and series
	loadedLabels             // sample-label sets
	loadedMeta               // profile label sets, processes, forms
	loadedDetail             // everything else
)

var errDict = errors.New("dictionary is damaged")

// readCore reads names, function-level tree and the node of each series.
func readCore(t *tables, names, tree, series []byte) error {
	c := cursor{b: names}
	list := c.strings()
	n := len(list) + 1
	t.names = make([]string, 1, n)
	t.names = append(t.names, list...)
	t.noSymbol = make([]bool, n)
	bits := c.bytes((n - 1 + 7) / 8)
	if c.bad {
		return errDict
	}
	for i := 1; i < n; i++ {
		t.noSymbol[i] = bits[(i-1)/8]>>((i-1)%8)&1 != 0
	}
	c = cursor{b: tree}
	n = c.count() + 1
	t.funcUp, t.funcName = make([]int32, n), make([]uint32, n)
	t.funcUp[0] = -1
	for i := 1; i < n; i++ {
		up := c.uvarint()
		if up == 0 || up > uint64(i) {
			return errDict
		}
		t.funcUp[i] = int32(i) - int32(up)
	}
	for i := 1; i < n; i++ {
		t.funcName[i] = c.id(len(t.names))
	}
	if c.bad {
		return errDict
	}
	c = cursor{b: series}
	n = c.count()
	t.series, t.labelSet = make([]uint32, n), make([]uint32, n)
	prev := int64(0)
	for i := range t.series {
		prev = c.delta(prev, len(t.funcUp))
		t.series[i] = uint32(prev)
	}
	for i := range t.labelSet {
		t.labelSet[i] = c.id(math.MaxInt32) // checked against the sets where they are read
	}
	if c.bad {
		return errDict
	}
	return nil
}

// readLabels reads the sample-label sets.
func readLabels(t *tables, text, sets []byte) error {
	c := cursor{b: text}
	t.labelText = c.strings()
	if c.bad || len(t.labelText) == 0 {
		return errDict
	}
	moved := tables{strings: t.labelText, labelEnds: []uint32{0}}
	c = cursor{b: sets}
	readTable(&c, &moved, tabLabelSets)
	if c.bad {
		return errDict
	}
	t.labels, t.labelEnds = moved.labels, moved.labelEnds
	for _, set := range t.labelSet {
		if set >= uint32(len(t.labelEnds)) {
			return errDict
		}
	}
	return nil
}

// readMeta reads what rows refer to. Mappings of forms are checked when the
// detail is read.
func readMeta(t *tables, raw []byte) error {
	c := cursor{b: raw}
	t.metaText = c.strings()
	if c.bad || len(t.metaText) == 0 {
		return errDict
	}
	moved := tables{strings: t.metaText, processes: []uint32{0}}
	readTable(&c, &moved, tabMetaSets)
	readTable(&c, &moved, tabProcesses)
	n := c.count()
	for range n {
		f := form{}
		for _, id := range [...]*uint32{&f.periodType, &f.periodUnit, &f.defaultType, &f.drop, &f.keep, &f.doc} {
			*id = c.id(len(t.metaText))
		}
		f.comments, f.mappings = c.idList(len(t.metaText)), c.idList(math.MaxInt32)
		moved.forms = append(moved.forms, f)
	}
	if c.bad {
		return errDict
	}
	t.metaSets, t.processes, t.forms = moved.metaSets, moved.processes, moved.forms
	return nil
}

// readDetail reads strings, functions, mappings, locations and stacks; core,
// labels and meta are there.
func readDetail(t *tables, get fetch) error {
	raw, err := get(secStrings)
	if err != nil {
		return err
	}
	if err := readRest(t, raw); err != nil {
		return err
	}
	d := tables{strings: t.strings, stackUp: []uint32{0}, stackLoc: []uint32{0}}
	for _, s := range [...]struct {
		id    uint8
		table int
	}{{secFunctions, tabFunctions}, {secMappings, tabMappings}, {secLocations, tabLocations}, {secStacks, tabStacks}} {
		if raw, err = get(s.id); err != nil {
			return err
		}
		c := cursor{b: raw}
		readTable(&c, &d, s.table)
		if c.bad || len(c.b) > 0 {
			return errDict
		}
	}
	if raw, err = get(secSeriesLeaf); err != nil {
		return err
	}
	c := cursor{b: raw}
	if c.count() != len(t.series) {
		return errDict
	}
	prev := int64(0)
	d.leaves = make([]uint32, len(t.series))
	for i := range d.leaves {
		prev = c.delta(prev, len(d.stackUp))
		d.leaves[i] = uint32(prev)
	}
	if c.bad {
		return errDict
	}
	for i := range t.forms {
		for _, m := range t.forms[i].mappings {
			if m >= uint32(len(d.mappings)) {
				return errDict
			}
		}
	}
	t.functions, t.mappings, t.locations, t.lines = d.functions, d.mappings, d.locations, d.lines
	t.stackUp, t.stackLoc, t.leaves = d.stackUp, d.stackLoc, d.leaves
	return nil
}

// readRest puts the strings of a dictionary together again.
func readRest(t *tables, raw []byte) error {
	c := cursor{b: raw}
	n := c.count()
	where := make([]uint8, n)
	at := make([]int64, n)
	lists := [4][]string{textName: t.names, textLabels: t.labelText, textMeta: t.metaText}
	var last [4]int64
	for i := range where {
		v := c.uvarint()
		w := uint8(v & 3)
		last[w] += unzigzag(v >> 2)
		if w != textHere && (last[w] < 0 || last[w] >= int64(len(lists[w]))) {
			return errDict
		}
		where[i], at[i] = w, last[w]
	}
	rest := c.strings()
	if c.bad || len(c.b) > 0 {
		return errDict
	}
	t.strings = make([]string, 1, n+1)
	for i, w := range where {
		if w != textHere {
			t.strings = append(t.strings, lists[w][at[i]])
			continue
		}
		if len(rest) == 0 {
			return errDict
		}
		t.strings = append(t.strings, rest[0])
		rest = rest[1:]
	}
	return nil
}
