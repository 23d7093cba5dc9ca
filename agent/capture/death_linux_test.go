package capture_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/testprog"
)

// die runs a program until it is dead.
func die(t testing.TB, exe string, args ...string) {
	t.Helper()
	cmd := exec.Command(exe, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GOTRACEBACK=crash", "DB_PASSWORD=hunter2-not-to-be-seen"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // it dies
}

// one is the only event and the only core that came. They come after the
// process has ended.
func one(t testing.TB, s *sink) (inquest.Crash, *core) {
	t.Helper()
	await(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.crashes) > 0
	})
	crashes, cores := s.take()
	if len(crashes) != 1 || len(cores) != 1 {
		t.Fatalf("%d events and %d cores, want one of each: %+v", len(crashes), len(cores), crashes)
	}
	return crashes[0], cores[0]
}

// TestDeath takes cores of programs of several builds, as the kernel hands
// them over, and opens them.
func TestDeath(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, PerKey: anything, PerService: anything})
	listen(t, c.Death)
	builds := []testprog.Build{{}, {PIE: true}, {Stripped: true}, {CGO: true}}
	for _, b := range builds {
		for _, tier := range []inquest.Tier{inquest.TierMini, inquest.TierFull} {
			t.Run(b.String()+","+string(tier), func(t *testing.T) {
				exe := b.Path(t)
				c.SetPolicy(inquest.CapturePolicy{Default: tier})
				die(t, exe, "-kind", "nil", "-goroutines", "20")
				e, core := one(t, s)
				if e.Kind != inquest.CrashDeath || e.Tier != tier || e.Wanted != tier || e.Reason != "" || e.Service != "crasher" || e.Signal != 6 ||
					e.Exe != exe || len(e.Source) != 1 || e.Source[0] != corepattern.ModeSocket || e.Key == "" || e.Process == "" || e.ID != inquest.CrashID(e.Process) {
					t.Errorf("event %+v", e)
				}
				if e.Facts == nil || e.Facts.Threads == 0 || e.Facts.Rlimits["nofile"] == "" || e.Facts.Kernel == "" {
					t.Errorf("facts %+v", e.Facts)
				}
				if core.begun.Core == nil || core.begun.ID != e.ID {
					t.Errorf("begun with %+v", core.begun)
				}
				t.Logf("held %v, %d of %d bytes, %d stored, missing %q, blanked %q", e.Held, e.Core.MemoryBytes, e.Core.VirtualBytes, e.Core.StoredBytes, e.Core.Missing, e.Core.Blanked)
				if b.Stripped {
					return // Delve finds no goroutines in those
				}
				out := delve(t, exe, core.sparse(t), "goroutines", "bt")
				if n := strings.Count(out, "Goroutine "); n < 20 {
					t.Errorf("Delve found %d goroutines, want at least 20:\n%s", n, out)
				}
				if !strings.Contains(out, "main.") {
					t.Errorf("Delve found no stack:\n%s", out)
				}
			})
		}
	}
}

// TestHostilePaths has executables with names that are hard to spell, and
// ones that are gone.
func TestHostilePaths(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, PerKey: anything, PerService: anything})
	listen(t, c.Death)
	program, err := os.ReadFile(testprog.Build{}.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"line\nbreak) R 1 (", "ends (deleted)", "\xff\xfe", strings.Repeat("x", 250)} {
		exe := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(exe, program, 0o755); err != nil {
			t.Fatal(err)
		}
		die(t, exe, "-kind", "panic")
		e, core := one(t, s)
		if want := strings.TrimSuffix(strings.ToValidUTF8(exe, "\uFFFD"), " (deleted)"); e.Exe != want || e.Tier != inquest.TierMini {
			t.Errorf("%q: event %+v", name, e)
		}
		core.process(t)
	}
	exe := filepath.Join(t.TempDir(), "gone")
	if err := os.WriteFile(exe, program, 0o755); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	time.AfterFunc(500*time.Millisecond, func() { once.Do(func() { os.Remove(exe) }) })
	die(t, exe, "-kind", "panic", "-after", "1s")
	if e, _ := one(t, s); e.Exe != exe || e.Build == "" || e.Tier != inquest.TierMini {
		t.Errorf("deleted: event %+v", e)
	}
}

// TestForeign gives away what is not of Go.
func TestForeign(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s})
	listen(t, c.Death)
	die(t, "/bin/sh", "-c", "kill -SEGV $$")
	for range 100 {
		if c.State().Foreign == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if st := c.State(); st.Foreign != 1 || st.Deaths != 0 {
		t.Errorf("state %+v, want one foreign death", st)
	}
	if crashes, cores := s.take(); len(crashes)+len(cores) > 0 {
		t.Errorf("told %+v of a foreign death", crashes)
	}
}

// TestManyAtOnce lets fifty processes die together: few are copied, all are
// counted, and none waits for long.
func TestManyAtOnce(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, Events: capture.Rate{Burst: 5, Every: time.Hour}, Fold: time.Hour})
	listen(t, c.Death)
	exe := testprog.Build{}.Path(t)
	const many = 50
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() { die(t, exe, "-kind", "panic") })
	}
	wg.Wait()
	await(t, func() bool { return c.State().Deaths == many })
	c.Stop()
	crashes, cores := s.take()
	var deaths int64
	for _, e := range crashes {
		deaths += e.Deaths()
		if e.Held > 10*time.Second {
			t.Errorf("a process was held for %v", e.Held)
		}
	}
	if deaths != many || len(cores) == 0 || len(cores) > 3 || len(crashes) > len(cores)+5+1 {
		t.Errorf("%d deaths told by %d events, %d cores; want %d deaths and at most 3 cores", deaths, len(crashes), len(cores), many)
	}
	for _, e := range crashes {
		if !e.Tier.Cores() && e.Reason == "" {
			t.Errorf("no reason why there is no core: %+v", e)
		}
	}
}

func await(t testing.TB, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("it does not come")
}

// TestFailingSink tells deaths whose cores could not be kept.
func TestFailingSink(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, PerKey: anything, PerService: anything})
	listen(t, c.Death)
	exe := testprog.Build{}.Path(t)

	s.mu.Lock()
	s.fails = inquest.Errorf(inquest.ErrDiskFull, "the disk is full")
	s.mu.Unlock()
	die(t, exe, "-kind", "panic")
	await(t, func() bool { return c.State().Deaths == 1 })
	crashes, cores := s.take()
	s.mu.Lock()
	aborted := s.aborted
	s.mu.Unlock()
	if len(crashes) != 1 || len(cores) != 0 || aborted != 1 || !strings.Contains(crashes[0].Reason, "the disk is full") || crashes[0].Tier != inquest.TierNone {
		t.Errorf("full disk: %+v, %d aborted", crashes, aborted)
	}
	s.mu.Lock()
	s.fails, s.room = nil, 1
	s.mu.Unlock()
	die(t, exe, "-kind", "panic")
	await(t, func() bool { return c.State().Deaths == 2 })
	crashes, cores = s.take()
	if len(crashes) != 1 || len(cores) != 0 || !strings.Contains(crashes[0].Reason, "no room") {
		t.Errorf("full spool: %+v", crashes)
	}
}

// TestAsking asks for builds that the policy does not know, but not for long.
func TestAsking(t *testing.T) {
	s := newSink(t)
	var mu sync.Mutex
	asked, slow := 0, false
	c := capturer(t, capture.Options{
		Sink: s, PerKey: anything, PerService: anything, Local: inquest.TierText,
		Ask: func(ctx context.Context, service, build, key string) (inquest.Tier, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if slow {
				time.Sleep(time.Second) // whatever the context says
				return "", errors.New("no answer")
			}
			return inquest.TierMini, nil
		},
	})
	listen(t, c.Death)
	exe := testprog.Build{}.Path(t)
	for i, tt := range []struct {
		policy inquest.CapturePolicy
		slow   bool
		tier   inquest.Tier
		asked  int
	}{
		{inquest.CapturePolicy{}, false, inquest.TierMini, 1},
		{inquest.CapturePolicy{Default: inquest.TierNone}, true, inquest.TierNone, 2},
		{inquest.CapturePolicy{Default: inquest.TierNone}, true, inquest.TierNone, 2}, // it has not answered just now
		{inquest.CapturePolicy{Rules: []inquest.CaptureRule{{Service: "cr?sh*", Tier: inquest.TierFull}}}, true, inquest.TierFull, 2},
	} {
		mu.Lock()
		slow = tt.slow
		mu.Unlock()
		c.SetPolicy(tt.policy)
		die(t, exe, "-kind", "panic")
		await(t, func() bool { return c.State().Deaths == int64(i+1) })
		crashes, _ := s.take()
		if len(crashes) != 1 || crashes[0].Tier != tt.tier || crashes[0].Held > 500*time.Millisecond {
			t.Errorf("%d: %+v", i, crashes)
		}
		mu.Lock()
		if asked != tt.asked {
			t.Errorf("%d: asked %d times, want %d", i, asked, tt.asked)
		}
		mu.Unlock()
	}
}

// TestKilledWhileRead kills processes that are being copied.
func TestKilledWhileRead(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, PerKey: anything, PerService: anything, RateBytes: -1})
	exe := testprog.Build{}.Path(t)
	ended := 0
	for i := range 6 {
		o := start(t, exe, "-http", "127.0.0.1:0", "-heap", "32")
		time.AfterFunc(time.Duration(i)*12*time.Millisecond, o.kill)
		e, err := c.Snapshot(context.Background(), o.pid, inquest.TierFull)
		switch {
		case err != nil && !errors.Is(err, inquest.ErrNotFound):
			t.Errorf("after %d ms: %v", i*12, err)
		case err != nil, len(e.Core.Missing) > 0:
			ended++
		}
		o.kill()
	}
	if ended == 0 {
		t.Error("no process ended while it was read")
	}
	if crashes, cores := s.take(); len(crashes) != len(cores) {
		t.Errorf("%d events, %d cores", len(crashes), len(cores))
	}
}
