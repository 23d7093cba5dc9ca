package query_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

// selfOf is the value of a column per function-level stack.
func selfOf(p *pprof.Profile, column int) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		if s.Value[column] != 0 {
			out[strings.Join(functions(s), ";")] += s.Value[column]
		}
	}
	for k, v := range out {
		if v == 0 {
			delete(out, k)
		}
	}
	return out
}

// topOf is the table of functions of a column.
func topOf(p *pprof.Profile, column int) map[string][2]int64 {
	out := map[string][2]int64{}
	for _, s := range p.Sample {
		names := functions(s)
		v := s.Value[column]
		if v == 0 || len(names) == 0 {
			continue
		}
		self := out[names[len(names)-1]]
		self[0] += v
		out[names[len(names)-1]] = self
		slices.Sort(names)
		for _, n := range slices.Compact(names) {
			row := out[n]
			row[1] += v
			out[n] = row
		}
	}
	return out
}

// content spells the samples of a profile by content, with their values
// added up.
func content(p *pprof.Profile) map[string]string {
	sums := map[string][]int64{}
	for _, s := range p.Sample {
		var b strings.Builder
		for _, l := range s.Location {
			if l.Mapping != nil {
				fmt.Fprintf(&b, "%s %s+%x ", l.Mapping.File, l.Mapping.BuildID, l.Address-l.Mapping.Start)
			} else {
				fmt.Fprintf(&b, "%x ", l.Address)
			}
			for _, line := range l.Line {
				fmt.Fprintf(&b, "[%s %s %s:%d:%d %d]", line.Function.Name, line.Function.SystemName, line.Function.Filename, line.Line, line.Column, line.Function.StartLine)
			}
			b.WriteByte('\n')
		}
		var labels []string
		for k, v := range s.Label {
			labels = append(labels, fmt.Sprint(k, "=", v))
		}
		for k, v := range s.NumLabel {
			labels = append(labels, fmt.Sprint(k, ":", v, s.NumUnit[k]))
		}
		sort.Strings(labels)
		key := b.String() + strings.Join(labels, ",")
		if sums[key] == nil {
			sums[key] = make([]int64, len(s.Value))
		}
		for i, v := range s.Value {
			sums[key][i] += v
		}
	}
	out := map[string]string{}
	for k, v := range sums {
		if slices.ContainsFunc(v, func(x int64) bool { return x != 0 }) {
			out[k] = fmt.Sprint(v)
		}
	}
	return out
}

// fill stores the corpus of a kind, one profile of each program a minute, half
// of it in blocks, and returns the bodies by program.
func fill(f *fleet, folder string, kind inquest.Kind) map[string][][]byte {
	f.Helper()
	bodies := map[string][][]byte{}
	all := load(folder, "")
	for i, b := range all {
		if b.Seq >= 4 { // google/pprof's merge is what takes the time
			continue
		}
		start := at(float64(60 * b.Seq))
		f.put(b.Data, inquest.ProfileMeta{Kind: kind, Start: start, End: start.Add(seconds(5))}, on(b.Program, "host:1"))
		bodies[b.Program] = append(bodies[b.Program], b.Data)
		if i == len(all)/2 {
			if err := f.store.Flush(context.Background()); err != nil {
				f.Fatal(err)
			}
		}
	}
	return bodies
}

// What is read back equals google/pprof's merge of the same bodies: per stack,
// per function and sample for sample.
func TestEqualsPprofMerge(t *testing.T) {
	for _, k := range []struct {
		folder string
		kind   inquest.Kind
		column map[string]int
	}{
		{"cpu", inquest.KindCPU, map[string]int{"samples": 0, "cpu": 1}},
		{"heap", inquest.KindHeap, map[string]int{"alloc_space": 1, "inuse_space": 3}},
		{"goroutine", inquest.KindGoroutine, map[string]int{"goroutine": 0}},
		{"mutex", inquest.KindMutex, map[string]int{"mutex_count": 0, "mutex_delay": 1}},
	} {
		t.Run(k.folder, func(t *testing.T) {
			f := newFleet(t)
			bodies := fill(f, k.folder, k.kind)
			selections := map[string][][]byte{"": nil}
			for program, b := range bodies {
				selections[fmt.Sprintf("{service=%q}", program)] = b
				selections[""] = append(selections[""], b...)
			}
			for selector, b := range selections {
				want := merged(t, b)
				samples := content(want)
				for typ, column := range k.column {
					r := query.Request{Query: selector, Type: typ, Agg: "sum", Window: hour}
					equalsMerge(t, f, r, want, column, len(b))
					exportEqualsMerge(t, f, r, want.SampleType[column].Type, samples)
				}
			}
		})
	}
}

func equalsMerge(t *testing.T, f *fleet, r query.Request, want *pprof.Profile, column, profiles int) {
	t.Helper()
	ctx := context.Background()
	label := r.Query + " " + r.Type
	g := f.flame(r)
	if want, got := selfOf(want, column), paths(g); !maps.Equal(want, got) {
		t.Errorf("%s: stacks: -pprof +ours\n%.2000s", label, cmp.Diff(want, got))
	}
	if g.Coverage.Profiles != int64(profiles) || g.Coverage.Unsymbolized != 0 || g.Coverage.Pruned.Nodes != 0 {
		t.Errorf("%s: %d profiles stored, coverage %+v", label, profiles, g.Coverage)
	}

	top, err := f.engine.Top(ctx, r, "function", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]int64{}
	files := 0
	for _, row := range top.Rows {
		got[row.Name] = [2]int64{int64(row.Self), int64(row.Cum)}
		if row.File != "" {
			files++
		}
	}
	if want := topOf(want, column); !maps.Equal(want, got) {
		t.Errorf("%s: functions: -pprof +ours\n%.2000s", label, cmp.Diff(want, got))
	}
	if files < len(top.Rows)*9/10 {
		t.Errorf("%s: %d of %d functions have a file", label, files, len(top.Rows))
	}

}

// exportEqualsMerge compares the merged pprof with the samples of google/pprof's.
func exportEqualsMerge(t *testing.T, f *fleet, r query.Request, defaultType string, want map[string]string) {
	t.Helper()
	label := r.Query + " " + r.Type
	var b bytes.Buffer
	if err := f.engine.Profile(context.Background(), r, &b); err != nil {
		t.Fatal(err)
	}
	export, err := pprof.ParseData(b.Bytes())
	if err != nil {
		t.Fatalf("%s: google/pprof does not take the export: %v", label, err)
	}
	if err := export.CheckValid(); err != nil {
		t.Errorf("%s: %v", label, err)
	}
	if export.DefaultSampleType != defaultType {
		t.Errorf("%s: default sample type %q, want %q", label, export.DefaultSampleType, defaultType)
	}
	got := content(export)
	if maps.Equal(want, got) { // cmp takes long to find large maps equal
		return
	}
	t.Errorf("%s: export: -pprof +ours\n%.2000s", label, cmp.Diff(want, got))
}

func TestProfileByIDIsWhatCameIn(t *testing.T) {
	f := newFleet(t)
	ctx := context.Background()
	ids := map[string][]byte{}
	for i, b := range load("heap", "etcd")[:4] {
		start := at(float64(i) + 0.1234)
		ids[f.put(b.Data, inquest.ProfileMeta{Kind: inquest.KindHeap, Start: start, End: start.Add(1)}, on("etcd", "a"))] = b.Data
	}
	for range 2 {
		infos, _, err := f.engine.Profiles(ctx, query.Request{Type: "inuse_space", Window: hour}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(infos) != len(ids) {
			t.Fatalf("%d profiles listed, %d stored", len(infos), len(ids))
		}
		for _, info := range infos {
			raw, ok := ids[info.ID]
			if !ok {
				t.Fatalf("listed id %s is none that was stored", info.ID)
			}
			var b bytes.Buffer
			if err := f.engine.ProfileByID(ctx, info.ID, &b); err != nil {
				t.Fatal(err)
			}
			got, err := pprof.ParseData(b.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			want := merged(t, [][]byte{raw})
			if d := cmp.Diff(content(want), content(got)); d != "" {
				t.Errorf("-stored +read\n%.2000s", d)
			}
			var sum int64
			for _, s := range want.Sample {
				sum += s.Value[3]
			}
			if info.Total != float64(sum) {
				t.Errorf("total %v, want %d", info.Total, sum)
			}
		}
		if err := f.store.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
