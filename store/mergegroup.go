package store

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
)

// mergeGroup is a row group of a source on its way into merged ones.
type mergeGroup struct {
	from *mergeSource
	*group
	hash []uint64 // bodies' of its rows
	left int      // rows that are in no merged group yet
	open *openGroup
}

// openGroup is a row group with its samples row by row, in the ids of the
// merged dictionary.
type openGroup struct {
	rows []row
	ends []uint32    // by row: end of its samples
	ids  []uint32    // series of each sample
	vals [][]int64   // [column], in the order of ids
	size int64       // about, in bytes
	used *mergeGroup // whose it is
}

// mergeRow is one profile of a section that is merged.
type mergeRow struct {
	start   int64 // unix ns
	samples uint32
	group   uint32 // position in the list of groups
	row     uint32 // in the group
}

// sectionMerger cuts the rows of one section of several sources into groups
// anew, by start. Of what it unpacked it keeps what later groups need.
type sectionMerger struct {
	m      *merger
	cols   int
	twins  bool // some row may have a series twice
	groups []mergeGroup
	order  []mergeRow
}

// openBytes is how much memory unpacked groups of sources take. Mostly one
// per source is open; late profiles are spread over many.
const openBytes = 32 << 20

// add takes the groups of a section of a source.
func (x *sectionMerger) add(src *mergeSource, section int) error {
	sec := &src.part.sections[section]
	hash := src.hash[section]
	for _, g := range sec.groups {
		rows, err := src.rows(g, sec.cols)
		if err != nil {
			return src.part.damaged(err)
		}
		if len(rows) > len(hash) {
			return src.part.damaged(errKeys)
		}
		x.groups = append(x.groups, mergeGroup{from: src, group: g, hash: hash[:len(rows)], left: len(rows)})
		hash = hash[len(rows):]
		for i := range rows {
			x.order = append(x.order, mergeRow{rows[i].start, rows[i].samples, uint32(len(x.groups) - 1), uint32(i)})
		}
	}
	x.twins = x.twins || src.ids.twins
	return nil
}

// write makes groups of all rows in the order of their starts and gives each
// to emit.
func (x *sectionMerger) write(ctx context.Context, t *tables, layout uint32, emit func(*group) error) error {
	slices.SortStableFunc(x.order, func(a, b mergeRow) int { return cmp.Compare(a.start, b.start) })
	for rest := x.order; len(rest) > 0; {
		n := mergedEnd(rest)
		g, err := x.group(ctx, rest[:n], t, layout)
		if err == nil {
			err = emit(g)
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// mergedEnd is how many of the rows the next group takes, within the bounds of
// those in heads. Twice and four times as many profiles in a group made 1 and 2 % of
// the bytes with random heap values, 6 and 8 % with real ones, but five minutes
// cost 1.4 and 3 times as much to read.
func mergedEnd(rows []mergeRow) int {
	samples := uint64(0)
	for i, r := range rows {
		samples += uint64(r.samples)
		if i > 0 && (i == groupRows || samples > groupSamples || r.start-rows[0].start >= groupSpan) {
			return i
		}
	}
	return len(rows)
}

func (x *sectionMerger) group(ctx context.Context, order []mergeRow, t *tables, layout uint32) (*group, error) {
	w, m := x.m.w, x.m
	u := &w.samples
	u.reset()
	for len(u.vals) < x.cols {
		u.vals = append(u.vals, nil)
	}
	w.ends = w.ends[:0]
	m.rows = resize(m.rows, len(order))
	twins := x.twins
	for i, r := range order {
		g := &x.groups[r.group]
		if err := m.unpack(ctx, g, x.cols); err != nil {
			return nil, err
		}
		o := g.open
		m.rows[i] = o.rows[r.row]
		m.rows[i].hash = g.hash[r.row]
		from, to := uint32(0), o.ends[r.row]
		if r.row > 0 {
			from = o.ends[r.row-1]
		}
		twins = twins || hasTwins(o.ids[from:to]) // which stand together, whatever became of their ids
		u.ids = append(u.ids, o.ids[from:to]...)
		for c := range x.cols {
			u.vals[c] = append(u.vals[c], o.vals[c][from:to]...)
		}
		w.ends = append(w.ends, len(u.ids))
		if g.left--; g.left == 0 {
			m.close(g)
		}
	}
	rows := make([]*row, len(order))
	for i := range rows {
		rows[i] = &m.rows[i]
	}
	return w.pack(rows, t, layout, twins), nil
}

// unpack opens a group unless it is open, closing others for which there is
// no room.
func (m *merger) unpack(ctx context.Context, g *mergeGroup, cols int) error {
	if g.open != nil {
		return nil
	}
	for len(m.open) > 0 && m.opened > openBytes {
		m.close(m.open[0].used)
	}
	o := &openGroup{}
	if n := len(m.spare); n > 0 {
		o, m.spare = m.spare[n-1], m.spare[:n-1]
	}
	if err := m.s.keeper.pace(ctx, streamBytes(g.streams)); err != nil {
		return err
	}
	if err := m.read(o, g, cols); err != nil {
		return g.from.part.damaged(err)
	}
	o.size = int64(len(o.ids)*(4+8*cols) + len(o.rows)*rowBytes)
	o.used, g.open = g, o
	m.open = append(m.open, o)
	m.opened += o.size
	return nil
}

// close gives the memory of a group to others.
func (m *merger) close(g *mergeGroup) {
	o := g.open
	g.open, o.used = nil, nil
	m.opened -= o.size
	m.open = slices.DeleteFunc(m.open, func(x *openGroup) bool { return x == o })
	if len(m.spare) < 4 {
		m.spare = append(m.spare, o)
	}
}

// read unpacks a group and moves its ids to those of the merged dictionary.
func (m *merger) read(o *openGroup, g *mergeGroup, cols int) error {
	p, ids := g.from.part, g.from.ids
	raw, err := p.groupStream(g.group, streamSeries)
	if err != nil {
		return err
	}
	if o.rows, err = g.from.rows(g.group, cols); err != nil {
		return err
	}
	s := &m.shape
	if err := s.read(raw, g.rows, len(ids.series)); err != nil {
		return err
	}
	o.ends = resize(o.ends, len(o.rows))
	total := 0
	for i := range o.rows {
		r := &o.rows[i]
		r.labels, r.process, r.form = ids.labels[r.labels], ids.processes[r.process], ids.forms[r.form]
		if total += int(r.samples); total > s.n {
			return errGroup
		}
		o.ends[i] = uint32(total)
	}
	if total != s.n {
		return errGroup
	}
	o.ids = resize(o.ids, s.n)
	if s.dense() {
		if err := m.transpose(o, ids.series); err != nil {
			return err
		}
	} else {
		if !slices.Equal(o.ends, s.ends) {
			return errGroup
		}
		for k, id := range s.ids {
			o.ids[k] = ids.series[id]
		}
	}
	for len(o.vals) < cols {
		o.vals = append(o.vals, nil)
	}
	for c := range cols {
		if err := m.readColumn(o, g, c); err != nil {
			return err
		}
	}
	return nil
}

// transpose fills o.ids and m.place: where each sample, which are stored by
// series, is when they go by row.
func (m *merger) transpose(o *openGroup, series []uint32) error {
	s := &m.shape
	m.place = resize(m.place, s.n)
	m.next = resize(m.next, s.rows)
	m.next[0] = 0
	copy(m.next[1:], o.ends)
	k := 0
	for i, id := range s.ids {
		id = series[id]
		for j, set := range s.bits[i*s.width : (i+1)*s.width] {
			for ; set != 0; set &= set - 1 {
				r := j*8 + bits.TrailingZeros8(set)
				at := m.next[r]
				if at >= o.ends[r] {
					return errGroup
				}
				m.next[r]++
				o.ids[at] = id
				m.place[k] = at
				k++
			}
		}
	}
	return nil
}

func (m *merger) readColumn(o *openGroup, g *mergeGroup, col int) error {
	s := &m.shape
	vals, err := m.column.read(func(id uint8) ([]byte, error) { return g.from.part.groupStream(g.group, id) }, s, col)
	if err != nil {
		return err
	}
	if len(vals) != s.n {
		return errGroup
	}
	o.vals[col] = resize(o.vals[col], s.n)
	if !s.dense() {
		copy(o.vals[col], vals)
		return nil
	}
	for k, v := range vals {
		o.vals[col][m.place[k]] = v
	}
	return nil
}
