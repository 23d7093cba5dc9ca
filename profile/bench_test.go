package profile_test

import (
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// benchmarkBodies calls do for the bodies of a kind in turn, after it was
// called for each of them once. MB/s are of gzip.
func benchmarkBodies(b *testing.B, bodies []corpus.Body, do func(body []byte) error) {
	sum := 0
	for _, body := range bodies {
		if err := do(body.Data); err != nil {
			b.Fatal(err)
		}
		sum += len(body.Data)
	}
	b.SetBytes(int64(sum / len(bodies)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := do(bodies[i%len(bodies)].Data); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func byKind(b *testing.B, do func(body []byte) error) {
	for _, kind := range corpus.Kinds {
		b.Run(kind, func(b *testing.B) { benchmarkBodies(b, corpus.Load(kind), do) })
	}
}

func BenchmarkDecode(b *testing.B) {
	d := profile.NewDecoder(profile.Limits{})
	byKind(b, func(body []byte) error { _, err := d.Decode(body); return err })
}

func BenchmarkDecodePprof(b *testing.B) {
	byKind(b, func(body []byte) error { _, err := pprof.ParseData(body); return err })
}

// BenchmarkDecodePlain leaves the unpacking out; its MB/s are of plain bytes.
func BenchmarkDecodePlain(b *testing.B) {
	for _, kind := range corpus.Kinds {
		b.Run(kind, func(b *testing.B) {
			bodies := corpus.Load(kind)
			for i := range bodies {
				bodies[i].Data = gunzip(b, bodies[i].Data)
			}
			d := profile.NewDecoder(profile.Limits{})
			benchmarkBodies(b, bodies, func(body []byte) error { _, err := d.Decode(body); return err })
		})
	}
}

// BenchmarkGunzip is unpacking alone: ours in one go, and klauspost's reader.
func BenchmarkGunzip(b *testing.B) {
	var g profile.Gunzipper
	b.Run("own", func(b *testing.B) {
		byKind(b, func(body []byte) error { g.OneShot(body); return nil })
	})
	b.Run("klauspost", func(b *testing.B) {
		byKind(b, func(body []byte) error { _, err := g.Stream(body); return err })
	})
}

// BenchmarkDecodeRatio takes turns over the whole corpus, so that both sides
// see the same machine: how many times faster Decode is than google/pprof,
// and how its time relates to that of klauspost's gunzip alone.
func BenchmarkDecodeRatio(b *testing.B) {
	bodies := corpus.Load()
	d := profile.NewDecoder(profile.Limits{})
	var g profile.Gunzipper
	var ours, theirs, stream time.Duration
	n := 0
	for b.Loop() {
		body := bodies[n%len(bodies)].Data
		n++
		t0 := time.Now()
		if _, err := d.Decode(body); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if _, err := pprof.ParseData(body); err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		if _, err := g.Stream(body); err != nil {
			b.Fatal(err)
		}
		ours, theirs, stream = ours+t1.Sub(t0), theirs+t2.Sub(t1), stream+time.Since(t2)
	}
	b.ReportMetric(float64(theirs)/float64(ours), "x-pprof")
	b.ReportMetric(float64(ours)/float64(stream), "x-gunzip")
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "us/profile")
}

func BenchmarkDelta(b *testing.B) {
	bodies := corpus.Load("heap")[:2]
	d := profile.NewDecoder(profile.Limits{})
	var s profile.Snapshot
	benchmarkBodies(b, bodies, func(body []byte) error {
		p, err := d.Decode(body)
		if err == nil {
			s.Delta("heap", p)
		}
		return err
	})
}

func BenchmarkMerge(b *testing.B) {
	d := profile.NewDecoder(profile.Limits{})
	for _, kind := range []string{"cpu", "heap"} {
		b.Run(kind, func(b *testing.B) {
			m := profile.NewMerger()
			benchmarkBodies(b, corpus.Load(kind), func(body []byte) error {
				p, err := d.Decode(body)
				if err != nil {
					return err
				}
				return m.Add(p)
			})
		})
	}
}

func BenchmarkAppendPprof(b *testing.B) {
	p := decode(b, corpus.Load("heap")[0].Data)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = p.AppendPprof(out[:0])
	}
	b.SetBytes(int64(len(out)))
}
