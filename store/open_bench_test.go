package store_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/goinquest/inquest/store"
)

// BenchmarkOpen opens stores of a tenth of and of 100 GB, simulated by their
// catalog and sparse files: 15 days of blocks of 32 MiB with the keys of 30,000
// profiles each. It reports when writes are accepted, and the heap then.
func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	for _, blocks := range []int{320, 3200} {
		b.Run(fmt.Sprintf("%d GB", blocks*32/1024), func(b *testing.B) {
			dir := b.TempDir()
			store.FillSparse(b, dir, blocks, 32<<20, 30_000, 15*24*time.Hour)
			for b.Loop() {
				began := time.Now()
				s, err := store.Open(ctx, store.Options{Dir: dir, Idle: true})
				if err != nil {
					b.Fatal(err)
				}
				opened := time.Since(began)
				if st := s.Stats(); st.Blocks != int64(blocks) || len(st.Quarantined) > 0 {
					b.Fatalf("%+v", st)
				}
				if err := s.Ready(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(opened.Microseconds())/1000, "ms-to-open")
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
