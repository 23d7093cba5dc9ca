package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// check checks a directory.
func check(tb testing.TB, dir string, repair, deep bool) *store.CheckReport {
	tb.Helper()
	r, err := store.Check(context.Background(), store.CheckOptions{Dir: dir, Repair: repair, Deep: deep})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func spellProblems(r *store.CheckReport) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%+v", p)
		if p.Lost != nil {
			fmt.Fprintf(&b, " lost %+v", *p.Lost)
		}
		b.WriteString("\n")
	}
	for _, n := range r.Notes {
		b.WriteString("note: " + n + "\n")
	}
	return b.String()
}

// damageable makes a directory with every kind of file in it: blocks of
// several services and kinds, of every level, a log, cumulative states, builds.
// It returns what is stored.
func damageable(tb testing.TB) (dir string, want map[inquest.Key]string) {
	tb.Helper()
	ctx := context.Background()
	s := open(tb, tb.TempDir(), store.SmallMerges, rollNow)
	d := profile.NewDecoder(profile.Limits{})
	n := 0
	for round := range 4 {
		for _, kind := range []string{"cpu", "heap", "mutex", "goroutine"} {
			for i, b := range corpus.Load(kind)[:2] {
				r := record(tb, d, n, fmt.Sprint("svc", i), inquest.Kind(kind), b.Data)
				r.BaselineName, r.Baseline = fmt.Sprint("state", n%5), []byte{1, 2, 3, byte(n)}
				if _, err := s.Append(ctx, r); err != nil {
					tb.Fatal(err)
				}
				n++
			}
		}
		var err error
		switch round {
		case 0, 2:
			err = s.Flush(ctx)
		case 1: // those of 0 and 1 become blocks of levels 1 and 2
			err = errors.Join(s.Flush(ctx), s.Settle(ctx))
		} // those of 3 stay in the log
		if err != nil {
			tb.Fatal(err)
		}
	}
	if l := s.Levels(); l[0] == 0 || l[1] == 0 || l[2] == 0 {
		tb.Fatalf("blocks by level: %v", l)
	}
	if err := s.PutBuilds([]inquest.Build{{ID: "b1", GoVersion: "go1.26.8"}, {ID: "b2", GoVersion: "go1.25"}}); err != nil {
		tb.Fatal(err)
	}
	want = stored(tb, s)
	dir = copyDir(tb, s.Dir())
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir, want
}

// TestCheckWhole: nothing is wrong with what this version or an older one
// wrote, and a check changes nothing.
func TestCheckWhole(t *testing.T) {
	dir, _ := damageable(t)
	closed := copyDir(t, dir)
	if err := open(t, closed).Close(); err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{"after a crash": dir, "after a clean stop": closed, "new": t.TempDir()}
	samples, err := filepath.Glob(formatDirs)
	if err != nil || len(samples) < 2 {
		t.Fatal(samples, err)
	}
	for _, sample := range samples {
		dirs[sample] = copyDir(t, sample)
		if err := os.Remove(filepath.Join(dirs[sample], "want.golden")); err != nil {
			t.Fatal(err)
		}
	}
	for name, dir := range dirs {
		for _, deep := range []bool{false, true} {
			before := readFiles(t, dir)
			r := check(t, dir, false, deep)
			if !r.Whole() || len(r.Notes) > 0 {
				t.Errorf("%s, deep %v: %s", name, deep, spellProblems(r))
			}
			if name != "new" && (r.Blocks < 2 || r.Parts < 3 || r.Streams < 50 || r.Profiles < 6) {
				t.Errorf("%s: only %+v", name, r)
			}
			blocks := int64(0)
			for f, b := range readFiles(t, dir) {
				if strings.HasSuffix(f, ".blk") {
					blocks += int64(len(b))
				}
			}
			// Beside what is counted there are the head and the listing of a file.
			s := r.Space
			if sum := s.Profiles + s.Dictionaries + s.Rollups() + s.Digests; name != "new" && (sum > blocks || sum < blocks/2 || s.Profiles == 0) {
				t.Errorf("%s: %+v of %d bytes", name, s, blocks)
			}
			for f, b := range readFiles(t, dir) {
				if !bytes.Equal(b, before[f]) && filepath.Base(f) != "lock" {
					t.Errorf("%s: %s has changed", name, f)
				}
			}
			if name == "new" {
				continue
			}
			if r := check(t, copyDir(t, dir), true, deep); !r.Whole() {
				t.Errorf("%s: repair: %s", name, spellProblems(r))
			}
		}
	}
}

func readFiles(tb testing.TB, dir string) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestCheckFlip flips a byte at places spread over every file: the check finds
// it and names the file, and a repair leaves a store that serves everything but
// what it says is lost. INQUEST_LONG=1 flips more.
func TestCheckFlip(t *testing.T) {
	base, want := damageable(t)
	entries := catalogEntries(t, base)
	for name, good := range readFiles(t, base) {
		if name == "lock" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := 160
			if os.Getenv("INQUEST_LONG") != "" {
				steps = 5000
			}
			step := max(1, len(good)/steps)
			dir := copyDir(t, base)
			for i := range (len(good) + step - 1) / step {
				at := i*step + i%step // not always the same place of a structure
				if at >= len(good) {
					break
				}
				bad := bytes.Clone(good)
				bad[at] ^= 1 << (i % 8)
				if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
					t.Fatal(err)
				}
				r := check(t, dir, false, false)
				found := strings.Contains(spellProblems(r), filepath.Base(name))
				if !found && (name != "catalog.db" || catalogEntries(t, dir) != entries) {
					t.Fatalf("byte %d of %d is not found: %s%s", at, len(good), spellProblems(r), cmp.Diff(entries, catalogEntries(t, dir)))
				}
				if name == "catalog.db" && i%5 == 0 {
					openDamaged(t, dir, want, fmt.Sprintf("byte %d of %d", at, len(good)))
				}
				if i%40 == 7 {
					repairAndServe(t, dir, want, fmt.Sprintf("%s byte %d of %d", name, at, len(good)))
				}
			}
		})
	}
}

// TestCheckCut cuts every file short, and removes it.
func TestCheckCut(t *testing.T) {
	t.Parallel()
	base, want := damageable(t)
	entries := catalogEntries(t, base)
	for name, good := range readFiles(t, base) {
		if name == "lock" {
			continue
		}
		for _, n := range []int{-1, 0, 1, 7, len(good) / 3, len(good) / 2, len(good) - 1} {
			dir := copyDir(t, base)
			path := filepath.Join(dir, name)
			err := os.Remove(path)
			if n >= 0 {
				err = os.WriteFile(path, good[:n], 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s of %d bytes cut to %d", name, len(good), n)
			r := check(t, dir, false, false)
			// A log that ends early is one a power cut ended, and nothing says that
			// there was another file.
			found := strings.Contains(spellProblems(r), filepath.Base(name))
			if !found && (filepath.Dir(name) != "log" || n > 0) && (name != "catalog.db" || catalogEntries(t, dir) != entries) {
				t.Fatalf("%s is not found: %s", what, spellProblems(r))
			}
			if filepath.Dir(name) != "log" {
				repairAndServe(t, dir, want, what)
			}
		}
	}
}

// repairAndServe repairs a copy of a directory and opens it: everything is
// served but what the repair says is lost.
func repairAndServe(t *testing.T, dir string, want map[inquest.Key]string, what string) {
	t.Helper()
	dir = copyDir(t, dir)
	repaired := check(t, dir, true, false)
	s := open(t, dir)
	waitReady(t, s)
	readAll(t, s) // what is damaged may be met only now
	got := served(t, s)
	lost := int64(0)
	for _, p := range repaired.Problems {
		if p.Lost != nil {
			lost += p.Lost.Profiles
		}
	}
	if missing := int64(len(want) - len(got)); missing > lost && !strings.HasPrefix(what, "log") {
		t.Fatalf("%s: %d of %d profiles are missing, %d are said to be lost: %s", what, missing, len(want), lost, spellProblems(repaired))
	}
	for k, v := range got {
		if want[k] != v {
			t.Fatalf("%s: %v is %q, want %q", what, k, v, want[k])
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := check(t, dir, true, true)
	for _, p := range again.Problems {
		if !p.Known {
			t.Fatalf("%s: after the repair: %s\nbefore: %s", what, spellProblems(again), spellProblems(repaired))
		}
	}
	os.RemoveAll(dir)
}

// openDamaged opens a copy of a directory whose catalog is damaged, without a
// repair: either that is refused, or nothing is lost.
func openDamaged(t *testing.T, dir string, want map[inquest.Key]string, what string) {
	t.Helper()
	dir = copyDir(t, dir)
	s, err := store.Open(context.Background(), store.Options{Dir: dir, MinFreeBytes: 1})
	if errors.Is(err, store.ErrCatalog) {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	waitReady(t, s)
	if got := served(t, s); len(got) != len(want) {
		t.Fatalf("%s: %d of %d profiles are there: %v", what, len(got), len(want), s.Stats().Quarantined)
	}
}

// served is stored of a store that may be damaged.
func served(tb testing.TB, s *store.Store) map[inquest.Key]string {
	tb.Helper()
	ctx := context.Background()
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	out := map[inquest.Key]string{}
	for _, p := range v.Parts {
		for i, sec := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				tb.Fatal(err)
			}
			for r, k := range rows.Key {
				if out[k] != "" {
					tb.Fatalf("%v is there twice", k)
				}
				out[k] = fmt.Sprint(p.Service, sec.Kind, rows.Start[r])
				for c := range rows.Totals {
					out[k] += fmt.Sprint(" ", rows.Totals[c][r])
				}
			}
		}
	}
	return out
}

// catalogEntries spells everything in a directory's catalog; "" if it cannot
// be opened.
func catalogEntries(tb testing.TB, dir string) string {
	tb.Helper()
	out, err := store.CatalogEntries(filepath.Join(dir, "catalog.db"))
	if err != nil {
		return ""
	}
	return out
}

// TestCheckLocked: a directory in use is not checked, and the error names the
// process.
func TestCheckLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := store.Check(context.Background(), store.CheckOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Fatal(err)
	}
	if _, err := store.Check(context.Background(), store.CheckOptions{Dir: filepath.Join(dir, "none")}); err == nil {
		t.Error("a directory that is not there was checked")
	}
}
