package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

func flush(tb testing.TB, s *store.Store) {
	tb.Helper()
	if err := s.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// blockFiles lists the block files of a data directory.
func blockFiles(tb testing.TB, dir string) map[string]bool {
	tb.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blocks"))
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]bool{}
	for _, e := range entries {
		out[e.Name()] = true
	}
	return out
}

// checkRollups compares what rollups have with the model, own parts and
// those of the fleet.
func checkRollups(t *testing.T, label string, s *store.Store, want rollupModel) {
	t.Helper()
	own, _ := readRollups(t, s, ownRows)
	compareModels(t, label, want, own, anyKey)
	fleet, _ := readRollups(t, s, fleetRows)
	compareModels(t, label+" fleet", want.fleet(), fleet, anyKey)
}

// TestRollupFailures: where a disk is full or a rename fails there is no
// rollup, no file of one, and the next attempt makes it whole. So it is where a
// crash came between a rollup's file and the catalog.
func TestRollupFailures(t *testing.T) {
	ctx := context.Background()
	files := &store.FaultyFiles{}
	dir := t.TempDir()
	s := open(t, dir, store.WithFiles(files))
	f := newOddFleet(t, 5, 40*time.Hour) // several days: several files
	want, batch := rollupModel{}, []*rolledProfile(nil)
	for range 60 {
		batch = append(batch, f.append(s))
	}
	flush(t, s)
	want.addBatch(batch)
	before := blockFiles(t, dir)
	for _, fault := range []func(on bool){files.NoRename.Store, files.Full.Store, func(on bool) {
		files.FreeNow.Store(0)
		if on {
			files.FreeNow.Store(-1)
		}
	}} {
		fault(true)
		if err := s.Settle(ctx); err == nil {
			t.Error("rollups were written to a disk that fails")
		}
		fault(false)
		if diff := cmp.Diff(before, blockFiles(t, dir)); diff != "" {
			t.Errorf("files (-before +after)\n%s", diff)
		}
		if blocks, _, unrolled, _ := store.Rollups(s); blocks != 0 || unrolled == 0 {
			t.Errorf("%d rollup blocks, %d blocks to be rolled up", blocks, unrolled)
		}
	}
	cut := copyDir(t, dir)
	settle(t, s)
	checkRollups(t, "after faults", s, want)
	for name := range blockFiles(t, dir) { // the crash: files, but no rows
		if !before[name] {
			b, err := os.ReadFile(filepath.Join(dir, "blocks", name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(cut, "blocks", name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = open(t, cut)
	waitReady(t, s)
	if diff := cmp.Diff(before, blockFiles(t, cut)); diff != "" {
		t.Errorf("files after a crash (-before +after)\n%s", diff)
	}
	settle(t, s)
	checkRollups(t, "after a crash", s, want)
	settle(t, s)
	checkRollups(t, "settled twice", s, want)
	cut = copyDir(t, cut)
	s = open(t, cut)
	waitReady(t, s)
	settle(t, s)
	checkRollups(t, "opened again", s, want)
}

// TestRollupLostCatalog: without the catalog blocks know what is in rollups
// already.
func TestRollupLostCatalog(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir)
	f := newOddFleet(t, 6, 3*time.Hour)
	want := rollupModel{}
	for range 3 {
		var batch []*rolledProfile
		for range 30 {
			batch = append(batch, f.append(s))
		}
		flush(t, s)
		settle(t, s)
		want.addBatch(batch)
	}
	if err := store.DropRollups(ctx, s, [4]bool{true, true, true, true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	waitReady(t, s)
	if blocks, rolled, unrolled, _ := store.Rollups(s); blocks == 0 || rolled == 0 || unrolled != 0 {
		t.Errorf("%d rollup blocks, %d blocks rolled up, %d not", blocks, rolled, unrolled)
	}
	settle(t, s)
	checkRollups(t, "without a catalog", s, want)
}

// TestRollupOfDamaged: a damaged part costs rollups its own profiles only, and
// what they lack no view has either.
func TestRollupOfDamaged(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir)
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	for i := range 9 {
		if _, err := s.Append(ctx, record(t, d, i, fmt.Sprint("svc", i%3), inquest.KindMutex, bodies[i%4].Data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "blocks", "*.blk"))
	good, err := os.ReadFile(names[0])
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	lostSome := false
	for at := 0; at < len(good); at += len(good)/40 + 1 {
		cut := copyDir(t, dir)
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x10
		if err := os.WriteFile(filepath.Join(cut, "blocks", filepath.Base(names[0])), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, cut)
		settle(t, s)
		own, _ := readRollups(t, s, ownRows)
		services := map[string]uint32{}
		for key, c := range own {
			if !hourUp(key) {
				services[key[:4]] += c.Profiles
			}
		}
		readAll(t, s)
		for svc, n := range profilesBy(t, s) {
			if services[svc] != n {
				t.Errorf("byte %d: %d profiles of %s in rollups, %d are served", at, services[svc], svc, n)
			}
			delete(services, svc)
		}
		for svc := range services {
			lostSome = true // damaged where rollups need not look
			if len(s.Stats().Quarantined) == 0 {
				t.Errorf("byte %d: %s is only in rollups", at, svc)
			}
		}
		lostSome = lostSome || len(s.Stats().Quarantined) > 0
		_ = s.Close()
		os.RemoveAll(cut)
	}
	if !lostSome {
		t.Error("nothing was damaged")
	}
}

// profilesBy counts the profiles that views have, by service.
func profilesBy(tb testing.TB, s *store.Store) map[string]uint32 {
	tb.Helper()
	v, err := s.View(context.Background(), store.Selection{Window: everything})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	out := map[string]uint32{}
	for _, p := range v.Parts {
		for _, sec := range p.Sections() {
			out[p.Service] += uint32(sec.Profiles)
		}
	}
	return out
}

// TestRollupTimes: new blocks wait for others, and rollups of a day are merged
// when there are many of them or the day is over.
func TestRollupTimes(t *testing.T) {
	var clock atomic.Int64 // the keeper looks at it too
	clock.Store(t0.UnixNano())
	s := open(t, t.TempDir(), func(o *store.Options) { o.Now = func() time.Time { return time.Unix(0, clock.Load()) } })
	f := newOddFleet(t, 8, time.Hour)
	want := rollupModel{}
	for i := range 9 {
		m := f.append(s)
		flush(t, s)
		if n := store.RollupDue(s); n != 0 {
			t.Fatalf("%d blocks are due at once", n)
		}
		clock.Add(int64(2 * time.Minute))
		// The keeper may have looked just now.
		if n := store.RollupDue(s); n != 1 && unrolled(s) > 0 {
			t.Fatalf("%d blocks are due after two minutes", n)
		}
		settle(t, s)
		want.addBatch([]*rolledProfile{m})
		if blocks, _, _, _ := store.Rollups(s); blocks > 8 {
			t.Fatalf("%d rollup blocks after %d rounds", blocks, i+1)
		}
	}
	if blocks, _, _, _ := store.Rollups(s); blocks < 2 {
		t.Fatalf("%d rollup blocks", blocks)
	}
	clock.Store(t0.Truncate(24 * time.Hour).Add(25*time.Hour + time.Minute).UnixNano())
	settle(t, s)
	if blocks, _, _, _ := store.Rollups(s); blocks != 1 {
		t.Errorf("%d rollup blocks of a day that is over", blocks)
	}
	checkRollups(t, "in the end", s, want)
}

func unrolled(s *store.Store) int {
	_, _, n, _ := store.Rollups(s)
	return n
}

// TestRollupViews: what views of rollups and of digests have.
func TestRollupViews(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), func(o *store.Options) { o.RollupLabels = []string{"zone"} })
	f := newOddFleet(t, 9, time.Hour)
	for range 80 {
		f.append(s)
	}
	flush(t, s)
	settle(t, s)
	f.append(s) // in the head: no view of rollups or digests needs it
	w := inquest.Window{From: t0.Add(-7 * time.Minute), Until: t0.Add(11 * time.Minute)}
	v, err := s.View(ctx, store.Selection{Window: w, Digests: true, Services: store.Services{Names: []string{"c"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if !v.Window.From.Equal(t0.Add(-10*time.Minute)) || !v.Window.Until.Equal(t0.Add(15*time.Minute)) {
		t.Errorf("the window is %v", v.Window)
	}
	if len(v.Parts) == 0 {
		t.Fatal("no digests")
	}
	if got, _ := readDigests(t, v, false); len(got) == 0 {
		t.Error("no digests")
	}
	rolled, zones := store.RollupView(t, s), map[string]bool{}
	defer rolled.Close()
	info, detail := map[string]store.FuncInfo{}, map[string]store.FuncInfo{}
	for _, p := range rolled.Parts {
		if err := p.FuncInfo(ctx, info); err != nil {
			t.Fatal(err)
		}
		rows, err := p.Rows(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, ls := range rows.LabelSets {
			zones[ls.Get("zone")] = true
		}
		if err := p.Export(ctx, 0, nil, func(*profile.Profile) error { return nil }); err == nil {
			t.Error("a rollup was exported")
		}
	}
	if !zones["x"] || !zones["y"] {
		t.Errorf("zones %v", zones)
	}
	raw, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, p := range raw.Parts {
		if err := p.FuncInfo(ctx, detail); err != nil {
			t.Fatal(err)
		}
	}
	for name, i := range info {
		if d := detail[name]; d.File == "" || i.File == "" {
			t.Errorf("%s is in %+v, profiles say %+v", name, i, d)
		}
	}
	if len(info) < len(detail)*9/10 {
		t.Errorf("rollups know of %d functions, profiles of %d", len(info), len(detail))
	}
	if q := s.Stats().Quarantined; len(q) > 0 {
		t.Error(q)
	}
}
