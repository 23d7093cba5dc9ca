package symbolize_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

const probing = `package main

var probe = []int{1}

func main() { println(&probe) }
`

func TestVariable(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(probing), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		args     []string
		relative bool
		kind     error
	}{
		{"plain", nil, false, nil},
		{"pie", []string{"-buildmode=pie"}, true, nil},
		{"stripped", []string{"-ldflags=-s -w"}, false, inquest.ErrNotFound},
	} {
		exe := filepath.Join(dir, c.name)
		if out, err := exec.Command("go", append(append([]string{"build", "-o", exe}, c.args...), source)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		out, err := exec.Command(exe).CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		want, err := strconv.ParseUint(strings.TrimSpace(string(out)), 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		f, size := openSized(t, exe)
		addr, relative, err := symbolize.Variable(f, size, "main.probe")
		if !errors.Is(err, c.kind) || relative != c.relative && c.kind == nil {
			t.Errorf("%s: relative %v, %v", c.name, relative, err)
		}
		if relative { // programs are mapped at whole pages
			addr, want = addr%4096, want%4096
		}
		if err == nil && addr != want {
			t.Errorf("%s: at %#x, want %#x", c.name, addr, want)
		}
		if _, _, err := symbolize.Variable(f, size, "no.such"); !errors.Is(err, inquest.ErrNotFound) {
			t.Errorf("%s: no such symbol: %v", c.name, err)
		}
	}
	if _, _, err := symbolize.Variable(damaged{}, 1<<20, "x"); err == nil {
		t.Error("no error of what is no program")
	}
}

// damaged is an ELF file of nothing but its first bytes, over and over.
type damaged struct{}

func (damaged) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = "\x7fELF\x02\x01\x01\x00\x40\x00\x00\x00"[(int(off)+i)%12]
	}
	return len(p), nil
}

func openSized(t *testing.T, name string) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Size()
}
