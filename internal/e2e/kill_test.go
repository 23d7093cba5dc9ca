package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/proc"
)

// TestKill ends the collector with SIGKILL at random moments under load.
// Senders repeat what was not acknowledged under the same key, as the agent
// does; in the end every profile must be there exactly once.
func TestKill(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 5
	}
	const senders = 8
	addr, data := freeAddr(t), t.TempDir()
	from := time.Now().Add(-6 * time.Hour).Truncate(time.Second)
	fl, err := fleet.New(fleet.Options{Seed: 7, From: from, Services: 4, Instances: 3, Kinds: []string{"cpu", "heap", "goroutine"}})
	if err != nil {
		t.Fatal(err)
	}
	bodies := make([]fleet.Item, 240)
	for i := range bodies {
		it, err := fl.Item(i)
		if err != nil {
			t.Fatal(err)
		}
		bodies[i] = it
	}

	c := startCollector(t, addr, data, "-epoch", "1s")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		sent     atomic.Int64 // acknowledged
		next     atomic.Int64
		stopping atomic.Bool
		wg       sync.WaitGroup
	)
	for range senders {
		wg.Go(func() {
			for !stopping.Load() {
				i := next.Add(1) - 1
				// The same bodies again and again, each time under a key of its own
				// and, so that it is another profile, a millisecond later.
				it := bodies[int(i)%len(bodies)]
				shift := time.Duration(int(i)/len(bodies)) * time.Millisecond
				it.Start, it.End = it.Start.Add(shift), it.End.Add(shift)
				for {
					status, answer := post(ctx, "http://"+addr, fmt.Sprintf("%032x", i+1), &it)
					if status == http.StatusOK {
						sent.Add(1)
						break
					}
					if status != 0 && status != http.StatusServiceUnavailable {
						t.Errorf("profile %d: status %d: %s", i, status, answer)
						return
					}
					if ctx.Err() != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	log := output(t, "killed collectors")
	for range kills {
		// From the very start on: some kills hit it while it replays its log.
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		c.Kill()
		var err error
		if c, err = proc.LaunchCollector(log, binary(t, "collector"), addr, data, "-epoch", "1s"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Kill)
	}
	if err := c.WaitReady(ctx, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	stopping.Store(true)
	wg.Wait()
	if t.Failed() {
		return
	}

	type sum struct{ profiles, total int64 }
	want := map[[2]string]sum{}
	column := map[string]int{"cpu": 1, "heap": 3, "goroutine": 0}
	totals := make([]int64, len(bodies))
	for i, it := range bodies {
		p, err := profile.ParseData(it.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Sample {
			totals[i] += s.Value[column[it.Kind]]
		}
	}
	for i := range next.Load() {
		it := bodies[int(i)%len(bodies)]
		k := [2]string{it.Service, it.Kind}
		s := want[k]
		want[k] = sum{s.profiles + 1, s.total + totals[int(i)%len(bodies)]}
	}
	if sent.Load() != next.Load() {
		t.Fatalf("%d of %d profiles were acknowledged", sent.Load(), next.Load())
	}
	types := map[string]string{"cpu": "cpu", "heap": "inuse_space", "goroutine": "goroutine"}
	check := func(when string) {
		for k, w := range want {
			var f flame
			get(t, c.URL, "/api/v1/flamegraph", url.Values{
				"query": {fmt.Sprintf("{service=%q}", k[0])}, "type": {types[k[1]]}, "agg": {"sum"},
				"from": {"-12h"}, "until": {"now"}, "max_nodes": {"100"},
			}, &f)
			if got := (sum{f.Coverage.Profiles, int64(f.Total)}); got != w {
				t.Errorf("%s: %s %s: got %d profiles, total %d; want %d, %d", when, k[0], k[1], got.profiles, got.total, w.profiles, w.total)
			}
		}
	}
	check("after the last kill")
	if err := c.Stop(30 * time.Second); err != nil {
		t.Fatalf("stop: %v", err)
	}
	c = startCollector(t, addr, data)
	check("after a clean restart")
	t.Logf("%d profiles over %d kills", sent.Load(), kills)
}
