package query

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// selection is what one running query selected, over parts that the store's
// view holds.
type selection struct {
	e      *Engine
	mem    *reservation
	window inquest.Window
	sel    selector
	typ    inquest.Type // zero if the request named none
	agg    string
	dec    int // values of the answer are integers of 10^-dec units
	unit   string
	view   *store.View
	names  releases
	units  []*unit
	procs  int          // processes are numbered below it
	listed atomic.Int64 // bytes reserved for what is listed
	// focusSelf has rows with a focus count with what their functions hold
	// themselves, rather than with all that passes through them.
	focusSelf bool
	// kept counts the samples that matchers on their labels let through.
	kept atomic.Int64
}

// unit is one section of one part, with the column asked for and the profiles
// selected in it.
type unit struct {
	part    *store.Part
	section int
	sec     store.Section
	typ     int // index of the type asked for in sec.Types; -1 if the request named none
	column  int // with its values; -1 too
	rows    *store.Rows
	sets    []setMatch       // per label set of rows, or of found
	found   []inquest.Labels // instead of rows, where only the labels matter
	last    int64            // then: the last start, unix ns
	proc    []uint32         // per process of rows: number in the selection
	picked  []int32          // selected rows, ascending
	focus   *focused         // nil: the request is about no function in particular
	hold    []int64          // per picked row: ns it stands for; made by holds
	kept    []int64          // per row: total of the samples that count; nil: rows.Totals; made by keepTotals
	// What a value of the picked rows is multiplied by: weight, or per row of
	// picked if weights is not nil. Made by weigh.
	weight  float64
	weights []float64
}

// setMatch is what became of the matchers on one label set.
type setMatch struct {
	labels inquest.Labels // with the resolved release
	ok     bool           // the profiles of the set are selected
	keep   selector       // the matchers left for the samples
	group  int            // sets with the same keep have the same number; 0 if keep is empty
}

// read admits a query, selects its profiles and calls f with them. A request
// without a type selects profiles of every kind, whatever their columns.
//
// The store leaves out a block from the moment it finds it damaged. Then f is
// called again with what is left, and it is if the query gave up for others, so
// it must not have effects before it succeeds.
func (e *Engine) read(ctx context.Context, r Request, n need, f func(s *selection) error) error {
	w, err := e.window(r.Window)
	if err != nil {
		return err
	}
	sel, err := parseSelector(r.Query)
	if err != nil {
		return err
	}
	return e.budget.run(ctx, func(ctx context.Context, mem *reservation) error {
		var err error
		known := -1 // damaged blocks when it was last tried
		for {
			s := &selection{e: e, mem: mem, window: w, sel: sel.with(&r), names: releases{store: e.store}}
			next := s.try(ctx, r, n, f, known)
			if errors.Is(next, store.ErrFleetAddresses) {
				n.tables = false
				continue
			}
			if s.view == nil || len(s.view.Damaged) <= known {
				return cmp.Or(err, next)
			}
			if err = next; !errors.Is(err, inquest.ErrUnavailable) {
				return err
			}
			known = len(s.view.Damaged)
		}
	})
}

// readType is read for what needs a type.
func (e *Engine) readType(ctx context.Context, r Request, n need, f func(s *selection) error) error {
	if r.Type == "" {
		return inquest.Errorf(inquest.ErrInvalid, "no type is given: want one such as type=cpu or type=inuse_space")
	}
	return e.read(ctx, r, n, f)
}

// try calls f with what the present view of the store selects, if more than
// the known number of blocks are damaged in it.
func (s *selection) try(ctx context.Context, r Request, n need, f func(s *selection) error, known int) (err error) {
	want, err := s.storeSelection(r, n)
	if err != nil {
		return err
	}
	if s.view, err = s.e.store.View(ctx, want); err != nil {
		return err
	}
	defer s.view.Close()
	s.window = s.view.Window
	if len(s.view.Damaged) <= known {
		return nil
	}
	if err := s.findUnits(ctx, r); err != nil {
		return err
	}
	if n.labels {
		if err := s.findLabels(ctx); err != nil {
			return err
		}
		return f(s)
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	if err := s.checkSize(); err != nil {
		return err
	}
	if s.agg == AggMax {
		if err := s.keepTotals(ctx); err != nil {
			return err
		}
	}
	return f(s)
}

// maxSum is the most that the totals of an answer's profiles may add up to,
// for sums to fit 64 bits. A core that is busy all the time takes 146 years to
// get there.
const maxSum = 1 << 62

// checkSize refuses to add up what would overflow.
func (s *selection) checkSize() error {
	sum := 0.0
	for _, u := range s.units {
		if u.column < 0 {
			continue
		}
		for _, row := range u.picked {
			sum += math.Abs(float64(u.rows.Totals[u.column][row]))
		}
	}
	if sum > maxSum {
		return inquest.Errorf(inquest.ErrTooLarge, "the values of type %s add up to %.3g, which is more than can be counted: select less, or a shorter time", s.typ.Name, sum)
	}
	return nil
}

// findUnits lists the sections that may hold profiles of the request.
func (s *selection) findUnits(ctx context.Context, r Request) error {
	for _, p := range s.view.Parts {
		for i, sec := range p.Sections() {
			u := &unit{part: p, section: i, sec: sec, typ: -1, column: -1}
			if r.Type != "" {
				if u.typ = column(sec, r.Type); u.typ < 0 {
					continue
				}
				u.column = sec.Column[u.typ]
			}
			s.units = append(s.units, u)
		}
	}
	if r.Type == "" {
		return nil
	}
	t, err := s.resolveType(ctx, r.Type)
	if err != nil {
		return err
	}
	s.typ = t
	if s.agg, err = r.agg(t); err != nil {
		return err
	}
	s.dec, s.unit = precision(t, s.agg)
	if s.agg == AggAvg {
		for _, u := range s.units {
			if held := u.sec.Held[u.typ]; held >= 0 {
				u.column = held
			}
		}
	}
	return nil
}

// column finds a type in a section, -1 if it does not have it. A
// name of Go's kinds is looked for in its own kind only.
func column(sec store.Section, name string) int {
	if k := inquest.KindOfType(name); k != inquest.KindOther && k != sec.Kind {
		return -1
	}
	return slices.IndexFunc(sec.Types, func(t inquest.Type) bool { return t.Name == name })
}

// precision returns the decimals that values of an answer are rounded to, and
// their unit. Plain sums are integers; cores are kept as nanoseconds per second.
// The rounding happens per node and part, so what one part of a long window
// adds must not be lost in it: counts are small and have more decimals.
func precision(t inquest.Type, agg string) (decimals int, unit string) {
	decimals = 3
	if t.Unit == "count" {
		decimals = 6
	}
	switch {
	case agg == aggRate && t.Kind == inquest.KindCPU && t.Unit == "nanoseconds":
		return 9, "cores"
	case agg == aggRate:
		return decimals, t.Unit + "/s"
	case agg == AggAvg:
		return decimals, t.Unit
	}
	return 0, t.Unit
}

// load reads the rows of all units, matches their label sets and picks the
// rows, then drops units without any.
func (s *selection) load(ctx context.Context) error {
	err := s.each(ctx, func(ctx context.Context, u *unit) (err error) {
		u.rows, err = u.part.Rows(ctx, u.section)
		return err
	})
	if err != nil {
		return err
	}
	procs := make(map[processKey]uint32)
	kept := s.units[:0]
	for _, u := range s.units {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.match(ctx, u, u.rows.LabelSets); err != nil {
			return err
		}
		u.part.Release(ctx)
		s.pick(u)
		if len(u.picked) > 0 {
			u.number(procs)
			kept = append(kept, u)
		}
	}
	clear(s.units[len(kept):])
	s.units, s.procs = kept, len(procs)
	return nil
}

// findLabels reads and matches the label sets of all units, and drops units
// without any. It reads no rows where it can do without.
func (s *selection) findLabels(ctx context.Context) error {
	err := s.each(ctx, func(ctx context.Context, u *unit) error {
		sets, last, err := u.part.LabelSets(ctx, u.section)
		if err != nil {
			return err
		}
		u.last = last
		u.found = sets
		return nil
	})
	if err != nil {
		return err
	}
	for _, u := range s.units {
		if err := s.match(ctx, u, u.found); err != nil {
			return err
		}
	}
	s.units = slices.DeleteFunc(s.units, func(u *unit) bool {
		return !slices.ContainsFunc(u.sets, func(m setMatch) bool { return m.ok })
	})
	return nil
}

// match asks the matchers of each label set of the unit.
func (s *selection) match(ctx context.Context, u *unit, sets []inquest.Labels) error {
	u.sets = make([]setMatch, len(sets))
	groups := map[string]int{"": 0}
	var sampleNames map[string]bool
	for i, set := range sets {
		resolved, err := s.names.resolve(set)
		if err != nil {
			return err
		}
		m := setMatch{labels: resolved}
		m.ok, m.keep = s.sel.match(resolved)
		if m.ok && len(m.keep) > 0 {
			if sampleNames == nil && u.sec.Resolution == store.Raw {
				if sampleNames, err = u.sampleNames(ctx); err != nil {
					return err
				}
			}
			m.ok, m.keep = m.keep.withoutAbsent(sampleNames)
		}
		key := m.keep.key()
		g, known := groups[key]
		if !known {
			g = len(groups)
			groups[key] = g
		}
		m.group = g
		u.sets[i] = m
	}
	return nil
}

// sampleNames is the set of the names of per-sample labels in the section.
func (u *unit) sampleNames(ctx context.Context) (map[string]bool, error) {
	names, err := u.part.SampleLabelNames(ctx, u.section)
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set, nil
}

// pick selects the rows that count in the window and whose labels match.
func (s *selection) pick(u *unit) {
	for i, start := range u.rows.Start {
		if !u.sets[u.rows.LabelSet[i]].ok {
			continue
		}
		if slices.ContainsFunc(u.sec.Spans, func(s store.Span) bool { return s.Contains(start) }) {
			u.picked = append(u.picked, int32(i))
		}
	}
}

// processKey names a process in the fleet.
type processKey struct{ service, process string }

// number gives the processes of the picked rows their numbers.
func (u *unit) number(procs map[processKey]uint32) {
	number := func(service, process string) uint32 {
		key := processKey{service, process}
		n, ok := procs[key]
		if !ok {
			n = uint32(len(procs))
			procs[key] = n
		}
		return n
	}
	u.proc = make([]uint32, len(u.rows.Processes))
	known := make([]bool, len(u.proc))
	for _, row := range u.picked {
		for _, p := range u.processes(row) {
			if !known[p] {
				service, process := u.part.Service, u.rows.Processes[p]
				if u.sec.Fleet {
					service, process = store.CutFleetProcess(process)
				}
				u.proc[p], known[p] = number(service, process), true
			}
		}
	}
}

// each calls f for every unit, a bounded number at a time; units of one part
// never at the same time.
func (s *selection) each(ctx context.Context, f func(ctx context.Context, u *unit) error) error {
	return s.eachPart(ctx, func(ctx context.Context, units []*unit) error {
		for _, u := range units {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(ctx, u); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachPart calls f for the units of every part, a bounded number at a time.
func (s *selection) eachPart(ctx context.Context, f func(ctx context.Context, units []*unit) error) error {
	var parts [][]*unit
	for first := 0; first < len(s.units); {
		next := first + 1
		for next < len(s.units) && s.units[next].part == s.units[first].part {
			next++
		}
		parts = append(parts, s.units[first:next])
		first = next
	}
	g, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), len(parts))
	s.mem.work(workers)
	var next atomic.Int64
	for range workers {
		g.Go(func() error {
			defer s.mem.work(-1)
			for i := next.Add(1) - 1; i < int64(len(parts)); i = next.Add(1) - 1 {
				if err := f(ctx, parts[i]); err != nil {
					return err
				}
				parts[i][0].part.Release(ctx)
			}
			return nil
		})
	}
	return g.Wait()
}

// coverage is that of the picked rows, after holds, and after their values were
// added up.
func (s *selection) coverage() Coverage {
	c := Coverage{
		From:       s.window.From,
		Until:      s.window.Until,
		Incomplete: s.view.Incomplete,
		Damaged:    s.view.Damaged,
		Estimated:  s.agg == aggRate,
	}
	c.Samples = s.kept.Load()
	seen := make([]bool, s.procs)
	coarsest := store.Raw
	var observed, present int64
	for _, u := range s.units {
		coarsest = max(coarsest, u.sec.Resolution)
		for i, row := range u.picked {
			for _, p := range u.processes(row) {
				if n := u.proc[p]; !seen[n] {
					seen[n] = true
					c.Processes++
				}
			}
			c.Profiles += u.profiles(row)
			c.Truncated += u.truncated(row)
			observed += u.observed(row)
			present += u.hold[i]
			if len(u.sets[u.rows.LabelSet[row]].keep) == 0 {
				c.Samples += u.samples(row)
			}
		}
	}
	c.Resolution = coarsest.String()
	c.ObservedProcessSeconds = time.Duration(observed).Seconds()
	c.PresentProcessSeconds = time.Duration(present).Seconds()
	return c
}

// releases resolves the release of label sets, reading each build once.
type releases struct {
	store  *store.Store
	builds map[string]*inquest.Build // nil if nothing is known of it
}

// resolve returns the set with its release resolved.
func (r *releases) resolve(set inquest.Labels) (inquest.Labels, error) {
	explicit, id := set.Get(inquest.LabelRelease), set.Get(inquest.LabelBuild)
	if explicit != "" || id == "" {
		return set, nil
	}
	b, err := r.build(id)
	if err != nil {
		return nil, err
	}
	return set.With(inquest.LabelRelease, inquest.Release("", id, b)), nil
}

// build returns what is known of a build, nil if nothing is.
func (r *releases) build(id string) (*inquest.Build, error) {
	b, ok := r.builds[id]
	if ok {
		return b, nil
	}
	b, err := r.store.Build(id)
	if err != nil && !errors.Is(err, inquest.ErrNotFound) {
		return nil, err
	}
	if r.builds == nil {
		r.builds = make(map[string]*inquest.Build)
	}
	r.builds[id] = b
	return b, nil
}
