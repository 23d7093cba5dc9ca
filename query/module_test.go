package query_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

// TestTopByModule adds up by what each build was made of: the same package is
// of another version in another build, and of none where nothing is known.
func TestTopByModule(t *testing.T) {
	f := newFleet(t)
	lib := inquest.Module{Path: "example.org/lib", Version: "v1.0.0"}
	if err := f.store.PutBuilds([]inquest.Build{
		{ID: "b1", Module: "example.org/shop", Version: "v2.0.0", Modules: []inquest.Module{lib, {Path: "example.org/lib/sub", Version: "v0.1.0"}}},
		{ID: "b2", Module: "example.org/shop", Modules: []inquest.Module{
			{Path: "example.org/lib", Version: "v1.0.0", Replace: &inquest.Module{Path: "example.org/fork", Version: "v1.1.0"}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	b := body(t, "samples/count cpu/nanoseconds",
		stack{frames: "main.main;example.org/lib.A;example.org/lib/sub.B", values: []int64{1, 10}},
		stack{frames: "main.main;example.org/shop/cart.Add;encoding/json.Marshal", values: []int64{1, 20}},
		stack{frames: "main.main;example.org/library.C", values: []int64{1, 40}},
		stack{frames: "main.main;write", values: []int64{1, 80}},
	)
	for i, build := range []string{"b1", "b2", "b2", "b3"} {
		meta := inquest.ProfileMeta{Kind: inquest.KindCPU, Start: at(float64(60 * i)), End: at(float64(60*i + 10)), Hold: time.Minute}
		f.put(b, meta, map[string]string{"service": "shop", "instance": "i", "build": build})
	}
	want := map[string][2]float64{
		"example.org/shop@v2.0.0":    {0, 150},
		"example.org/shop":           {0, 300},
		"example.org/lib@v1.0.0":     {0, 10},
		"example.org/lib/sub@v0.1.0": {10, 10},
		"example.org/fork@v1.1.0":    {20, 20},
		"std":                        {80, 80},
		"(unknown module)":           {40*4 + 10, 40*3 + 150}, // a stack counts once
		"(no package)":               {320, 320},
	}
	for _, step := range []string{"profiles", "rollups"} {
		top, err := f.engine.Top(context.Background(), query.Request{Type: "cpu", Window: hour}, query.ByModule, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string][2]float64{}
		for _, row := range top.Rows {
			got[row.Name] = [2]float64{row.Self, row.Cum}
		}
		if diff := cmp.Diff(want, got); diff != "" || top.Total != 600 {
			t.Errorf("%s: total %v (-want, +got)\n%s", step, top.Total, diff)
		}
		if err := f.store.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := f.store.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
