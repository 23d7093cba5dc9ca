package coredump_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/proc"
)

// onDisk is how many bytes a file takes.
func onDisk(t testing.TB, name string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestOutOfMemory has a core of 70 GB of addresses and some MB of memory.
func TestOutOfMemory(t *testing.T) {
	exe := programs[0].build(t)
	core := crash(t, exe, "oom")
	f, n := openCore(t, core)
	if n.FileBytes < 60<<30 {
		t.Fatalf("a core of %d bytes", n.FileBytes)
	}
	real := onDisk(t, core)
	if real > 1<<30 {
		proc.Missing(t, "the file system has no holes")
	}
	start := time.Now()
	var b bytes.Buffer
	if _, err := coredump.ImportFile(t.Context(), f, &b, coredump.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	im := open(t, b.Bytes())
	c := im.Ledger().Header().Core
	t.Logf("%d bytes, %d on disk, %d of memory, %d stored; imported in %v", n.FileBytes, real, c.MemoryBytes, b.Len(), took)
	if c.MemoryBytes > real+1<<20 || int64(b.Len()) > real || c.VirtualBytes < 60<<30 {
		t.Errorf("sizes did not stay real: %+v", c)
	}
	checkIdentity(t, process(t, im), exe)

	made := elfOf(t, im)
	if got := onDisk(t, made); got > real+4<<20 {
		t.Errorf("the made core takes %d bytes, the real one %d", got, real)
	}
	sameMemory(t, n.Segments, n.Process.Memory, process(t, im).Memory)
	debuggersAgree(t, program{name: "oom"}, exe, core, made)

	dir := t.TempDir()
	archive := filepath.Join(dir, "core.tar")
	w, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := im.CoreFile().WriteTar(w, "core.from-tar"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := onDisk(t, archive); got > real+4<<20 {
		t.Errorf("the archive takes %d bytes", got)
	}
	checkTar(t, archive, im.CoreFile())
	if out, err := exec.Command("tar", "-x", "-S", "-f", archive, "-C", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	unpacked := filepath.Join(dir, "core.from-tar")
	if got := onDisk(t, unpacked); got > real+4<<20 {
		t.Errorf("unpacked, the core takes %d bytes", got)
	}
	_, again := openCore(t, unpacked)
	sameMemory(t, n.Segments, n.Process.Memory, again.Process.Memory)
}

// checkTar reads an archive with another reader.
func checkTar(t *testing.T, archive string, want *coredump.CoreFile) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	h, err := r.Next()
	if err != nil || h.Name != "core.from-tar" || h.Size != want.Size() {
		t.Fatalf("archive/tar sees %+v, %v", h, err)
	}
	got, b := make([]byte, 1<<20), make([]byte, 1<<20)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	if _, err := want.ReadAt(b, 0); err != nil || !bytes.Equal(got, b) {
		t.Errorf("archive/tar sees other bytes (%v)", err)
	}
}

// TestTruncatedCore imports cores that were cut off.
func TestTruncatedCore(t *testing.T) {
	exe := programs[0].build(t)
	f, n := openCore(t, crash(t, exe, "nil"))
	for _, size := range []int64{n.FileBytes - 5000, n.FileBytes / 2, 3 << 20} {
		cut, err := os.Create(filepath.Join(t.TempDir(), "cut"))
		if err != nil {
			t.Fatal(err)
		}
		defer cut.Close()
		if _, err := io.Copy(cut, io.NewSectionReader(f, 0, size)); err != nil {
			t.Fatal(err)
		}
		_, got := openCore(t, cut.Name())
		missing := uint64(0)
		for _, e := range got.Missing {
			missing += e.Size
			if k, err := got.Process.Memory.ReadAt(make([]byte, 1), int64(e.Addr)); k != 0 || !errors.Is(err, inquest.ErrNotFound) {
				t.Errorf("%#x is not missing: %v", e.Addr, err)
			}
		}
		if missing < uint64(n.FileBytes-size)/2 || missing > uint64(n.FileBytes-size) {
			t.Errorf("cut at %d of %d, %d bytes are missing", size, n.FileBytes, missing)
		}
		im := imported(t, cut, coredump.ImportOptions{})
		c := im.CoreFile().Core()
		if len(c.Missing) == 0 || !strings.Contains(c.Missing[0], "cut off") {
			t.Errorf("missing %q", c.Missing)
		}
		memory := process(t, im).Memory
		for _, e := range got.Missing {
			if k, err := memory.ReadAt(make([]byte, 1), int64(e.Addr)); k != 0 || !errors.Is(err, inquest.ErrNotFound) {
				t.Errorf("%#x is not missing: %v", e.Addr, err)
			}
		}
		_, again := openCore(t, elfOf(t, im))
		if len(again.Missing) > 0 || again.Core == nil || len(again.Core.Missing) != len(c.Missing) {
			t.Errorf("the made core: missing %v, %+v", again.Missing, again.Core)
		}
		checkIdentity(t, again.Process, exe)
	}
}

// TestForeignCore refuses the core of a program that is not one of Go.
func TestForeignCore(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	core := gcore(t, dir, cmd.Process.Pid)
	f, _ := openCore(t, core)
	w := &counting{}
	if _, err := coredump.ImportFile(t.Context(), f, w, coredump.ImportOptions{}); !errors.Is(err, coredump.ErrNotGo) || w.n > 0 {
		t.Errorf("%v, %d bytes were written", err, w.n)
	}
}

type counting struct{ n int }

func (c *counting) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

func gcore(t testing.TB, dir string, pid int) string {
	t.Helper()
	if _, err := exec.LookPath("gcore"); err != nil {
		proc.Missing(t, "no gcore")
	}
	name := filepath.Join(dir, "gcore")
	out, err := exec.Command("gcore", "-o", name, strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		proc.Missing(t, "gcore: %s", out)
	}
	return name + "." + strconv.Itoa(pid)
}

// TestSnapshotOfDebugger imports what debuggers write of a process that goes
// on: with headers, notes and memory in any order.
func TestSnapshotOfDebugger(t *testing.T) {
	exe := programs[0].build(t)
	for name, dump := range map[string]func(t testing.TB, dir string, pid int) string{"gdb": gcore, "Delve": delveDump} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(exe, "wait")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			f, n := openCore(t, dump(t, t.TempDir(), cmd.Process.Pid))
			im := imported(t, f, coredump.ImportOptions{})
			sameMemory(t, n.Segments, n.Process.Memory, process(t, im).Memory)
			if name == "gdb" { // Delve does not say which files are mapped, nor writes the page with the ids
				checkIdentity(t, process(t, im), exe)
			}
			if b, _, err := process(t, im).Identify(); err != nil || b.GoVersion != runtime.Version() {
				t.Errorf("%+v, %v", b, err)
			}
			if out := delve(t, exe, elfOf(t, im), "goroutines"); !strings.Contains(out, "main.wait") {
				t.Error(out)
			}
		})
	}
}

// delveDump has Delve write a core.
func delveDump(t testing.TB, dir string, pid int) string {
	t.Helper()
	script, core := filepath.Join(dir, "commands"), filepath.Join(dir, "core.dlv")
	if err := os.WriteFile(script, []byte("dump "+core+"\nexit -c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "-modfile=../tools/go.mod", "dlv", "attach", strconv.Itoa(pid), "--init", script,
		"--allow-non-terminal-interactive=true").CombinedOutput()
	if _, missing := os.Stat(core); missing != nil {
		proc.Missing(t, "dlv attach: %v: %s", err, out)
	}
	return core
}

// TestImportCanceled stops when it is told to.
func TestImportCanceled(t *testing.T) {
	f, _ := openCore(t, crash(t, programs[0].build(t), "nil"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := coredump.ImportFile(ctx, f, io.Discard, coredump.ImportOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestMini keeps what is selected, and what of it comes first is the minicore.
func TestMini(t *testing.T) {
	exe := programs[0].build(t)
	core := crash(t, exe, "nil")
	for _, tier := range []inquest.Tier{inquest.TierMini, inquest.TierFull} {
		f, n := openCore(t, core)
		selected := func(p *coredump.Process) (out []coredump.Extent, err error) {
			for _, m := range p.Mappings {
				if m.Path == "" && m.Size >= 4<<20 {
					m.Size = 3 << 20
				}
				out = append(out, m.Extent)
			}
			return out, nil
		}
		blanked := 0
		im := imported(t, f, coredump.ImportOptions{Core: inquest.Core{Tier: tier}, Select: selected, Blank: func(p []byte, addr uint64) int {
			blanked += bytes.Count(p, []byte("PATH="))
			for i := bytes.Index(p, []byte("PATH=")); i >= 0; i = bytes.Index(p, []byte("PATH=")) {
				copy(p[i:], "xxxxx")
			}
			return 0
		}})
		l := im.Ledger()
		if all := len(l.Blocks()) == l.MiniBlocks(); all != (tier == inquest.TierMini) {
			t.Errorf("%s: %d of %d blocks are the minicore", tier, l.MiniBlocks(), len(l.Blocks()))
		}
		half := coredump.NewImage(l, im.Stored, func(n int) bool { return n < l.MiniBlocks() })
		if blanked == 0 || bytes.Contains(whole(t, half.CoreFile()), []byte("PATH=/")) {
			t.Errorf("%s: not blanked", tier)
		}
		made := elfOf(t, half)
		at := fmt.Sprintf("%#x", missingPage(t, n.Process, process(t, half)))
		if out := delve(t, exe, made, "examinemem -len 8 "+at, "threads"); !strings.Contains(out, "EOF") || !strings.Contains(out, "runtime.raise") {
			t.Errorf("%s: Delve reads what is missing: %s", tier, out)
		}
		if out := gdb(t, exe, made, "x/gx "+at, "info threads"); !strings.Contains(out, "Cannot access memory") || !strings.Contains(out, "runtime.raise") {
			t.Errorf("%s: gdb reads what is missing: %s", tier, out)
		}
	}
}

// missingPage is the address of a page that only one of two processes has.
func missingPage(t *testing.T, has, lacks *coredump.Process) uint64 {
	t.Helper()
	b := make([]byte, 8)
	for _, m := range has.Mappings {
		for a := m.Addr; a < m.End() && m.Size < 1<<30; a += 4096 {
			if _, err := has.Memory.ReadAt(b, int64(a)); err != nil {
				break
			}
			if _, err := lacks.Memory.ReadAt(b, int64(a)); errors.Is(err, inquest.ErrNotFound) {
				return a
			}
		}
	}
	t.Fatal("nothing is missing")
	return 0
}

func whole(t testing.TB, f *coredump.CoreFile) []byte {
	t.Helper()
	var out []byte
	for _, e := range f.Extents() {
		b := make([]byte, e.Size)
		if _, err := f.ReadAt(b, int64(e.Addr)); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}
