package store_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// TestMerge compares, by service and kind, what the store adds up with
// google/pprof's merge of the same bodies: samples by stack and labels over
// Export, and the flame graph over FuncTree and Self.
func TestMerge(t *testing.T) {
	s := open(t, t.TempDir())
	bodies := appendCorpus(t, s, "cpu", "heap", "mutex", "goroutine")
	for _, flushed := range []bool{false, true} {
		if flushed {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		for id, list := range bodies {
			service, kind, _ := strings.Cut(id, " ")
			compareMerge(t, s, service, inquest.Kind(kind), merge(t, list))
		}
	}
}

func merge(tb testing.TB, list []corpus.Body) *pprof.Profile {
	tb.Helper()
	var ps []*pprof.Profile
	for _, b := range list {
		ps = append(ps, parse(tb, b.Data))
	}
	m, err := pprof.Merge(ps)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func compareMerge(t *testing.T, s *store.Store, service string, kind inquest.Kind, want *pprof.Profile) {
	t.Helper()
	ctx := context.Background()
	v, err := s.View(ctx, store.Selection{Window: everything, Services: store.Services{Names: []string{service}}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	m := profile.NewMerger()
	got := make([]map[string]int64, len(want.SampleType))
	for _, p := range v.Parts {
		for i, sec := range p.Sections() {
			if sec.Kind != kind {
				continue
			}
			if err := p.Export(ctx, i, nil, m.Add); err != nil {
				t.Fatal(err)
			}
			for c := range got {
				got[c] = addPaths(t, got[c], p, store.SelfQuery{Section: i, Column: c})
			}
		}
	}
	merged := parse(t, m.Profile().AppendPprof(nil))
	if in, out := nonZero(sampleSet(want)), nonZero(sampleSet(merged)); !reflect.DeepEqual(in, out) {
		t.Fatalf("%s %s: %.2000s", service, kind, cmp.Diff(in, out))
	}
	for c := range got {
		if w := pathSums(want, c); !reflect.DeepEqual(w, got[c]) {
			t.Fatalf("%s %s column %d: %.2000s", service, kind, c, cmp.Diff(w, got[c]))
		}
	}
}

// nonZero leaves out samples that are all zero: pprof's merge drops them.
func nonZero(set map[string][]int64) map[string][]int64 {
	for k, v := range set {
		if !slices.ContainsFunc(v, func(x int64) bool { return x != 0 }) {
			delete(set, k)
		}
	}
	return set
}

// addPaths adds self values by call path.
func addPaths(tb testing.TB, sums map[string]int64, p *store.Part, q store.SelfQuery) map[string]int64 {
	tb.Helper()
	if sums == nil {
		sums = map[string]int64{}
	}
	tree, err := p.FuncTree(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	res, err := p.Self(context.Background(), q)
	if err != nil {
		tb.Fatal(err)
	}
	paths := make([]string, len(tree.Parent))
	for i := range tree.Parent {
		if i > 0 {
			paths[i] = paths[tree.Parent[i]] + ";" + tree.Names[tree.Name[i]]
		}
		v := int64(0)
		if res.Int != nil {
			v = res.Int[i]
		} else {
			v = int64(math.Round(res.Float[i]))
		}
		if v != 0 {
			if sums[paths[i]] += v; sums[paths[i]] == 0 { // as if it were in one part
				delete(sums, paths[i])
			}
		}
	}
	return sums
}

// pathSums is addPaths for a pprof profile.
func pathSums(p *pprof.Profile, col int) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		at := ""
		for _, l := range slices.Backward(s.Location) {
			if len(l.Line) == 0 {
				at += ";" + addressName(l)
			}
			for _, ln := range slices.Backward(l.Line) {
				switch {
				case ln.Function.Name != "":
					at += ";" + ln.Function.Name
				case ln.Function.SystemName != "":
					at += ";" + ln.Function.SystemName
				default:
					at += ";" + addressName(l)
				}
			}
		}
		if s.Value[col] != 0 {
			out[at] += s.Value[col]
		}
	}
	return out
}

func addressName(l *pprof.Location) string {
	if l.Mapping == nil {
		return inquest.Address{Offset: l.Address}.String()
	}
	return inquest.NewAddress(l.Mapping.File, l.Mapping.BuildID, l.Address-l.Mapping.Start+l.Mapping.Offset).String()
}

// oddProfile has what the corpus does not.
func oddProfile(n int) *pprof.Profile {
	maps := []*pprof.Mapping{
		{ID: 1, Start: 0x400000, Limit: 0x500000, Offset: 0x1000, File: "/usr/bin/odd", BuildID: "abcd", HasFunctions: true, HasInlineFrames: true},
		{ID: 2, Start: 0x7f0000, Limit: 0x7f1000, File: "[vdso]", HasFilenames: true, HasLineNumbers: true},
		{ID: 3, Start: 0x800000, Limit: 0x900000}, // used by nothing, without a name
	}
	fns := []*pprof.Function{
		{ID: 1, Name: "outer", SystemName: "_outer", Filename: "o.c", StartLine: 7},
		{ID: 2, Name: "inner", SystemName: "inner", Filename: "i.c"},
		{ID: 3, SystemName: "_only_system"},
		{ID: 4}, // nothing is known of it
	}
	locs := []*pprof.Location{
		{ID: 1, Mapping: maps[0], Address: 0x401000, Line: []pprof.Line{{Function: fns[1], Line: 3, Column: 9}, {Function: fns[0], Line: -1}}},
		{ID: 2, Mapping: maps[1], Address: 0x7f0010},
		{ID: 3, Address: 0xdeadbeef},
		{ID: 4, Mapping: maps[0], Address: 0x401001, IsFolded: true, Line: []pprof.Line{{Function: fns[2], Line: 1 << 40}}},
		{ID: 5, Mapping: maps[0], Address: 0x401002, Line: []pprof.Line{{Function: fns[3]}}},
		{ID: 6, Line: []pprof.Line{{Function: fns[0], Line: 8}}},
	}
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "a", Unit: "count"}, {Type: "b", Unit: "bytes"}, {Type: "c", Unit: "widgets"}},
		PeriodType: &pprof.ValueType{Type: "p", Unit: "q"}, Period: int64(n % 3), TimeNanos: int64(n), DurationNanos: -1,
		DropFrames: "drop.*", KeepFrames: "keep", Comments: []string{"one", fmt.Sprint("two ", n%2)}, DefaultSampleType: "b", DocURL: "http://x/",
		Mapping: maps, Function: fns, Location: locs,
	}
	add := func(values []int64, label map[string][]string, num map[string][]int64, unit map[string][]string, stack ...*pprof.Location) {
		p.Sample = append(p.Sample, &pprof.Sample{Location: stack, Value: values, Label: label, NumLabel: num, NumUnit: unit})
	}
	add([]int64{1, math.MaxInt64, 0}, nil, nil, nil, locs[0], locs[5])
	add([]int64{-5, math.MinInt64, 0}, map[string][]string{"k": {"v"}}, nil, nil, locs[1], locs[0])
	add([]int64{int64(n), 3, 0}, nil, map[string][]int64{"bytes": {64}}, map[string][]string{"bytes": {"kilobytes"}}, locs[2])
	add([]int64{0, 0, 0}, map[string][]string{"k": {"v", "w"}}, map[string][]int64{"n": {0, -4}}, nil, locs[3], locs[3], locs[4])
	add([]int64{9, 9, 0}, nil, nil, nil) // no stack at all
	if n%5 == 0 {
		add([]int64{1, 1, 0}, nil, nil, nil, locs[0], locs[5]) // the first one's twin
	}
	return p
}

// TestOddProfiles stores what the corpus does not have: every field of the
// format, extreme values, twins, frames without names, empty profiles.
func TestOddProfiles(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	d := profile.NewDecoder(profile.Limits{})
	want := map[string]*pprof.Profile{}
	for i := range 150 { // more than two groups
		p := oddProfile(i)
		if i%50 == 49 {
			p.Sample = nil
		}
		body := encode(t, p)
		a, err := s.Append(ctx, record(t, d, i, "odd", inquest.KindOther, body))
		if err != nil {
			t.Fatal(err)
		}
		want["odd "+a.ID] = parse(t, body)
	}
	if _, err := s.Append(ctx, record(t, d, 1000, "empty", inquest.KindOther, encode(t, &pprof.Profile{SampleType: oddProfile(0).SampleType}))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := exported(t, s)
		for id, w := range want {
			g := got[id]
			if g == nil {
				t.Fatalf("%s is missing", id)
			}
			if diff := cmp.Diff(headOf(w), headOf(g)); diff != "" {
				t.Fatalf("%s (-in +out)\n%s", id, diff)
			}
			if diff := cmp.Diff(sampleSet(w), sampleSet(g)); diff != "" {
				t.Fatalf("%s (-in +out)\n%s", id, diff)
			}
		}
		names := map[string]bool{}
		v, err := s.View(ctx, store.Selection{Window: everything, Services: store.Services{Names: []string{"odd"}}})
		if err != nil {
			t.Fatal(err)
		}
		tree, err := v.Parts[0].FuncTree(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range tree.Names[1:] {
			names[n] = tree.Unsymbolized[i+1]
		}
		wantNames := map[string]bool{
			"outer": false, "inner": false, "_only_system": false, "[vdso]+0x10": true, "0xdeadbeef": true, "odd+0x2002@abcd": true,
		}
		if diff := cmp.Diff(wantNames, names); diff != "" {
			t.Fatal(diff)
		}
		v.Close()
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func encode(tb testing.TB, p *pprof.Profile) []byte {
	tb.Helper()
	var b strings.Builder
	if err := p.WriteUncompressed(&b); err != nil {
		tb.Fatal(err)
	}
	return []byte(b.String())
}

// TestSelfSelection compares masks, weights and label filters with sums over
// exported profiles.
func TestSelfSelection(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("heap")
	const n = 130
	for i := range n {
		if _, err := s.Append(ctx, record(t, d, i, "svc", inquest.KindHeap, bodies[i%len(bodies)].Data)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		v, err := s.View(ctx, store.Selection{Window: everything})
		if err != nil {
			t.Fatal(err)
		}
		p := v.Parts[0]
		rows := make([]bool, n)
		weights := make([]float64, n)
		want, wantWeighted, wantKept := map[string]int64{}, map[string]int64{}, map[string]int64{}
		keep := func(ls []store.SampleLabel) bool { return len(ls) == 1 && ls[0].Key == "bytes" && ls[0].Num >= 1024 }
		for i := range n {
			rows[i], weights[i] = i%3 == 0 || i > 100, float64(i%4)
		}
		at, samples := 0, int64(0)
		wantSizes := map[int64]bool{}
		err = p.Export(ctx, 0, nil, func(x *profile.Profile) error {
			q := parse(t, x.AppendPprof(nil))
			for _, s := range q.Sample {
				for _, size := range s.NumLabel["bytes"] {
					wantSizes[size] = true
				}
			}
			if rows[at] {
				samples += int64(len(q.Sample))
				for k, v := range pathSums(q, 3) {
					want[k] += v
					wantWeighted[k] += v * int64(at%4)
				}
				q.Sample = slices.DeleteFunc(q.Sample, func(s *pprof.Sample) bool { return s.NumLabel["bytes"] == nil || s.NumLabel["bytes"][0] < 1024 })
				for k, v := range pathSums(q, 3) {
					wantKept[k] += v
				}
			}
			at++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			q    store.SelfQuery
			want map[string]int64
		}{
			"rows":    {store.SelfQuery{Column: 3, Rows: rows}, want},
			"weights": {store.SelfQuery{Column: 3, Rows: rows, Weights: weights}, wantWeighted},
			"keep":    {store.SelfQuery{Column: 3, Rows: rows, Keep: keep}, wantKept},
		} {
			got := addPaths(t, nil, p, c.q)
			for k, v := range c.want {
				if v == 0 {
					delete(c.want, k)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatalf("%s: %.1000s", name, diff)
			}
		}
		res, err := p.Self(ctx, store.SelfQuery{Column: 3, Rows: rows})
		if err != nil || res.Samples != samples {
			t.Fatalf("%d samples, want %d, %v", res.Samples, samples, err)
		}
		names, err := p.SampleLabelNames(ctx, 0)
		if diff := cmp.Diff([]string{"bytes"}, names); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
		sizes := map[int64]bool{}
		err = p.SampleLabels(ctx, func(l store.SampleLabel) {
			if l.Key != "bytes" || l.Str != "" {
				t.Fatalf("%+v", l)
			}
			sizes[l.Num] = true
		})
		if diff := cmp.Diff(wantSizes, sizes); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
		v.Close()
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWindow: a view of a short window leaves out what lies beside it, and
// Services knows what there is.
func TestWindow(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	d := profile.NewDecoder(profile.Limits{})
	body := corpus.Load("mutex")[0].Data
	for i := range 200 { // ten seconds apart
		if _, err := s.Append(ctx, record(t, d, i, "svc", inquest.KindMutex, body)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		w := inquest.Window{From: t0.Add(1000 * 1e9), Until: t0.Add(1100 * 1e9)}
		v, err := s.View(ctx, store.Selection{Window: w})
		if err != nil {
			t.Fatal(err)
		}
		rows, err := v.Parts[0].Rows(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		in := 0
		for _, st := range rows.Start {
			if st >= w.From.UnixNano() && st < w.Until.UnixNano() {
				in++
			}
		}
		if in != 10 || len(rows.Start) > 130 {
			t.Errorf("%d rows of which %d are in the window, want 10 and not all", len(rows.Start), in)
		}
		v.Close()
		infos, err := s.Services(ctx, w)
		if err != nil || len(infos) != 1 || infos[0].Name != "svc" || infos[0].Sections[0].Kind != inquest.KindMutex {
			t.Errorf("%+v, %v", infos, err)
		}
		if infos, err := s.Services(ctx, inquest.Window{From: t0.Add(-2e9), Until: t0.Add(-1e9)}); err != nil || len(infos) != 0 {
			t.Errorf("%+v, %v", infos, err)
		}
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
