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
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// copyDir copies a data directory as a power cut would leave it.
func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := tb.TempDir()
	copyInto(tb, from, to)
	return to
}

// copyInto is copyDir into a directory. The store may go on meanwhile, so the
// order matters: what leaves the log is in the catalog before, and what the
// catalog names is in a block before. If it names other blocks at the end, these
// may be gone.
func copyInto(tb testing.TB, from, to string) {
	tb.Helper()
	for {
		copyFiles(tb, from, to)
		now, err := os.ReadFile(filepath.Join(from, "catalog.db"))
		had, _ := os.ReadFile(filepath.Join(to, "catalog.db"))
		if err != nil || bytes.Equal(now, had) {
			return
		}
		for _, sub := range []string{"log", "uploads", "blocks", "binaries", "texts", "cores", "catalog.db"} {
			if err := os.RemoveAll(filepath.Join(to, sub)); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func copyFiles(tb testing.TB, from, to string) {
	tb.Helper()
	for _, sub := range []string{"log", ".", "uploads", "blocks", "binaries", "texts", "cores"} {
		entries, err := os.ReadDir(filepath.Join(from, sub))
		if errors.Is(err, os.ErrNotExist) {
			continue // not made yet
		}
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, sub), 0o700); err != nil {
			tb.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			b, err := readStable(filepath.Join(from, sub, e.Name()))
			if errors.Is(err, os.ErrNotExist) {
				continue // deleted or renamed since
			}
			if err != nil {
				tb.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, sub, e.Name()), b, 0o600); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// readStable reads a file that nobody writes to between two reads.
func readStable(name string) ([]byte, error) {
	last, err := os.ReadFile(name)
	for err == nil {
		var b []byte
		if b, err = os.ReadFile(name); err == nil && bytes.Equal(b, last) {
			return b, nil
		}
		last = b
	}
	return nil, err
}

func waitReady(tb testing.TB, s *store.Store) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); s.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal(s.Ready())
		}
	}
}

// stored returns what a view has, by key: service, kind and totals.
func stored(tb testing.TB, s *store.Store) map[inquest.Key]string {
	tb.Helper()
	ctx := context.Background()
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	if len(v.Damaged) > 0 {
		tb.Fatalf("damaged: %v", v.Damaged)
	}
	out := map[inquest.Key]string{}
	for _, p := range v.Parts {
		tree, err := p.FuncTree(ctx)
		if err != nil {
			tb.Fatal(err)
		}
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
			for c := range rows.Totals {
				checkSelf(tb, p, tree, i, c, rows)
			}
		}
	}
	return out
}

// checkSelf compares the sums over the tree with the rows' totals.
func checkSelf(tb testing.TB, p *store.Part, tree *store.FuncTree, section, col int, rows *store.Rows) {
	tb.Helper()
	var want, got int64
	for _, v := range rows.Totals[col] {
		want += v
	}
	res, err := p.Self(context.Background(), store.SelfQuery{Section: section, Column: col})
	if err != nil {
		tb.Fatal(err)
	}
	if len(res.Int) != len(tree.Parent) {
		tb.Fatalf("%d values for %d nodes", len(res.Int), len(tree.Parent))
	}
	for _, v := range res.Int {
		got += v
	}
	if got != want {
		tb.Fatalf("%s section %d column %d: %d over the tree, %d in the rows", p.Service, section, col, got, want)
	}
}

func describe(r *store.Record) string {
	out := fmt.Sprint(r.Meta.Service(), r.Meta.Kind, r.Meta.Start.UnixNano())
	n := len(r.Profile.SampleTypes)
	for c := range n {
		var sum int64
		for i := range r.Profile.NumSamples() {
			sum += r.Profile.Values[i*n+c]
		}
		out += fmt.Sprint(" ", sum)
	}
	return out
}

// TestTornTail cuts the log at every byte of its last frame: nothing before
// is lost, and nothing of the frame is served.
func TestTornTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	for i := range 3 {
		if _, err := s.Append(context.Background(), record(t, d, i, "svc", inquest.KindMutex, bodies[i%2].Data)); err != nil {
			t.Fatal(err)
		}
	}
	before, name := logFile(t, dir)
	if _, err := s.Append(context.Background(), record(t, d, 3, "svc", inquest.KindMutex, bodies[1].Data)); err != nil {
		t.Fatal(err)
	}
	after, _ := logFile(t, dir)
	base := copyDir(t, dir)
	step := 1
	if testing.Short() {
		step = 17
	}
	for n := before; n <= after; n += step {
		if err := os.WriteFile(filepath.Join(base, "log", name), readLog(t, dir, name)[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		// As if nothing had been replayed before.
		cut := copyDir(t, base)
		s := open(t, cut)
		waitReady(t, s)
		want := 3
		if n == after {
			want = 4
		}
		if got := stored(t, s); len(got) != want {
			t.Fatalf("%d of %d bytes: %d profiles, want %d", n-before, after-before, len(got), want)
		}
		if q := s.Stats().Quarantined; len(q) > 0 {
			t.Fatalf("a torn tail is no damage: %v", q)
		}
		_ = s.Close()
		os.RemoveAll(cut)
	}
}

func logFile(tb testing.TB, dir string) (size int, name string) {
	tb.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "log"))
	if err != nil || len(entries) != 1 {
		tb.Fatalf("%d log files, %v", len(entries), err)
	}
	info, err := entries[0].Info()
	if err != nil {
		tb.Fatal(err)
	}
	return int(info.Size()), entries[0].Name()
}

func readLog(tb testing.TB, dir, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestDamagedLog flips bytes in the middle of a log of two services: start-up
// goes on, the damage is reported, and of the service that is not concerned
// nothing is lost.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	var ends []int
	for i := range 8 {
		if _, err := s.Append(context.Background(), record(t, d, i, fmt.Sprint("svc", i%2), inquest.KindMutex, bodies[i%4].Data)); err != nil {
			t.Fatal(err)
		}
		n, _ := logFile(t, dir)
		ends = append(ends, n)
	}
	base := copyDir(t, dir)
	_, name := logFile(t, base)
	log := readLog(t, base, name)
	for at := ends[1]; at < ends[2]; at += 13 { // in the third record, of svc0
		bad := append([]byte(nil), log...)
		bad[at] ^= 0x10
		cut := copyDir(t, base)
		if err := os.WriteFile(filepath.Join(cut, "log", name), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, cut)
		waitReady(t, s)
		got := stored(t, s)
		for i := range 8 {
			if i%2 == 1 || i < 2 {
				if got[key(i)] == "" {
					t.Fatalf("byte %d: profile %d is lost", at, i)
				}
			}
		}
		if got[key(2)] != "" {
			t.Fatalf("byte %d: the damaged profile is served", at)
		}
		if len(s.Stats().Quarantined) == 0 {
			t.Fatalf("byte %d: damage is not reported", at)
		}
		// The lost one can be sent again.
		if a, err := s.Append(context.Background(), record(t, d, 2, "svc0", inquest.KindMutex, bodies[2].Data)); err != nil || a.Duplicate {
			t.Fatalf("byte %d: sent again: %+v, %v", at, a, err)
		}
		_ = s.Close()
		os.RemoveAll(cut)
	}
}

// TestDamagedBlock flips a byte in every tenth of a block with two services:
// either nothing is lost, or what is lost is reported and the rest is served.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	for i := range 6 {
		if _, err := s.Append(context.Background(), record(t, d, i, fmt.Sprint("svc", i%2), inquest.KindMutex, bodies[i%4].Data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "blocks", "*.blk"))
	if len(names) != 1 {
		t.Fatal(names)
	}
	good, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	step := max(1, len(good)/300)
	for at := 0; at < len(good); at += step {
		cut := copyDir(t, dir)
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x40
		if err := os.WriteFile(filepath.Join(cut, "blocks", filepath.Base(names[0])), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, cut)
		lost := readAll(t, s)
		v, err := s.View(context.Background(), store.Selection{Window: everything})
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for _, p := range v.Parts {
			rows += p.Sections()[0].Profiles
		}
		if (lost > 0) != (len(v.Damaged) > 0) || rows+3*len(v.Damaged) != 6 {
			t.Fatalf("byte %d: %d errors, damaged %v, %d profiles served", at, lost, v.Damaged, rows)
		}
		v.Close()
		_ = s.Close()
		os.RemoveAll(cut)
	}
}

// readAll reads everything there is and returns how many reads failed, all of
// them with ErrDamaged.
func readAll(tb testing.TB, s *store.Store) (failed int) {
	tb.Helper()
	ctx := context.Background()
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	failed += len(v.Damaged)
	check := func(err error) {
		if err == nil {
			return
		}
		failed++
		if !errors.Is(err, store.ErrDamaged) || !errors.Is(err, inquest.ErrUnavailable) {
			tb.Fatal(err)
		}
	}
	for _, p := range v.Parts {
		_, err := p.FuncTree(ctx)
		check(err)
		check(p.FuncInfo(ctx, map[string]store.FuncInfo{}))
		for i := range p.Sections() {
			_, err := p.Rows(ctx, i)
			check(err)
			for c := range p.Sections()[i].Types {
				_, err := p.Self(ctx, store.SelfQuery{Section: i, Column: c})
				check(err)
			}
			check(p.Export(ctx, i, nil, func(x *profile.Profile) error {
				_, err := pprof.ParseData(x.AppendPprof(nil))
				return err
			}))
		}
	}
	return failed
}

// TestFullDisk: writes are refused with the right error, reads go on, and
// writes succeed again without a restart. Nothing refused is served.
func TestFullDisk(t *testing.T) {
	files := &store.FaultyFiles{}
	dir := t.TempDir()
	s := open(t, dir, store.WithFiles(files))
	ctx := context.Background()
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("cpu")
	put := func(n int) error {
		_, err := s.Append(ctx, record(t, d, n, "svc", inquest.KindCPU, bodies[n].Data))
		return err
	}
	for n := range 5 {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
	}
	for name, fail := range map[string]func(on bool){
		"write": files.Full.Store,
		"floor": func(on bool) {
			if files.FreeNow.Store(0); on {
				files.FreeNow.Store(-1)
			}
		},
	} {
		fail(true)
		for n := 5; n < 10; n++ {
			if err := put(n); !errors.Is(err, inquest.ErrDiskFull) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := s.Flush(ctx); err == nil {
			t.Fatalf("%s: a block was written to a full disk", name)
		}
		if got := stored(t, s); len(got) != 5 {
			t.Fatalf("%s: %d profiles, want 5", name, len(got))
		}
		fail(false)
	}
	files.NoSync.Store(true)
	if err := put(5); !errors.Is(err, inquest.ErrUnavailable) {
		t.Fatal(err)
	}
	files.NoSync.Store(false)
	for n := 5; n < 12; n++ {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
	}
	if got := stored(t, s); len(got) != 12 {
		t.Fatalf("%d profiles, want 12", len(got))
	}
	cut := copyDir(t, dir)
	again := open(t, cut)
	waitReady(t, again)
	if got := stored(t, again); len(got) != 12 {
		t.Fatalf("after a power cut: %d profiles, want 12; %v", len(got), strings.Join(again.Stats().Quarantined, "; "))
	}
}
