package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/corpus"
)

// largestOfKept: agg=max chooses by what a matcher lets through, not by all
// that the profile holds.
func largestOfKept(t *testing.T, l *lab) {
	of := func(tenant, stack string, n int64) sample {
		return sample{stack, []int64{n}, map[string][]string{"tenant": {tenant}}, nil}
	}
	l.store(t, who("tenants", "a"), built(l.at(0), 0, "goroutine/count", of("t1", "main;few", 2), of("t2", "main;other", 100)))
	l.store(t, who("tenants", "a"), built(l.at(60), 0, "goroutine/count", of("t1", "main;many", 5)))
	q := url.Values{"query": {`{service="tenants", tenant="t1"}`}, "type": {"goroutine"}, "agg": {"max"}}
	g := l.graph(t, q)
	if diff := cmp.Diff(map[string]float64{"main;many": 5}, g.self()); diff != "" || g.Coverage.Profiles != 1 || g.Coverage.Samples != 1 {
		t.Errorf("the largest of a tenant, over %d profiles and %d samples (-want +got):\n%s", g.Coverage.Profiles, g.Coverage.Samples, diff)
	}
	q.Set("by", "service")
	q.Set("step", "1h")
	if got := l.values(t, l.series(t, q), "service", "tenants"); got[0] != 5 {
		t.Errorf("series of the largest of a tenant: %v, want 5", got)
	}
}

// Matchers on the labels of samples: a trace id finds its own samples, in
// trees, tables, series and exports.
func sampleLabels(t *testing.T, l *lab) {
	const s = "traced"
	on := func(stack string, ns int64, labels map[string][]string, nums map[string][]int64) sample {
		return sample{stack, []int64{ns / 1e7, ns}, labels, nums}
	}
	trace := func(id string) map[string][]string { return map[string][]string{"trace_id": {id}} }
	l.store(t, who(s, "a"), built(l.at(0), 10*time.Second, "samples/count cpu/nanoseconds",
		on("main;x", 1e9, trace("t1"), nil),
		on("main;x", 2e9, trace("t2"), nil),
		on("main;y", 4e9, trace("t1"), map[string][]int64{"bytes": {512}}),
		on("main;y", 8e9, nil, nil)))
	l.store(t, who(s, "b"), cpu(l.at(60), 10*time.Second, "main;z", 16*time.Second))
	l.store(t, who(s, "c", "label.trace_id", "t1"), cpu(l.at(120), 10*time.Second, "main;c", 32*time.Second))
	largestOfKept(t, l)
	for _, c := range []struct {
		matcher string
		want    map[string]float64 // seconds by stack
	}{
		{`trace_id="t1"`, map[string]float64{"main;x": 1, "main;y": 4, "main;c": 32}},
		{`trace_id="t1", instance="a"`, map[string]float64{"main;x": 1, "main;y": 4}},
		{`trace_id=~"t[12]", instance!="c"`, map[string]float64{"main;x": 3, "main;y": 4}},
		{`trace_id!="t1"`, map[string]float64{"main;x": 2, "main;y": 8, "main;z": 16}},
		{`trace_id=""`, map[string]float64{"main;y": 8, "main;z": 16}},
		{`trace_id!=""`, map[string]float64{"main;x": 3, "main;y": 4, "main;c": 32}},
		{`trace_id!~"t1|"`, map[string]float64{"main;x": 2}},
		{`bytes="512"`, map[string]float64{"main;y": 4}},
		{`trace_id="t3"`, map[string]float64{}},
		{`nowhere=""`, map[string]float64{"main;x": 3, "main;y": 12, "main;z": 16, "main;c": 32}},
		{`nowhere="x"`, map[string]float64{}},
	} {
		q := url.Values{"query": {`{service="traced", ` + c.matcher + `}`}, "type": {"cpu"}}
		var total float64
		want := map[string]float64{}
		for stack, v := range c.want {
			want[stack] = v * 1e9
			total += v * 1e9
		}
		g := l.graph(t, q)
		if diff := cmp.Diff(want, g.self()); diff != "" || g.Total != total {
			t.Errorf("%s: total %v (-want +got):\n%s", c.matcher, g.Total, diff)
		}
		q.Set("by", "service")
		if a := l.top(t, q); a.Total != total || a.rows()[s] != total {
			t.Errorf("%s: top by service %+v, want %v", c.matcher, a, total)
		}
		q.Set("step", "1h")
		a := l.series(t, q)
		if total > 0 {
			if got := l.values(t, a, "service", s); got[0] != total {
				t.Errorf("%s: series %v, want %v", c.matcher, got, total)
			}
			q.Del("by")
			q.Del("step")
			var raw []byte
			l.ofHour(t, "/api/v1/profile", q, &raw)
			if got := byStack(t, raw, 1); !cmp.Equal(got, want) {
				t.Errorf("%s: exported %v, want %v", c.matcher, got, want)
			}
		}
	}
	var names, values struct{ Values []string }
	l.ofHour(t, "/api/v1/labels", ask(s, "cpu"), &names)
	l.ofHour(t, "/api/v1/labels/trace_id/values", ask(s, "cpu"), &values)
	if diff := cmp.Diff([]string{"bytes", "instance", "service", "trace_id"}, names.Values); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"t1", "t2"}, values.Values); diff != "" {
		t.Errorf("values of trace_id (-want +got):\n%s", diff)
	}
}

// byStack is one column of a body by stack, "main;work".
func byStack(t *testing.T, body []byte, column int) map[string]float64 {
	t.Helper()
	p, err := profile.ParseData(body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range p.Sample {
		var frames []string
		for i := len(s.Location) - 1; i >= 0; i-- {
			for j := len(s.Location[i].Line) - 1; j >= 0; j-- {
				frames = append(frames, s.Location[i].Line[j].Function.Name)
			}
		}
		out[strings.Join(frames, ";")] += float64(s.Value[column])
	}
	return out
}

func selectors(t *testing.T, l *lab) {
	for i, instance := range []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.1.1:80"} {
		q := who("selected", instance)
		if i < 2 {
			q.Set("label.region", "eu")
		}
		if i == 0 {
			q.Set("release", "v1")
		}
		l.store(t, q, cpu(l.at(float64(i)), time.Second, "main", time.Second<<i))
	}
	l.store(t, who("selected-too", "x"), cpu(l.at(9), time.Second, "main", 8*time.Second))
	for _, c := range []struct {
		query string
		want  float64 // seconds; negative: refused
	}{
		{`{service="selected"}`, 7},
		{`{service=~"selected"}`, 7}, // anchored
		{`{service=~"selected.*"}`, 15},
		{`{service=~"selected.*", service!="selected"}`, 8},
		{`{service="selected", instance=~"10\\.0\\.0\\..*"}`, 3},
		{`{service="selected", instance!~"10\\.0\\.0\\..*"}`, 4},
		{`{service="selected", region="eu"}`, 3},
		{`{service="selected", region=""}`, 4},
		{`{service="selected", region!="eu"}`, 4},
		{`{service="selected", release="v1"}`, 1},
		{`{service="selected", release=""}`, 6},
		{`{service="selected", release!=""}`, 1},
		{`{service="selected", build=""}`, 7},
		{` { service = "selected" , } `, 7},
		{`{service="nobody"}`, 0},
		{`{service="selected"`, -1},
		{`{service=selected}`, -1},
		{`{service=~"("}`, -1},
		{`selected`, -1},
		{`service="selected"`, -1},
	} {
		q := l.inHour(url.Values{"query": {c.query}, "type": {"cpu"}})
		if c.want < 0 {
			if status, kind, msg := l.status(t, "/api/v1/flamegraph", q); status != 400 || kind != "invalid" || !strings.Contains(msg, "{service=") {
				t.Errorf("%s: %d %s %q", c.query, status, kind, msg)
			}
			continue
		}
		if g := l.graph(t, q); g.Total != c.want*1e9 {
			t.Errorf("%s: %v s, want %v", c.query, g.Total/1e9, c.want)
		}
	}
	// The whole fleet: no query, or an empty one.
	without := l.graph(t, url.Values{"type": {"cpu"}})
	empty := l.graph(t, url.Values{"type": {"cpu"}, "query": {"{}"}})
	if without.Total != empty.Total || without.Coverage.Profiles != empty.Coverage.Profiles || without.Total < 15e9 {
		t.Errorf("without a query %v, with an empty one %v", without.Total, empty.Total)
	}
}

// releaseOf checks that a release is the explicit label, else what the agent
// says of the build, whenever it says so, else the short build id.
func releaseOf(t *testing.T, l *lab) {
	const s = "released"
	id := func(c string) string { return strings.Repeat(c, 40) }
	for i, c := range []struct{ build, release string }{{id("a"), ""}, {id("b"), ""}, {id("c"), ""}, {id("a"), "explicit"}, {"", ""}, {id("d"), ""}} {
		q := who(s, fmt.Sprint("i", i))
		for k, v := range map[string]string{"build": c.build, "release": c.release} {
			if v != "" {
				q.Set(k, v)
			}
		}
		l.store(t, q, cpu(l.at(float64(i)), time.Second, "main", time.Second<<i))
	}
	want := map[string]float64{"aaaaaaaaaaaa": 1e9, "bbbbbbbbbbbb": 2e9, "cccccccccccc": 4e9, "explicit": 8e9, "(no release)": 16e9, "dddddddddddd": 32e9}
	check := func(when string) {
		t.Helper()
		q := ask(s, "cpu", "by", "release")
		if diff := cmp.Diff(want, l.top(t, q).rows()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		var a struct{ Values []string }
		l.ofHour(t, "/api/v1/labels/release/values", ask(s, "cpu"), &a)
		named := slices.Sorted(maps.Keys(want))
		named = slices.DeleteFunc(named, func(r string) bool { return r == "(no release)" })
		if diff := cmp.Diff(named, a.Values); diff != "" {
			t.Errorf("%s: values (-want +got):\n%s", when, diff)
		}
		series := l.series(t, ask(s, "cpu", "by", "release", "step", "1h"))
		for release, v := range want {
			if release == "(no release)" {
				release = ""
			} else if g := l.graph(t, url.Values{"query": {fmt.Sprintf("{service=%q, release=%q}", s, release)}, "type": {"cpu"}}); g.Total != v {
				t.Errorf("%s: release %s has %v, want %v", when, release, g.Total, v)
			}
			if got := l.values(t, series, "release", release); got[0] != v {
				t.Errorf("%s: series of release %s has %v, want %v", when, release, got, v)
			}
		}
	}
	check("before the agent tells")
	report := map[string]any{
		"protocol": 1, "host": "h", "version": "v0", "clock": time.Now().UTC(), "targets": []any{},
		"builds": []map[string]any{
			{"id": id("a"), "version": "v1.2.3", "revision": "0123456789abcdef"},
			{"id": id("b"), "revision": "0123456789abcdef0123", "modified": true},
			{"id": id("c"), "revision": "fedcba9876543210"},
			{"id": id("d"), "go_version": "go1.26.0"},
		},
	}
	body, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(l.URL+"/api/v1/agents/teller/report", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Protocol      int
		Clock         time.Time
		MissingBuilds []string `json:"missing_builds"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != 200 || answer.Protocol != 1 || time.Since(answer.Clock).Abs() > time.Minute {
		t.Fatalf("report: %s %+v %v", resp.Status, answer, err)
	}
	want = map[string]float64{"v1.2.3": 1e9, "0123456789ab+dirty": 2e9, "fedcba987654": 4e9, "explicit": 8e9, "(no release)": 16e9, "dddddddddddd": 32e9}
	check("after the agent told")
}

// What a drawing leaves out is told, and adds up to the total with what is
// drawn.
func pruned(t *testing.T, l *lab) {
	const s = "pruned"
	var samples []sample
	var total int64
	for i := range 2000 {
		v := int64(i*i%977 + 1)
		samples = append(samples, sample{stack: fmt.Sprintf("main;a%d;b%d;c%d", i%7, i%61, i), values: []int64{v}})
		total += v
	}
	for i := range 3 {
		l.store(t, who(s, "a", "interval", "60"), built(l.at(float64(60*i)), 0, "goroutine/count", samples...))
	}
	for _, agg := range []string{"sum", "avg"} {
		whole := l.graph(t, ask(s, "goroutine", "agg", agg, "max_nodes", "100000"))
		want := 3 * float64(total)
		if agg == "avg" {
			want = want * 60 / 3600
		}
		if !near(whole.Total, want) && !(agg == "avg" && whole.Total > want-1 && whole.Total < want+1) || whole.Coverage.Pruned.Nodes != 0 || whole.Coverage.Pruned.Value != 0 {
			t.Errorf("agg=%s: total %v, want %v, pruned %+v", agg, whole.Total, want, whole.Coverage.Pruned)
		}
		for _, most := range []int{1, 2, 10, 100, 1000} {
			g := l.graph(t, ask(s, "goroutine", "agg", agg, "max_nodes", fmt.Sprint(most)))
			n := len(g.Nodes.Name)
			if n > most || n == 0 || len(g.Nodes.Parent) != n || len(g.Nodes.Self) != n || len(g.Nodes.Cum) != n || g.Total != whole.Total {
				t.Errorf("agg=%s max_nodes=%d: %d nodes, total %v of %v", agg, most, n, g.Total, whole.Total)
			}
			var drawn float64
			for i, v := range g.Nodes.Self {
				drawn += v
				if p := g.Nodes.Parent[i]; i == 0 && p != -1 || i > 0 && (p < 0 || p >= i) {
					t.Fatalf("node %d has the parent %d", i, p)
				}
			}
			p := g.Coverage.Pruned
			if !near(drawn+p.Value, g.Total) || p.Nodes != len(whole.Nodes.Name)-n {
				t.Errorf("agg=%s max_nodes=%d: drawn %v in %d nodes + pruned %+v, total %v in %d", agg, most, drawn, n, p, g.Total, len(whole.Nodes.Name))
			}
			if g.Nodes.Cum[0] != g.Total {
				t.Errorf("agg=%s max_nodes=%d: the root has %v of %v", agg, most, g.Nodes.Cum[0], g.Total)
			}
		}
		// A table is of all data, however few rows are asked for.
		a := l.top(t, ask(s, "goroutine", "agg", agg, "limit", "5"))
		if len(a.Rows) != 5 || a.Count != 1+7+61+2000 || a.Total != whole.Total {
			t.Errorf("agg=%s: %d of %d rows, total %v", agg, len(a.Rows), a.Count, a.Total)
		}
	}
}

// merged profiles are what google/pprof makes of the same bodies.
func merged(t *testing.T, l *lab) {
	for kind, typ := range map[string]string{"cpu": "cpu", "heap": "inuse_space", "goroutine": "goroutine", "mutex": "mutex_delay", "block": "block_delay"} {
		s := "merged-" + kind
		var all []*profile.Profile
		for _, b := range corpus.Load(kind) {
			if b.Seq > 0 && (b.Program != "nats" || b.Seq > 2) {
				continue
			}
			l.store(t, who(s, b.Program, "kind", kind, "temporality", "delta", "start", l.at(float64(60*len(all))).Format(time.RFC3339)), b.Data)
			p, err := profile.ParseData(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		want, err := profile.Merge(all)
		if err != nil {
			t.Fatal(err)
		}
		var raw []byte
		l.ofHour(t, "/api/v1/profile", ask(s, typ), &raw)
		got, err := profile.ParseData(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got.DefaultSampleType == "" || len(all) < 2 {
			t.Errorf("%s: %d bodies, default type %q", kind, len(all), got.DefaultSampleType)
		}
		if diff := cmp.Diff(spelled(want), spelled(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%.2000s", kind, diff)
		}
		if got.DurationNanos != want.DurationNanos || got.Period != want.Period || !cmp.Equal(got.PeriodType, want.PeriodType, cmp.AllowUnexported(profile.ValueType{})) {
			t.Errorf("%s: duration %d, period %d %v; want %d, %d %v", kind, got.DurationNanos, got.Period, got.PeriodType, want.DurationNanos, want.Period, want.PeriodType)
		}
		// The tree is of the same samples.
		column := slices.IndexFunc(want.SampleType, func(v *profile.ValueType) bool {
			return v.Type == typ || strings.HasSuffix(typ, "_"+v.Type)
		})
		tree := map[string]float64{}
		for stack, v := range byStack(t, raw, column) {
			if v != 0 {
				tree[stack] = v
			}
		}
		if got := l.graph(t, ask(s, typ, "agg", "sum", "max_nodes", "1000000")).self(); !cmp.Equal(tree, got) {
			t.Errorf("%s: the tree has %d stacks, the export %d, and they differ", kind, len(got), len(tree))
		}
	}
	q := l.inHour(ask("merged-none", "cpu"))
	if status, kind, _ := l.status(t, "/api/v1/profile", q); status != 404 || kind != "not_found" {
		t.Errorf("nothing to merge: %d %s", status, kind)
	}
}

// spelled is the samples of a profile as text, with how often and how much.
func spelled(p *profile.Profile) map[string][]int64 {
	out := map[string][]int64{}
	for _, s := range p.Sample {
		var b strings.Builder
		for _, loc := range s.Location {
			fmt.Fprintf(&b, "%#x folded=%v", loc.Address, loc.IsFolded)
			if m := loc.Mapping; m != nil {
				fmt.Fprintf(&b, " [%s %s %#x-%#x+%#x]", m.File, m.BuildID, m.Start, m.Limit, m.Offset)
			}
			for _, ln := range loc.Line {
				fmt.Fprintf(&b, " %s(%s) %s:%d:%d from %d", ln.Function.Name, ln.Function.SystemName, ln.Function.Filename, ln.Line, ln.Column, ln.Function.StartLine)
			}
			b.WriteByte('\n')
		}
		for _, k := range slices.Sorted(maps.Keys(s.Label)) {
			fmt.Fprintf(&b, "%s=%q\n", k, s.Label[k])
		}
		for _, k := range slices.Sorted(maps.Keys(s.NumLabel)) {
			fmt.Fprintf(&b, "%s=%v %q\n", k, s.NumLabel[k], s.NumUnit[k])
		}
		was := out[b.String()]
		if was == nil {
			was = make([]int64, len(s.Value))
		}
		for i, v := range s.Value {
			was[i] += v
		}
		out[b.String()] = was
	}
	return out
}

// exported profiles are what was pushed, sample for sample.
func exported(t *testing.T, l *lab) {
	const s = "exported"
	bodies := map[string][]byte{}
	for _, kind := range []string{"cpu", "goroutine", "heap", "allocs"} {
		for _, b := range corpus.Load(kind) {
			if b.Program == "prometheus" && b.Seq == 1 {
				bodies[b.Name] = b.Data
			}
		}
	}
	p, err := profile.ParseData(built(l.at(0), 10*time.Second, "samples/count cpu/nanoseconds",
		sample{"main;a;b", []int64{1, 10}, map[string][]string{"trace_id": {"t1"}, "many": {"x", "y"}}, map[string][]int64{"size": {4096}}},
		sample{"main;a;b", []int64{2, 20}, nil, nil},
		sample{"main;a", []int64{3, 30}, map[string][]string{"größe": {"żółw"}}, nil}))
	if err != nil {
		t.Fatal(err)
	}
	p.Sample[0].NumUnit = map[string][]string{"size": {"bytes"}}
	p.Location[0].Line = append(p.Location[0].Line, profile.Line{Function: p.Function[1], Line: 77, Column: 5}) // inlined
	p.Location[1].IsFolded = true
	p.Comments = []string{"a comment", "another"}
	p.DropFrames, p.KeepFrames, p.DocURL = "drop.*", "keep.*", "https://example.com/doc"
	p.Period, p.PeriodType = 10_000_000, &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}
	p.Mapping[0].BuildID, p.Mapping[0].HasFunctions, p.Mapping[0].HasInlineFrames = "0123456789abcdef", true, true
	bodies["built"] = written(p)
	for name, body := range bodies {
		a := l.store(t, who(s, name, "temporality", "delta", "start", l.at(5).Format(time.RFC3339)), body)
		var raw []byte
		get(t, l.URL, "/api/v1/profile", url.Values{"id": {a.ID}}, &raw)
		want, err := profile.ParseData(body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := profile.ParseData(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(spelled(want), spelled(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%.2000s", name, diff)
		}
		head := func(p *profile.Profile) string {
			types := make([]string, len(p.SampleType))
			for i, v := range p.SampleType {
				types[i] = v.Type + "/" + v.Unit
			}
			m := *p.Mapping[0]
			return fmt.Sprintf("%v %d %d %v %q %q %q %q %q %d samples, main mapping %+v", types, p.DurationNanos, p.Period, *p.PeriodType,
				p.Comments, p.DropFrames, p.KeepFrames, p.DocURL, p.DefaultSampleType, len(p.Sample), m)
		}
		if diff := cmp.Diff(head(want), head(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if a.Samples != len(want.Sample) || a.Bytes != int64(len(body)) {
			t.Errorf("%s: the answer has %d samples, %d bytes; sent were %d, %d", name, a.Samples, a.Bytes, len(want.Sample), len(body))
		}
	}
	for id, want := range map[string]int{"nonsense": 400, strings.Repeat("0", 32) + "-" + "abc": 404} {
		if status, _, msg := l.status(t, "/api/v1/profile", url.Values{"id": {id}}); status != want {
			t.Errorf("id=%s: %d %s, want %d", id, status, msg, want)
		}
	}
}
