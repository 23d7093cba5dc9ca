package store

import (
	"slices"

	"github.com/goinquest/inquest/profile"
)

// filter takes rows out of a part of profiles, and what only they used out of
// its dictionary. Ids stay, so that row groups of which nothing goes are copied
// as they are: entries that nobody uses become empty, and merging drops them.
type filter struct {
	p *Part
	w *grouper
	x []*exporter // by section

	series, sets, processes, forms []bool // used
}

func newFilter(s *Store, b *block, pi *partInfo, dir *partDirectory) (*filter, error) {
	p := &Part{Service: pi.service, s: s, block: b, dir: dir}
	for j := range pi.sections {
		si := &pi.sections[j]
		p.sections = append(p.sections, partSection{cols: len(si.sampleTypes), types: si.sampleTypes, groups: dir.sections[j]})
	}
	for _, l := range [...]struct {
		ids  []uint8
		read func(raw [][]byte) error
	}{
		{[]uint8{secNames, secFuncTree, secSeriesNode}, func(raw [][]byte) error { return readCore(&p.tables, raw[0], raw[1], raw[2]) }},
		{[]uint8{secLabelText, secLabelSets}, func(raw [][]byte) error { return readLabels(&p.tables, raw[0], raw[1]) }},
		{[]uint8{secMeta}, func(raw [][]byte) error { return readMeta(&p.tables, raw[0]) }},
	} {
		if err := p.loadStreams(l.read, l.ids...); err != nil {
			return nil, err
		}
	}
	if err := readDetail(&p.tables, p.partStream); err != nil {
		return nil, err
	}
	t := &p.tables
	f := &filter{
		p: p, w: &grouper{pk: s.pk},
		series: make([]bool, len(t.series)), sets: make([]bool, len(t.metaSets)),
		processes: make([]bool, len(t.processes)), forms: make([]bool, len(t.forms)),
	}
	for i := range p.sections {
		f.x = append(f.x, newExporter(p, &p.sections[i]))
	}
	return f, nil
}

// use marks what a row uses beside its samples.
func (f *filter) use(r *row) {
	f.sets[r.labels], f.processes[r.process], f.forms[r.form] = true, true, true
}

// mark marks what a group uses that stays.
func (f *filter) mark(section int, g *group) error {
	x := f.x[section]
	rows, err := f.p.groupRows(g, x.sec.cols)
	if err != nil {
		return err
	}
	for i := range rows {
		f.use(&rows[i])
	}
	raw, err := f.p.groupStream(g, streamSeries)
	if err != nil {
		return err
	}
	if err := x.shape.read(raw, g.rows, len(f.series)); err != nil {
		return err
	}
	x.shape.each(func(_, _ int, id uint32) { f.series[id] = true })
	return nil
}

// filtered is what is left of a group, and which of its rows that are.
type filtered struct {
	group *group // nil: nothing
	rows  []int
}

// group makes a group of the rows that start in the spans.
func (f *filter) group(section int, g *group, spans []Span) (out filtered, err error) {
	x := f.x[section]
	rows, err := f.p.groupRows(g, x.sec.cols)
	if err == nil {
		err = x.unpack(g)
	}
	if err != nil {
		return out, err
	}
	var left []*row
	at := 0
	for i := range rows {
		r := &rows[i]
		end := at + int(r.samples)
		if end > len(x.samples.ids) {
			return out, errGroup
		}
		if within(spans, r.start) {
			f.use(r)
			r.data = packRow(&x.samples, at, end, r)
			for _, id := range x.samples.ids[at:end] {
				f.series[id] = true
			}
			left, out.rows = append(left, r), append(out.rows, i)
		}
		at = end
	}
	if len(left) == 0 {
		return out, nil
	}
	t := f.groupTables(x.sec)
	out.group, err = f.w.group(left, &t, 0)
	return out, err
}

// packRow packs samples from to end of u as those of a row.
func packRow(u *samples, from, end int, r *row) []byte {
	cols := len(r.totals)
	b := &body{p: &profile.Profile{Period: r.period, Values: make([]int64, 0, cols*(end-from))}}
	for k := from; k < end; k++ {
		b.ids = append(b.ids, uint64(u.ids[k])<<32|uint64(k-from))
		for c := range cols {
			b.p.Values = append(b.p.Values, u.vals[c][k])
		}
	}
	slices.Sort(b.ids)
	return appendSamples(nil, b, make([]int64, cols))
}

// groupTables are the tables as groups are made of: sample labels and the one
// layout over the same strings.
func (f *filter) groupTables(sec *partSection) tables {
	t := f.p.tables
	t.strings = slices.Clone(t.labelText)
	add := func(s string) uint32 {
		t.strings = append(t.strings, s)
		return uint32(len(t.strings) - 1)
	}
	l := layout{}
	for _, st := range sec.types {
		l.types = append(l.types, pair{add(st[0]), add(st[1])})
	}
	t.layouts = []layout{l}
	return t
}

// used are the entries of a dictionary that rows use, by table.
type used struct {
	strings, functions, mappings, locations, stacks []bool
	labelSets, labelText, metaText                  []bool
	nodes, names                                    []bool
}

// uses follows what the marked entries refer to.
func (f *filter) uses() *used {
	t := &f.p.tables
	u := &used{
		strings: make([]bool, len(t.strings)), functions: make([]bool, len(t.functions)), mappings: make([]bool, len(t.mappings)),
		locations: make([]bool, len(t.locations)), stacks: make([]bool, len(t.stackUp)), labelSets: make([]bool, len(t.labelEnds)),
		labelText: make([]bool, len(t.labelText)), metaText: make([]bool, len(t.metaText)),
		nodes: make([]bool, len(t.funcUp)), names: make([]bool, len(t.names)),
	}
	for i, on := range f.series {
		if !on {
			continue
		}
		u.labelSets[t.labelSet[i]] = true
		for n := t.leaves[i]; n != 0 && !u.stacks[n]; n = t.stackUp[n] {
			u.stacks[n] = true
			u.locations[t.stackLoc[n]] = true
		}
		for n := int32(t.series[i]); n > 0 && !u.nodes[n]; n = t.funcUp[n] {
			u.nodes[n] = true
			u.names[t.funcName[n]] = true
		}
	}
	for i, on := range u.labelSets {
		for _, l := range t.setLabels(uint32(i)) {
			if on {
				u.labelText[l.key], u.labelText[l.str], u.labelText[l.unit] = true, true, true
			}
		}
	}
	f.usesMeta(u)
	f.usesCode(u)
	return u
}

// usesMeta follows label sets, processes and forms of rows.
func (f *filter) usesMeta(u *used) {
	t := &f.p.tables
	for i, on := range f.sets {
		for _, p := range t.metaSets[i] {
			u.metaText[p.name], u.metaText[p.value] = u.metaText[p.name] || on, u.metaText[p.value] || on
		}
	}
	for i, on := range f.processes {
		u.metaText[t.processes[i]] = u.metaText[t.processes[i]] || on
	}
	for i, on := range f.forms {
		x := &t.forms[i]
		if !on {
			continue
		}
		for _, id := range append([]uint32{x.periodType, x.periodUnit, x.defaultType, x.drop, x.keep, x.doc}, x.comments...) {
			u.metaText[id] = true
		}
		for _, m := range x.mappings {
			u.mappings[m] = true
		}
	}
}

// usesCode follows locations.
func (f *filter) usesCode(u *used) {
	t := &f.p.tables
	for i, on := range u.locations {
		if l := &t.locations[i]; on {
			if l.mapping != 0 {
				u.mappings[l.mapping-1] = true
			}
			for _, ln := range t.lines[l.from:l.to] {
				u.functions[ln.function] = true
			}
		}
	}
	for i, on := range u.functions {
		if x := &t.functions[i]; on {
			u.strings[x.name], u.strings[x.system], u.strings[x.file] = true, true, true
		}
	}
	for i, on := range u.mappings {
		if x := &t.mappings[i]; on {
			u.strings[x.file], u.strings[x.buildID] = true, true
		}
	}
}

// dictionary packs the dictionary with what is used.
func (f *filter) dictionary(dir *partDirectory) ([]stream, error) {
	t, u := f.p.tables, f.uses()
	rest, err := f.rest(u)
	if err != nil {
		return nil, err
	}
	pk := f.p.s.pk
	t.names, t.noSymbol = blank(t.names, u.names), slices.Clone(t.noSymbol)
	t.labelText, t.metaText = blank(t.labelText, u.labelText), blank(t.metaText, u.metaText)
	f.empty(&t, u)
	m := t.marks()
	table := func(n int) []byte { return appendTable(nil, &t, n, firstMarks[n], m[n]) }
	meta := appendStrings(nil, t.metaText)
	for _, n := range [...]int{tabMetaSets, tabProcesses, tabForms} {
		meta = append(meta, table(n)...)
	}
	var out []stream
	for i := range dir.streams {
		var raw []byte
		switch id := dir.streams[i].id; id {
		case secNames:
			raw = appendNames(nil, &t)
		case secLabelText:
			raw = appendStrings(nil, t.labelText)
		case secLabelSets:
			raw = table(tabLabelSets)
		case secMeta:
			raw = meta
		case secStrings:
			raw = rest
		case secFunctions:
			raw = table(tabFunctions)
		case secMappings:
			raw = table(tabMappings)
		case secLocations:
			raw = table(tabLocations)
		default: // trees and series: numbers alone
			st, err := f.p.block.stored(&dir.streams[i])
			if err != nil {
				return nil, err
			}
			out = append(out, st)
			continue
		}
		out = append(out, pk.stream(dir.streams[i].id, raw))
	}
	return out, nil
}

// blank returns the strings that are used, "" for the others.
func blank(list []string, used []bool) []string {
	out := make([]string, len(list))
	for i, s := range list {
		if used[i] {
			out[i] = s
		}
	}
	return out
}

// empty empties the entries of t that are not used.
func (f *filter) empty(t *tables, u *used) {
	t.functions, t.mappings = slices.Clone(t.functions), slices.Clone(t.mappings)
	for i, on := range u.functions {
		if !on {
			t.functions[i] = function{}
		}
	}
	for i, on := range u.mappings {
		if !on {
			t.mappings[i] = mapping{}
		}
	}
	locations, lines := t.locations, t.lines
	t.locations, t.lines = make([]location, len(locations)), nil
	for i, on := range u.locations {
		l := location{}
		if on {
			l = locations[i]
		}
		from := uint32(len(t.lines))
		t.lines = append(t.lines, lines[l.from:l.to]...)
		l.from, l.to = from, uint32(len(t.lines))
		t.locations[i] = l
	}
	t.labels, t.labelEnds = nil, make([]uint32, len(t.labelEnds))
	for i, on := range u.labelSets {
		if on {
			t.labels = append(t.labels, f.p.tables.setLabels(uint32(i))...)
		}
		t.labelEnds[i] = uint32(len(t.labels))
	}
	t.metaSets, t.processes, t.forms = slices.Clone(t.metaSets), slices.Clone(t.processes), slices.Clone(t.forms)
	for i, on := range f.sets {
		if !on {
			t.metaSets[i] = nil
		}
	}
	for i, on := range f.processes {
		if !on {
			t.processes[i] = 0
		}
	}
	for i, on := range f.forms {
		if !on {
			t.forms[i] = form{}
		}
	}
}

// rest packs anew where each string is, with those that are in no other
// section. What is used there counts as used where it is.
func (f *filter) rest(u *used) ([]byte, error) {
	raw, err := f.p.partStream(secStrings)
	if err != nil {
		return nil, err
	}
	c := cursor{b: raw}
	n := c.count()
	lists := [4][]bool{textName: u.names, textLabels: u.labelText, textMeta: u.metaText}
	here := make([]bool, 0, n)
	var last [4]int64
	for i := range n {
		v := c.uvarint()
		w := v & 3
		last[w] += unzigzag(v >> 2)
		on := u.strings[i+1]
		switch {
		case w == textHere:
			here = append(here, on)
		case last[w] < 0 || last[w] >= int64(len(lists[w])):
			return nil, errDict
		case on:
			lists[w][last[w]] = true
		}
	}
	places := raw[:len(raw)-len(c.b)]
	list := c.strings()
	if c.bad || len(list) != len(here) {
		return nil, errDict
	}
	return appendStrings(slices.Clone(places), blank(list, here)), nil
}
