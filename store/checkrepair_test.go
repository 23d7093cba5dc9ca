package store_test

import (
	"bytes"
	"context"
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

// closedStore is a directory with two blocks and no log.
func closedStore(tb testing.TB) (dir string, ids []string, want map[inquest.Key]string) {
	tb.Helper()
	dir = tb.TempDir()
	s := open(tb, dir)
	for n := range 2 {
		fill(tb, s, 8*n, 8*n+8)
		if err := s.Flush(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
	want = stored(tb, s)
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blk"))
	if err != nil || len(names) != 2 {
		tb.Fatal(names, err)
	}
	for _, n := range names {
		ids = append(ids, strings.TrimSuffix(filepath.Base(n), ".blk"))
	}
	return dir, ids, want
}

// TestCheckRepair: what does not fit together is found and repaired, and
// nothing is lost by that.
func TestCheckRepair(t *testing.T) {
	base, ids, want := closedStore(t)
	path := func(dir, id string) string { return filepath.Join(dir, "blocks", id+".blk") }
	edit := func(f func(e *store.CatalogEdit) error) func(dir string) error {
		return func(dir string) error { return store.EditCatalog(dir, f) }
	}
	flip := func(where func(keyList, keyInfo, listing, size int64) int64) func(dir string) error {
		return func(dir string) error {
			keyList, keyInfo, listing, err := store.BlockPlaces(path(dir, ids[0]))
			if err != nil {
				return err
			}
			raw, err := os.ReadFile(path(dir, ids[0]))
			if err != nil {
				return err
			}
			raw[where(keyList, keyInfo, listing, int64(len(raw)))] ^= 1
			return os.WriteFile(path(dir, ids[0]), raw, 0o600)
		}
	}
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		deep   bool
		want   string // in the report
		left   bool   // a repair leaves it
		fewer  bool   // profiles are lost
	}{
		{name: "mark of a whole part", damage: edit(func(e *store.CatalogEdit) error { return e.Put("damaged", ids[0]+"/1", "was bad") }),
			want: "the part can be read, but it is marked as damaged and left out: was bad"},
		{name: "mark of a whole block", damage: edit(func(e *store.CatalogEdit) error { return e.Put("damaged", ids[1], "was bad") }), want: "the block can be read"},
		{name: "mark of no block", damage: edit(func(e *store.CatalogEdit) error { return e.Put("damaged", "x", "was bad") }), want: "there is no such block"},
		{name: "mark of no part", damage: edit(func(e *store.CatalogEdit) error { return e.Put("damaged", ids[0]+"/99", "was bad") }), want: "there is no such part"},
		{name: "build of another id", damage: edit(func(e *store.CatalogEdit) error { return e.Put("builds", "x", `{"id":"y"}`) }), want: `builds "x"`},
		{name: "state without age", damage: edit(func(e *store.CatalogEdit) error { return e.Put("baselines", "x", "12345678") }), want: "its age is not known"},
		{name: "age without state", damage: edit(func(e *store.CatalogEdit) error { return e.Put("baseage", "12345678", "x") }), want: `no state named "x"`},
		{name: "next log file", damage: edit(func(e *store.CatalogEdit) error { return e.Put("meta", "next_log", "1") }), want: "new ones could be taken for them"},
		{name: "broken row", damage: edit(func(e *store.CatalogEdit) error { return e.Put("blocks", ids[0], "xyz") }), want: "row is damaged"},
		{name: "row of nothing", damage: edit(func(e *store.CatalogEdit) error { return e.Put("blocks", "x", "xyz") }), want: "there is no file of that name"},
		{name: "header", damage: flip(func(_, _, _, _ int64) int64 { return 1 }), want: "header is damaged"},
		{name: "footer", damage: flip(func(_, _, _, size int64) int64 { return size - 1 }), want: "footer is damaged"},
		{name: "list of keys", damage: flip(func(keyList, _, _, _ int64) int64 { return keyList + 3 }), want: "list of keys"},
		{name: "places of keys", damage: flip(func(_, keyInfo, _, _ int64) int64 { return keyInfo + 3 }), want: "the hashes of bodies are lost"},
		{name: "bytes behind the end", damage: func(dir string) error {
			raw, err := os.ReadFile(path(dir, ids[0]))
			if err != nil {
				return err
			}
			return os.WriteFile(path(dir, ids[0]), append(raw, 0), 0o600)
		}, want: "footer is damaged"},
		{name: "no file", damage: func(dir string) error { return os.Remove(path(dir, ids[0])) }, want: "no such file", left: true, fewer: true},
		{name: "listing", damage: flip(func(_, _, listing, _ int64) int64 { return listing + 3 }), want: "checksum of the listing", left: true, fewer: true},
		{name: "a superseded block", damage: func(dir string) error {
			id, err := store.Derive(dir, ids[0], false, false)
			if err != nil {
				return err
			}
			return store.EditCatalog(dir, func(e *store.CatalogEdit) error { return e.AddRow(dir, id) })
		}, want: "it is still listed beside"},
		{name: "a superseded block, the new one damaged", damage: func(dir string) error {
			id, err := store.Derive(dir, ids[0], false, true)
			if err != nil {
				return err
			}
			return store.EditCatalog(dir, func(e *store.CatalogEdit) error { return e.AddRow(dir, id) })
		}, deep: true, want: "it is still listed beside"},
		{name: "a rollup", damage: func(dir string) error {
			id, err := store.Derive(dir, ids[0], true, false)
			if err != nil {
				return err
			}
			return store.EditCatalog(dir, func(e *store.CatalogEdit) error { return e.AddRow(dir, id) })
		}, want: "its profiles are in rollup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyDir(t, base)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			r := check(t, dir, false, c.deep)
			if got := spellProblems(r); !strings.Contains(got, c.want) {
				t.Fatalf("found %s\nwant …%s…", got, c.want)
			}
			check(t, dir, true, c.deep)
			r = check(t, dir, false, true)
			if r.Whole() == c.left {
				t.Fatalf("after the repair: %s", spellProblems(r))
			}
			s := open(t, dir)
			waitReady(t, s)
			if got := served(t, s); c.fewer != (len(got) < len(want)) || !c.fewer && !cmp.Equal(got, want) {
				t.Fatalf("%d of %d profiles are served", len(got), len(want))
			}
			if c.name == "places of keys" || c.fewer {
				return
			}
			// Keys still name what is stored.
			d := profile.NewDecoder(profile.Limits{})
			for n := range 3 {
				b := corpus.Load("cpu", "mutex", "heap")[n]
				if a, err := s.Append(context.Background(), record(t, d, n, fmt.Sprint("svc", n%3), kindOf(b.Kind), b.Data)); err != nil || !a.Duplicate {
					t.Errorf("profile %d sent again: %+v, %v", n, a, err)
				}
			}
		})
	}
}

// TestCheckDeep: totals that are wrong behind right checksums are found by a
// deep check alone.
func TestCheckDeep(t *testing.T) {
	dir, ids, _ := closedStore(t)
	id, err := store.Derive(dir, ids[0], false, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.EditCatalog(dir, func(e *store.CatalogEdit) error { return e.AddRow(dir, id) }); err != nil {
		t.Fatal(err)
	}
	const want = "values add up to"
	if got := spellProblems(check(t, dir, false, false)); strings.Contains(got, want) {
		t.Error(got)
	}
	if got := spellProblems(check(t, dir, false, true)); !strings.Contains(got, want) || !strings.Contains(got, id+".blk part 0") {
		t.Error(got)
	}
}

// TestCheckTwice: the same profiles in two blocks are found.
func TestCheckTwice(t *testing.T) {
	a, _, _ := closedStore(t)
	b, ids, _ := closedStore(t)
	raw, err := os.ReadFile(filepath.Join(b, "blocks", ids[1]+".blk"))
	if err == nil {
		err = os.WriteFile(filepath.Join(a, "blocks", ids[1]+".blk"), raw, 0o600)
	}
	if err == nil {
		err = store.EditCatalog(a, func(e *store.CatalogEdit) error { return e.AddRow(a, ids[1]) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := spellProblems(check(t, a, false, false)); !strings.Contains(got, "8 of its profiles are in") {
		t.Error(got)
	}
}

// TestCheckUnlisted: a file that no row names goes when the catalog is whole;
// when it may have lost rows, it gets one.
func TestCheckUnlisted(t *testing.T) {
	dir, ids, want := closedStore(t)
	other, more, _ := closedStore(t)
	raw, err := os.ReadFile(filepath.Join(other, "blocks", more[0]+".blk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{more[0] + ".blk", "x.blk.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, "blocks", name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := check(t, dir, true, false); !r.Whole() || len(r.Notes) != 2 {
		t.Error(spellProblems(r))
	}
	if _, err := os.Stat(filepath.Join(dir, "blocks", more[0]+".blk")); err == nil {
		t.Error("the file is still there")
	}
	// The newest of the two first pages is that with the highest number; without
	// it the last transactions are missing.
	path := filepath.Join(dir, "catalog.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := range 2 {
		cut := copyDir(t, dir)
		bad := bytes.Clone(good)
		bad[page*os.Getpagesize()+40] ^= 1
		if err := os.WriteFile(filepath.Join(cut, "catalog.db"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		openDamaged(t, cut, want, fmt.Sprintf("page %d", page))
		check(t, cut, true, false)
		if r := check(t, cut, false, true); !r.Whole() || r.Blocks != len(ids) {
			t.Errorf("page %d: %s", page, spellProblems(r))
		}
	}
}
