package store

import (
	"context"
	"fmt"
)

// FocusQuery asks, per row, for the values of one column at some nodes of
// FuncTree.
type FocusQuery struct {
	Section, Column int
	Rows            []bool  // which rows are asked for, len == rows of the section; nil = all
	Nodes           []uint8 // by node of FuncTree: FocusSelf, FocusCum, both or none
}

// What a sample at a node counts for.
const (
	FocusSelf = 1 << iota // the sum of own values
	FocusCum              // the sum of values that pass through
)

// Focus adds up per row the values at the nodes asked for: what a function
// costs, over time and by label, without its call tree. Groups without a row
// asked for are not read. The results have a value per row of the section, 0
// where it was not asked for.
func (p *Part) Focus(ctx context.Context, q FocusQuery) (self, cum []int64, err error) {
	sec, err := p.section(q.Section)
	if err != nil {
		return nil, nil, err
	}
	if err := p.reserveLoad(ctx, loadedCore); err != nil {
		return nil, nil, err
	}
	if err := p.loadTree(ctx, loadedCore); err != nil {
		return nil, nil, err
	}
	if err := p.reserveSums(ctx); err != nil {
		return nil, nil, err
	}
	if q.Column < 0 || q.Column >= sec.cols || q.Rows != nil && len(q.Rows) != sec.n || len(q.Nodes) != len(p.tables.funcUp) {
		return nil, nil, fmt.Errorf("section has %d columns and %d rows, the tree %d nodes: column %d, %d flags and %d nodes were given",
			sec.cols, sec.n, len(p.tables.funcUp), q.Column, len(q.Rows), len(q.Nodes))
	}
	f := &focus{
		p: p, sec: sec, column: q.Column, series: make([]uint8, len(p.tables.series)),
		self: make([]int64, sec.n), cum: make([]int64, sec.n),
	}
	for i, node := range p.tables.series {
		f.series[i] = q.Nodes[node]
	}
	if p.scratch == nil {
		p.scratch = &scratch{}
	}
	at := 0
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if wanted(q.Rows, at, g.rows) {
			if err := f.group(g, at); err != nil {
				return nil, nil, p.damaged(err)
			}
		}
		at += g.rows
	}
	for _, r := range sec.rows {
		if wanted(q.Rows, at, 1) {
			if err := f.row(r, at); err != nil {
				return nil, nil, p.damaged(err)
			}
		}
		at++
	}
	return f.self, f.cum, nil
}

// wanted says whether any of n rows from at on is.
func wanted(rows []bool, at, n int) bool {
	if rows == nil {
		return true
	}
	for _, r := range rows[at : at+n] {
		if r {
			return true
		}
	}
	return false
}

// focus adds up for Focus.
type focus struct {
	p         *Part
	sec       *partSection
	column    int
	series    []uint8 // FocusSelf, FocusCum by series
	self, cum []int64 // by row
}

func (f *focus) group(g *group, at int) error {
	raw, err := f.p.groupStream(g, streamSeries)
	if err != nil {
		return err
	}
	s := &f.p.scratch.shape
	if err := s.read(raw, g.rows, len(f.series)); err != nil {
		return err
	}
	vals, err := f.p.scratch.column.read(func(id uint8) ([]byte, error) { return f.p.groupStream(g, id) }, s, f.column)
	if err != nil {
		return err
	}
	if len(vals) != s.n {
		return errGroup
	}
	if !s.dense() {
		from := uint32(0)
		for r, end := range s.ends {
			f.run(s.ids[from:end], vals[from:end], at+r)
			from = end
		}
		return nil
	}
	// Most series are not asked for: their values are passed over.
	for i, id := range s.ids {
		bits := s.bits[i*s.width : (i+1)*s.width]
		n := popcount(bits)
		if what := f.series[id]; what != 0 {
			k := 0
			for r := 0; r < s.rows; r++ {
				if bits[r/8]>>(r%8)&1 != 0 {
					f.add(what, vals[k], at+r)
					k++
				}
			}
		}
		vals = vals[n:]
	}
	return nil
}

func (f *focus) run(ids []uint32, vals []int64, row int) {
	for k, id := range ids {
		if what := f.series[id]; what != 0 {
			f.add(what, vals[k], row)
		}
	}
}

func (f *focus) add(what uint8, v int64, row int) {
	if what&FocusSelf != 0 {
		f.self[row] += v
	}
	if what&FocusCum != 0 {
		f.cum[row] += v
	}
}

func (f *focus) row(r *row, at int) error {
	u := &f.p.scratch.rows
	u.reset()
	if err := u.unpack(r.data, r.samples, f.sec.cols, r.period, len(f.series)); err != nil {
		return err
	}
	f.run(u.ids, u.vals[f.column], at)
	return nil
}
