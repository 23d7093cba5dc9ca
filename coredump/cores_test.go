package coredump_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/symbolize"
	"github.com/google/go-cmp/cmp"
)

// openCore opens a core file until the test ends.
func openCore(t testing.TB, name string) (*os.File, *coredump.Notes) {
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
	n, err := coredump.OpenCoreFile(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f, n
}

// imported makes an image file of a core and opens it.
func imported(t testing.TB, f *os.File, o coredump.ImportOptions) *coredump.Image {
	t.Helper()
	var b bytes.Buffer
	l, err := coredump.ImportFile(t.Context(), f, &b, o)
	if err != nil {
		t.Fatal(err)
	}
	im := open(t, b.Bytes())
	if im.Ledger().ID() != l.ID() {
		t.Fatal("the image is not what was written")
	}
	return im
}

// sameMemory compares what two processes have at the addresses a core has.
func sameMemory(t *testing.T, segments []coredump.Segment, want, got io.ReaderAt) {
	t.Helper()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, s := range segments {
		if s.Fill == coredump.FillMissing {
			if n, err := got.ReadAt(b[:1], int64(s.Addr)); n != 0 || err == nil {
				t.Errorf("%#x should be missing", s.Addr)
			}
			continue
		}
		if s.Size > 128<<20 {
			s.Size = 128 << 20
		}
		for s.Size > 0 {
			k := min(s.Size, uint64(len(a)))
			if _, err := want.ReadAt(a[:k], int64(s.Addr)); err != nil {
				t.Fatal(err)
			}
			if _, err := got.ReadAt(b[:k], int64(s.Addr)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a[:k], b[:k]) {
				t.Fatalf("memory differs at %#x", s.Addr)
			}
			s.Addr += k
			s.Size -= k
		}
	}
}

// elfOf writes the ELF core of an image.
func elfOf(t testing.TB, im *coredump.Image) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "core.made")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := im.CoreFile().WriteSparse(f); err != nil {
		t.Fatal(err)
	}
	return name
}

// delve runs commands on a core and returns what it says.
func delve(t testing.TB, exe, core string, commands ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\nexit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../tools/go.mod", "dlv", "core", exe, core,
		"--init", script, "--allow-non-terminal-interactive=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("dlv: %v\n%s", err, out)
	}
	return string(out)
}

// gdb does the same with gdb.
func gdb(t testing.TB, exe, core string, commands ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gdb"); err != nil {
		proc.Missing(t, "no gdb")
	}
	args := []string{"-nx", "-batch", "-iex", "set debuginfod enabled off"}
	for _, c := range commands {
		args = append(args, "-ex", c)
	}
	if exe != "" {
		args = append(args, exe)
	}
	out, err := exec.CommandContext(t.Context(), "gdb", append(args, "-c", core)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	return string(out)
}

// TestRealCores takes cores of real programs through images: memory, identity
// and what debuggers say are as before.
func TestRealCores(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			exe := p.build(t)
			core := crash(t, exe, "nil")
			f, n := openCore(t, core)
			if n.Signal != 6 || len(n.Process.Threads) < 2 || len(n.Missing) > 0 || !strings.HasSuffix(n.Args, " nil") {
				t.Errorf("signal %d, %d threads, missing %v, %q", n.Signal, len(n.Process.Threads), n.Missing, n.Args)
			}
			checkIdentity(t, n.Process, exe)
			im := imported(t, f, coredump.ImportOptions{Core: inquest.Core{Crash: "c"}})
			ours := process(t, im)
			if d := cmp.Diff(n.Process.Threads, ours.Threads); d != "" {
				t.Error(d)
			}
			sameMemory(t, n.Segments, n.Process.Memory, ours.Memory)
			checkIdentity(t, ours, exe)

			made := elfOf(t, im)
			_, again := openCore(t, made)
			sameMemory(t, n.Segments, n.Process.Memory, again.Process.Memory)
			checkIdentity(t, again.Process, exe)
			if again.Core == nil || again.Core.Crash != "c" || again.Core.ID != im.Ledger().ID() {
				t.Errorf("the core file says %+v", again.Core)
			}
			if d := cmp.Diff(n.Process.Mappings, again.Process.Mappings); d != "" {
				t.Error(d)
			}
			debuggersAgree(t, p, exe, core, made)
		})
	}
}

func checkIdentity(t *testing.T, p *coredump.Process, exe string) {
	t.Helper()
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := symbolize.ReadBuild(f)
	if err != nil {
		t.Fatal(err)
	}
	got, path, err := p.Identify()
	if err != nil || path != exe {
		t.Fatalf("identified %q, want %q: %v", path, exe, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// debuggersAgree compares what Delve and gdb say of two cores.
func debuggersAgree(t *testing.T, p program, exe, want, got string) {
	t.Helper()
	commands := []string{"goroutines", "bt", "threads"}
	if p.name == "stripped" {
		commands = []string{"bt", "threads"}
	}
	a, b := delve(t, exe, want, commands...), delve(t, exe, got, commands...)
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("Delve sees another core: %s", d)
	}
	if !strings.Contains(a, "main.die") && p.name != "oom" {
		t.Errorf("Delve does not find where it died: %s", a)
	}
	name := regexp.MustCompile(`core(\.\w+)?`)
	a, b = gdb(t, exe, want, "bt", "info threads"), gdb(t, exe, got, "bt", "info threads")
	if d := cmp.Diff(name.ReplaceAllString(a, "core"), name.ReplaceAllString(b, "core")); d != "" {
		t.Errorf("gdb sees another core: %s", d)
	}
}
