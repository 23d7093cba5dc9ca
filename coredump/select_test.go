//go:build linux && amd64

package coredump_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
)

// present are all pages that a core would have, but for shared memory.
func present(h *testprog.Held) []coredump.Extent {
	var out []coredump.Extent
	for _, m := range h.Mappings {
		if !m.Shared && m.Flags&4 != 0 && !strings.HasPrefix(m.Path, "[v") {
			out = append(out, h.Present(m.Extent)...)
		}
	}
	return out
}

// packed is how many bytes extents have when they are compressed.
func packed(t testing.TB, h *testprog.Held, extents []coredump.Extent) (plain, stored int64) {
	t.Helper()
	var n count
	w, err := zstd.NewWriter(&n, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		c, err := io.Copy(w, io.NewSectionReader(h.Memory, int64(e.Addr), int64(e.Size)))
		if err != nil {
			t.Fatal(err)
		}
		plain += c
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return plain, int64(n)
}

type count int64

func (c *count) Write(p []byte) (int, error) {
	*c += count(len(p))
	return len(p), nil
}

// check sees that extents are as Select promises.
func check(t testing.TB, h *testprog.Held, extents []coredump.Extent) {
	t.Helper()
	sorted := slices.Clone(extents)
	slices.SortFunc(sorted, func(a, b coredump.Extent) int { return int(a.Addr>>12) - int(b.Addr>>12) })
	for i, e := range sorted {
		if e.Size == 0 || e.Addr%h.PageSize != 0 || e.Size%h.PageSize != 0 {
			t.Errorf("extent %#x is not of whole pages", e)
		}
		if i > 0 && sorted[i-1].End() > e.Addr {
			t.Errorf("extents %#x and %#x overlap", sorted[i-1], e)
		}
		if !slices.ContainsFunc(h.Mappings, func(m coredump.Mapping) bool { return m.Addr <= e.Addr && e.End() <= m.End() }) {
			t.Errorf("extent %#x is not in one mapping", e)
		}
	}
}

// coreOf writes the ELF core of what was selected.
func coreOf(t testing.TB, h *testprog.Held, extents []coredump.Extent) string {
	t.Helper()
	head := coredump.Header{Notes: h.Notes(), Machine: 62, Extents: extents}
	head.Core.Arch = "amd64"
	for _, m := range h.Mappings {
		if m.Flags&4 != 0 && !strings.HasPrefix(m.Path, "[v") {
			head.Segments = append(head.Segments, coredump.Segment{Extent: m.Extent, Flags: m.Flags, Fill: coredump.FillMissing})
		}
	}
	dir := t.TempDir()
	image, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	w, err := coredump.NewWriter(image, &head)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		if _, err := io.Copy(w, io.NewSectionReader(h.Memory, int64(e.Addr), int64(e.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	im, err := coredump.OpenImage(image, w.Stored())
	if err != nil {
		t.Fatal(err)
	}
	core, err := os.Create(filepath.Join(dir, "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	if _, err := im.CoreFile().WriteTo(core); err != nil {
		t.Fatal(err)
	}
	return core.Name()
}

// TestSelect sees that Delve finds in a minicore what it needs.
func TestSelect(t *testing.T) {
	for i, b := range []testprog.Build{{}, {PIE: true}, {CGO: true}} {
		t.Run(b.String(), func(t *testing.T) {
			if i > 0 && testing.Short() {
				t.Skip("short")
			}
			h := die(t, b, "panic", "-goroutines=1000", "-heap=64")
			r, _ := openRuntime(t, h)
			start := time.Now()
			mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			check(t, h, mini)
			full, fullStored := packed(t, h, present(h))
			size, stored := packed(t, h, mini)
			t.Logf("%d extents, %d of %d KB, packed %d of %d KB, in %v", len(mini), size>>10, full>>10, stored>>10, fullStored>>10, took)
			if stored*100 > fullStored*15 {
				t.Errorf("the minicore has %d of %d bytes", stored, fullStored)
			}
			out := delve(t, b.Path(t), coreOf(t, h, mini), "goroutines -t 5", "goroutine 1", "bt", "print runtime.curg._panic.arg")
			for _, want := range []string{
				"main.waiter", "main.explicit", "main.(*request).dispatch",
				`interface {}(string) "explicit: payload of the request that died"`,
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in what Delve says:\n%s", want, out[max(0, len(out)-2000):])
				}
			}
			// Delve counts the spare goroutine for callbacks from C, too.
			if n := live(r); !strings.Contains(out, fmt.Sprintf("[%d goroutines]", n)) && !(b.CGO && strings.Contains(out, fmt.Sprintf("[%d goroutines]", n+1))) {
				t.Errorf("Delve does not count %d goroutines", n)
			}
			if n := strings.Count(out, "main.waiter"); n < 1000 {
				t.Errorf("Delve has %d of 1000 stacks", n)
			}
		})
	}
}

// live counts goroutines.
func live(r *coredump.Runtime) (n int) {
	for range r.Goroutines() {
		n++
	}
	return n
}

// TestSelectLarge takes a minicore of a large heap.
func TestSelectLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	h := die(t, testprog.Build{Stripped: true}, "panic", "-heap=1024")
	r, _ := openRuntime(t, h)
	have := present(h)
	start := time.Now()
	mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: have})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	full, fullStored := packed(t, h, have)
	size, stored := packed(t, h, mini)
	t.Logf("%d extents, %d of %d KB, packed %d of %d KB, in %v", len(mini), size>>10, full>>10, stored>>10, fullStored>>10, took)
	if stored*100 > fullStored*3 {
		t.Errorf("the minicore has %d of %d bytes, more than 3 %%", stored, fullStored)
	}
}

// TestSelectWithoutRuntime has threads and variables only.
func TestSelectWithoutRuntime(t *testing.T) {
	h := die(t, testprog.Build{}, "panic", "-heap=16")
	have := present(h)
	mini, err := coredump.Select(&h.Process, nil, coredump.Selection{Present: have})
	if err != nil {
		t.Fatal(err)
	}
	check(t, h, mini)
	size, _ := packed(t, h, mini)
	full, _ := packed(t, h, have)
	t.Logf("%d of %d KB", size>>10, full>>10)
	if size > full/2 {
		t.Errorf("%d of %d bytes", size, full)
	}
	out := delve(t, testprog.Build{}.Path(t), coreOf(t, h, mini), "bt")
	if !strings.Contains(out, "main.explicit") {
		t.Errorf("Delve says:\n%s", out)
	}
	if _, err := coredump.Select(&coredump.Process{}, nil, coredump.Selection{}); err == nil {
		t.Error("a process without a size of pages has a minicore")
	}
}

// TestSelectBudget sees that the most useful comes first, whatever the budget.
func TestSelectBudget(t *testing.T) {
	h := die(t, testprog.Build{}, "panic", "-goroutines=100")
	r, _ := openRuntime(t, h)
	g, _ := r.Died()
	for _, budget := range []uint64{4096, 64 << 10, 1 << 20} {
		mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h), Bytes: budget})
		if err != nil {
			t.Fatal(err)
		}
		check(t, h, mini)
		size := uint64(0)
		for _, e := range mini {
			size += e.Size
		}
		if size > budget || size == 0 || mini[0].Addr > g.SP || mini[0].End() <= g.SP {
			t.Errorf("%d bytes of a budget of %d, beginning with %#x; the goroutine that died is at %#x", size, budget, mini[0], g.SP)
		}
	}
}

// TestSelectForbidden never takes or reads what may not be.
func TestSelectForbidden(t *testing.T) {
	h := die(t, testprog.Build{}, "panic")
	r, _ := openRuntime(t, h)
	all, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range h.Mappings {
		if h.Mappings[i].Inode == 0 && slices.ContainsFunc(all, func(e coredump.Extent) bool { return e.Addr >= h.Mappings[i].Addr && e.End() <= h.Mappings[i].End() }) {
			h.Mappings[i].NoDump = true
		}
	}
	mini, err := coredump.Select(&h.Process, nil, coredump.Selection{Present: present(h)})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range mini {
		for _, m := range h.Mappings {
			if m.NoDump && e.Addr < m.End() && m.Addr < e.End() {
				t.Errorf("%#x is of a mapping that is not to be dumped", e)
			}
		}
	}
}

// TestSelectKinds takes minicores of all kinds of deaths.
func TestSelectKinds(t *testing.T) {
	for _, kind := range []string{"stack", "oom", "maps", "abort", "deadlock", "locked"} {
		t.Run(kind, func(t *testing.T) {
			h := die(t, testprog.Build{}, kind, "-goroutines=10")
			have := present(h)
			start := time.Now()
			r, _ := openRuntime(t, h)
			mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: have})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			check(t, h, mini)
			size, stored := packed(t, h, mini)
			t.Logf("%d extents, %d KB, packed %d KB, in %v", len(mini), size>>10, stored>>10, took)
			if stored > 2<<20 || took > time.Second {
				t.Errorf("%d KB in %v", stored>>10, took)
			}
			if g, ok := r.Died(); ok && !slices.ContainsFunc(mini, func(e coredump.Extent) bool { return e.Addr <= g.SP && g.SP < e.End() }) {
				t.Errorf("the stack of the goroutine that died, at %#x, is not in there", g.SP)
			}
		})
	}
}

// TestSelectLive takes a minicore of a process that was stopped somewhere.
func TestSelectLive(t *testing.T) {
	exe := testprog.Build{}.Path(t)
	h := testprog.Hold(t, exe, testprog.Options{Args: []string{"-kind=spin", "-goroutines=50"}}, 20*time.Millisecond)
	r, _ := openRuntime(t, h)
	mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
	if err != nil {
		t.Fatal(err)
	}
	check(t, h, mini)
	out := delve(t, exe, coreOf(t, h, mini), "goroutines -t 5")
	if !strings.Contains(out, "main.spin") || strings.Count(out, "main.waiter") < 50 {
		t.Errorf("Delve says:\n%s", out[max(0, len(out)-2000):])
	}
}

// TestMinicoreIsEnough sees the same in a minicore as in the process.
func TestMinicoreIsEnough(t *testing.T) {
	for _, kind := range []string{"nil", "stack", "maps", "abort"} {
		t.Run(kind, func(t *testing.T) {
			h := die(t, testprog.Build{PIE: true, Stripped: true}, kind, "-goroutines=100", "-heap=4")
			r, funcs := openRuntime(t, h)
			mini, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(coreOf(t, h, mini))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			notes, err := coredump.OpenCoreFile(f, info.Size())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(coredump.CaptureKey(&h.Process, funcs), coredump.CaptureKey(notes.Process, funcs)); diff != "" {
				t.Errorf("keys (-process, +minicore):\n%s", diff)
			}
			of, err := coredump.OpenRuntime(notes.Process, funcs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(slices.Collect(r.Goroutines()), slices.Collect(of.Goroutines()), cmpopts.IgnoreUnexported(coredump.Goroutine{})); diff != "" {
				t.Errorf("goroutines (-process, +minicore):\n%s", diff)
			}
			a, err := coredump.ReadArguments(notes.Process)
			if err != nil || len(a.Args) != 4 {
				t.Errorf("arguments %v, %v", a, err)
			}
		})
	}
}
