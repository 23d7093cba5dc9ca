package store

import (
	"context"
	"fmt"
	"slices"
	"unsafe"

	"github.com/goinquest/inquest/profile"
)

// Export calls add with each chosen profile of a section (rows nil = all) as
// columns, sample for sample as it came in; only the order of samples may
// differ, and functions and locations that no sample uses are left out. The
// profile is valid during the call. An error of add ends the export.
func (p *Part) Export(ctx context.Context, section int, rows []bool, add func(*profile.Profile) error) error {
	sec, err := p.section(section)
	if err != nil {
		return err
	}
	if rows != nil && len(rows) != sec.n {
		return fmt.Errorf("section has %d rows, %d flags were given", sec.n, len(rows))
	}
	if err := p.reserveLoad(ctx, loadedDetail); err != nil {
		return err
	}
	if err := p.load(loadedDetail); err != nil {
		return err
	}
	if err := p.reserveExport(ctx, sec); err != nil {
		return err
	}
	x := newExporter(p, sec)
	at := 0
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if chosen := choice(rows, at, g.rows); chosen != nil || rows == nil {
			if err := x.group(g, chosen, add); err != nil {
				return err
			}
		}
		at += g.rows
	}
	for _, r := range sec.rows {
		if rows == nil || rows[at] {
			x.samples.reset()
			if err := x.samples.unpack(r.data, r.samples, sec.cols, r.period, len(p.tables.series)); err != nil {
				return p.damaged(err)
			}
			if err := add(x.profile(r, &x.samples, 0, int(r.samples))); err != nil {
				return err
			}
		}
		at++
	}
	return nil
}

// choice returns the flags of n rows from at on, nil if none is set.
func choice(rows []bool, at, n int) []bool {
	if rows == nil {
		return nil
	}
	for _, r := range rows[at : at+n] {
		if r {
			return rows[at : at+n]
		}
	}
	return nil
}

// exporter turns rows back into profiles. Ids of a profile are given in
// order of use; the slices hold a dictionary id's index in the profile at
// hand, + 1.
type exporter struct {
	part    *Part
	sec     *partSection
	t       *tables
	out     profile.Profile
	samples samples
	shape   shape
	column  columnReader
	text    map[string]uint32
	depth   []uint32 // by stack node: frames from the root
	path    []uint32 // stack nodes of the last sample, from the root
	names   []uint32 // dictionary string → index + 1
	funcs   []uint32
	maps    []uint32
	locs    []uint32
	used    [4][]uint32 // ids set in the four above
}

func newExporter(p *Part, sec *partSection) *exporter {
	t := &p.tables
	depth := make([]uint32, len(t.stackUp))
	for i := 1; i < len(depth); i++ { // parents come first
		depth[i] = depth[t.stackUp[i]] + 1
	}
	return &exporter{
		part: p, sec: sec, t: t, text: map[string]uint32{}, depth: depth, path: []uint32{0},
		names: make([]uint32, len(t.strings)), funcs: make([]uint32, len(t.functions)),
		maps: make([]uint32, len(t.mappings)), locs: make([]uint32, len(t.locations)),
	}
}

// group exports the chosen rows of a group, nil = all.
func (x *exporter) group(g *group, chosen []bool, add func(*profile.Profile) error) error {
	rows, err := x.part.groupRows(g, x.sec.cols)
	if err == nil {
		err = x.unpack(g)
	}
	if err != nil {
		return x.part.damaged(err)
	}
	at := 0
	for i := range rows {
		n := int(rows[i].samples)
		if n > len(x.samples.ids)-at {
			return x.part.damaged(errGroup)
		}
		if chosen == nil || chosen[i] {
			if err := add(x.profile(&rows[i], &x.samples, at, at+n)); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// unpack reads all columns of a group into x.samples, row by row.
func (x *exporter) unpack(g *group) error {
	raw, err := x.part.groupStream(g, streamSeries)
	if err != nil {
		return err
	}
	s := &x.shape
	if err := s.read(raw, g.rows, len(x.t.series)); err != nil {
		return err
	}
	place := make([]uint32, s.n) // stored position → position by row
	next := make([]uint32, s.rows+1)
	s.each(func(_, row int, _ uint32) { next[row+1]++ })
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	u := &x.samples
	u.ids = resize(u.ids, s.n)
	s.each(func(k, row int, id uint32) {
		place[k] = next[row]
		u.ids[next[row]] = id
		next[row]++
	})
	u.vals = resize(u.vals, x.sec.cols)
	for c := range x.sec.cols {
		vals, err := x.column.read(func(id uint8) ([]byte, error) { return x.part.groupStream(g, id) }, s, c)
		if err != nil {
			return err
		}
		if len(vals) != s.n {
			return errGroup
		}
		u.vals[c] = resize(u.vals[c], s.n)
		for k, v := range vals {
			u.vals[c][place[k]] = v
		}
	}
	return nil
}

// profile makes the profile of a row whose samples are u's from..to.
func (x *exporter) profile(r *row, u *samples, from, to int) *profile.Profile {
	x.begin(&header{r.form, r.timeNanos, r.duration, r.period})
	for k := from; k < to; k++ {
		x.sample(u.ids[k])
		for c := range x.sec.cols {
			x.out.Values = append(x.out.Values, u.vals[c][k])
		}
	}
	return &x.out
}

// begin begins a profile without samples.
func (x *exporter) begin(h *header) {
	x.reset()
	p, t := &x.out, x.t
	f := &t.forms[h.form]
	for _, st := range x.sec.types {
		p.SampleTypes = append(p.SampleTypes, profile.ValueType{Type: x.plain(st[0]), Unit: x.plain(st[1])})
	}
	meta := func(id uint32) uint32 { return x.plain(t.metaText[id]) }
	p.PeriodType = profile.ValueType{Type: meta(f.periodType), Unit: meta(f.periodUnit)}
	p.DefaultSampleType, p.DropFrames, p.KeepFrames, p.DocURL = meta(f.defaultType), meta(f.drop), meta(f.keep), meta(f.doc)
	p.Period, p.TimeNanos, p.DurationNanos = h.period, h.timeNanos, h.duration
	for _, c := range f.comments {
		p.Comments = append(p.Comments, meta(c))
	}
	for _, m := range f.mappings {
		x.mapping(m)
	}
}

// sample adds a sample of a series; the caller adds its values.
func (x *exporter) sample(series uint32) {
	p, t := &x.out, x.t
	x.stack(t.leaves[series])
	p.StackEnds = append(p.StackEnds, uint32(len(p.Stacks)))
	for _, l := range t.setLabels(t.labelSet[series]) {
		p.Labels = append(p.Labels, profile.Label{
			Key: x.plain(t.labelText[l.key]), Str: x.plain(t.labelText[l.str]), Num: l.num, NumUnit: x.plain(t.labelText[l.unit]),
		})
	}
	p.LabelEnds = append(p.LabelEnds, uint32(len(p.Labels)))
}

// stack adds the frames of a stack, copying those it has in common with the
// one before.
func (x *exporter) stack(leaf uint32) {
	p, t, last := &x.out, x.t, len(x.out.Stacks)
	size := int(x.depth[leaf]) + 1
	node := leaf
	for d := size - 1; d >= len(x.path) || x.path[d] != node; d-- {
		p.Stacks = append(p.Stacks, x.location(t.stackLoc[node]))
		node = t.stackUp[node]
	}
	p.Stacks = append(p.Stacks, p.Stacks[last-int(x.depth[node]):last]...)
	x.path = slices.Grow(x.path, max(0, size-len(x.path)))[:size]
	for ; leaf != node; leaf = t.stackUp[leaf] {
		x.path[x.depth[leaf]] = leaf
	}
}

// count is how many frames and labels the samples of some series have.
func (x *exporter) count(series []uint32) (frames, labels int) {
	for _, id := range series {
		frames += int(x.depth[x.t.leaves[id]])
		labels += len(x.t.setLabels(x.t.labelSet[id]))
	}
	return frames, labels
}

// grow makes room for samples.
func (x *exporter) grow(samples, frames, labels int) {
	p := &x.out
	p.Stacks, p.StackEnds = slices.Grow(p.Stacks, frames), slices.Grow(p.StackEnds, samples)
	p.Labels, p.LabelEnds = slices.Grow(p.Labels, labels), slices.Grow(p.LabelEnds, samples)
	p.Values = slices.Grow(p.Values, samples*x.sec.cols)
}

func (x *exporter) reset() {
	for i, ids := range [...][]uint32{x.names, x.funcs, x.maps, x.locs} {
		for _, id := range x.used[i] {
			ids[id] = 0
		}
		x.used[i] = x.used[i][:0]
	}
	clear(x.text)
	x.path = x.path[:1]
	p := &x.out
	*p = profile.Profile{
		Strings: append(p.Strings[:0], nil), SampleTypes: p.SampleTypes[:0], Comments: p.Comments[:0],
		Functions: p.Functions[:0], Mappings: p.Mappings[:0], Locations: p.Locations[:0], Lines: p.Lines[:0],
		Stacks: p.Stacks[:0], StackEnds: p.StackEnds[:0], Values: p.Values[:0], Labels: p.Labels[:0], LabelEnds: p.LabelEnds[:0],
	}
}

// plain is the index of a string that may not be in the dictionary's list.
func (x *exporter) plain(s string) uint32 {
	if s == "" {
		return 0
	}
	i, ok := x.text[s]
	if !ok {
		i = x.add(s)
		x.text[s] = i
	}
	return i
}

func (x *exporter) add(s string) uint32 {
	x.out.Strings = append(x.out.Strings, unsafe.Slice(unsafe.StringData(s), len(s)))
	return uint32(len(x.out.Strings) - 1)
}

// string is the index of one of the dictionary's. It may be there a second time,
// as a plain one.
func (x *exporter) string(id uint32) uint32 {
	if id == 0 {
		return 0
	}
	if x.names[id] == 0 {
		x.names[id] = x.add(x.t.strings[id]) + 1
		x.used[0] = append(x.used[0], id)
	}
	return x.names[id] - 1
}

func (x *exporter) function(id uint32) uint32 {
	if x.funcs[id] == 0 {
		f := &x.t.functions[id]
		x.out.Functions = append(x.out.Functions, profile.Function{
			Name: x.string(f.name), SystemName: x.string(f.system), Filename: x.string(f.file), StartLine: f.start,
		})
		x.funcs[id] = uint32(len(x.out.Functions))
		x.used[1] = append(x.used[1], id)
	}
	return x.funcs[id] - 1
}

func (x *exporter) mapping(id uint32) int32 {
	if x.maps[id] == 0 {
		m := &x.t.mappings[id]
		x.out.Mappings = append(x.out.Mappings, profile.Mapping{
			Start: m.start, Limit: m.limit, Offset: m.offset, File: x.string(m.file), BuildID: x.string(m.buildID),
			HasFunctions: m.flags&mapFunctions != 0, HasFilenames: m.flags&mapFilenames != 0,
			HasLineNumbers: m.flags&mapLineNumbers != 0, HasInlineFrames: m.flags&mapInlineFrames != 0,
		})
		x.maps[id] = uint32(len(x.out.Mappings))
		x.used[2] = append(x.used[2], id)
	}
	return int32(x.maps[id] - 1)
}

func (x *exporter) location(id uint32) uint32 {
	if x.locs[id] != 0 {
		return x.locs[id] - 1
	}
	l := &x.t.locations[id]
	out := profile.Location{Mapping: -1, Address: l.address, IsFolded: l.folded, LineStart: uint32(len(x.out.Lines))}
	if l.mapping != 0 {
		out.Mapping = x.mapping(l.mapping - 1)
	}
	for _, ln := range x.t.lines[l.from:l.to] {
		f := x.function(ln.function)
		x.out.Lines = append(x.out.Lines, profile.Line{Function: f, Line: ln.line, Column: ln.col})
	}
	out.LineEnd = uint32(len(x.out.Lines))
	x.out.Locations = append(x.out.Locations, out)
	x.locs[id] = uint32(len(x.out.Locations))
	x.used[3] = append(x.used[3], id)
	return x.locs[id] - 1
}
