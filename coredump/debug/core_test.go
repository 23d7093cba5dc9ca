package debug_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest/coredump/debug"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/internal/testprog"
)

func TestMain(m *testing.M) {
	sandbox.Main(debug.Stages()...)
	code := testprog.Main(m)
	if dead.dir != "" {
		os.RemoveAll(dead.dir)
	}
	os.Exit(code)
}

// dead are the cores of this run, by how they were made.
var dead struct {
	sync.Mutex
	dir   string
	cores map[string]string
}

// unoptimized has all of its variables.
var unoptimized = testprog.Build{Args: []string{"-gcflags=-N -l"}}

// crash returns an executable and a core of it, made once.
func crash(t testing.TB, b testprog.Build, args ...string) (exe, core string) {
	t.Helper()
	exe = b.Path(t)
	dead.Lock()
	defer dead.Unlock()
	if dead.dir == "" {
		dir, err := os.MkdirTemp("", "debug")
		if err != nil {
			t.Fatal(err)
		}
		dead.dir, dead.cores = dir, map[string]string{}
	}
	key := fmt.Sprint(b, args)
	if dead.cores[key] == "" {
		to := filepath.Join(dead.dir, fmt.Sprint("core", len(dead.cores)))
		kernelCore(t, exe, to, args)
		dead.cores[key] = to
	}
	return exe, dead.cores[key]
}

// kernelCore has the kernel write a core, which it does where it writes them
// to the working directory.
func kernelCore(t testing.TB, exe, to string, args []string) {
	t.Helper()
	lock, err := os.OpenFile("/tmp/inquest-core-pattern.lock", os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	if s := strings.TrimSpace(string(pattern)); s == "" || strings.ContainsAny(s, "/|@") {
		proc.Missing(t, "cores go to %q here", s)
	}
	p := testprog.Start(t, exe, testprog.Options{Args: args, Core: -1})
	p.Wait(t, time.Minute)
	found, _ := filepath.Glob(filepath.Join(p.Dir, "core*"))
	if len(found) != 1 {
		proc.Missing(t, "the kernel wrote no core (%q)", found)
	}
	if err := os.Rename(found[0], to); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// confined skips where the base of the sandbox does not hold.
func confined(t testing.TB) {
	t.Helper()
	if _, err := sandbox.Probe(t.Context()); err != nil {
		proc.Missing(t, "%v", err)
	}
}

// session opens a core of a crash.
func session(t testing.TB, b testprog.Build, args ...string) *debug.Session {
	t.Helper()
	confined(t)
	exe, core := crash(t, b, args...)
	s, err := debug.Open(t.Context(), debug.Options{Exe: open(t, exe), Core: open(t, core)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
