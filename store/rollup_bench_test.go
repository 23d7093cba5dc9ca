package store_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	simulated "github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// fillSimulated stores minutes of the simulated fleet, one profile of each
// kind, instance and minute, with a block file for every half an hour.
func fillSimulated(tb testing.TB, s *store.Store, minutes int, o simulated.Options) (profiles int) {
	tb.Helper()
	ctx := context.Background()
	o.From = t0
	f, err := simulated.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	d := profile.NewDecoder(profile.Limits{})
	perMinute := o.Services * o.Instances * 2
	for i := range minutes * perMinute {
		it, err := f.Item(i)
		if err != nil {
			tb.Fatal(err)
		}
		r := record(tb, d, i, it.Service, inquest.Kind(it.Kind), it.Body)
		r.Meta = inquest.ProfileMeta{
			Kind: inquest.Kind(it.Kind), Start: it.Start, End: it.End, Hold: time.Minute, Process: it.Process,
			Labels: inquest.NewLabels(map[string]string{"service": it.Service, "instance": it.Instance, "build": "b-" + it.Service}),
		}
		if _, err := s.Append(ctx, r); err != nil {
			tb.Fatal(err)
		}
		if (i+1)%(30*perMinute) == 0 {
			if err := s.Flush(ctx); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := s.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
	return minutes * perMinute
}

// BenchmarkRollup rolls up half-hours of corpus profiles of 16 instances per
// service, and of the simulated fleet, of INQUEST_SERVICES services (default 3)
// with INQUEST_INSTANCES instances (default 4) and 2 kinds for INQUEST_MINUTES
// (default 60), with or without stacks put together at random, and then merges
// what came of it. It reports processor time and bytes per profile.
func BenchmarkRollup(b *testing.B) {
	b.Run("corpus", func(b *testing.B) {
		benchRollup(b, func(s *store.Store) int {
			f := newFleet(b, false)
			for i := range 2 {
				f.fill(b, s, i*3000, 3000)
				if err := s.Flush(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			return 6000
		})
	})
	for name, novelty := range map[string]float64{"steady": -1, "standard": 0} {
		b.Run(name, func(b *testing.B) {
			o := simulated.Options{
				Seed: 1, Services: setting("INQUEST_SERVICES", 3), Instances: setting("INQUEST_INSTANCES", 4),
				Novelty: novelty, KeepHeap: os.Getenv("INQUEST_KEEP_HEAP") != "",
			}
			benchRollup(b, func(s *store.Store) int { return fillSimulated(b, s, setting("INQUEST_MINUTES", 60), o) })
		})
	}
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func benchRollup(b *testing.B, fill func(s *store.Store) int) {
	ctx := context.Background()
	for range b.N {
		b.StopTimer()
		s := open(b, b.TempDir(), func(o *store.Options) { o.CommitDelay = time.Microsecond; o.RollupDelay = 1000 * time.Hour })
		n := float64(fill(s))
		runtime.GC()
		b.StartTimer()
		began := processorTime(b)
		if err := s.Settle(ctx); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((processorTime(b)-began).Microseconds())/n, "µs/profile")
		blocks, _, _, bytes := store.Rollups(s)
		b.ReportMetric(float64(bytes)/n, "B/profile")
		b.Logf("%.0f profiles, %d blocks: %s", n, blocks, perProfile(store.RollupSizes(b, s), n))
		began = processorTime(b)
		if err := store.DropRollups(ctx, s, [4]bool{true, true, true, true}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((processorTime(b)-began).Microseconds())/n, "merge-µs/profile")
		_, _, _, bytes = store.Rollups(s)
		b.ReportMetric(float64(bytes)/n, "merged-B/profile")
		b.Logf("merged: %s", perProfile(store.RollupSizes(b, s), n))
	}
}

func perProfile(sizes map[string]int64, n float64) string {
	out := ""
	for _, k := range []string{"own 5m", "own 1h", "own 1d", "own digests", "own names", "own tree", "own info", "own rest", "fleet 5m", "fleet 1h", "fleet 1d", "fleet names", "fleet tree", "fleet info", "fleet rest", "own nodes", "fleet nodes"} {
		out += fmt.Sprintf("%s %.1f, ", k, float64(sizes[k])/n)
	}
	return out
}

// processorTime is the processor time this program took.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
