// Package testprog builds a Go program that dies in many ways, runs it, and
// holds it where the kernel would dump its core. It is for tests.
//
// The program is testdata/crasher; its flags are in its main function. Once
// it is ready it writes one line with "ready", its pid, where it listens (or
// "-") and how many goroutines it has.
package testprog

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goinquest/inquest/internal/proc"
)

//go:embed testdata/crasher
var source embed.FS

// Build is a way to build the program. The zero value is the plain one.
type Build struct {
	Toolchain string // "go1.22.12"; "" is the local one
	Arch      string // GOARCH; "" is ours
	CGO       bool
	PIE       bool
	Stripped  bool     // by the linker: -s -w
	Trimpath  bool     // file names without directories of this machine
	Args      []string // others of go build
}

// Toolchains are the last one of each release of Go before the local one that
// must be understood.
var Toolchains = []string{"go1.22.12", "go1.23.12", "go1.24.9", "go1.25.5"}

// String names the build in tests.
func (b Build) String() string {
	name := strings.TrimPrefix(b.Toolchain, "go")
	if name == "" {
		name = "local"
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{b.CGO, "cgo"}, {b.PIE, "pie"}, {b.Stripped, "stripped"}, {b.Trimpath, "trimpath"}, {b.Arch != "", b.Arch}} {
		if f.on {
			name += "," + f.name
		}
	}
	return strings.Join(append([]string{name}, b.Args...), ",")
}

// built are the programs of this test run.
var built struct {
	sync.Mutex
	dir   string // "" unless Main runs the tests
	paths map[string]string
}

// Main runs the tests of a package, with programs that are built only once,
// and deletes these: for TestMain, with os.Exit.
func Main(m *testing.M) int {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("testprog-%d-", os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.dir, built.paths = dir, map[string]string{}
	return m.Run()
}

// sweep deletes what test runs left that were killed.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "testprog-*-*"))
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "testprog-%d-", &pid); err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprint("/proc/", pid)); os.IsNotExist(err) && exists("/proc/self") {
			os.RemoveAll(dir)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Path builds the program, if this test run has not yet, and returns where it
// is. It must not be changed. Without Main it is built for each test anew.
// Where it cannot be built for want of a toolchain the test is skipped, or
// fails under CI.
func (b Build) Path(t testing.TB) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	key := fmt.Sprintf("%+v", b)
	if path := built.paths[key]; path != "" {
		return path
	}
	dir := ""
	if built.dir == "" {
		dir = t.TempDir()
	} else {
		var err error
		if dir, err = os.MkdirTemp(built.dir, ""); err != nil {
			t.Fatal(err)
		}
	}
	path := b.build(t, dir)
	if built.dir != "" {
		built.paths[key] = path
	}
	return path
}

// build writes the source and compiles it.
func (b Build) build(t testing.TB, dir string) string {
	t.Helper()
	src := filepath.Join(dir, "src")
	files, err := fs.Sub(source, "testdata/crasher")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(src, files); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "go.mod"), []byte("module example.com/crasher\n\ngo 1.22\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "crasher")
	args := []string{"build", "-o", out}
	if b.Stripped {
		args = append(args, "-ldflags=-s -w")
	}
	if b.PIE {
		args = append(args, "-buildmode=pie")
	}
	if b.Trimpath {
		args = append(args, "-trimpath")
	}
	cmd := exec.Command("go", slices.Concat(args, b.Args, []string{"."})...)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOOS=linux")
	if b.CGO {
		if _, err := exec.LookPath("gcc"); err != nil {
			proc.Missing(t, "gcc is not here")
		}
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if b.Toolchain != "" {
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+b.Toolchain)
	}
	if b.Arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+b.Arch)
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		if b.Toolchain != "" && (bytes.Contains(msg, []byte("toolchain not available")) || bytes.Contains(msg, []byte("download go1"))) {
			proc.Missing(t, "%s cannot be had: %s", b.Toolchain, msg)
		}
		t.Fatalf("%s: %v\n%s", cmd, err, msg)
	}
	return out
}
