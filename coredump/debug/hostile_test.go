package debug_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump/debug"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/internal/testprog"
)

var mutations = flag.Int("mutations", 30, "damaged cores to open")

// small is a program with little debug information, and a core of it.
func small(t testing.TB) (exe, core string) {
	t.Helper()
	dir := t.TempDir()
	exe, core = filepath.Join(dir, "small"), filepath.Join(dir, "core")
	if out, err := exec.Command("go", "build", "-o", exe, "./testdata/small").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	kernelCore(t, exe, core, nil)
	return exe, core
}

// part is a range of a core file.
type part struct{ off, size int64 }

// parts are the headers, the notes and what has memory.
func parts(t testing.TB, f *os.File) (headers, notes part, memory []part) {
	t.Helper()
	head := make([]byte, 64)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	count := int64(binary.LittleEndian.Uint16(head[56:]))
	programs := make([]byte, 56*count)
	if _, err := f.ReadAt(programs, 64); err != nil {
		t.Fatal(err)
	}
	headers = part{0, 64 + 56*count}
	for p := programs; len(p) > 0; p = p[56:] {
		at := part{int64(binary.LittleEndian.Uint64(p[8:])), int64(binary.LittleEndian.Uint64(p[32:]))}
		switch {
		case binary.LittleEndian.Uint32(p) == 4:
			notes = at
		case at.size > 0:
			memory = append(memory, at)
		}
	}
	return headers, notes, memory
}

// damage changes bytes of one kind of part, and returns what was there.
func damage(t testing.TB, f *os.File, r *rand.Rand, kind int) (undo func()) {
	t.Helper()
	headers, notes, memory := parts(t, f)
	was := map[int64]byte{}
	for range 1 + r.IntN(24) {
		in := headers
		switch kind {
		case 1:
			in = notes
		case 2:
			in = memory[r.IntN(len(memory))]
		}
		at := in.off + r.Int64N(in.size)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if b[0] == 0 && kind == 2 && r.IntN(8) > 0 {
			continue // most of it is
		}
		if _, ok := was[at]; !ok {
			was[at] = b[0]
		}
		if _, err := f.WriteAt([]byte{byte(r.Uint32())}, at); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for at, b := range was {
			if _, err := f.WriteAt([]byte{b}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lookAround asks all that a page asks.
func lookAround(t testing.TB, s *debug.Session) error {
	var failed error
	note := func(err error) {
		if err != nil && failed == nil {
			failed = err
		}
	}
	list, _, err := s.Goroutines(t.Context(), 0, 100)
	note(err)
	ids := []int64{0}
	for _, g := range list[:min(3, len(list))] {
		ids = append(ids, g.ID)
	}
	for _, id := range ids {
		stack, err := s.Stack(t.Context(), id, 50)
		note(err)
		for i := range stack[:min(4, len(stack))] {
			_, err := s.Variables(t.Context(), id, i, debug.Load{})
			note(err)
		}
		_, err = s.Panics(t.Context(), id, debug.Load{})
		note(err)
	}
	_, err = s.Registers(t.Context(), 0)
	note(err)
	return failed
}

// TestDamagedCores opens cores with changed bytes: whatever happens to the
// child, it is an answer or a recorded failure.
func TestDamagedCores(t *testing.T) {
	confined(t)
	exe, core := small(t)
	e := open(t, exe)
	f, err := os.OpenFile(core, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := open(t, core)
	outcomes := map[string]int{}
	for n := range *mutations {
		r := rand.New(rand.NewPCG(7, uint64(n)))
		undo := damage(t, f, r, n%3)
		s, err := debug.Open(t.Context(), debug.Options{Exe: e, Core: c, Unidentified: n%2 == 0, Limits: sandbox.Limits{CPU: 5 * time.Second, Start: time.Minute}})
		if err == nil {
			err = lookAround(t, s)
			s.Close()
		}
		undo()
		outcomes[outcome(err)]++
		if outcome(err) == "unknown" {
			t.Errorf("core %d: %v", n, err)
		}
	}
	t.Logf("%d damaged cores: %v", *mutations, outcomes)
	s, err := debug.Open(t.Context(), debug.Options{Exe: e, Core: c})
	if err != nil {
		t.Fatalf("the undamaged one: %v", err)
	}
	defer s.Close()
	if err := lookAround(t, s); err != nil {
		t.Errorf("the undamaged one: %v", err)
	}
}

// outcome says in a word what came of a core.
func outcome(err error) string {
	var f *sandbox.Failure
	switch {
	case err == nil:
		return "fine"
	case errors.As(err, &f):
		return f.How
	}
	for _, kind := range []error{inquest.ErrInvalid, inquest.ErrConflict, inquest.ErrNotFound, inquest.ErrTooLarge} {
		if errors.Is(err, kind) {
			return "error: " + kind.Error()
		}
	}
	return "unknown"
}

// TestTruncatedCores opens cores that end early.
func TestTruncatedCores(t *testing.T) {
	confined(t)
	exe, core := small(t)
	whole, err := os.Stat(core)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int64]string{}
	for _, size := range []int64{whole.Size() / 2, 100_000, 2000, 64, 10, 0} {
		if err := os.Truncate(core, size); err != nil {
			t.Fatal(err)
		}
		s, err := debug.Open(t.Context(), debug.Options{Exe: open(t, exe), Core: open(t, core), Unidentified: true})
		if err == nil {
			err = lookAround(t, s)
			s.Close()
		}
		got[size] = outcome(err)
		if got[size] == "unknown" {
			t.Errorf("of %d bytes: %v", size, err)
		}
	}
	for _, size := range slices.Sorted(maps.Keys(got)) {
		t.Logf("%d bytes: %s", size, got[size])
	}
}

// BenchmarkGoroutines lists goroutines page by page, and tells the most memory
// the child took.
func BenchmarkGoroutines(b *testing.B) {
	for _, n := range []string{"10000", "100000"} {
		b.Run(n, func(b *testing.B) {
			if n == "100000" && testing.Short() {
				b.Skip("it takes long")
			}
			exe, core := crash(b, testprog.Build{}, "-kind=abort", "-goroutines="+n)
			for b.Loop() {
				s, err := debug.Open(b.Context(), debug.Options{Exe: open(b, exe), Core: open(b, core)})
				if err != nil {
					b.Fatal(err)
				}
				if got := len(all(b, s, 0)); got < 10000 {
					b.Errorf("%d goroutines", got)
				}
				s.Close()
				b.ReportMetric(float64(s.Failure().MaxRSS>>20), "MiB-child")
				b.ReportMetric(s.Failure().CPU.Seconds(), "cpu-s-child")
			}
		})
	}
}

// BenchmarkOpen opens a core and shows the stack that died.
func BenchmarkOpen(b *testing.B) {
	exe, core := crash(b, testprog.Build{}, "-kind=nil")
	for b.Loop() {
		s, err := debug.Open(b.Context(), debug.Options{Exe: open(b, exe), Core: open(b, core)})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Stack(b.Context(), 1, 50); err != nil {
			b.Fatal(err)
		}
		s.Close()
		b.ReportMetric(float64(s.Failure().MaxRSS>>20), "MiB-child")
		b.ReportMetric(s.Failure().CPU.Seconds(), "cpu-s-child")
	}
}
