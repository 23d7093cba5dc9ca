package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/goinquest/inquest/profile"
)

// SumQuery asks for profiles added up.
type SumQuery struct {
	Section int
	Rows    []bool // which profiles count, len == rows of the section; nil = all
	// Keep, if not nil, is asked once per distinct set of sample labels whether
	// samples with it count. The slice is valid during the call.
	Keep func(labels []SampleLabel) bool
}

// Sum calls add with profiles that add up to what the chosen ones do, in all
// columns. There is one for all that differ in values and times only, in the
// order in which they are stored; the last one has the samples of all, one per
// stack and labels, without those whose values are all zero. A profile is valid
// during the call. An error of add ends the sum.
func (p *Part) Sum(ctx context.Context, q SumQuery, add func(*profile.Profile) error) error {
	sec, err := p.section(q.Section)
	if err != nil {
		return err
	}
	if q.Rows != nil && len(q.Rows) != sec.n {
		return fmt.Errorf("section has %d rows, %d flags were given", sec.n, len(q.Rows))
	}
	if err := p.hasDetail(); err != nil {
		return err
	}
	if err := p.reserveLoad(ctx, loadedDetail); err != nil {
		return err
	}
	if err := p.load(loadedLabels | loadedMeta); err != nil {
		return err
	}
	if err := p.reserveSum(ctx, sec); err != nil {
		return err
	}
	// The rest of the dictionary is read meanwhile.
	detail := make(chan error, 1)
	go func() { detail <- p.load(loadedDetail) }()
	s := newColumnSum(p, sec, &q)
	err = s.read(ctx, q.Rows)
	if err := cmp.Or(err, <-detail); err != nil {
		return err
	}
	if len(s.headers) == 0 {
		return nil
	}
	return s.export(ctx, add)
}

// columnSum adds up all columns of a section by series.
type columnSum struct {
	selfSum
	sec     *partSection
	keep    func([]SampleLabel) bool
	streams map[uint8][]byte // of the group at hand, unpacked
	sums    [][]int64        // [column][series]
	headers []header
	of      []uint32 // form → index in headers + 1
}

// header is what the profiles of a form have once, added up.
type header struct {
	form                        uint32
	timeNanos, duration, period int64
}

func newColumnSum(p *Part, sec *partSection, q *SumQuery) *columnSum {
	s := &columnSum{
		selfSum: *newSelfSum(p, &SelfQuery{}), keep: q.Keep, sec: sec,
		streams: map[uint8][]byte{}, sums: make([][]int64, sec.cols), of: make([]uint32, len(p.tables.forms)),
	}
	for c := range s.sums {
		s.sums[c] = make([]int64, len(p.tables.series))
	}
	return s
}

// read adds up the chosen rows.
func (s *columnSum) read(ctx context.Context, rows []bool) error {
	at := 0
	for _, g := range s.sec.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.choose(rows, nil, at, g.rows) {
			if err := s.group(g); err != nil {
				return s.p.damaged(err)
			}
		}
		at += g.rows
	}
	for _, r := range s.sec.rows {
		if s.choose(rows, nil, at, 1) {
			if err := s.row(r); err != nil {
				return s.p.damaged(err)
			}
		}
		at++
	}
	return nil
}

func (s *columnSum) group(g *group) error {
	rows, err := s.p.groupRows(g, s.sec.cols)
	if err != nil {
		return err
	}
	for i := range rows {
		if s.rows == nil || s.rows[i] {
			s.header(&rows[i])
		}
	}
	clear(s.streams)
	get := func(id uint8) (raw []byte, err error) { // columns are made of others
		raw, ok := s.streams[id]
		if !ok {
			raw, err = s.p.groupStream(g, id)
			s.streams[id] = raw
		}
		return raw, err
	}
	raw, err := get(streamSeries)
	if err != nil {
		return err
	}
	if err := s.sc.shape.read(raw, g.rows, len(s.p.tables.series)); err != nil {
		return err
	}
	for c := range s.sums {
		vals, err := s.sc.column.read(get, &s.sc.shape, c)
		if err != nil {
			return err
		}
		s.ints = s.sums[c]
		if err := s.add(vals); err != nil {
			return err
		}
	}
	return nil
}

// row adds a row that is in no group yet.
func (s *columnSum) row(r *row) error {
	s.header(r)
	u := &s.sc.rows
	u.reset()
	if err := u.unpack(r.data, r.samples, s.sec.cols, r.period, len(s.p.tables.series)); err != nil {
		return err
	}
	for c := range s.sums {
		s.ints = s.sums[c]
		s.run(u.ids, u.vals[c], 0)
	}
	return nil
}

// header adds what google/pprof's merge makes of these: the first time that is
// known, all durations, the longest period.
func (s *columnSum) header(r *row) {
	if s.of[r.form] == 0 {
		s.headers = append(s.headers, header{form: r.form})
		s.of[r.form] = uint32(len(s.headers))
	}
	h := &s.headers[s.of[r.form]-1]
	if h.timeNanos == 0 || r.timeNanos != 0 && r.timeNanos < h.timeNanos {
		h.timeNanos = r.timeNanos
	}
	h.duration += r.duration
	if h.period == 0 || h.period < r.period {
		h.period = r.period
	}
}

// export calls add with the profiles of the headers, the last of them with the
// samples.
func (s *columnSum) export(ctx context.Context, add func(*profile.Profile) error) error {
	if err := s.p.reserveExport(ctx, s.sec); err != nil {
		return err
	}
	x := newExporter(s.p, s.sec)
	for i := range s.headers {
		if i > 0 {
			if err := add(&x.out); err != nil {
				return err
			}
		}
		x.begin(&s.headers[i])
	}
	series := s.used()
	frames, labels := x.count(series)
	if err := s.p.reserveSamples(ctx, len(series), frames, labels, s.sec.cols); err != nil {
		return err
	}
	x.grow(len(series), frames, labels)
	for _, id := range series {
		x.sample(id)
		for c := range s.sums {
			x.out.Values = append(x.out.Values, s.sums[c][id])
		}
	}
	return add(&x.out)
}

// used lists the series with a value that count, in the order of a walk through
// the stacks: what successive samples have in common is long, which is good for
// those who copy, merge and compress them.
func (s *columnSum) used() []uint32 {
	keep := s.p.keepSets(s.keep)
	t := &s.p.tables
	place := walk(t.stackUp)
	var order []uint64 // place<<32 | series
	for id, set := range t.labelSet {
		if keep != nil && !keep[set] {
			continue
		}
		if slices.ContainsFunc(s.sums, func(sum []int64) bool { return sum[id] != 0 }) {
			order = append(order, uint64(place[t.leaves[id]])<<32|uint64(id))
		}
	}
	slices.Sort(order)
	series := make([]uint32, len(order))
	for i, o := range order {
		series[i] = uint32(o)
	}
	return series
}

// walk gives every node of a tree, of which parents come first, its place in
// a walk that visits nodes before their children.
func walk(up []uint32) (place []uint32) {
	size := make([]uint32, len(up)) // of the subtree
	for i := len(up) - 1; i > 0; i-- {
		size[i]++
		size[up[i]] += size[i]
	}
	place = make([]uint32, len(up))
	next := size // of a node that was placed: the place of its next child
	next[0] = 1
	for i := 1; i < len(up); i++ {
		place[i] = next[up[i]]
		next[up[i]] += size[i]
		next[i] = place[i] + 1
	}
	return place
}
