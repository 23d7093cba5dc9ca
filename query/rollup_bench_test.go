package query_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	simulated "github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/query"
)

// BenchmarkRollups reads the CPU flame graph of a large service of the simulated
// fleet from rollups, and from profiles, which a matcher that rollups do not
// keep makes it do.
func BenchmarkRollups(b *testing.B) {
	f := newFleet(b)
	g, err := simulated.New(simulated.Options{From: t0, Services: 10})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10 * 4 * 2 * 60 {
		it, err := g.Item(i)
		if err != nil {
			b.Fatal(err)
		}
		if it.Service != "svc-9" {
			continue
		}
		f.put(it.Body, inquest.ProfileMeta{Kind: inquest.Kind(it.Kind), Start: it.Start, End: it.End, Hold: time.Minute, Process: it.Process},
			map[string]string{"service": it.Service, "instance": it.Instance, "build": "b"})
	}
	if err := f.store.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	if err := f.store.Settle(context.Background()); err != nil {
		b.Fatal(err)
	}
	for _, w := range []inquest.Window{hour, {From: at(600), Until: at(1200)}} {
		for name, matcher := range map[string]string{"rollup": "", "raw": ",instance!=\"\""} {
			b.Run(fmt.Sprint(name, "/", w.Duration()), func(b *testing.B) {
				r := query.Request{Query: `{service="svc-9"` + matcher + "}", Type: "cpu", Window: w}
				for b.Loop() {
					g, err := f.engine.FlameGraph(context.Background(), r, 0)
					if err != nil {
						b.Fatal(err)
					}
					if err := g.WriteJSON(io.Discard); err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(g.Coverage.Profiles), "profiles")
				}
			})
		}
	}
}
