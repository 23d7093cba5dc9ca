package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// TestIdempotency: the same key with the same body is a duplicate with the
// same id, with another body a conflict: in a head, in a block, after a
// restart and after a power cut.
func TestIdempotency(t *testing.T) {
	ctx := context.Background()
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	dir := t.TempDir()
	s := open(t, dir)
	var first []store.Appended
	for i := range 5 {
		a, err := s.Append(ctx, record(t, d, i, "svc", inquest.KindMutex, bodies[0].Data))
		if err != nil || a.Duplicate {
			t.Fatalf("%+v %v", a, err)
		}
		first = append(first, a)
	}
	check := func(when string) {
		t.Helper()
		for i, want := range first {
			r := record(t, d, i, "svc", inquest.KindMutex, bodies[0].Data)
			r.Meta.Start = r.Meta.Start.Add(time.Hour) // a sender without its own times
			want.Duplicate, want.Bytes = true, 0
			a, err := s.Append(ctx, r)
			if diff := cmp.Diff(want, a); err != nil || diff != "" {
				t.Fatalf("%s: %v (-want +got)\n%s", when, err, diff)
			}
			a, seen, err := s.Seen(r.Key, r.BodyHash)
			if diff := cmp.Diff(want, a); err != nil || !seen || diff != "" {
				t.Fatalf("%s: seen %v, %v (-want +got)\n%s", when, seen, err, diff)
			}
			r.BodyHash++
			if _, err := s.Append(ctx, r); !errors.Is(err, inquest.ErrConflict) {
				t.Fatalf("%s: %v, want a conflict", when, err)
			}
		}
		if _, seen, err := s.Seen(key(99), 1); seen || err != nil {
			t.Fatalf("%s: seen %v, %v", when, seen, err)
		}
		waitReady(t, s) // keys are known before the profiles are back
		if got := stored(t, s); len(got) != len(first) {
			t.Fatalf("%s: %d profiles", when, len(got))
		}
	}
	check("head")
	cut := copyDir(t, dir)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	check("block")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check("restart")
	s = open(t, cut)
	check("power cut")
}

// TestConcurrentWriters: many writers send the same keys at once, while
// epochs end and readers read. Each profile is stored once.
func TestConcurrentWriters(t *testing.T) {
	ctx := context.Background()
	bodies := corpus.Load("mutex")
	s := open(t, t.TempDir())
	var fresh atomic.Int64
	var writers, others sync.WaitGroup
	const keys = 150
	for range 8 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			d := profile.NewDecoder(profile.Limits{})
			for n := range keys {
				r := record(t, d, n, fmt.Sprint("svc", n%3), inquest.KindMutex, bodies[n%len(bodies)].Data)
				a, err := s.Append(ctx, r)
				if err != nil {
					t.Error(err)
				}
				if !a.Duplicate {
					fresh.Add(1)
				}
			}
		}()
	}
	stop := make(chan struct{})
	for _, f := range []func(){
		func() {
			if err := s.Flush(ctx); err != nil {
				t.Error(err)
			}
		},
		func() { stored(t, s) },
	} {
		others.Add(1)
		go func() {
			defer others.Done()
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		}()
	}
	writers.Wait()
	close(stop)
	others.Wait()
	if n := fresh.Load(); n != keys {
		t.Errorf("%d writes were not duplicates, want %d", n, keys)
	}
	if got := stored(t, s); len(got) != keys {
		t.Errorf("%d profiles, want %d", len(got), keys)
	}
}

// TestBaselines: a cumulative state is as durable as the record it came with.
func TestBaselines(t *testing.T) {
	ctx := context.Background()
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	dir := t.TempDir()
	s := open(t, dir)
	want := map[string]string{}
	put := func(n int, name, state string) {
		t.Helper()
		r := record(t, d, n, "svc", inquest.KindMutex, bodies[n%4].Data)
		r.BaselineName, r.Baseline = name, []byte(state)
		if _, err := s.Append(ctx, r); err != nil {
			t.Fatal(err)
		}
		want[name] = state
	}
	check := func(when string) {
		t.Helper()
		for name, w := range want {
			got, err := s.Baseline(name)
			if err != nil || string(got) != w {
				t.Fatalf("%s: %s is %q, %v, want %q", when, name, got, err, w)
			}
		}
		if got, err := s.Baseline("none"); got != nil || err != nil {
			t.Fatalf("%s: %q, %v", when, got, err)
		}
	}
	put(0, "p1 mutex", "one")
	put(1, "p2 mutex", "two")
	check("head")
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	check("block")
	put(2, "p1 mutex", "one again")
	check("newer in head")
	cut := copyDir(t, dir)
	_ = s.Close()
	s = open(t, cut) // asked at once, while the log may be replayed
	check("power cut")
	waitReady(t, s)
	check("replayed")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cut)
	check("restart")
}

func TestBuilds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := inquest.Build{ID: "abc", GoVersion: "go1.26.8", Module: "example.com/m", Settings: map[string]string{"GOARCH": "amd64"}}
	for range 2 {
		if err := s.PutBuilds([]inquest.Build{b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutBuilds([]inquest.Build{{}}); !errors.Is(err, inquest.ErrInvalid) {
		t.Fatal(err)
	}
	_ = s.Close()
	s = open(t, dir)
	got, err := s.Build("abc")
	if diff := cmp.Diff(&b, got); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	if got, err := s.Build("other"); got != nil || err != nil {
		t.Fatalf("%v %v", got, err)
	}
}

// TestFind finds a profile by its id in heads and blocks.
func TestFind(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex", "cpu")
	var ids []string
	for i := range 40 {
		a, err := s.Append(ctx, record(t, d, i, fmt.Sprint("svc", i%3), inquest.Kind(bodies[i].Kind), bodies[i].Data))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	for range 2 {
		for i, id := range ids {
			v, section, row, err := s.Find(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Parts) != 1 || v.Parts[0].Service != fmt.Sprint("svc", i%3) || string(v.Parts[0].Sections()[section].Kind) != bodies[i].Kind {
				t.Fatalf("%s: wrong part", id)
			}
			rows, err := v.Parts[0].Rows(ctx, section)
			if err != nil || rows.Key[row] != key(i) {
				t.Fatalf("%s: wrong row, %v", id, err)
			}
			v.Close()
		}
		for id, want := range map[string]error{
			ids[0][:len(ids[0])-1] + "!":       inquest.ErrInvalid,
			"x":                                inquest.ErrInvalid,
			key(7).String() + "-" + base36(t0): inquest.ErrNotFound,
			key(1000).String() + ids[0][len(key(0))*2:]: inquest.ErrNotFound,
		} {
			if _, _, _, err := s.Find(ctx, id); !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", id, err, want)
			}
		}
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLostCatalog: without the catalog the blocks are found again, and keys
// still name one profile.
func TestLostCatalog(t *testing.T) {
	ctx := context.Background()
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 6 {
		if i == 3 {
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Append(ctx, record(t, d, i, "svc", inquest.KindMutex, bodies[i%4].Data)); err != nil {
			t.Fatal(err)
		}
	}
	want := stored(t, s)
	cut := copyDir(t, dir)
	if err := os.Remove(filepath.Join(cut, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	s = open(t, cut)
	waitReady(t, s)
	if diff := cmp.Diff(want, stored(t, s)); diff != "" {
		t.Fatal(diff)
	}
	if a, err := s.Append(ctx, record(t, d, 1, "svc", inquest.KindMutex, bodies[1].Data)); err != nil || !a.Duplicate {
		t.Fatalf("%+v %v", a, err)
	}
}

// TestSweep: what a crash between file and catalog row leaves is deleted, and
// its profiles come from the log.
func TestSweep(t *testing.T) {
	ctx := context.Background()
	d := profile.NewDecoder(profile.Limits{})
	dir := t.TempDir()
	s := open(t, dir)
	body := corpus.Load("mutex")[0].Data
	if _, err := s.Append(ctx, record(t, d, 0, "svc", inquest.KindMutex, body)); err != nil {
		t.Fatal(err)
	}
	cut := copyDir(t, dir)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	blocks, _ := filepath.Glob(filepath.Join(dir, "blocks", "*"))
	b, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Base(blocks[0]), "x.blk.tmp"} {
		if err := os.WriteFile(filepath.Join(cut, "blocks", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, cut)
	waitReady(t, s)
	if got := stored(t, s); len(got) != 1 {
		t.Fatalf("%d profiles, want 1", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(cut, "blocks", "*"))
	if len(left) != 1 || filepath.Base(left[0]) == filepath.Base(blocks[0]) {
		t.Fatalf("left: %v", left)
	}
	if logs, _ := filepath.Glob(filepath.Join(cut, "log", "*")); len(logs) > 0 {
		t.Fatalf("log is left after a clean stop: %v", logs)
	}
}
