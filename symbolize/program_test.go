package symbolize_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/symbolize"
)

// program is a way to build the test program.
type program struct {
	toolchain string // "" is the local one
	arch      string // "" is ours
	cgo       bool
	args      []string // of go build
	strip     bool     // by strip(1)
	dir       string   // below testdata; "" is load
}

// build builds the test program and returns its path. Where that is not
// possible, the test is skipped, or fails under CI.
func (p program) build(t testing.TB) string {
	t.Helper()
	dir := p.dir
	if dir == "" {
		dir = "load"
	}
	out := filepath.Join(t.TempDir(), dir)
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, p.args...), ".")...)
	cmd.Dir = filepath.Join("testdata", dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if p.cgo {
		p.need(t, "gcc")
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if p.toolchain != "" {
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+p.toolchain)
	}
	if p.arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+p.arch)
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		if p.toolchain != "" && bytes.Contains(msg, []byte("toolchain not available")) || bytes.Contains(msg, []byte("download go1")) {
			proc.Missing(t, "%s cannot be had: %s", p.toolchain, msg)
		}
		t.Fatalf("%s: %v\n%s", cmd, err, msg)
	}
	if p.strip {
		p.need(t, "strip")
		if msg, err := exec.Command("strip", out).CombinedOutput(); err != nil {
			t.Fatalf("strip: %v\n%s", err, msg)
		}
	}
	return out
}

func (p program) need(t testing.TB, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		proc.Missing(t, "%s is not here", tool)
	}
}

func (p program) String() string {
	name := strings.TrimPrefix(p.toolchain, "go")
	if name == "" {
		name = "local"
	}
	for _, a := range p.args {
		name += "," + strings.Trim(a, "-")
	}
	if p.cgo {
		name += ",cgo"
	}
	if p.strip {
		name += ",strip"
	}
	if p.arch != "" {
		name += "," + p.arch
	}
	return name
}

// readFile returns a whole file.
func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newTable writes and opens the table of an executable.
func newTable(t testing.TB, exe []byte) *symbolize.Table {
	t.Helper()
	return newTableWith(t, exe, nil)
}

// newTableWith is newTable with a companion.
func newTableWith(t testing.TB, exe []byte, debug *symbolize.Input) *symbolize.Table {
	t.Helper()
	var blob bytes.Buffer
	if err := symbolize.WriteTable(&blob, symbolize.Input{ReaderAt: bytes.NewReader(exe), Size: int64(len(exe))}, debug); err != nil {
		t.Fatal(err)
	}
	table, err := symbolize.OpenTable(bytes.NewReader(blob.Bytes()), int64(blob.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// buildCommand builds the collector.
func buildCommand(t testing.TB, out string) {
	t.Helper()
	if msg, err := exec.Command("go", "build", "-o", out, "../cmd/collector").CombinedOutput(); err != nil {
		t.Fatalf("build the collector: %v\n%s", err, msg)
	}
}
