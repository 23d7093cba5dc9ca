//go:build linux && amd64

package testprog_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/testprog"
)

func TestMain(m *testing.M) { os.Exit(testprog.Main(m)) }

func TestStart(t *testing.T) {
	p := testprog.Start(t, testprog.Build{}.Path(t), testprog.Options{Args: []string{"-kind=wait", "-http=127.0.0.1:0", "-goroutines=10"}})
	if p.Addr == "" || p.Goroutines < 11 {
		t.Errorf("listens at %q with %d goroutines", p.Addr, p.Goroutines)
	}
}

func TestText(t *testing.T) {
	for kind, want := range map[string]string{
		"panic": "panic: explicit: payload", "nil": "[signal SIGSEGV", "custom": "a failure of our own kind", "index": "index out of range [105]", "leaf": "SIGSEGV",
		"maps": "fatal error: concurrent map writes", "deadlock": "all goroutines are asleep", "stack": "fatal error: stack overflow",
		"oom": "out of memory", "abort": "SIGABRT: abort", "segv": "SIGSEGV", "c": "there is no C",
		"divide": "divide by zero", "assert": "interface conversion", "repanic": "again: explicit", "locked": "unlock of unlocked mutex",
	} {
		t.Run(kind, func(t *testing.T) {
			text := testprog.Text(t, testprog.Build{}.Path(t), testprog.Options{Args: []string{"-kind=" + kind}, Env: []string{"GOTRACEBACK=single"}})
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		})
	}
}

func TestHold(t *testing.T) {
	exe := testprog.Build{}.Path(t)
	for _, kind := range []string{"panic", "abort"} {
		h := testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=" + kind}}, 0)
		if h.Signal != 6 || len(h.Threads) < 2 || len(h.Mappings) < 5 || h.Threads[0].Signal != 6 {
			t.Errorf("%s: signal %d, %d threads, %d mappings", kind, h.Signal, len(h.Threads), len(h.Mappings))
		}
	}
	h := testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=spin", "-goroutines=5"}}, 50*time.Millisecond)
	if h.Signal != 0 || h.Goroutines < 6 || len(h.Threads) < 2 {
		t.Errorf("stopped: signal %d, %d threads, %d goroutines", h.Signal, len(h.Threads), h.Goroutines)
	}
}
