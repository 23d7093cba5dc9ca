package store

import (
	"context"
	"fmt"
)

// SelfQuery asks for the values of one column by node of FuncTree.
type SelfQuery struct {
	Section, Column int
	Rows            []bool    // which rows count, len == rows of the section; nil = all
	Weights         []float64 // what each row's values are multiplied by, len == rows; nil = 1
	// Keep, if not nil, is asked once per distinct set of sample labels whether
	// samples with it count. The slice is valid during the call.
	Keep func(labels []SampleLabel) bool
	// Cum, of a section of the fleet, wants what calls cost as well, see
	// Section.Fleet.
	Cum bool
}

// SampleLabel is one label of a sample: text if Str is not empty, else a
// number.
type SampleLabel struct {
	Key, Str string
	Num      int64
	Unit     string
}

// SelfResult is one value per node of FuncTree.
type SelfResult struct {
	Int     []int64   // exact sums; when Weights == nil
	Float   []float64 // sums of value × weight; when Weights != nil
	Samples int64     // samples that were added up

	CumInt   []int64 // the same of what calls cost
	CumFloat []float64
}

// scratch is memory that reading a part uses again and again.
type scratch struct {
	shape  shape
	column columnReader
	rows   samples
	ints   []int64
	floats []float64
	counts []int32
}

// Self adds up, per node of FuncTree, the values of one column over the
// chosen rows. Groups without a chosen row are not read.
func (p *Part) Self(ctx context.Context, q SelfQuery) (SelfResult, error) {
	sec, err := p.section(q.Section)
	if err != nil {
		return SelfResult{}, err
	}
	if q.Column < 0 || q.Column >= sec.cols {
		return SelfResult{}, fmt.Errorf("section has %d columns, no number %d", sec.cols, q.Column)
	}
	if q.Rows != nil && len(q.Rows) != sec.n || q.Weights != nil && len(q.Weights) != sec.n {
		return SelfResult{}, fmt.Errorf("section has %d rows, %d flags and %d weights were given", sec.n, len(q.Rows), len(q.Weights))
	}
	want := uint8(loadedCore)
	if q.Keep != nil {
		want |= loadedLabels
	}
	if err := p.reserveLoad(ctx, want); err != nil {
		return SelfResult{}, err
	}
	if err := p.loadTree(ctx, want); err != nil {
		return SelfResult{}, err
	}
	if err := p.reserveSums(ctx); err != nil {
		return SelfResult{}, err
	}
	a := newSelfSum(p, &q)
	var cum *selfSum
	if q.Cum {
		if !sec.info.Fleet || q.Column%2 != 0 {
			return SelfResult{}, fmt.Errorf("column %d has none of what calls cost", q.Column)
		}
		p.scratch.ints, p.scratch.floats, p.scratch.counts = nil, nil, nil // a keeps them
		next := q
		next.Column++
		cum = newSelfSum(p, &next)
	}
	at := 0
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return SelfResult{}, err
		}
		if a.choose(q.Rows, q.Weights, at, g.rows) {
			err := a.group(g)
			if err == nil && cum != nil {
				cum.rows, cum.weights = a.rows, a.weights
				err = cum.values(g)
			}
			if err != nil {
				return SelfResult{}, p.damaged(err)
			}
		}
		at += g.rows
	}
	for _, r := range sec.rows {
		if a.choose(q.Rows, q.Weights, at, 1) {
			if err := a.row(r, sec.cols); err != nil {
				return SelfResult{}, p.damaged(err)
			}
		}
		at++
	}
	out := a.result()
	if cum != nil {
		c := cum.result()
		out.CumInt, out.CumFloat = c.Int, c.Float
	}
	return out, nil
}

// selfSum adds up by series; series become nodes at the end.
type selfSum struct {
	p       *Part
	q       *SelfQuery
	sc      *scratch
	rows    []bool    // of the group at hand; nil = all
	weights []float64 // of the group at hand; nil = 1
	ints    []int64   // by series
	floats  []float64
	counts  []int32 // by series, where Keep decides
	samples int64
}

func newSelfSum(p *Part, q *SelfQuery) *selfSum {
	if p.scratch == nil {
		p.scratch = &scratch{}
	}
	a := &selfSum{p: p, q: q, sc: p.scratch}
	n := len(p.tables.series)
	if q.Weights == nil {
		a.sc.ints = resize(a.sc.ints, n)
		clear(a.sc.ints)
		a.ints = a.sc.ints
	} else {
		a.sc.floats = resize(a.sc.floats, n)
		clear(a.sc.floats)
		a.floats = a.sc.floats
	}
	if q.Keep != nil {
		a.sc.counts = resize(a.sc.counts, n)
		clear(a.sc.counts)
		a.counts = a.sc.counts
	}
	return a
}

// choose sets which of n rows from at on count, and says whether any does.
func (a *selfSum) choose(rows []bool, weights []float64, at, n int) bool {
	a.rows, a.weights = nil, nil
	if weights != nil {
		a.weights = weights[at : at+n]
	}
	if rows == nil {
		return true
	}
	some, all := false, true
	for _, r := range rows[at : at+n] {
		some = some || r
		all = all && r
	}
	if !all {
		a.rows = rows[at : at+n]
	}
	return some
}

func (a *selfSum) group(g *group) error {
	raw, err := a.p.groupStream(g, streamSeries)
	if err != nil {
		return err
	}
	if err := a.sc.shape.read(raw, g.rows, len(a.p.tables.series)); err != nil {
		return err
	}
	return a.values(g)
}

// values adds the values of a group whose shape has been read.
func (a *selfSum) values(g *group) error {
	vals, err := a.sc.column.read(func(id uint8) ([]byte, error) { return a.p.groupStream(g, id) }, &a.sc.shape, a.q.Column)
	if err != nil {
		return err
	}
	return a.add(vals)
}

// add adds the values of the group at hand.
func (a *selfSum) add(vals []int64) error {
	s := &a.sc.shape
	switch {
	case len(vals) != s.n:
		return errGroup
	case s.dense():
		a.dense(s, vals)
	default:
		a.sparse(s, vals)
	}
	return nil
}

func (a *selfSum) sparse(s *shape, vals []int64) {
	from := uint32(0)
	for r, end := range s.ends {
		if a.rows == nil || a.rows[r] {
			a.run(s.ids[from:end], vals[from:end], r)
		}
		from = end
	}
}

// run adds the samples of one row.
func (a *selfSum) run(ids []uint32, vals []int64, row int) {
	a.samples += int64(len(ids))
	vals = vals[:len(ids)]
	if a.weights == nil {
		ints := a.ints
		for k, id := range ids {
			ints[id] += vals[k]
		}
	} else if w := a.weights[row]; w == 1 {
		for k, id := range ids {
			a.floats[id] += float64(vals[k])
		}
	} else {
		for k, id := range ids {
			a.floats[id] += float64(vals[k]) * w
		}
	}
	if a.counts != nil {
		for _, id := range ids {
			a.counts[id]++
		}
	}
}

func (a *selfSum) dense(s *shape, vals []int64) {
	if a.rows == nil && a.weights == nil {
		a.denseAll(s, vals)
		return
	}
	s.each(func(k, r int, id uint32) {
		if a.rows != nil && !a.rows[r] {
			return
		}
		a.samples++
		if a.weights == nil {
			a.ints[id] += vals[k]
		} else {
			a.floats[id] += float64(vals[k]) * a.weights[r]
		}
		if a.counts != nil {
			a.counts[id]++
		}
	})
}

func (a *selfSum) denseAll(s *shape, vals []int64) {
	for i, id := range s.ids {
		n := popcount(s.bits[i*s.width : (i+1)*s.width])
		var sum int64
		for _, v := range vals[:n] {
			sum += v
		}
		vals = vals[n:]
		a.ints[id] += sum
		if a.counts != nil {
			a.counts[id] += int32(n)
		}
	}
	a.samples += int64(s.n)
}

// row adds a row that is in no group yet.
func (a *selfSum) row(r *row, cols int) error {
	u := &a.sc.rows
	u.reset()
	if err := u.unpack(r.data, r.samples, cols, r.period, len(a.p.tables.series)); err != nil {
		return err
	}
	a.run(u.ids, u.vals[a.q.Column], 0)
	return nil
}

// result moves the sums from series to nodes, leaving out what Keep refuses.
func (a *selfSum) result() SelfResult {
	t := &a.p.tables
	out := SelfResult{Samples: a.samples}
	if a.floats != nil {
		out.Float = make([]float64, len(t.funcUp))
	} else {
		out.Int = make([]int64, len(t.funcUp))
	}
	keep := a.p.keepSets(a.q.Keep)
	if keep != nil {
		out.Samples = 0
	}
	for i, node := range t.series {
		if keep != nil {
			if !keep[t.labelSet[i]] {
				continue
			}
			out.Samples += int64(a.counts[i])
		}
		if a.floats != nil {
			out.Float[node] += a.floats[i]
		} else {
			out.Int[node] += a.ints[i]
		}
	}
	return out
}

// keepSets asks keep for every set of sample labels; nil if keep is nil.
func (p *Part) keepSets(keep func([]SampleLabel) bool) []bool {
	if keep == nil {
		return nil
	}
	out := make([]bool, len(p.tables.labelEnds))
	var ls []SampleLabel
	for i := range out {
		ls = ls[:0]
		for _, l := range p.tables.setLabels(uint32(i)) {
			ls = append(ls, p.tables.sampleLabel(l))
		}
		out[i] = keep(ls)
	}
	return out
}

func (t *tables) sampleLabel(l sampleLabel) SampleLabel {
	return SampleLabel{t.labelText[l.key], t.labelText[l.str], l.num, t.labelText[l.unit]}
}

// sampleLabelSets calls f for every set of sample labels that some series of
// the section's samples has.
func (p *Part) sampleLabelSets(ctx context.Context, section int, f func([]sampleLabel)) error {
	sec, err := p.section(section)
	if err != nil {
		return err
	}
	if err := p.reserveLoad(ctx, loadedLabels); err != nil {
		return err
	}
	if err := p.load(loadedLabels); err != nil {
		return err
	}
	if err := p.reserveSums(ctx); err != nil {
		return err
	}
	if p.scratch == nil {
		p.scratch = &scratch{}
	}
	used := make([]bool, len(p.tables.labelEnds))
	mark := func(ids []uint32) {
		for _, id := range ids {
			used[p.tables.labelSet[id]] = true
		}
	}
	s := &p.scratch.shape
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, err := p.groupStream(g, streamSeries)
		if err == nil {
			err = s.read(raw, g.rows, len(p.tables.series))
		}
		if err != nil {
			return p.damaged(err)
		}
		mark(s.ids)
	}
	u := &p.scratch.rows
	for _, r := range sec.rows {
		u.reset()
		if err := u.unpack(r.data, r.samples, sec.cols, r.period, len(p.tables.series)); err != nil {
			return p.damaged(err)
		}
		mark(u.ids)
	}
	for i, there := range used {
		if there {
			f(p.tables.setLabels(uint32(i)))
		}
	}
	return nil
}

// SampleLabelNames lists the distinct names of sample labels of a section.
func (p *Part) SampleLabelNames(ctx context.Context, section int) ([]string, error) {
	var out []string
	seen := map[uint32]bool{}
	err := p.sampleLabelSets(ctx, section, func(ls []sampleLabel) {
		for _, l := range ls {
			if !seen[l.key] {
				seen[l.key] = true
				out = append(out, p.tables.labelText[l.key])
			}
		}
	})
	return out, err
}

// SampleLabels calls f for the labels of the part's samples, the same one
// maybe several times. It reads no samples, so it does not know which section
// or time they are of.
func (p *Part) SampleLabels(ctx context.Context, f func(SampleLabel)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.reserveLoad(ctx, loadedLabels); err != nil {
		return err
	}
	if err := p.load(loadedLabels); err != nil {
		return err
	}
	for _, l := range p.tables.labels {
		f(p.tables.sampleLabel(l))
	}
	return nil
}
