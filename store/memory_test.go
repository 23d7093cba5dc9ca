package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHeadMemory compares what heads say they take with what the heap grew by.
func TestHeadMemory(t *testing.T) {
	f := newFleet(t, true)
	d := profile.NewDecoder(profile.Limits{})
	small := corpus.Load("mutex")[0].Data
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name   string
		n      int
		record func(i int) *store.Record
	}{
		{"corpus", 1000, f.record},
		{"few profiles", 60, f.record},
		{"many services", 1500, func(i int) *store.Record {
			r := record(t, d, i, fmt.Sprint("service-", i), inquest.KindMutex, small)
			r.Profile.Truncate(3)
			return r
		}},
		{"many instances", 2000, func(i int) *store.Record {
			r := record(t, d, i, "service", inquest.KindMutex, small)
			r.Profile.Truncate(3)
			r.Meta.Process = fmt.Sprint("process-", i)
			r.Meta.Labels = inquest.NewLabels(map[string]string{"service": "service", "instance": fmt.Sprint("10.0.0.1:", i), "pod": fmt.Sprintf("pod-%x", rnd.Uint64())})
			binary.BigEndian.PutUint64(r.Key[:8], rnd.Uint64())
			return r
		}},
		{"cumulative states", 500, func(i int) *store.Record {
			r := record(t, d, i, "service", inquest.KindMutex, small)
			r.BaselineName, r.Baseline = fmt.Sprint("state-", i), make([]byte, 20_000)
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir(), func(o *store.Options) { o.HeadBytes = 1 << 40; o.LogBytes = 1 << 40; o.CommitDelay = time.Nanosecond })
			f.fill(t, s, 1<<20, 200) // encoders and scratch are not the heads'
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			before := liveHeap()
			for i := range c.n {
				if _, err := s.Append(context.Background(), c.record(i)); err != nil {
					t.Fatal(err)
				}
			}
			real, said := liveHeap()-before, s.Stats().HeadBytes
			t.Logf("heads say %d KB, the heap grew by %d KB: %.2f", said>>10, real>>10, float64(said)/float64(real))
			if said < real*7/10 || said > real*15/10 {
				t.Errorf("heads say %d, the heap grew by %d", said, real)
			}
			runtime.KeepAlive(s)
		})
	}
}
