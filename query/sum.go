package query

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/goinquest/inquest/calltree"
	"github.com/goinquest/inquest/store"
)

// subset is picked rows of one unit that the same matchers are left for.
type subset struct {
	keep selector // empty: all samples count
	at   []int32  // indexes into picked
}

// split sorts picked rows, given as indexes into picked, by what is left to be
// asked of their samples.
func (u *unit) split(at []int32) []subset {
	var subs []subset
	of := make(map[int]int) // group → index into subs
	for _, i := range at {
		m := &u.sets[u.rows.LabelSet[u.picked[i]]]
		k, ok := of[m.group]
		if !ok {
			k = len(subs)
			of[m.group] = k
			subs = append(subs, subset{keep: m.keep})
		}
		subs[k].at = append(subs[k].at, i)
	}
	return subs
}

// all is the indexes of all picked rows.
func (u *unit) all() []int32 {
	at := make([]int32, len(u.picked))
	for i := range at {
		at[i] = int32(i)
	}
	return at
}

// flags marks picked rows, given as indexes into picked, among all rows; nil if
// they are all of them.
func (u *unit) flags(at []int32) []bool {
	if len(at) == len(u.rows.Start) {
		return nil
	}
	rows := make([]bool, len(u.rows.Start))
	for _, i := range at {
		rows[u.picked[i]] = true
	}
	return rows
}

// self adds up the column of a subset per node of the part's tree. weights, if
// not nil, is per picked row.
func (s *selection) self(ctx context.Context, u *unit, sub subset, weights []float64) (store.SelfResult, error) {
	q := store.SelfQuery{Section: u.section, Column: u.column, Rows: u.flags(sub.at), Cum: u.sec.Fleet}
	if weights != nil {
		q.Weights = make([]float64, len(u.rows.Start))
		for _, i := range sub.at {
			q.Weights[u.picked[i]] = weights[i]
		}
	}
	if len(sub.keep) > 0 {
		q.Keep = sub.keep.keep
	}
	res, err := u.part.Self(ctx, q)
	if err == nil && q.Keep != nil {
		s.kept.Add(res.Samples)
	}
	return res, err
}

// partNodes adds up the weighed values of units of one part per node of its
// tree, which is returned too.
func (s *selection) partNodes(ctx context.Context, units []*unit) (f *store.FuncTree, self []int64, err error) {
	f, self, _, err = s.partTable(ctx, units)
	return f, self, err
}

// partTable is partNodes with, of a table of the fleet, what calls cost too.
func (s *selection) partTable(ctx context.Context, units []*unit) (f *store.FuncTree, self, cum []int64, err error) {
	if f, err = units[0].part.FuncTree(ctx); err != nil {
		return nil, nil, nil, err
	}
	for _, u := range units {
		if err := ctx.Err(); err != nil {
			return nil, nil, nil, err
		}
		vs, cs, err := s.nodes(ctx, u)
		if err != nil {
			return nil, nil, nil, err
		}
		self, cum = added(self, vs), added(cum, cs)
	}
	return f, self, cum, nil
}

// nodes returns the weighed values of a unit per node of its part's tree, as
// integers of 10^-dec units, and those of what calls cost where there are any.
func (s *selection) nodes(ctx context.Context, u *unit) (self, cum []int64, err error) {
	var exact, cumExact []int64
	var weighed, cumWeighed []float64
	for _, sub := range u.split(u.all()) {
		res, err := s.self(ctx, u, sub, u.weights)
		if err != nil {
			return nil, nil, err
		}
		exact, weighed = added(exact, res.Int), added(weighed, res.Float)
		cumExact, cumWeighed = added(cumExact, res.CumInt), added(cumWeighed, res.CumFloat)
	}
	return s.integers(u, exact, weighed), s.integers(u, cumExact, cumWeighed), nil
}

// integers are sums over the rows of a unit, weighed already or not, as integers
// of 10^-dec units.
func (s *selection) integers(u *unit, exact []int64, weighed []float64) []int64 {
	if u.weights != nil {
		exact = make([]int64, len(weighed))
		for i, v := range weighed {
			exact[i] = s.fixed(v)
		}
		return exact
	}
	if u.weight != 1 || s.dec != 0 {
		for i, v := range exact {
			if v != 0 {
				exact[i] = s.fixed(float64(v) * u.weight)
			}
		}
	}
	return exact
}

// added adds b to a in place; a may be nil.
func added[T int64 | float64](a, b []T) []T {
	if a == nil {
		return b
	}
	for i, v := range b {
		a[i] += v
	}
	return a
}

// total returns the sum over picked rows of a unit, given as indexes into
// picked: exactly, or weighed if weights (per picked row) is not nil. Samples
// are only looked at where a matcher asks for it.
func (s *selection) total(ctx context.Context, u *unit, at []int32, weights []float64) (exact int64, weighed float64, err error) {
	totals := s.values(u)
	for _, sub := range u.split(at) {
		if len(sub.keep) == 0 {
			for _, i := range sub.at {
				v := totals[u.picked[i]]
				exact += v
				if weights != nil {
					weighed += float64(v) * weights[i]
				}
			}
			continue
		}
		res, err := s.self(ctx, u, sub, weights)
		if err != nil {
			return 0, 0, err
		}
		for i, v := range res.Int {
			if v != 0 && s.counts(u, i) {
				exact += v
			}
		}
		for i, v := range res.Float {
			if v != 0 && s.counts(u, i) {
				weighed += v
			}
		}
	}
	return exact, weighed, nil
}

// keepTotals finds, where matchers look at the labels of samples, what each
// picked row adds up to with the samples that they let through.
func (s *selection) keepTotals(ctx context.Context) error {
	err := s.each(ctx, func(ctx context.Context, u *unit) error {
		if !slices.ContainsFunc(u.sets, func(m setMatch) bool { return m.ok && len(m.keep) > 0 }) {
			return nil
		}
		u.kept = make([]int64, len(u.rows.Start))
		for i, row := range u.picked {
			if err := ctx.Err(); err != nil {
				return err
			}
			var err error
			if u.kept[row], _, err = s.total(ctx, u, []int32{int32(i)}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	s.kept.Store(0) // these were not added up for the answer
	return err
}

// weighed returns the weighed total of picked rows in 10^-dec units.
func (s *selection) weighed(ctx context.Context, u *unit, at []int32) (float64, error) {
	exact, weighed, err := s.total(ctx, u, at, u.weights)
	if u.weights == nil {
		weighed = float64(exact) * u.weight
	}
	return s.upscaled(weighed), err
}

// tree merges all units. unsymbolized is the self value, in 10^-dec units, on
// frames without a name.
func (s *selection) tree(ctx context.Context) (t *calltree.Tree, unsymbolized int64, err error) {
	var mu sync.Mutex
	var b calltree.Builder
	var first *store.FuncTree // the only one so far, which need not be merged
	var firstSelf []int64
	var held atomic.Int64 // bytes reserved for b
	var text int64        // bytes of the names it keeps
	err = s.eachPart(ctx, func(ctx context.Context, units []*unit) error {
		f, self, err := s.partNodes(ctx, units)
		if err != nil {
			return err
		}
		without := withoutSymbol(f, self)
		mu.Lock()
		unsymbolized += without
		_, before := b.Bytes()
		if before == 0 && first == nil {
			first, firstSelf = f, self
			mu.Unlock()
			return s.mem.upTo(&held, partTreeBytes*int64(len(self))+textBytes(f.Names))
		}
		if first != nil {
			b.AddTree(first.Names, first.Name, first.Parent, firstSelf)
			text += textBytes(first.Names)
			first, firstSelf = nil, nil
		}
		b.AddTree(f.Names, f.Name, f.Parent, self)
		bytes, names := b.Bytes()
		if names > before {
			text += textBytes(f.Names) // one that is kept keeps all of a part
		}
		bytes += text
		mu.Unlock()
		return s.mem.upTo(&held, bytes)
	})
	if err != nil {
		return nil, 0, err
	}
	if first != nil {
		return calltree.Single(first.Names, first.Name, first.Parent, firstSelf), unsymbolized, nil
	}
	return b.Tree(), unsymbolized, nil
}

// partTreeBytes is the memory of a node of a part's tree, and of what is made
// of it.
const partTreeBytes = 64

// withoutSymbol is the self value on frames without a name.
func withoutSymbol(f *store.FuncTree, self []int64) (sum int64) {
	for i, v := range self {
		if v != 0 && i > 0 && f.Unsymbolized[f.Name[i]] {
			sum += v
		}
	}
	return sum
}

func textBytes(names []string) (n int64) {
	for _, s := range names {
		n += int64(len(s))
	}
	return n
}

// readTree selects, weighs and merges: what trees and tables of functions are
// made of.
func (e *Engine) readTree(ctx context.Context, r Request, f func(s *selection, t *calltree.Tree, c Coverage) error) error {
	return e.readType(ctx, r, need{rollups: true}, func(s *selection) error {
		s.holds()
		s.choose()
		s.weigh("")
		t, unsymbolized, err := s.tree(ctx)
		if err != nil {
			return err
		}
		c := s.coverage()
		c.Unsymbolized = scaled(unsymbolized, s.dec)
		return f(s, t, c)
	})
}
