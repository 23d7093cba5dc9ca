package coredump_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
)

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
			proc.Missing(t, "no C compiler")
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
	cmd := exec.Command("sh", "-c", `ulimit -c unlimited; exec "$@"`, "sh", exe, how)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	release := proc.TakeCorePattern(t, "core")
	err := cmd.Run()
	release()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("run %s %s: %v\n%s", exe, how, err, out.Bytes())
	}
	cores, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil || len(cores) != 1 {
		proc.Missing(t, "no core was written")
	}
	return cores[0]
}
