//go:build linux && amd64

package coredump_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/symbolize"
)

func openRuntime(t testing.TB, h *testprog.Held) (*coredump.Runtime, *symbolize.Functions) {
	t.Helper()
	funcs := functionsOf(t, &h.Process)
	r, err := coredump.OpenRuntime(&h.Process, funcs)
	if err != nil {
		t.Fatal(err)
	}
	return r, funcs
}

// bias is how far the process was moved.
func bias(h *testprog.Held, funcs *symbolize.Functions) uint64 { return h.Auxv[9] - funcs.Entry() }

// release is the number of the release that the executable says.
func release(t testing.TB, funcs *symbolize.Functions) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(funcs.GoVersion(), "go1.%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGoroutines compares with what the program itself counted.
func TestGoroutines(t *testing.T) {
	for i, b := range allBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			if i > 2 && testing.Short() {
				t.Skip("short")
			}
			h := die(t, b, "panic", "-goroutines=100")
			r, funcs := openRuntime(t, h)
			mine, waiters := 0, 0
			for g := range r.Goroutines() {
				name, _, _ := funcs.Function(g.Start - bias(h, funcs))
				if strings.HasPrefix(name, "runtime.") && name != "runtime.main" {
					continue
				}
				mine++
				at, _, _ := funcs.Function(g.PC - bias(h, funcs))
				if name == "main.waiter" || strings.HasPrefix(name, "main.startGoroutines.gowrap") {
					waiters++
					if g.State != "waiting" || g.WaitReason != "chan receive" || at != "runtime.gopark" || g.Parent != 1 {
						t.Errorf("goroutine %d: %s, %q, at %s, parent %d", g.ID, g.State, g.WaitReason, at, g.Parent)
					}
				}
				if live := g.Live(); live.Size == 0 || live.Addr < g.Stack.Addr || live.Size > g.Stack.Size {
					t.Errorf("goroutine %d: stack %#x, live %#x", g.ID, g.Stack, live)
				}
			}
			if mine != h.Goroutines || waiters != 100 {
				t.Errorf("%d goroutines, %d that wait; the program counted %d", mine, waiters, h.Goroutines)
			}
			if r.Release() != release(t, funcs) {
				t.Errorf("taken for Go 1.%d, it is %s", r.Release(), funcs.GoVersion())
			}
			g, ok := r.Died()
			if !ok || g.ID != 1 || g.State != "running" || g.Panic == 0 || g.Labels == 0 || g.SP == 0 || g.TID != h.Threads[0].TID {
				t.Errorf("died: %+v", g)
			}
		})
	}
}

func TestDiedOfSignal(t *testing.T) {
	h := die(t, testprog.Build{Stripped: true}, "leaf")
	r, funcs := openRuntime(t, h)
	g, ok := r.Died()
	at, _, _ := funcs.Function(g.SignalPC)
	if !ok || g.Signal != 11 || g.SignalAddr != 16 || at != "main.leaf" {
		t.Errorf("signal %d at %#x in %s", g.Signal, g.SignalAddr, at)
	}
}

// TestManyGoroutines counts 10,000 in time.
func TestManyGoroutines(t *testing.T) {
	h := die(t, testprog.Build{Stripped: true}, "panic", "-goroutines=10000")
	start := time.Now()
	r, _ := openRuntime(t, h)
	n := 0
	for range r.Goroutines() {
		n++
	}
	took := time.Since(start)
	t.Logf("%d goroutines in %v", n, took)
	if n < 10000 || took > 300*time.Millisecond {
		t.Errorf("%d goroutines in %v", n, took)
	}
}

// TestNoRuntime has only the executable, or not even that.
func TestNoRuntime(t *testing.T) {
	h := die(t, testprog.Build{}, "panic")
	funcs := functionsOf(t, &h.Process)
	empty := coredump.Process{Memory: strings.NewReader(""), Auxv: h.Auxv}
	if _, err := coredump.OpenRuntime(&empty, funcs); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("without memory: %v", err)
	}
	if _, err := coredump.OpenRuntime(&h.Process, nil); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("without functions: %v", err)
	}
}

// TestOtherRelease says wrong or unknown things about the release: what fits is taken.
func TestOtherRelease(t *testing.T) {
	h := die(t, testprog.Build{Stripped: true}, "panic", "-goroutines=100")
	exe := make([]byte, h.ExeSize)
	if _, err := h.Exe.ReadAt(exe, 0); err != nil {
		t.Fatal(err)
	}
	want := functionsOf(t, &h.Process).GoVersion()
	for _, version := range []string{"go1.99.1", "go1.23.1", "devel +ab", ""} {
		changed := bytes.ReplaceAll(exe, []byte(want), append([]byte(version), make([]byte, max(0, len(want)-len(version)))...)[:len(want)])
		funcs, err := symbolize.OpenFunctions(bytes.NewReader(changed), h.ExeSize)
		if err != nil {
			t.Fatal(err)
		}
		r, err := coredump.OpenRuntime(&h.Process, funcs)
		if err != nil {
			t.Errorf("%q: %v", version, err)
			continue
		}
		if n := live(r); r.Release() != 26 && version != "go1.23.1" || n < 101 {
			t.Errorf("%q: taken for Go 1.%d with %d goroutines", version, r.Release(), n)
		}
	}
}
