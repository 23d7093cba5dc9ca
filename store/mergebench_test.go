package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"io"
	"os"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/goinquest/inquest"
	simulated "github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// mergeFleet is how many profiles BenchmarkMerge merges: an hour of ten
// services in four epochs.
const mergeFleet = 4800

// BenchmarkMerge merges the blocks of an hour of a fleet; beside it the time
// it takes to unpack the same bodies, and reading five minutes of a service
// before and after.
func BenchmarkMerge(b *testing.B) {
	outer := b // whose directories stay
	for name, keep := range map[string]bool{"perturbed": false, "unperturbed": true} {
		dir, bodies := writeFleet(b, keep)
		before := blockBytes(b, dir)
		b.Run(name+"/gunzip", func(b *testing.B) {
			zr, began := new(gzip.Reader), processorTime(b)
			for range b.N {
				for _, body := range bodies {
					if err := zr.Reset(bytes.NewReader(body)); err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, zr); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64((processorTime(b)-began).Microseconds())/float64(b.N*len(bodies)), "cpu-µs/profile")
		})
		merged := ""
		b.Run(name+"/merge", func(b *testing.B) {
			var cpu time.Duration
			for range b.N {
				b.StopTimer()
				merged = copyDir(outer, dir)
				s := open(b, merged, func(o *store.Options) { o.MergeAge = 1 })
				if err := s.MarkRolled(); err != nil {
					b.Fatal(err)
				}
				began := processorTime(b)
				b.StartTimer()
				if err := s.Settle(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				cpu += processorTime(b) - began
				_ = s.Close()
			}
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N*mergeFleet), "cpu-µs/profile")
			b.ReportMetric(float64(before)/mergeFleet, "B/profile-before")
			b.ReportMetric(float64(blockBytes(b, merged))/mergeFleet, "B/profile-after")
		})
		b.Run(name+"/window-before", func(b *testing.B) { benchWindow(b, dir) })
		b.Run(name+"/window-after", func(b *testing.B) { benchWindow(b, merged) })
	}
}

// writeFleet makes the blocks, and returns some of the bodies that are in
// them.
func writeFleet(b *testing.B, keep bool) (dir string, bodies [][]byte) {
	dir = b.TempDir()
	s := open(b, dir, func(o *store.Options) { o.CommitDelay = 1 })
	f, err := simulated.New(simulated.Options{From: t0, KeepHeap: keep})
	if err != nil {
		b.Fatal(err)
	}
	d := profile.NewDecoder(profile.Limits{})
	for i := range mergeFleet {
		it, err := f.Item(i)
		if err != nil {
			b.Fatal(err)
		}
		p, err := d.Decode(it.Body)
		if err != nil {
			b.Fatal(err)
		}
		r := &store.Record{BodyHash: maphash.Bytes(hashSeed, it.Body), Profile: p, Meta: inquest.ProfileMeta{
			Kind: inquest.Kind(it.Kind), Process: it.Process, Start: it.Start, End: it.End, Hold: time.Minute,
			Labels: inquest.NewLabels(map[string]string{"service": it.Service, "instance": it.Instance, "build": "b-" + it.Service}),
		}}
		binary.BigEndian.PutUint64(r.Key[:8], maphash.String(hashSeed, it.Instance))
		binary.BigEndian.PutUint64(r.Key[8:], uint64(i))
		if _, err := s.Append(context.Background(), r); err != nil {
			b.Fatal(err)
		}
		if len(bodies) < 400 {
			bodies = append(bodies, it.Body)
		}
		if i%(mergeFleet/4) == mergeFleet/4-1 {
			if err := s.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return dir, bodies
}

func blockBytes(b *testing.B, dir string) (n int64) {
	entries, err := os.ReadDir(dir + "/blocks")
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			b.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// benchWindow adds up five minutes of a service's allocations by function.
func benchWindow(b *testing.B, dir string) {
	ctx := context.Background()
	s := open(b, copyDir(b, dir))
	w := inquest.Window{From: t0.Add(20 * time.Minute), Until: t0.Add(25 * time.Minute)}
	began := processorTime(b)
	for range b.N {
		v, err := s.View(ctx, store.Selection{Window: w, Services: store.Services{Names: []string{"svc-1"}}})
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range v.Parts {
			for i, sec := range p.Sections() {
				rows, err := p.Rows(ctx, i)
				if err != nil {
					b.Fatal(err)
				}
				chosen := make([]bool, len(rows.Start))
				for r, at := range rows.Start {
					chosen[r] = at >= w.From.UnixNano() && at < w.Until.UnixNano()
				}
				if _, err := p.Self(ctx, store.SelfQuery{Section: i, Column: len(sec.Types) - 1, Rows: chosen}); err != nil {
					b.Fatal(err)
				}
			}
		}
		v.Close()
	}
	b.ReportMetric(float64((processorTime(b)-began).Microseconds())/float64(b.N), "cpu-µs/op")
}
