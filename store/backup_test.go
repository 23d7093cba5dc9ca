package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// fill appends profiles [from, to) of a few services.
func fill(tb testing.TB, s *store.Store, from, to int) {
	tb.Helper()
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("cpu", "mutex", "heap")
	for n := from; n < to; n++ {
		b := bodies[n%len(bodies)]
		if _, err := s.Append(context.Background(), record(tb, d, n, fmt.Sprint("svc", n%3), kindOf(b.Kind), b.Data)); err != nil {
			tb.Fatal(err)
		}
	}
}

// restored restores a directory's backup, or a tar stream's, and opens it.
func restored(tb testing.TB, from any) *store.Store {
	tb.Helper()
	o := store.RestoreOptions{Dir: filepath.Join(tb.TempDir(), "store")}
	var err error
	switch from := from.(type) {
	case string:
		_, err = store.RestoreDir(context.Background(), from, o)
	case []byte:
		_, err = store.RestoreTar(context.Background(), bytes.NewReader(from), o)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if r := check(tb, o.Dir, false, true); !r.Whole() || len(r.Notes) > 0 {
		tb.Fatal(spellProblems(r))
	}
	return open(tb, o.Dir)
}

// rollNow makes a store roll profiles up as soon as they are in blocks.
func rollNow(o *store.Options) { o.RollupDelay = -1 }

// TestBackup: a backup in a directory, made again after more has come and
// blocks have gone, and as a tar stream, hold what the store holds.
func TestBackup(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), store.SmallMerges, rollNow)
	fill(t, s, 0, 20)
	if err := s.PutBuilds([]inquest.Build{{ID: "b1", GoVersion: "go1.26.8"}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	for round := range 3 {
		began := time.Now()
		m, err := s.BackupDir(ctx, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := stored(t, s)
		if m.Profiles != int64(len(want)) || m.Blocks != len(m.Files)-1 || m.Bytes <= 0 || m.Created.Before(began) {
			t.Errorf("round %d: %+v", round, m)
		}
		files := 0
		for name := range readFiles(t, dir) {
			if name != "manifest.json" && name != "lock" {
				files++
			}
		}
		if files != len(m.Files) {
			t.Errorf("round %d: %d files, the manifest has %d", round, files, len(m.Files))
		}
		var b bytes.Buffer
		if _, err := s.BackupTar(ctx, &b, nil, nil); err != nil {
			t.Fatal(err)
		}
		for what, from := range map[string]any{"directory": dir, "tar": b.Bytes()} {
			again := restored(t, from)
			if diff := cmp.Diff(want, stored(t, again)); diff != "" {
				t.Fatalf("round %d, %s: %s", round, what, diff)
			}
			if b, err := again.Build("b1"); err != nil || b == nil {
				t.Errorf("round %d, %s: build: %v %v", round, what, b, err)
			}
			at, backup, err := again.Restored()
			if err != nil || at.Before(backup) || backup.IsZero() {
				t.Errorf("round %d, %s: restored %v of %v, %v", round, what, at, backup, err)
			}
			d := profile.NewDecoder(profile.Limits{})
			r := record(t, d, 1, "svc1", inquest.KindCPU, corpus.Load("cpu", "mutex", "heap")[1].Data)
			if a, err := again.Append(ctx, r); err != nil || !a.Duplicate {
				t.Errorf("round %d, %s: sent again: %+v %v", round, what, a, err)
			}
		}
		fill(t, s, 20+10*round, 30+10*round)
		if round == 1 { // what was there is gone, something else in its place
			if err := errors.Join(s.Flush(ctx), s.Settle(ctx)); err != nil {
				t.Fatal(err)
			}
			if n := s.Levels(); n[1] == 0 || n[2] == 0 {
				t.Fatalf("blocks by level: %v", n)
			}
		}
	}
}

// TestBackupLinks: what a second backup has already is left alone, and blocks
// are links of the store's.
func TestBackupLinks(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	fill(t, s, 0, 10)
	dir := t.TempDir()
	first, err := s.BackupDir(ctx, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]os.FileInfo{}
	for _, f := range first.Files[:first.Blocks] {
		a, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.Stat(filepath.Join(s.Dir(), f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(a, b) {
			t.Errorf("%s is a copy", f.Name)
		}
		before[f.Name] = a
	}
	// A copy, so that a new link would be seen.
	for name := range before {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.Remove(filepath.Join(dir, name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if before[name], err = os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.BackupDir(ctx, dir, nil); err != nil {
		t.Fatal(err)
	}
	for name, old := range before {
		if now, err := os.Stat(filepath.Join(dir, name)); err != nil || !os.SameFile(old, now) {
			t.Errorf("%s was copied again: %v", name, err)
		}
	}
	// Over the wire: only what is new.
	fill(t, s, 10, 12)
	wire := 0
	m, err := store.FetchBackup(ctx, dir, func(have map[string]int64) (io.ReadCloser, error) {
		if len(have) != len(before) {
			t.Errorf("has %v, want %d blocks", have, len(before))
		}
		var b bytes.Buffer
		_, err := s.BackupTar(ctx, &b, have, nil)
		n, rerr := store.ReadBackup(b.Bytes())
		wire = n
		return io.NopCloser(&b), errors.Join(err, rerr)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if wire != m.Blocks-len(before)+1 {
		t.Errorf("%d files came, want %d", wire, m.Blocks-len(before)+1)
	}
	if got := stored(t, restored(t, dir)); len(got) != 12 {
		t.Errorf("%d profiles, want 12", len(got))
	}
	if _, err := s.BackupDir(ctx, s.Dir(), nil); err == nil {
		t.Error("a backup was made in a directory with something else in it")
	}
}

// TestBackupUnderLoad: while profiles are written, rolled up and merged,
// every profile that was acknowledged before a backup began is in it, once and
// whole; checks meanwhile find nothing.
func TestBackupUnderLoad(t *testing.T) {
	s := open(t, t.TempDir(), store.SmallMerges, rollNow, func(o *store.Options) {
		o.CommitDelay, o.Epoch, o.LogBytes = time.Millisecond, 50*time.Millisecond, 1<<20
	})
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	acked := map[inquest.Key]string{}
	var wg sync.WaitGroup
	bodies := corpus.Load("cpu", "mutex")
	for w := range 4 {
		wg.Go(func() {
			d := profile.NewDecoder(profile.Limits{})
			for n := w; ctx.Err() == nil; n += 4 {
				b := bodies[n%len(bodies)]
				r := record(t, d, n, fmt.Sprint("svc", n%5), kindOf(b.Kind), b.Data)
				if _, err := s.Append(context.Background(), r); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[r.Key] = describe(r)
				mu.Unlock()
				if n%64 < 4 {
					time.Sleep(5 * time.Millisecond) // the machine is shared
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.Settle(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	rounds := 3
	if os.Getenv("INQUEST_LONG") != "" {
		rounds = 30
	}
	for round := range rounds {
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		want := maps.Clone(acked)
		mu.Unlock()
		var from any
		if round%2 == 0 {
			dir := t.TempDir()
			if _, err := s.BackupDir(ctx, dir, nil); err != nil {
				t.Fatal(err)
			}
			from = dir
		} else {
			var b bytes.Buffer
			if _, err := s.BackupTar(ctx, &b, nil, nil); err != nil {
				t.Fatal(err)
			}
			from = b.Bytes()
		}
		r, err := s.Check(ctx, true, nil)
		if err != nil || !r.Whole() || len(r.Notes) > 0 {
			t.Errorf("check: %v %s", err, spellProblems(r))
		}
		got := stored(t, restored(t, from)) // fails on profiles that are there twice
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("round %d: %v is %q, want %q", round, k, got[k], v)
			}
		}
		mu.Lock()
		for k, v := range got {
			if acked[k] != "" && acked[k] != v {
				t.Fatalf("round %d: %v is %q, want %q", round, k, v, acked[k])
			}
		}
		mu.Unlock()
	}
	cancel()
	wg.Wait()
	// With the race detector the keeper does not get to merging: there are always
	// new blocks to be rolled up.
	if n := s.Levels(); len(acked) < 50 || n[2] == 0 || n[1] == 0 && !testing.Short() {
		t.Errorf("%d profiles were written, blocks by level %v: too few to prove anything", len(acked), n)
	}
}

// TestBackupAlone: one backup at a time, and one that is given up leaves no
// manifest.
func TestBackupAlone(t *testing.T) {
	s := open(t, t.TempDir())
	fill(t, s, 0, 6)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	_, err := s.BackupDir(ctx, dir, func(store.BackupProgress) {
		if _, err := s.BackupTar(t.Context(), io.Discard, nil, nil); !errors.Is(err, inquest.ErrBusy) {
			t.Errorf("a second one: %v", err)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	o := store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store")}
	if _, err := store.RestoreDir(t.Context(), dir, o); !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), "was not finished") {
		t.Error(err)
	}
	if _, err := s.BackupDir(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, restored(t, dir)); len(got) != 6 {
		t.Errorf("%d profiles, want 6", len(got))
	}
}

// TestRestoreDamaged: a backup of which a byte is wrong or missing is refused,
// the file is named, and nothing is left.
func TestRestoreDamaged(t *testing.T) {
	s := open(t, t.TempDir())
	fill(t, s, 0, 6)
	base := t.TempDir()
	if _, err := s.BackupDir(t.Context(), base, nil); err != nil {
		t.Fatal(err)
	}
	refused := func(what, name string, dir string) {
		t.Helper()
		o := store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store")}
		_, err := store.RestoreDir(t.Context(), dir, o)
		if !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), filepath.ToSlash(name)) {
			t.Errorf("%s of %s: %v", what, name, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(o.Dir)); len(left) > 0 {
			t.Errorf("%s of %s: %v is left", what, name, left)
		}
	}
	files := readFiles(t, base)
	for name, good := range files {
		if name == "lock" {
			continue
		}
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		for i := range 10 {
			at := i * (len(good) - 1) / 9
			bad := bytes.Clone(good)
			if bad[at] ^= 0x04; name == "manifest.json" {
				bad = bytes.Replace(good, []byte(`"sha256": "`), fmt.Appendf(nil, `"sha256": "%x`, i), 1)
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(fmt.Sprintf("byte %d", at), name, dir)
		}
		if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		refused("half", name, dir)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		refused("nothing", name, dir)
	}
	var b bytes.Buffer
	if _, err := s.BackupTar(t.Context(), &b, nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		n := i * (b.Len() - 1) / 40
		o := store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store")}
		if _, err := store.RestoreTar(t.Context(), bytes.NewReader(b.Bytes()[:n]), o); !errors.Is(err, inquest.ErrInvalid) && n < b.Len()-1536 {
			t.Errorf("the first %d of %d bytes: %v", n, b.Len(), err)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.RestoreDir(t.Context(), base, store.RestoreOptions{Dir: full}); err == nil {
		t.Error("a backup was restored over something")
	}
}

// TestBackupKill ends a process with SIGKILL while it makes a backup, first in
// a new directory, then in one that has a backup: what is there then is no
// backup or a whole one. INQUEST_LONG=1 does it more often.
func TestBackupKill(t *testing.T) {
	if dir := os.Getenv("INQUEST_TEST_BACKUP"); dir != "" {
		s := open(t, os.Getenv("INQUEST_TEST_STORE"))
		waitReady(t, s)
		fmt.Println("ready")
		if _, err := s.BackupDir(t.Context(), dir, nil); err != nil {
			t.Fatal(err)
		}
		fmt.Println("done")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	source := t.TempDir()
	s := open(t, source)
	for n := range 8 {
		fill(t, s, 3*n, 3*n+3)
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := stored(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kills := 8
	if os.Getenv("INQUEST_LONG") != "" {
		kills = 200
	}
	whole := 0
	for i := range kills {
		dir := filepath.Join(t.TempDir(), "backup")
		finished := backupAndKill(t, copyDir(t, source), dir)
		if i%3 == 0 {
			finished = backupAndKill(t, copyDir(t, source), dir) || finished
		}
		_, err := store.RestoreDir(t.Context(), dir, store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store")})
		switch {
		case err == nil:
			whole++
			if diff := cmp.Diff(want, stored(t, restored(t, dir))); diff != "" {
				t.Fatal(diff)
			}
		case finished || !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), "was not finished"):
			t.Fatalf("finished %v: %v", finished, err)
		}
	}
	t.Logf("%d of %d backups were whole", whole, kills)
}

// backupAndKill starts a backup in another process and kills that at some
// moment. It says whether the backup had finished.
func backupAndKill(t *testing.T, source, dir string) (finished bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBackupKill$")
	cmd.Env = append(os.Environ(), "INQUEST_TEST_BACKUP="+dir, "INQUEST_TEST_STORE="+source)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
	}
	time.AfterFunc(time.Duration(rand.IntN(40))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	for lines.Scan() {
		finished = finished || lines.Text() == "done"
	}
	_ = cmd.Wait() // it was killed
	return finished
}
