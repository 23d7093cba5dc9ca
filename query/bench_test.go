package query_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	simulated "github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/query"
)

// stored is how many CPU profiles of one service the benchmarks read.
const stored = 1000

// BenchmarkFlameGraph reads a flame graph of one service over 1,000 stored CPU
// profiles, as JSON, and reports how many times faster that is than
// google/pprof's Parse and Merge of the same bodies in the same run. The
// bodies are those of one program of the corpus, or of all of them, which
// makes a service with a larger dictionary than any real one.
func BenchmarkFlameGraph(b *testing.B) {
	for _, program := range []string{"prometheus", ""} {
		name := program
		if name == "" {
			name = "all"
		}
		b.Run(name, func(b *testing.B) {
			f, bodies := benchFleet(b, program)
			if err := f.store.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			r := query.Request{Query: `{service="s"}`, Type: "cpu", Window: inquest.Window{From: t0, Until: at(stored)}}
			var nodes int
			for b.Loop() {
				g, err := f.engine.FlameGraph(context.Background(), r, 0)
				if err != nil {
					b.Fatal(err)
				}
				if err := g.WriteJSON(io.Discard); err != nil {
					b.Fatal(err)
				}
				nodes = g.Tree.Len()
			}
			ours := b.Elapsed() / time.Duration(b.N)
			begin := time.Now()
			want := merged(b, bodies)
			pprofs := time.Since(begin)
			g := f.flame(r)
			if total(g) != sumOf(want, 1) {
				b.Errorf("total %v, google/pprof has %v", total(g), sumOf(want, 1))
			}
			b.ReportMetric(float64(nodes), "nodes")
			b.ReportMetric(float64(pprofs.Milliseconds()), "pprof-ms")
			b.ReportMetric(float64(pprofs)/float64(ours), "ratio")
		})
	}
}

// BenchmarkProfile exports one merged pprof of a service over 1,000 stored CPU
// profiles, and reports how many times faster that is than google/pprof's
// Parse and Merge of the same bodies in the same run. Besides bodies of the
// corpus these are of a large service of the simulated fleet, of whose samples
// one in twenty has a stack put together at random, in one block and in four.
func BenchmarkProfile(b *testing.B) {
	for name, fill := range map[string]func(*testing.B) (*fleet, [][]byte){
		"prometheus": func(b *testing.B) (*fleet, [][]byte) { return benchFleet(b, "prometheus") },
		"all":        func(b *testing.B) (*fleet, [][]byte) { return benchFleet(b, "") },
		"large":      func(b *testing.B) (*fleet, [][]byte) { return largeService(b, 1) },
		"large of 4": func(b *testing.B) (*fleet, [][]byte) { return largeService(b, 4) },
	} {
		b.Run(name, func(b *testing.B) {
			f, bodies := fill(b)
			if err := f.store.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			r := query.Request{Query: `{service="s"}`, Type: "cpu", Window: inquest.Window{From: t0, Until: at(stored)}}
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				if err := f.engine.Profile(context.Background(), r, &out); err != nil {
					b.Fatal(err)
				}
			}
			ours := b.Elapsed() / time.Duration(b.N)
			begin := time.Now()
			want := merged(b, bodies)
			pprofs := time.Since(begin)
			got, err := pprof.ParseData(out.Bytes())
			if err != nil {
				b.Fatal(err)
			}
			if len(got.Sample) != len(want.Sample) || sumOf(got, 1) != sumOf(want, 1) {
				b.Errorf("%d samples, in all %v; google/pprof has %d and %v", len(got.Sample), sumOf(got, 1), len(want.Sample), sumOf(want, 1))
			}
			b.ReportMetric(float64(len(got.Sample)), "samples")
			b.ReportMetric(float64(out.Len()), "bytes")
			b.ReportMetric(float64(pprofs.Milliseconds()), "pprof-ms")
			b.ReportMetric(float64(pprofs)/float64(ours), "ratio")
		})
	}
}

// largeService stores 1,000 profiles of the large program of the simulated
// fleet as those of one service, one a second, in blocks, and returns their
// bodies.
func largeService(b *testing.B, blocks int) (*fleet, [][]byte) {
	g, err := simulated.New(simulated.Options{From: t0, Services: 10, Kinds: []string{"cpu"}, Bodies: corpus.Load("cpu")})
	if err != nil {
		b.Fatal(err)
	}
	f := newFleet(b)
	var bodies [][]byte
	for i := 0; len(bodies) < stored; i++ {
		if i/4%10 != 9 { // four instances of each service
			continue
		}
		it, err := g.Item(i)
		if err != nil {
			b.Fatal(err)
		}
		if n := len(bodies); n > 0 && n%(stored/blocks) == 0 {
			if err := f.store.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		n := float64(len(bodies))
		bodies = append(bodies, it.Body)
		f.put(it.Body, inquest.ProfileMeta{Kind: inquest.KindCPU, Start: at(n), End: at(n + 1), Hold: time.Second}, on("s", it.Instance))
	}
	return f, bodies
}

// benchFleet stores 1,000 profiles of one service, one a second, and returns
// their bodies.
func benchFleet(b *testing.B, program string) (*fleet, [][]byte) {
	f := newFleet(b)
	var bodies [][]byte
	all := load("cpu", program)
	for i := range stored {
		raw := all[i%len(all)].Data
		bodies = append(bodies, raw)
		f.put(raw, inquest.ProfileMeta{Kind: inquest.KindCPU, Start: at(float64(i)), End: at(float64(i) + 1), Hold: time.Second}, on("s", "a"))
	}
	return f, bodies
}

func sumOf(p *pprof.Profile, column int) (sum float64) {
	for _, s := range p.Sample {
		sum += float64(s.Value[column])
	}
	return sum
}

// BenchmarkRead reads other answers over the same profiles, from the head and
// from a block.
func BenchmarkRead(b *testing.B) {
	f, _ := benchFleet(b, "prometheus")
	ctx := context.Background()
	r := query.Request{Query: `{service="s"}`, Type: "cpu", Window: inquest.Window{From: t0, Until: at(stored)}}
	for _, where := range []string{"head", "block"} {
		if where == "block" {
			if err := f.store.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		}
		for name, ask := range map[string]func() error{
			"flamegraph": func() error { _, err := f.engine.FlameGraph(ctx, r, 0); return err },
			"top":        func() error { _, err := f.engine.Top(ctx, r, "function", 100); return err },
			"series":     func() error { _, err := f.engine.Series(ctx, r, 0, []string{"service"}); return err },
			"services":   func() error { _, err := f.engine.Services(ctx, r.Window); return err },
			"profile":    func() error { return f.engine.Profile(ctx, r, io.Discard) },
		} {
			b.Run(name+"/"+where, func(b *testing.B) {
				for b.Loop() {
					if err := ask(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkWriteJSON writes a flame graph of 8,192 nodes.
func BenchmarkWriteJSON(b *testing.B) {
	f, _ := benchFleet(b, "")
	g, err := f.engine.FlameGraph(context.Background(), query.Request{Type: "cpu", Window: inquest.Window{From: t0, Until: at(stored)}}, 8192)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := g.WriteJSON(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(g.Tree.Len()), "nodes")
}
