package coredump_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/testprog"
)

// cannot skips a test that cannot run here, which CI does not forgive.
func cannot(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// program is one build of testdata/crasher.
type program struct {
	name  string
	flags []string
	cgo   bool
}

var programs = []program{
	{name: "plain"},
	{name: "pie", flags: []string{"-buildmode=pie"}},
	{name: "stripped", flags: []string{"-ldflags=-s -w"}},
	{name: "cgo", cgo: true},
}

var builds struct {
	sync.Mutex
	dir  string
	made map[string]string
}

func TestMain(m *testing.M) {
	code := testprog.Main(m)
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
	}
	os.Exit(code)
}

// build returns the executable of p, built once per run of the tests.
func (p program) build(t testing.TB) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "inquest-crasher-")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir, builds.made = dir, map[string]string{}
	}
	if exe := builds.made[p.name]; exe != "" {
		return exe
	}
	if p.cgo {
		if _, err := exec.LookPath("gcc"); err != nil {
			cannot(t, "no C compiler")
		}
	}
	exe := filepath.Join(builds.dir, p.name)
	cmd := exec.Command("go", append(append([]string{"build", "-o", exe}, p.flags...), "./testdata/crasher")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if p.cgo {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", p.name, err, out)
	}
	builds.made[p.name] = exe
	return exe
}

// crash runs a program until it dies and returns its core, which is deleted
// with the test.
func crash(t testing.TB, exe, how string) string {
	t.Helper()
	dir := t.TempDir()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "inquest-core-pattern.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	// Who changes the pattern has the lock for itself.
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
		if err == nil && strings.TrimSpace(string(pattern)) == "core" {
			break
		}
		if time.Now().After(until) {
			cannot(t, fmt.Sprintf("core_pattern is %q and not \"core\", or somebody else uses it", bytes.TrimSpace(pattern)))
		}
	}
	cmd := exec.Command("sh", "-c", `ulimit -c unlimited; exec "$@"`, "sh", exe, how)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("run %s %s: %v\n%s", exe, how, err, out.Bytes())
	}
	cores, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil || len(cores) != 1 {
		cannot(t, "no core was written")
	}
	return cores[0]
}
