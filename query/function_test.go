package query_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

// TestFunctionCosts compares what a function costs by service and over time
// with what the tables of single services and steps say.
func TestFunctionCosts(t *testing.T) {
	f := newFleet(t)
	ctx := context.Background()
	put := func(start float64, service, release string, stacks ...stack) {
		l := on(service, "i")
		l["release"] = release
		f.cpu(start, 10, 60, l, stacks...)
	}
	one := func(frames string, v int64, labels ...string) stack {
		return stack{frames: frames, values: []int64{v * 1e7}, labels: labels}
	}
	put(0, "cart", "v1", one("main;json.Marshal;json.encode", 1), one("main;json.Marshal", 2, "tenant=x"), one("main", 4))
	put(60, "cart", "v2", one("main;json.Marshal;json.Marshal;mem", 8), one("main;other", 16))
	if err := f.store.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	put(400, "pay", "v1", one("main;json.encode", 32, "tenant=x"), one("idle", 64))
	put(460, "idle", "v1", one("idle", 128))

	top := func(by, function, q string) map[string][2]float64 {
		t.Helper()
		a, err := f.engine.Top(ctx, query.Request{Query: q, Type: "samples", Window: hour, Function: function}, by, 0)
		if err != nil {
			t.Fatal(err)
		}
		if q == "" && a.Total != 255 {
			t.Errorf("%s: total %v, want that of everything, 255", function, a.Total)
		}
		rows := map[string][2]float64{}
		for _, row := range a.Rows {
			rows[row.Name] = [2]float64{row.Self, row.Cum}
		}
		return rows
	}
	for _, tt := range []struct {
		by, function, query string
		want                map[string][2]float64
	}{
		{"service", "json.Marshal", "", map[string][2]float64{"cart": {2, 11}}},
		{"service", "json.*", "", map[string][2]float64{"cart": {3, 11}, "pay": {32, 32}}},
		{"release", "json.*", "", map[string][2]float64{"v1": {35, 35}, "v2": {0, 8}}},
		{"service", "json.*", `{tenant="x"}`, map[string][2]float64{"cart": {2, 2}, "pay": {32, 32}}},
		{"service", "json.", "", map[string][2]float64{}},
		{"build", "idle", "", map[string][2]float64{"(no build)": {192, 192}}},
	} {
		if d := cmp.Diff(tt.want, top(tt.by, tt.function, tt.query)); d != "" {
			t.Errorf("%s by %s: -want +got\n%s", tt.function, tt.by, d)
		}
	}

	a, err := f.engine.Series(ctx, query.Request{Type: "samples", Window: hour, Function: "json.*"}, seconds(300), []string{"service"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][][2]float64{}
	for _, s := range a.Series {
		got[s.Labels["service"]] = s.Points
	}
	begin := float64(t0.Unix())
	want := map[string][][2]float64{"cart": {{begin, 11}}, "pay": {{begin + 300, 32}}, "idle": {{begin + 300, 0}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}

	list, err := f.engine.Functions(ctx, query.Request{Type: "samples", Window: hour}, "json.*", 1)
	if err != nil {
		t.Fatal(err)
	}
	if list.Count != 2 || len(list.Rows) != 1 || list.Rows[0].Name != "json.encode" || list.Rows[0].Self != 33 || list.Rows[0].Cum != 33 || list.Total != 255 {
		t.Errorf("functions: %+v", list)
	}

	for _, r := range []struct{ by, function string }{{"function", "x"}, {"", "x"}, {"package", "x"}} {
		if _, err := f.engine.Top(ctx, query.Request{Type: "cpu", Window: hour, Function: r.function}, r.by, 0); inquestKind(err) != "invalid" {
			t.Errorf("by=%s: %v", r.by, err)
		}
	}
	if _, err := f.engine.Functions(ctx, query.Request{Type: "cpu", Window: hour}, "", 0); inquestKind(err) != "invalid" {
		t.Errorf("no match: %v", err)
	}
	if _, err := f.engine.Series(ctx, query.Request{Type: "cpu", Window: hour, Function: strings.Repeat("x", 5000)}, 0, nil); inquestKind(err) != "too_large" {
		t.Errorf("long name: %v", err)
	}
}

func inquestKind(err error) string {
	name, _ := inquest.ErrorStatus(err)
	return name
}

// TestDiff holds a difference against the flame graphs of both sides.
func TestDiff(t *testing.T) {
	f := shop(t)
	ctx := context.Background()
	base := query.Request{Query: `{service="cart"}`, Release: "v1", Type: "samples", Window: hour}
	head := query.Request{Query: `{service="pay",}`, Type: "samples", Window: hour}
	d, err := f.engine.Diff(ctx, base, head, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Names []string
		Nodes struct {
			Name, Parent []int
			BaseCum      []float64 `json:"base_cum"`
			HeadCum      []float64 `json:"head_cum"`
			BaseSelf     []float64 `json:"base_self"`
			HeadSelf     []float64 `json:"head_self"`
		}
		BaseTotal float64        `json:"base_total"`
		HeadTotal float64        `json:"head_total"`
		Base      query.Coverage `json:"base_coverage"`
		Head      query.Coverage `json:"head_coverage"`
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.BaseTotal != total(f.flame(base)) || got.HeadTotal != total(f.flame(head)) || got.BaseTotal != 3 || got.HeadTotal != 48 {
		t.Errorf("totals %v and %v", got.BaseTotal, got.HeadTotal)
	}
	if got.Base.Profiles != 1 || got.Head.Profiles != 2 {
		t.Errorf("coverage %+v and %+v", got.Base, got.Head)
	}
	if d := cmp.Diff([]string{"total", "main.main", "main.f"}, got.Names); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float64{0, 0, 3}, got.Nodes.BaseSelf); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float64{48, 48, 48}, got.Nodes.HeadCum); d != "" {
		t.Error(d)
	}
	small, err := f.engine.Diff(ctx, base, head, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(small.Tree.Name) != 2 || small.Base.Pruned.Value != 3 || small.Head.Pruned.Value != 48 || small.Base.Pruned.Nodes != 1 {
		t.Errorf("pruned to %d nodes, left out %+v and %+v", len(small.Tree.Name), small.Base.Pruned, small.Head.Pruned)
	}
	head.Type = "cpu"
	if _, err := f.engine.Diff(ctx, base, head, 0); inquestKind(err) != "invalid" {
		t.Errorf("two types: %v", err)
	}
}
