package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// TestCompactCatalog: a catalog that is mostly free pages becomes small, and
// nothing of it is lost, also where renaming fails at first.
func TestCompactCatalog(t *testing.T) {
	ctx := context.Background()
	files := &store.FaultyFiles{}
	dir := t.TempDir()
	s := open(t, dir, store.WithFiles(files))
	d := profile.NewDecoder(profile.Limits{})
	body := corpus.Load("mutex")[0].Data
	// States are large; a deletion drops them.
	for i := range 30 {
		r := record(t, d, i, "svc", inquest.KindMutex, body)
		r.Baseline, r.BaselineName = []byte(strings.Repeat(fmt.Sprint("state", i), 100_000)), fmt.Sprint("svc", store.BaselineBorder, i)
		if _, err := s.Append(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	r := record(t, d, 30, "other", inquest.KindMutex, body)
	r.Baseline, r.BaselineName = []byte("kept"), "other"+store.BaselineBorder
	if _, err := s.Append(ctx, r); err != nil {
		t.Fatal(err)
	}
	if err := s.PutBuilds([]inquest.Build{{ID: "b", Module: "m"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		st, err := os.Stat(filepath.Join(dir, "catalog.db"))
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	if n := size(); n < 16<<20 {
		t.Fatalf("catalog has %d bytes only", n)
	}
	files.NoRename.Store(true)
	if _, err := s.Delete(ctx, store.Deletion{Service: "svc"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(ctx); err == nil {
		t.Fatal("renaming failed, and nobody says so")
	}
	if ds, err := s.Deletions(); err != nil || len(ds) != 1 || !ds[0].Done.IsZero() {
		t.Fatalf("%+v, %v", ds, err)
	}
	files.NoRename.Store(false)
	settle(t, s)
	if n := size(); n > 1<<20 {
		t.Fatalf("catalog has %d bytes", n)
	}
	for range 2 {
		if b, err := s.Baseline("other" + store.BaselineBorder); err != nil || string(b) != "kept" {
			t.Fatalf("%q, %v", b, err)
		}
		if b, err := s.Baseline("svc" + store.BaselineBorder + "1"); err != nil || b != nil {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if b, err := s.Build("b"); err != nil || b == nil || b.Module != "m" {
			t.Fatalf("%+v, %v", b, err)
		}
		if got := seen(t, s, store.Selection{}); len(got) != 1 || !got[key(30)] {
			t.Fatalf("%d profiles", len(got))
		}
		if in := found(t, dir, "state1state1"); len(in) > 0 {
			t.Fatalf("states are in %v", in)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
}
