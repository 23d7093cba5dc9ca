//go:build linux && amd64

package coredump_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/symbolize"
)

// stored is an image of a held process, full or a minicore, and where it is.
func stored(t testing.TB, h *testprog.Held, extents []coredump.Extent) *coredump.Image {
	t.Helper()
	core, err := os.Open(coreOf(t, h, extents))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { core.Close() })
	return imported(t, core, coredump.ImportOptions{})
}

// BenchmarkAnalyze makes reports of a stripped program with many goroutines, out of
// an image as it is stored.
func BenchmarkAnalyze(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := die(b, testprog.Build{Stripped: true}, "panic", fmt.Sprint("-goroutines=", n))
			im := stored(b, h, present(h))
			b.ReportAllocs()
			for b.Loop() {
				p, err := im.Process()
				if err != nil {
					b.Fatal(err)
				}
				funcs, err := symbolize.OpenFunctions(h.Exe, h.ExeSize)
				if err != nil {
					b.Fatal(err)
				}
				if rep := coredump.Analyze(p, funcs, coredump.ReportLimits{}); rep.Total < n {
					b.Fatalf("%d goroutines: %q", rep.Total, rep.Problems)
				}
			}
		})
	}
}

// TestAnalyzeMany lists 100,000 goroutines in bounded time and memory.
func TestAnalyzeMany(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	h := die(t, testprog.Build{Stripped: true}, "panic", "-goroutines=100000")
	im := stored(t, h, present(h))
	p, err := im.Process()
	if err != nil {
		t.Fatal(err)
	}
	funcs := functionsOf(t, &h.Process)
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		var most uint64
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(5 * time.Millisecond):
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse-min(now.HeapInuse, before.HeapInuse))
			}
		}
	}()
	start := time.Now()
	rep := coredump.Analyze(p, funcs, coredump.ReportLimits{})
	took := time.Since(start)
	close(stop)
	mib := <-peak >> 20
	t.Logf("%d goroutines in %d buckets: %v, %d MiB", rep.Total, len(rep.Buckets), took, mib)
	if rep.Total < 100_000 || rep.Buckets[0].Count != 100_000 || len(rep.Problems) > 0 {
		t.Errorf("%d goroutines, %d in the first bucket: %q", rep.Total, rep.Buckets[0].Count, rep.Problems)
	}
	if took > 3*time.Second || mib > 300 {
		t.Errorf("took %v and %d MiB", took, mib)
	}
}
