package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// fleet makes profiles of many instances of the corpus' programs.
type fleet struct {
	bodies  map[string][]*profile.Profile // by service and kind
	names   []string
	perturb bool // multiply heap values by random factors
	rnd     *rand.Rand
}

func newFleet(tb testing.TB, perturb bool) *fleet {
	f := &fleet{bodies: map[string][]*profile.Profile{}, perturb: perturb, rnd: rand.New(rand.NewPCG(1, 2))}
	seen := map[string]bool{}
	for _, b := range corpus.Load("cpu", "heap") {
		p, err := profile.NewDecoder(profile.Limits{}).Decode(b.Data)
		if err != nil {
			tb.Fatal(err)
		}
		id := b.Program + " " + b.Kind
		f.bodies[id] = append(f.bodies[id], p)
		if !seen[b.Program] {
			seen[b.Program] = true
			f.names = append(f.names, b.Program)
		}
	}
	return f
}

// record makes profile n of the fleet: per service and kind round robin over
// 16 instances, one minute apart each.
func (f *fleet) record(n int) *store.Record {
	kind := inquest.KindCPU
	if n%2 == 1 {
		kind = inquest.KindHeap
	}
	service := f.names[n/2%len(f.names)]
	list := f.bodies[service+" "+string(kind)]
	round := n / 2 / len(f.names)
	instance := round % 16
	p := *list[(round*5+instance)%len(list)]
	if f.perturb && kind == inquest.KindHeap {
		p.Values = append([]int64(nil), p.Values...)
		for i := range p.Values {
			p.Values[i] = int64(float64(p.Values[i]) * (0.5 + f.rnd.Float64()))
		}
	}
	start := t0.Add(time.Duration(round/16)*time.Minute + time.Duration(instance)*3*time.Second + time.Duration(f.rnd.IntN(1e9)))
	r := &store.Record{
		BodyHash: f.rnd.Uint64(),
		Meta: inquest.ProfileMeta{
			Kind: kind, Start: start, End: start.Add(10*time.Second + time.Duration(f.rnd.IntN(1e6))), Hold: time.Minute,
			Process: fmt.Sprintf("boot-%s-%d/4711/99", service, instance),
			Labels: inquest.NewLabels(map[string]string{
				"service": service, "instance": fmt.Sprintf("10.0.0.%d:6060", instance), "build": "b-" + service, "zone": "z" + fmt.Sprint(instance%3),
			}),
		},
		Profile: &p,
	}
	binary.BigEndian.PutUint64(r.Key[:8], uint64(instance)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(r.Key[8:], uint64(n))
	return r
}

// fill appends n profiles from 16 writers.
func (f *fleet) fill(tb testing.TB, s *store.Store, from, n int) (samples int64) {
	work := make(chan *store.Record, 64)
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for r := range work {
				if _, err := s.Append(context.Background(), r); err != nil {
					tb.Error(err)
				}
			}
		}()
	}
	for i := range n {
		r := f.record(from + i)
		samples += int64(r.Profile.NumSamples())
		work <- r
	}
	close(work)
	wg.Wait()
	return samples
}

// TestFleetSize checks the bytes a profile takes in blocks.
func TestFleetSize(t *testing.T) {
	n := 6000
	if testing.Short() {
		n = 1500
	}
	for _, perturb := range []bool{true, false} {
		s := open(t, t.TempDir())
		f := newFleet(t, perturb)
		samples := f.fill(t, s, 0, n)
		heads, log := s.Stats().HeadBytes, s.Stats().LogBytes
		began := time.Now()
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		st := s.Stats()
		per := float64(st.BlockBytes) / float64(n)
		t.Logf("perturbed %v: %.0f B/profile in blocks (%d samples each), %.0f in the log, %.0f in heads; flush %v/profile",
			perturb, per, samples/int64(n), float64(log)/float64(n), float64(heads)/float64(n), took/time.Duration(n))
		if per > 1700 && !testing.Short() {
			t.Errorf("perturbed %v: %.0f B/profile, want at most 1,700", perturb, per)
		}
		_ = s.Close()
	}
}

// BenchmarkIntern decodes the corpus' bodies, interns them into a dictionary
// that knows them and packs their samples; beside it google/pprof's Parse.
// One operation is one body.
func BenchmarkIntern(b *testing.B) {
	for _, kind := range []string{"cpu", "heap"} {
		bodies := corpus.Load(kind)
		b.Run(kind, func(b *testing.B) {
			d := profile.NewDecoder(profile.Limits{})
			in := store.NewInterner()
			one := func(i int) {
				p, err := d.Decode(bodies[i%len(bodies)].Data)
				if err != nil {
					b.Fatal(err)
				}
				in.Add(p)
			}
			for i := range bodies {
				one(i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				one(i)
			}
		})
		b.Run(kind+"/new", func(b *testing.B) {
			d := profile.NewDecoder(profile.Limits{})
			for i := range b.N {
				p, err := d.Decode(bodies[i%len(bodies)].Data)
				if err != nil {
					b.Fatal(err)
				}
				store.NewInterner().Add(p)
			}
		})
		b.Run(kind+"/pprof", func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				parse(b, bodies[i%len(bodies)].Data)
			}
		})
	}
}

// BenchmarkAppend is one profile of the fleet made durable, 64 writers at
// once.
func BenchmarkAppend(b *testing.B) {
	for _, kind := range []string{"cpu", "heap"} {
		b.Run(kind, func(b *testing.B) {
			s := open(b, b.TempDir(), func(o *store.Options) { o.HeadBytes = 1 << 40; o.LogBytes = 1 << 40 })
			f := newFleet(b, false)
			f.fill(b, s, 0, 500)
			odd := 0
			if kind == "heap" {
				odd = 1
			}
			recs := make(chan *store.Record, b.N)
			for i := range b.N {
				recs <- f.record(1000 + 2*i + odd)
			}
			close(recs)
			b.ReportAllocs()
			b.ResetTimer()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Append(context.Background(), <-recs); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
		})
	}
}

// BenchmarkSelf reads the flame graph's values of 1,000 CPU profiles, as
// google/pprof does from their bodies.
func BenchmarkSelf(b *testing.B) {
	s := open(b, b.TempDir())
	f := newFleet(b, false)
	ctx := context.Background()
	n := 0
	for i := 0; n < 1000; i++ {
		r := f.record(2 * i)
		if r.Meta.Service() != "prometheus" {
			continue
		}
		if _, err := s.Append(ctx, r); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.Run("head", func(b *testing.B) { benchSelf(b, s) })
	if err := s.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.Run("block", func(b *testing.B) { benchSelf(b, s) })
	b.Run("pprof", func(b *testing.B) {
		var bodies [][]byte
		for _, c := range corpus.Load("cpu") {
			if c.Program == "prometheus" {
				bodies = append(bodies, c.Data)
			}
		}
		for range b.N {
			var ps []*pprof.Profile
			for i := range 1000 {
				ps = append(ps, parse(b, bodies[i%len(bodies)]))
			}
			m, err := pprof.Merge(ps)
			if err != nil {
				b.Fatal(err)
			}
			_ = m.WriteUncompressed(io.Discard)
		}
	})
}

func benchSelf(b *testing.B, s *store.Store) {
	ctx := context.Background()
	samples := int64(0)
	for range b.N {
		v, err := s.View(ctx, store.Selection{Window: everything, Services: store.Services{Names: []string{"prometheus"}}})
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range v.Parts {
			if _, err := p.FuncTree(ctx); err != nil {
				b.Fatal(err)
			}
			for i := range p.Sections() {
				if _, err := p.Rows(ctx, i); err != nil {
					b.Fatal(err)
				}
				res, err := p.Self(ctx, store.SelfQuery{Section: i, Column: 1})
				if err != nil {
					b.Fatal(err)
				}
				samples += res.Samples
			}
		}
		v.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
}

// BenchmarkWriters is 64 writers that each wait for their commit.
func BenchmarkWriters(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			dir := b.TempDir()
			s := open(b, dir)
			f := newFleet(b, false)
			recs := make(chan *store.Record, b.N)
			for i := range b.N {
				recs <- f.record(i)
			}
			close(recs)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for r := range recs {
						if _, err := s.Append(context.Background(), r); err != nil {
							b.Error(err)
						}
					}
				}()
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "profiles/s")
			logs, _ := filepath.Glob(filepath.Join(dir, "log", "*"))
			for _, l := range logs {
				if fi, err := os.Stat(l); err == nil {
					b.ReportMetric(float64(fi.Size())/float64(b.N), "logB/profile")
				}
			}
		})
	}
}
