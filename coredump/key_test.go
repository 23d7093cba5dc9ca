//go:build linux && amd64

package coredump_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/symbolize"
)

// allBuilds are the ways a program may be built: all of them by the local
// release of Go, one by each older one, as every one of these builds the
// library anew.
func allBuilds() []testprog.Build {
	all := []testprog.Build{
		{}, {Stripped: true}, {PIE: true}, {CGO: true}, {Trimpath: true}, {CGO: true, PIE: true, Stripped: true, Trimpath: true},
	}
	for i, v := range testprog.Toolchains {
		all = append(all, testprog.Build{Toolchain: v, Stripped: i%2 == 0, PIE: i == 0, CGO: i == 2})
	}
	return all
}

// functionsOf opens the functions of the process's executable.
func functionsOf(t testing.TB, p *coredump.Process) *symbolize.Functions {
	t.Helper()
	funcs, err := symbolize.OpenFunctions(p.Exe, p.ExeSize)
	if err != nil {
		t.Fatal(err)
	}
	return funcs
}

func die(t testing.TB, b testprog.Build, kind string, args ...string) *testprog.Held {
	t.Helper()
	return testprog.Hold(t, b.Path(t), testprog.Options{Args: append([]string{"-kind=" + kind}, args...)}, 0)
}

// names are the functions of a key.
func names(k coredump.Key) string {
	var out []string
	for _, f := range k.Frames {
		out = append(out, f.Function)
	}
	return strings.Join(out, " ")
}

const below = "main.(*request).dispatch main.(*request).serve.func1 runtime/pprof.Do main.(*request).serve main.handle"

// deaths are the kinds of the program with what their keys are to be.
var deaths = []struct {
	kind, class, frames string // frames: the first ones
}{
	{"panic", "panic", "main.explicit " + below},
	{"nil", "signal:SIGSEGV", "main.(*request).inlinedName " + below},
	{"leaf", "signal:SIGSEGV", "main.leaf " + below},
	{"custom", "panic", below},
	{"error", "panic", below},
	{"index", "panic:runtime.boundsError", "main.(*request).at " + below},
	{"repanic", "panic", "main.explicit main.(*request).again " + below},
	{"generic", "panic:runtime.boundsError", "main.pick[...] " + below},
	{"closure", "panic", "main.(*request).dispatch.func1 main.(*request).each " + below},
	{"divide", "panic:runtime.errorString", below},
	{"assert", "panic:*runtime.TypeAssertionError", below},
	{"maps", "fatal", "main.store "},
	{"deadlock", "fatal:all goroutines are asleep - deadlock!", "main.deadlock main.main"},
	{"locked", "fatal", ""},
	{"stack", "fatal:stack overflow", "main.recurse main.recurse main.recurse"},
	{"oom", "fatal", "main.outOfMemory "},
	{"abort", "signal:SIGABRT", ""},
	{"segv", "signal:SIGSEGV", ""},
}

// TestCaptureKey sees that the same death has the same key in all builds, and
// others have others.
func TestCaptureKey(t *testing.T) {
	hashes := map[string]string{}
	for i, b := range allBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			if i > 2 && testing.Short() {
				t.Skip("short")
			}
			for _, d := range deaths {
				if b.CGO && d.kind == "deadlock" {
					continue // with C the runtime does not look for deadlocks
				}
				h := die(t, b, d.kind)
				k := coredump.CaptureKey(&h.Process, functionsOf(t, &h.Process))
				if k.Class != d.class || !strings.HasPrefix(names(k), d.frames) || len(k.Hash) != 16 {
					t.Errorf("%s: %q at %s\nwant %q at %s…\n%s", d.kind, k.Class, names(k), d.class, d.frames, h.Stderr[:min(len(h.Stderr), 1000)])
				}
				if was := hashes[d.kind]; was != "" && was != k.Hash {
					t.Errorf("%s: hash %s, was %s before; at %s", d.kind, k.Hash, was, names(k))
				}
				hashes[d.kind] = k.Hash
			}
		})
	}
	byHash := map[string]string{}
	for kind, hash := range hashes {
		if other := byHash[hash]; other != "" {
			t.Errorf("%s and %s have the same key", kind, other)
		}
		byHash[hash] = kind
	}
}

// TestCaptureKeyOfC lets C crash in two builds.
func TestCaptureKeyOfC(t *testing.T) {
	var hash string
	for _, b := range []testprog.Build{{CGO: true}, {CGO: true, PIE: true, Stripped: true}, {CGO: true, Toolchain: testprog.Toolchains[0]}} {
		h := die(t, b, "c")
		k := coredump.CaptureKey(&h.Process, functionsOf(t, &h.Process))
		if k.Class != "signal:SIGSEGV" || !strings.HasPrefix(names(k), "main._Cfunc_call main.crashInC") {
			t.Errorf("%v: %q at %s", b, k.Class, names(k))
		}
		if hash != "" && k.Hash != hash {
			t.Errorf("%v: hash %s, was %s", b, k.Hash, hash)
		}
		hash = k.Hash
	}
}

// TestCaptureKeyOfGoroutine dies in another goroutine than main's, among many.
func TestCaptureKeyOfGoroutine(t *testing.T) {
	h := die(t, testprog.Build{}, "panic", "-other", "-goroutines=100")
	k := coredump.CaptureKey(&h.Process, functionsOf(t, &h.Process))
	if want := "main.explicit " + below; k.Class != "panic" || !strings.HasPrefix(names(k), want) {
		t.Errorf("%q at %s", k.Class, names(k))
	}
}

// TestCaptureKeyOfNothing has neither memory nor functions.
func TestCaptureKeyOfNothing(t *testing.T) {
	h := die(t, testprog.Build{}, "panic")
	funcs := functionsOf(t, &h.Process)
	for _, p := range []coredump.Process{
		{}, {Arch: "amd64", Threads: []coredump.Thread{{Signal: 11}}, Memory: bytes.NewReader(nil)},
		{Arch: "arm64", Threads: h.Threads, Memory: bytes.NewReader(nil), Auxv: h.Auxv},
	} {
		if k := coredump.CaptureKey(&p, nil); len(k.Frames) != 0 {
			t.Errorf("without functions: %v", k)
		}
		coredump.CaptureKey(&p, funcs)
	}
}

func BenchmarkCaptureKey(b *testing.B) {
	h := testprog.Hold(b, testprog.Build{}.Path(b), testprog.Options{Args: []string{"-kind=index"}}, 0)
	funcs := functionsOf(b, &h.Process)
	for b.Loop() {
		coredump.CaptureKey(&h.Process, funcs)
	}
}

// TestCaptureKeyIsCheap takes the first and the next key of a build.
func TestCaptureKeyIsCheap(t *testing.T) {
	h := die(t, testprog.Build{}, "index")
	start := time.Now()
	funcs := functionsOf(t, &h.Process)
	coredump.CaptureKey(&h.Process, funcs)
	cold := time.Since(start)
	least := time.Hour
	for range 10 {
		start = time.Now()
		coredump.CaptureKey(&h.Process, funcs)
		least = min(least, time.Since(start))
	}
	t.Logf("first %v, then %v", cold, least)
	if least > 2*time.Millisecond {
		t.Errorf("a key took %v", least)
	}
}
