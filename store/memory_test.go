package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
			f.fill(t, s, 1<<20, 1000) // encoders and scratch are not the heads'
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

// TestReplayInLessMemory opens a log that was written with more memory for
// heads than there is now.
func TestReplayInLessMemory(t *testing.T) {
	const most = 3 << 19
	dir := t.TempDir()
	s := open(t, dir)
	f := newFleet(t, false)
	f.fill(t, s, 0, 400)
	d := profile.NewDecoder(profile.Limits{})
	body := corpus.Load("mutex")[0].Data
	for i := range 20 {
		r := record(t, d, 1<<20+i, fmt.Sprint("small-", i%4), inquest.KindMutex, body)
		r.BaselineName, r.Baseline = fmt.Sprint("state-", i%4), fmt.Append(nil, i)
		if _, err := s.Append(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		if i == 9 { // the same services in two epochs
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			f.fill(t, s, 400, 400)
		}
	}
	want := stored(t, s)
	if n := s.Stats().HeadBytes; n < 3*most {
		t.Fatalf("heads take %d, which is too little for this test", n)
	}
	cut := copyDir(t, dir)
	peak := int64(0)
	again := open(t, cut, func(o *store.Options) { o.HeadBytes = most })
	for again.Ready() != nil {
		peak = max(peak, again.Stats().HeadBytes)
		time.Sleep(time.Millisecond)
	}
	if diff := cmp.Diff(want, stored(t, again)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for i := range 4 {
		got, err := again.Baseline(fmt.Sprint("state-", i))
		if want := fmt.Sprint(16 + i); err != nil || string(got) != want {
			t.Errorf("state %d is %q, want %q: %v", i, got, want, err)
		}
	}
	t.Logf("heads took up to %d KB while the log was replayed", peak>>10)
	if peak > 2*most { // one service may need more than half
		t.Errorf("heads took %d", peak)
	}
}

// TestCrowdedHeads: while blocks cannot be written and heads take all they
// may, writers are refused, and taken again afterwards.
func TestCrowdedHeads(t *testing.T) {
	var disk store.FaultyFiles
	s := open(t, t.TempDir(), func(o *store.Options) { o.HeadBytes = 4 << 20; store.WithFiles(&disk)(o) })
	f := newFleet(t, true)
	disk.NoRename.Store(true)
	var err error
	n := 0
	for ; err == nil && n < 4000; n++ {
		_, err = s.Append(context.Background(), f.record(n))
	}
	if !errors.Is(err, inquest.ErrUnavailable) {
		t.Fatalf("after %d profiles: %v", n, err)
	}
	if got := s.Stats().HeadBytes; got > 6<<20 {
		t.Errorf("heads take %d", got)
	}
	disk.NoRename.Store(false)
	for end := time.Now().Add(20 * time.Second); ; {
		if _, err = s.Append(context.Background(), f.record(n)); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if got := len(stored(t, s)); got != n {
		t.Errorf("%d profiles are there, want %d", got, n)
	}
}
