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

	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
)

// present are all pages that a core would have, but for shared memory.
func present(h *testprog.Held) []coredump.Extent {
	var out []coredump.Extent
	for _, m := range h.Mappings {
		if !m.Shared && !strings.HasPrefix(m.Path, "[v") {
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
				fmt.Sprintf("[%d goroutines]", live(r)), "main.waiter", "main.explicit", "main.(*request).dispatch",
				`interface {}(string) "explicit: payload of the request that died"`,
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in what Delve says:\n%s", want, out[max(0, len(out)-6000):])
				}
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
