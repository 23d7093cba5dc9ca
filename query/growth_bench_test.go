package query_test

import (
	"context"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	simulated "github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/query"
)

// BenchmarkGrowth asks about the same five minutes of a store that has nothing
// else, and of one that has a hundred times as much. The metric x-small is the
// time of a question divided by that of the small store, asked in turn.
func BenchmarkGrowth(b *testing.B) {
	small, large := grown(b, 5*time.Minute), grown(b, 500*time.Minute)
	w := inquest.Window{From: t0, Until: t0.Add(5 * time.Minute)}
	service, fleet := query.Request{Query: `{service="svc-9"}`, Type: "cpu", Window: w}, query.Request{Type: "cpu", Window: w}
	raw := service
	raw.Query = `{service="svc-9",instance!=""}`
	for _, q := range []struct {
		name string
		ask  func(ctx context.Context, e *query.Engine) error
	}{
		{"service", func(ctx context.Context, e *query.Engine) error { _, err := e.FlameGraph(ctx, service, 0); return err }},
		{"service-raw", func(ctx context.Context, e *query.Engine) error { _, err := e.FlameGraph(ctx, raw, 0); return err }},
		{"fleet", func(ctx context.Context, e *query.Engine) error { _, err := e.FlameGraph(ctx, fleet, 0); return err }},
		{"series", func(ctx context.Context, e *query.Engine) error {
			_, err := e.Series(ctx, fleet, time.Minute, []string{"service"})
			return err
		}},
		{"labels", func(ctx context.Context, e *query.Engine) error {
			_, err := e.LabelValues(ctx, fleet, "instance", 0)
			return err
		}},
	} {
		b.Run(q.name, func(b *testing.B) {
			var took [2]time.Duration
			for b.Loop() {
				for i, e := range []*query.Engine{small.engine, large.engine} {
					began := time.Now()
					if err := q.ask(context.Background(), e); err != nil {
						b.Fatal(err)
					}
					took[i] += time.Since(began)
				}
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "x-small")
			b.ReportMetric(float64(took[1].Microseconds())/float64(b.N), "us-large")
		})
	}
}

// grown is a fleet of 10 services with 4 instances, profiled once a minute for
// some time, with all done that the store does behind the backs of readers.
func grown(b *testing.B, d time.Duration) *fleet {
	b.Helper()
	f := newFleet(b)
	g, err := simulated.New(simulated.Options{From: t0, Services: 10})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10 * 4 * 2 * int(d/time.Minute) {
		it, err := g.Item(i)
		if err != nil {
			b.Fatal(err)
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
	return f
}
