package store

import (
	"encoding/binary"
	"slices"
)

// appendTable writes the entries [from, to) of one table, column by column.
// The log writes what is new, a block everything.
func appendTable(dst []byte, t *tables, table int, from, to uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(to-from))
	switch table {
	case tabStrings:
		return appendStrings(dst, t.strings[from:to])
	case tabFunctions:
		return appendFunctions(dst, t.functions[from:to])
	case tabMappings:
		return appendMappings(dst, t.mappings[from:to])
	case tabLocations:
		return appendLocations(dst, t, from, to)
	case tabStacks:
		for i := from; i < to; i++ {
			dst = binary.AppendUvarint(dst, uint64(i-t.stackUp[i]))
		}
		for i := from; i < to; i++ {
			dst = binary.AppendUvarint(dst, uint64(t.stackLoc[i]))
		}
	case tabLabelSets:
		return appendLabelSets(dst, t, from, to)
	case tabSeries:
		prev := uint32(0)
		for i := from; i < to; i++ {
			dst = appendVarint(dst, int64(t.leaves[i])-int64(prev))
			prev = t.leaves[i]
		}
		for i := from; i < to; i++ {
			dst = binary.AppendUvarint(dst, uint64(t.labelSet[i]))
		}
	case tabMetaSets:
		for _, set := range t.metaSets[from:to] {
			dst = appendPairs(dst, set)
		}
	case tabProcesses:
		dst = appendIDs(dst, t.processes[from:to])
	case tabForms:
		for i := range t.forms[from:to] {
			dst = appendForm(dst, &t.forms[from:to][i])
		}
	case tabSections:
		for _, l := range t.layouts[from:to] {
			dst = binary.AppendUvarint(dst, uint64(l.kind))
			dst = appendPairs(dst, l.types)
		}
	}
	return dst
}

func appendIDs(dst []byte, ids []uint32) []byte {
	for _, id := range ids {
		dst = binary.AppendUvarint(dst, uint64(id))
	}
	return dst
}

func appendPairs(dst []byte, ps []pair) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ps)))
	for _, p := range ps {
		dst = binary.AppendUvarint(dst, uint64(p.name))
		dst = binary.AppendUvarint(dst, uint64(p.value))
	}
	return dst
}

func appendFunctions(dst []byte, fs []function) []byte {
	prev := int64(0)
	for i := range fs {
		dst = appendVarint(dst, int64(fs[i].name)-prev)
		prev = int64(fs[i].name)
	}
	for i := range fs { // mostly the same as the name
		dst = appendVarint(dst, int64(fs[i].system)-int64(fs[i].name))
	}
	for i := range fs {
		dst = binary.AppendUvarint(dst, uint64(fs[i].file))
	}
	for i := range fs {
		dst = appendVarint(dst, fs[i].start)
	}
	return dst
}

func appendMappings(dst []byte, ms []mapping) []byte {
	for i := range ms {
		m := &ms[i]
		dst = binary.AppendUvarint(dst, m.start)
		dst = binary.AppendUvarint(dst, m.limit)
		dst = binary.AppendUvarint(dst, m.offset)
		dst = binary.AppendUvarint(dst, uint64(m.file))
		dst = binary.AppendUvarint(dst, uint64(m.buildID))
		dst = append(dst, m.flags)
	}
	return dst
}

func appendLocations(dst []byte, t *tables, from, to uint32) []byte {
	ls := t.locations[from:to]
	for i := range ls {
		v := uint64(ls[i].to-ls[i].from) << 1
		if ls[i].folded {
			v |= 1
		}
		dst = binary.AppendUvarint(dst, v)
	}
	for i := range ls {
		dst = binary.AppendUvarint(dst, uint64(ls[i].mapping))
	}
	prev := uint64(0)
	for i := range ls {
		dst = appendVarint(dst, int64(ls[i].address-prev))
		prev = ls[i].address
	}
	for i := range ls {
		for _, l := range t.lines[ls[i].from:ls[i].to] {
			dst = binary.AppendUvarint(dst, uint64(l.function))
		}
	}
	for i := range ls { // near the start of the function
		for _, l := range t.lines[ls[i].from:ls[i].to] {
			dst = appendVarint(dst, l.line-t.functions[l.function].start)
		}
	}
	for i := range ls {
		for _, l := range t.lines[ls[i].from:ls[i].to] {
			dst = appendVarint(dst, l.col)
		}
	}
	return dst
}

func appendLabelSets(dst []byte, t *tables, from, to uint32) []byte {
	for i := from; i < to; i++ {
		dst = binary.AppendUvarint(dst, uint64(len(t.setLabels(i))))
	}
	for i := from; i < to; i++ {
		for _, l := range t.setLabels(i) {
			dst = binary.AppendUvarint(dst, uint64(l.key))
			dst = binary.AppendUvarint(dst, uint64(l.str))
			dst = appendVarint(dst, l.num)
			dst = binary.AppendUvarint(dst, uint64(l.unit))
		}
	}
	return dst
}

func appendForm(dst []byte, f *form) []byte {
	dst = appendIDs(dst, []uint32{f.periodType, f.periodUnit, f.defaultType, f.drop, f.keep, f.doc})
	dst = appendIDs(binary.AppendUvarint(dst, uint64(len(f.comments))), f.comments)
	return appendIDs(binary.AppendUvarint(dst, uint64(len(f.mappings))), f.mappings)
}

// readTable appends the entries of one table that c holds. Every reference is
// checked, so that no later reader has to; c.bad says whether all was well.
// Labels and what belongs to profiles refer to the first text strings of
// t.strings or of the lists a block has for them.
func readTable(c *cursor, t *tables, table int) {
	n := c.count()
	switch table {
	case tabStrings:
		ss := c.strings()
		if len(ss) != n {
			c.fail()
		}
		t.strings = append(t.strings, ss...)
	case tabFunctions:
		readFunctions(c, t, n)
	case tabMappings:
		readMappings(c, t, n)
	case tabLocations:
		readLocations(c, t, n)
	case tabStacks:
		readStacks(c, t, n)
	case tabLabelSets:
		readLabelSets(c, t, n)
	case tabSeries:
		readSeries(c, t, n)
	case tabMetaSets:
		for range n {
			t.metaSets = append(t.metaSets, c.pairs(len(t.strings)))
		}
	case tabProcesses:
		for range n {
			t.processes = append(t.processes, c.id(len(t.strings)))
		}
	case tabForms:
		for range n {
			t.forms = append(t.forms, readForm(c, t))
		}
	case tabSections:
		for range n {
			l := layout{kind: c.id(len(t.strings))}
			l.types = c.pairs(len(t.strings))
			t.layouts = append(t.layouts, l)
		}
	}
}

func (c *cursor) pairs(limit int) []pair {
	ps := make([]pair, c.count())
	for i := range ps {
		ps[i] = pair{c.id(limit), c.id(limit)}
	}
	return ps
}

func (c *cursor) idList(limit int) []uint32 {
	n := c.count()
	if n == 0 {
		return nil
	}
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = c.id(limit)
	}
	return ids
}

func (c *cursor) delta(prev int64, limit int) int64 {
	v := prev + c.varint()
	if v < 0 || v >= int64(limit) {
		c.fail()
		return 0
	}
	return v
}

func readFunctions(c *cursor, t *tables, n int) {
	fs := make([]function, n)
	prev := int64(0)
	for i := range fs {
		prev = c.delta(prev, len(t.strings))
		fs[i].name = uint32(prev)
	}
	for i := range fs {
		fs[i].system = uint32(c.delta(int64(fs[i].name), len(t.strings)))
	}
	for i := range fs {
		fs[i].file = c.id(len(t.strings))
	}
	for i := range fs {
		fs[i].start = c.varint()
	}
	t.functions = append(t.functions, fs...)
}

func readMappings(c *cursor, t *tables, n int) {
	for range n {
		m := mapping{start: c.uvarint(), limit: c.uvarint(), offset: c.uvarint()}
		m.file, m.buildID, m.flags = c.id(len(t.strings)), c.id(len(t.strings)), c.byte()
		t.mappings = append(t.mappings, m)
	}
}

func readLocations(c *cursor, t *tables, n int) {
	ls := make([]location, n)
	at := uint64(len(t.lines))
	for i := range ls {
		v := c.uvarint()
		ls[i].folded = v&1 != 0
		ls[i].from = uint32(at)
		at += min(v>>1, maxStreamBytes)
		if at > uint64(len(t.lines)+len(c.b)) { // each line takes three bytes
			c.fail()
			return
		}
		ls[i].to = uint32(at)
	}
	for i := range ls {
		ls[i].mapping = c.id(len(t.mappings) + 1)
	}
	prev := uint64(0)
	for i := range ls {
		prev += uint64(c.varint())
		ls[i].address = prev
	}
	lines := make([]line, at-uint64(len(t.lines)))
	if len(lines) > 0 && len(t.functions) == 0 {
		c.fail()
		return
	}
	for i := range lines {
		lines[i].function = c.id(len(t.functions))
	}
	for i := range lines {
		lines[i].line = c.varint() + t.functions[lines[i].function].start
	}
	for i := range lines {
		lines[i].col = c.varint()
	}
	if c.bad {
		return
	}
	t.lines = append(t.lines, lines...)
	t.locations = append(t.locations, ls...)
}

func readStacks(c *cursor, t *tables, n int) {
	from := len(t.stackUp)
	t.stackUp, t.stackLoc = slices.Grow(t.stackUp, n), slices.Grow(t.stackLoc, n)
	for i := from; i < from+n; i++ {
		up := c.uvarint()
		if up == 0 || up > uint64(i) {
			c.fail()
			return
		}
		t.stackUp = append(t.stackUp, uint32(i)-uint32(up))
	}
	for range n {
		t.stackLoc = append(t.stackLoc, c.id(len(t.locations)))
	}
}

func readLabelSets(c *cursor, t *tables, n int) {
	at := uint64(len(t.labels))
	for range n {
		at += min(c.uvarint(), maxStreamBytes)
		if at > uint64(len(t.labels)+len(c.b)) {
			c.fail()
			return
		}
		t.labelEnds = append(t.labelEnds, uint32(at))
	}
	for uint64(len(t.labels)) < at {
		l := sampleLabel{key: c.id(len(t.strings)), str: c.id(len(t.strings)), num: c.varint()}
		l.unit = c.id(len(t.strings))
		t.labels = append(t.labels, l)
	}
}

func readSeries(c *cursor, t *tables, n int) {
	prev := int64(0)
	for range n {
		prev = c.delta(prev, len(t.stackUp))
		t.leaves = append(t.leaves, uint32(prev))
	}
	for range n {
		t.labelSet = append(t.labelSet, c.id(len(t.labelEnds)))
	}
}

func readForm(c *cursor, t *tables) form {
	n := len(t.strings)
	f := form{periodType: c.id(n), periodUnit: c.id(n), defaultType: c.id(n), drop: c.id(n), keep: c.id(n), doc: c.id(n)}
	f.comments = c.idList(n)
	f.mappings = c.idList(len(t.mappings))
	return f
}
