package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// rolledProfile is one profile of the model.
type rolledProfile struct {
	meta inquest.ProfileMeta
	p    *pprof.Profile
	hold int64
}

// cellModel is what rows of one key add up to.
type cellModel struct {
	Values    map[string][]int64 // by path; columns of the rollup
	Totals    []int64
	Profiles  uint32
	Observed  int64
	Hold      int64
	Samples   int64
	Truncated uint32
	Flagged   bool
	Processes map[string]bool
}

func (m *cellModel) add(path string, cols []int64) {
	v := m.Values[path]
	if v == nil {
		v = make([]int64, len(cols))
		m.Values[path] = v
	}
	for i, x := range cols {
		v[i] += x
	}
}

// rollupModel is all cells, by service, labels, kind, types, resolution, step.
type rollupModel map[string]*cellModel

func (m rollupModel) cell(key string, cols int) *cellModel {
	if m[key] == nil {
		m[key] = &cellModel{Values: map[string][]int64{}, Totals: make([]int64, cols), Processes: map[string]bool{}}
	}
	return m[key]
}

// columnsOf names the columns of rollups of a profile.
func columnsOf(kind inquest.Kind, p *pprof.Profile) (names []string, types []inquest.Type) {
	for _, t := range p.SampleType {
		typ := inquest.TypeOf(kind, t.Type, t.Unit)
		names, types = append(names, t.Type), append(types, typ)
		if typ.Temporality == inquest.Instant {
			names, types = append(names, "held:"+t.Type), append(types, typ)
		}
	}
	return names, types
}

// heldValue is value × hold as rollups count it.
func heldValue(v, hold int64, t inquest.Type) int64 {
	per := int64(store.HeldPerSecond(t))
	if n := hold * per; n%1e9 == 0 {
		hi, lo := bits.Mul64(uint64(max(v, -v)), uint64(n/1e9))
		if hi == 0 && lo <= 1<<62 {
			return v * (n / 1e9)
		}
		return int64(math.Copysign(1<<62, float64(v)))
	}
	return int64(math.Max(-1<<62, math.Min(1<<62, math.Round(float64(v)*float64(hold)/1e9*float64(per)))))
}

// rowValues spells the values of a sample as columns of a rollup.
func (r *rolledProfile) rowValues(s *pprof.Sample) (out []int64) {
	for i, t := range r.p.SampleType {
		out = append(out, s.Value[i])
		if typ := inquest.TypeOf(r.meta.Kind, t.Type, t.Unit); typ.Temporality == inquest.Instant {
			out = append(out, heldValue(s.Value[i], r.hold, typ))
		}
	}
	return out
}

func cellKeyOf(service, build, release string, kind inquest.Kind, types []string, res store.Resolution, start int64) string {
	return fmt.Sprint(service, "|", build, "|", release, "|", kind, types, "|", res, "|", time.Unix(0, start).UTC())
}

// frames spells the stack of a sample, outermost first.
func frames(s *pprof.Sample) (out []string) {
	for _, l := range slices.Backward(s.Location) {
		if len(l.Line) == 0 {
			out = append(out, addressName(l))
		}
		for _, ln := range slices.Backward(l.Line) {
			switch {
			case ln.Function.Name != "":
				out = append(out, ln.Function.Name)
			case ln.Function.SystemName != "":
				out = append(out, ln.Function.SystemName)
			default:
				out = append(out, addressName(l))
			}
		}
	}
	return out
}

// add adds profiles of one batch.
func (m rollupModel) addBatch(list []*rolledProfile) {
	decideHolds(list)
	for _, r := range list {
		names, _ := columnsOf(r.meta.Kind, r.p)
		ls := r.meta.Labels
		for _, res := range []store.Resolution{store.FiveMinutes, store.Hour, store.Day} {
			start := r.meta.Start.Truncate(res.Duration()).UnixNano()
			c := m.cell(cellKeyOf(r.meta.Service(), ls.Get("build"), ls.Get("release"), r.meta.Kind, names, res, start), len(names))
			c.Profiles++
			c.Observed += int64(r.meta.End.Sub(r.meta.Start))
			c.Hold += r.hold
			c.Samples += int64(len(r.p.Sample))
			if r.meta.Truncated {
				c.Truncated++
				c.Flagged = true
			}
			c.Processes[r.meta.ProcessKey()] = true
			for _, s := range r.p.Sample {
				v := r.rowValues(s)
				for i := range v {
					c.Totals[i] += v[i]
				}
				path := ""
				for _, f := range frames(s) {
					path += ";" + f
				}
				c.add(path, v)
			}
		}
	}
}

// decideHolds asks store.Holds, as queries do.
func decideHolds(list []*rolledProfile) {
	procs := map[string]uint32{}
	var held []store.Held
	for _, r := range list {
		id := r.meta.Service() + " " + r.meta.ProcessKey()
		if _, ok := procs[id]; !ok {
			procs[id] = uint32(len(procs))
		}
		deltas := slices.ContainsFunc(r.p.SampleType, func(t *pprof.ValueType) bool {
			return inquest.TypeOf(r.meta.Kind, t.Type, t.Unit).Temporality == inquest.Delta
		})
		held = append(held, store.Held{
			Process: procs[id], Kind: r.meta.Kind, Start: r.meta.Start.UnixNano(), End: r.meta.End.UnixNano(),
			Stated: int64(r.meta.Hold), Baseline: deltas && r.meta.Start.Equal(r.meta.End),
		})
	}
	for i, h := range store.Holds(held) {
		list[i].hold = h
	}
}

// Which rows readRollups reads.
const (
	ownRows   = "own"   // of the services' parts
	fleetRows = "fleet" // tables of functions of all services together
)

// readRollups adds up the rows of rollups, those of the fleet without paths. It
// checks that rows agree with their samples. twice lists keys that several rows
// of one block have.
func readRollups(t *testing.T, s *store.Store, which string) (m rollupModel, twice []string) {
	t.Helper()
	ctx := context.Background()
	v := store.RollupView(t, s)
	defer v.Close()
	m = rollupModel{}
	for _, p := range v.Parts {
		if (p.Service == "") == (which == ownRows) {
			continue
		}
		seen := map[string]bool{}
		tree, err := p.FuncTree(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, sec := range p.Sections() {
			if store.DigestSection(p, i) {
				continue
			}
			if sec.Fleet != (which == fleetRows) {
				t.Fatalf("in the part of service %q: fleet %v", p.Service, sec.Fleet)
			}
			rows, err := p.Rows(ctx, i)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for k, typ := range sec.Types {
				names = append(names, sampleTypeName(typ))
				if sec.Held[k] >= 0 {
					names = append(names, "held:"+sampleTypeName(typ))
				}
			}
			for r := range rows.Start {
				ls := rows.LabelSets[rows.LabelSet[r]]
				if p.Service != "" && ls.Get("service") != p.Service {
					t.Fatalf("a row of service %s in the part of %s", ls.Get("service"), p.Service)
				}
				if rows.End[r]-rows.Start[r] != int64(sec.Resolution.Duration()) {
					t.Fatalf("row of %v has %d ns", sec.Resolution, rows.End[r]-rows.Start[r])
				}
				key := cellKeyOf(ls.Get("service"), ls.Get("build"), ls.Get("release"), sec.Kind, names, sec.Resolution, rows.Start[r])
				if seen[key] {
					twice = append(twice, key)
				}
				seen[key] = true
				addRow(t, m.cell(key, len(names)), p, tree, i, r, rows, sec.Fleet)
			}
		}
	}
	return m, twice
}

// compareTables compares tables of functions of the fleet with the paths of the
// model.
func compareTables(t *testing.T, label string, s *store.Store, want rollupModel) {
	t.Helper()
	ctx := context.Background()
	type cost struct{ Self, Cum []int64 }
	at := func(m map[string]map[string]*cost, key, name string, cols int) *cost {
		if m[key] == nil {
			m[key] = map[string]*cost{}
		}
		if m[key][name] == nil {
			m[key][name] = &cost{make([]int64, cols), make([]int64, cols)}
		}
		return m[key][name]
	}
	wanted, got := map[string]map[string]*cost{}, map[string]map[string]*cost{}
	for key, c := range want {
		fleet, columns := fleetKey(key)
		for path, vals := range c.Values {
			frames := strings.Split(path, ";")
			leaf := frames[len(frames)-1]
			slices.Sort(frames)
			distinct := slices.Compact(frames)
			for i, col := range columns {
				at(wanted, fleet, leaf, len(columns)).Self[i] += vals[col]
				for _, f := range distinct {
					if f != "" {
						at(wanted, fleet, f, len(columns)).Cum[i] += vals[col]
					}
				}
			}
		}
	}
	v := store.RollupView(t, s)
	defer v.Close()
	for _, p := range v.Parts {
		tree, err := p.FuncTree(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, sec := range p.Sections() {
			if !sec.Fleet {
				continue
			}
			rows, err := p.Rows(ctx, i)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			var columns []int
			for k, typ := range sec.Types {
				names, columns = append(names, sampleTypeName(typ)), append(columns, sec.Column[k])
				if sec.Held[k] >= 0 {
					names, columns = append(names, "held:"+sampleTypeName(typ)), append(columns, sec.Held[k])
				}
			}
			for r := range rows.Start {
				ls := rows.LabelSets[rows.LabelSet[r]]
				key := cellKeyOf(ls.Get("service"), ls.Get("build"), ls.Get("release"), sec.Kind, names, sec.Resolution, rows.Start[r])
				only := make([]bool, len(rows.Start))
				only[r] = true
				for k, col := range columns {
					for cum := range 2 {
						res, err := p.Self(ctx, store.SelfQuery{Section: i, Column: col + cum, Rows: only})
						if err != nil {
							t.Fatal(err)
						}
						for n, v := range res.Int {
							if n > 0 && tree.Parent[n] != 0 {
								t.Fatal("a function has a caller in a table")
							}
							if v != 0 {
								c := at(got, key, tree.Names[tree.Name[n]], len(names))
								[][]int64{c.Self, c.Cum}[cum][k] += v
							}
						}
					}
				}
			}
		}
	}
	for _, m := range []map[string]map[string]*cost{wanted, got} {
		for key, functions := range m {
			for name, c := range functions {
				if !slices.ContainsFunc(slices.Concat(c.Self, c.Cum), func(v int64) bool { return v != 0 }) {
					delete(functions, name)
				}
			}
			if len(functions) == 0 {
				delete(m, key)
			}
		}
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Fatalf("%s: tables (-want +got)\n%.3000s", label, d)
	}
}

func sampleTypeName(t inquest.Type) string {
	switch t.Name {
	case "mutex_count":
		return "contentions"
	case "mutex_delay":
		return "delay"
	}
	return t.Name
}

func addRow(t *testing.T, c *cellModel, p *store.Part, tree *store.FuncTree, section, r int, rows *store.Rows, table bool) {
	t.Helper()
	c.Profiles += rows.Profiles[r]
	c.Observed += rows.Observed[r]
	c.Hold += rows.Hold[r]
	c.Samples += rows.SampleSum[r]
	c.Truncated += rows.Truncated[r]
	c.Flagged = c.Flagged || rows.Flags[r]&store.FlagTruncated != 0
	from := uint32(0)
	if r > 0 {
		from = rows.ProcessEnds[r-1]
	}
	for _, id := range rows.ProcessIDs[from:rows.ProcessEnds[r]] {
		c.Processes[rows.Processes[id]] = true
	}
	only := make([]bool, len(rows.Start))
	only[r] = true
	cols := len(rows.Totals)
	if table {
		cols = 0
		for col := 0; col < len(rows.Totals); col += 2 { // the others are what calls cost
			c.Totals[col/2] += rows.Totals[col][r]
		}
	}
	paths := make([]string, len(tree.Parent))
	for col := range cols {
		res, err := p.Self(context.Background(), store.SelfQuery{Section: section, Column: col, Rows: only})
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for n, v := range res.Int {
			if n > 0 && paths[n] == "" {
				paths[n] = paths[tree.Parent[n]] + ";" + tree.Names[tree.Name[n]]
			}
			if sum += v; v != 0 {
				one := make([]int64, cols)
				one[col] = v
				c.add(paths[n], one)
			}
		}
		if sum != rows.Totals[col][r] {
			t.Fatalf("column %d: samples add up to %d, the row says %d", col, sum, rows.Totals[col][r])
		}
		c.Totals[col] += sum
	}
}

// compareModels leaves out what adds up to nothing.
func compareModels(t *testing.T, label string, want, got rollupModel, keep func(key string) bool) {
	t.Helper()
	clean := func(m rollupModel) rollupModel {
		out := rollupModel{}
		for k, c := range m {
			if !keep(k) {
				continue
			}
			c := *c
			values := map[string][]int64{}
			for path, v := range c.Values {
				if slices.ContainsFunc(v, func(x int64) bool { return x != 0 }) {
					values[path] = v
				}
			}
			c.Values = values
			out[k] = &c
		}
		return out
	}
	w, g := clean(want), clean(got)
	for k := range g {
		if w[k] == nil {
			t.Errorf("%s: there is a cell %s", label, k)
		}
	}
	for k, c := range w {
		switch {
		case g[k] == nil:
			t.Errorf("%s: cell %s is missing", label, k)
		case !reflect.DeepEqual(c, g[k]):
			t.Fatalf("%s: cell %s (-want +got)\n%.3000s", label, k, cmp.Diff(c, g[k]))
		}
	}
}

// oddFleet makes records of all sorts, and the model's profiles of them.
type oddFleet struct {
	t      *testing.T
	rnd    *rand.Rand
	d      *profile.Decoder
	bodies []corpus.Body
	n      int
	span   time.Duration
}

func newOddFleet(t *testing.T, seed uint64, span time.Duration) *oddFleet {
	f := &oddFleet{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), d: profile.NewDecoder(profile.Limits{}), span: span}
	for _, kind := range []string{"cpu", "heap", "mutex", "goroutine"} {
		list := corpus.Load(kind)
		slices.SortStableFunc(list, func(a, b corpus.Body) int { return len(a.Data) - len(b.Data) })
		f.bodies = append(f.bodies, list[:6]...)
	}
	return f
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// append stores one more record.
func (f *oddFleet) append(s *store.Store) *rolledProfile {
	f.t.Helper()
	f.n++
	b := f.bodies[f.rnd.IntN(len(f.bodies))]
	kind, body := kindOf(b.Kind), b.Data
	if f.rnd.IntN(5) == 0 {
		kind, body = inquest.KindOther, encode(f.t, oddProfile(f.n))
	}
	r := record(f.t, f.d, f.n, pick(f.rnd, "a", "b", "c", "c"), kind, body)
	start := t0.Add(time.Duration(f.rnd.Int64N(int64(f.span))) - f.span/2)
	ls := map[string]string{"service": r.Meta.Service(), "instance": pick(f.rnd, "", "i1", "i2", "i3"), "build": pick(f.rnd, "", "b1", "b2"),
		"release": pick(f.rnd, "", "", "v1"), "zone": pick(f.rnd, "x", "y")}
	r.Meta = inquest.ProfileMeta{
		Kind: kind, Labels: inquest.NewLabels(ls), Process: pick(f.rnd, "", "p1", "p2"), Start: start,
		End:  start.Add(pick(f.rnd, 0, 10*time.Second, time.Minute)),
		Hold: pick(f.rnd, 0, time.Minute, time.Minute, 15_300*time.Millisecond, 10*time.Minute), Truncated: f.rnd.IntN(9) == 0,
	}
	m := &rolledProfile{meta: r.Meta, p: parse(f.t, body)}
	if _, err := s.Append(context.Background(), r); err != nil {
		f.t.Fatal(err)
	}
	return m
}

func anyKey(string) bool { return true }

// fleetKey is the cell of all services that a cell is in, and which of its
// columns that has; none if it is in none.
func fleetKey(key string) (fleet string, columns []int) {
	fields := strings.Split(key, "|")
	kind, list, _ := strings.Cut(strings.TrimSuffix(fields[3], "]"), "[")
	var names []string
	for i, name := range strings.Fields(list) {
		typ := strings.TrimPrefix(name, "held:")
		if typ == "delay" {
			typ = kind + "_delay"
		}
		if store.InFleet(inquest.Kind(kind), typ) && hourUp(key) {
			names, columns = append(names, name), append(columns, i)
		}
	}
	return strings.Join([]string{"", "", "", fmt.Sprint(kind, names), fields[4], fields[5]}, "|"), columns
}

// fleet is the model of rows of all services together.
func (m rollupModel) fleet() rollupModel {
	out := rollupModel{}
	for key, c := range m {
		to, columns := fleetKey(key)
		if columns == nil {
			continue
		}
		sum := out.cell(to, len(columns))
		sum.Values = nil
		for i, col := range columns {
			sum.Totals[i] += c.Totals[col]
		}
		sum.Profiles += c.Profiles
		sum.Observed += c.Observed
		sum.Hold += c.Hold
		sum.Samples += c.Samples
		sum.Truncated += c.Truncated
		sum.Flagged = sum.Flagged || c.Flagged
		service, _, _ := strings.Cut(key, "|")
		for p := range c.Processes {
			sum.Processes[store.FleetProcess(service, p)] = true
		}
	}
	return out
}

// hourUp takes the cells of hours and days.
func hourUp(key string) bool { return !strings.Contains(key, "|5m|") }

// TestFleetDamaged: where tables of the fleet cannot be read the services' own
// rows take their place.
func TestFleetDamaged(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	f := newOddFleet(t, 1, 3*time.Hour)
	for range 60 {
		f.append(s)
	}
	if err := errors.Join(s.Flush(ctx), s.Settle(ctx)); err != nil {
		t.Fatal(err)
	}
	sum := func() (out map[string]int64, fleet int) {
		v, err := s.View(ctx, store.Selection{Rollups: true, Fleet: true})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for _, p := range v.Parts {
			if p.Service == "" {
				fleet++
			}
		}
		out = map[string]int64{}
		if err := addTotals(ctx, v, out); err != nil {
			t.Fatal(err)
		}
		return ofFleet(out), fleet
	}
	want, fleet := sum()
	if fleet == 0 || len(want) == 0 {
		t.Fatal(fleet, want)
	}
	if n := store.DamageFleet(t, s); n == 0 {
		t.Fatal("there are no tables of the fleet")
	}
	got, _ := sum()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestRollups compares rollups of all sorts of profiles with what pprof makes
// of the same bodies: every cell, every path and column, before and after
// merging, in the services' own parts and in tables of the fleet.
func TestRollups(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			testRollups(t, seed, true)
		})
	}
}

// TestRollupMemory does the same with hardly any memory, so that cells are
// written in several pieces.
func TestRollupMemory(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int64{1, 10_000, 100_000} {
		for seed := range uint64(3) {
			if testing.Short() && seed != 1 {
				continue
			}
			t.Run(fmt.Sprint(bytes, " bytes, ", seed), func(t *testing.T) {
				t.Parallel()
				testRollups(t, seed, false, store.WithRollMemory(bytes))
			})
		}
	}
}

// testRollups expects, if whole, that no cell of a block has two rows.
func testRollups(t *testing.T, seed uint64, whole bool, change ...func(*store.Options)) {
	ctx := context.Background()
	s := open(t, t.TempDir(), change...)
	span := []time.Duration{30 * time.Minute, 3 * time.Hour, 50 * time.Hour}[seed%3]
	f := newOddFleet(t, seed, span)
	want := rollupModel{}
	var all []*rolledProfile
	for phase := range 3 {
		var batch []*rolledProfile
		for i := range 60 {
			batch = append(batch, f.append(s))
			if i%40 == 39 {
				if err := s.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		want.addBatch(batch)
		if _, _, unrolled, _ := store.Rollups(s); unrolled > 0 {
			t.Fatalf("%d blocks are not rolled up", unrolled)
		}
		label := fmt.Sprint("phase ", phase)
		own, twice := readRollups(t, s, ownRows)
		if len(twice) > 0 && whole {
			t.Errorf("%s: a block has rows twice: %v", label, twice)
		}
		compareModels(t, label, want, own, anyKey)
		compareTables(t, label, s, want)
		fleet, _ := readRollups(t, s, fleetRows)
		compareModels(t, label+" fleet", want.fleet(), fleet, anyKey)
		all = append(all, batch...)
		if phase == 0 && whole {
			compareDigests(t, label, s, all, 0)
		}
	}
	if err := store.DropRollups(ctx, s, [4]bool{true, true, true, true}); err != nil {
		t.Fatal(err)
	}
	own, twice := readRollups(t, s, ownRows)
	if len(twice) > 0 && whole {
		t.Errorf("merged: rows twice: %v", twice)
	}
	compareModels(t, "merged", want, own, anyKey)
	if whole {
		compareMerged(t, s, all)
	} else if len(twice) == 0 {
		t.Error("memory was enough for all cells")
	}
	compareTables(t, "merged", s, want)
	fleet, _ := readRollups(t, s, fleetRows)
	compareModels(t, "merged fleet", want.fleet(), fleet, anyKey)
	if err := store.DropRollups(ctx, s, [4]bool{false, false, true, true}); err != nil {
		t.Fatal(err)
	}
	own, _ = readRollups(t, s, ownRows)
	compareModels(t, "without 5 minutes", want, own, hourUp)
	if q := s.Stats().Quarantined; len(q) > 0 {
		t.Error(q)
	}
}

// compareMerged checks digests after their pieces came together. Odd profiles
// have totals smaller than what they are made of, of which no bound holds.
func compareMerged(t *testing.T, s *store.Store, all []*rolledProfile) {
	t.Helper()
	v := store.RollupView(t, s)
	defer v.Close()
	got, rows := readDigests(t, v, true)
	for key, n := range rows {
		if n != 1 {
			t.Errorf("%d digests of %s", n, key)
		}
	}
	for key, w := range digestModels(all) {
		g := got[key]
		if g == nil || g.profiles != w.profiles || !slices.Equal(g.total, w.total) {
			t.Errorf("digest of %s: %+v", key, g)
			continue
		}
		if !strings.Contains(key, "|other|") {
			compareFunctions(t, "merged self of "+key, w.total, w.self, g.self, 0.001)
			compareFunctions(t, "merged cum of "+key, w.total, w.cum, g.cum, 0.001)
		}
	}
}
