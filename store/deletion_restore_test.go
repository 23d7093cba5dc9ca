package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// deletionStory is a store of which something is deleted: a service, and an
// hour of another.
type deletionStory struct {
	*marks
	dir   string
	with  func(*store.Options)
	words []string // deleted
}

func newDeletionStory(t *testing.T) *deletionStory {
	d := &deletionStory{dir: t.TempDir()}
	c := newClock()
	d.with = func(o *store.Options) { o.Now, o.Epoch, o.RollupDelay = c.now, 1000*time.Hour, -1 }
	d.marks = newMarks(t, open(t, d.dir, d.with), c)
	for i := range 40 {
		d.put("gone", fmt.Sprintf("gone%02dx", i), c.now())
		d.put("part", fmt.Sprintf("part%02dx", i), c.now())
		d.put("stays", fmt.Sprintf("stays%02dx", i), c.now())
		if i == 20 {
			d.flush()
			settle(t, d.s)
		}
		c.advance(5 * time.Minute)
	}
	return d
}

// doomed says that a profile is one that is deleted.
func (d *deletionStory) doomed(m mark) bool {
	return m.service == "gone" || m.service == "part" && !m.at.Before(t0.Add(time.Hour)) && m.at.Before(t0.Add(2*time.Hour))
}

func (d *deletionStory) delete() {
	d.tb.Helper()
	hour := inquest.Window{From: t0.Add(time.Hour), Until: t0.Add(2 * time.Hour)}
	for _, x := range []store.Deletion{{Service: "gone", By: "me", Reason: `a "secret"`}, {Service: "part", Window: hour, By: "you"}} {
		if _, err := d.s.Delete(context.Background(), x); err != nil {
			d.tb.Fatal(err)
		}
		d.c.advance(time.Second)
	}
	for _, m := range d.have {
		if d.doomed(m) {
			d.words = append(d.words, m.word)
		}
	}
}

// check looks for what is deleted in answers, of profiles and of rollups, and
// for what is not.
func (d *deletionStory) check(when string, s *store.Store, late ...inquest.Key) {
	t := d.tb
	t.Helper()
	got := seen(t, s, store.Selection{})
	for k, m := range d.have {
		if there := !d.doomed(m) || slices.Contains(late, k); got[k] != there {
			t.Fatalf("%s: %s of %s is there: %v", when, m.word, m.service, got[k])
		}
	}
	if diff := cmp.Diff(totals(t, s, store.Selection{}), totals(t, s, store.Selection{Rollups: true})); diff != "" {
		t.Fatalf("%s: (-raw +rollups)\n%s", when, diff)
	}
}

// erased settles a store and looks for what is deleted in its files.
func (d *deletionStory) erased(when string, s *store.Store, dir string, late ...inquest.Key) {
	t := d.tb
	t.Helper()
	settle(t, s)
	d.check(when+", settled", s, late...)
	ds, err := s.Deletions()
	if err != nil || len(ds) != 2 || ds[0].By != "me" || ds[0].Reason != `a "secret"` || slices.ContainsFunc(ds, func(d store.Deletion) bool { return d.Done.IsZero() }) {
		t.Fatalf("%s: %+v, %v", when, ds, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range d.words {
		if in := found(t, dir, w); len(in) > 0 {
			t.Fatalf("%s: %s is in %v", when, w, in)
		}
	}
	if r := check(t, dir, false, true); !r.Whole() {
		t.Fatalf("%s: %s", when, spellProblems(r))
	}
}

func readDeletions(tb testing.TB, raw []byte) []store.Deletion {
	tb.Helper()
	ds, damaged, err := store.ReadDeletions(bytes.NewReader(raw))
	if err != nil || len(damaged) > 0 {
		tb.Fatal(err, damaged)
	}
	return ds
}

func deletionFile(dir string) string { return filepath.Join(dir, "deletions.jsonl") }

func fileBytes(tb testing.TB, path string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// TestRestoreDeletions deletes after a backup, and restores that with the file
// of deletions, and with what the API answers.
func TestRestoreDeletions(t *testing.T) {
	ctx := context.Background()
	d := newDeletionStory(t)
	if _, err := d.s.Delete(ctx, store.Deletion{Service: "nobody", By: "before the backup"}); err != nil {
		t.Fatal(err)
	}
	backup := t.TempDir()
	if _, err := d.s.BackupDir(ctx, backup, nil); err != nil {
		t.Fatal(err)
	}
	d.c.advance(time.Minute)
	d.delete()
	file := fileBytes(t, deletionFile(d.dir))
	settle(t, d.s)
	ds, err := d.s.Deletions()
	if err != nil {
		t.Fatal(err)
	}
	var records []store.DeletionRecord
	for i := range ds {
		records = append(records, ds[i].Record())
	}
	answer, err := json.MarshalIndent(map[string]any{"values": records}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	lines := new(bytes.Buffer)
	for _, r := range records {
		if err := json.NewEncoder(lines).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, raw := range map[string][]byte{
		"file": file, "file when done": fileBytes(t, deletionFile(d.dir)), "answer": answer, "lines": lines.Bytes(), "last line without end": bytes.TrimSpace(file),
	} {
		t.Run(name, func(t *testing.T) {
			d.tb = t
			o := store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store"), Deletions: readDeletions(t, raw), Now: d.c.now}
			m, err := store.RestoreDir(ctx, backup, o)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Deleted) != 2 || len(m.Old) != 0 || m.Deleted[0].Profiles != 40 || m.Deleted[1].Profiles != 12 || !m.Deleted[0].At.Equal(ds[1].At) {
				t.Fatalf("%+v", m)
			}
			s := open(t, o.Dir, d.with, func(o *store.Options) { o.Idle = true })
			d.check("restored", s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, o.Dir, d.with)
			settle(t, s)
			d.check("settled", s)
			got, err := s.Deletions()
			if err != nil || len(got) != 3 || got[0].By != "before the backup" || got[2].By != "you" || got[2].Number != 3 {
				t.Fatalf("%+v, %v", got, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for _, w := range d.words {
				if in := found(t, o.Dir, w); len(in) > 0 {
					t.Fatalf("%s is in %v", w, in)
				}
			}
			if again := readDeletions(t, fileBytes(t, deletionFile(o.Dir))); len(again) != 3 {
				t.Fatalf("the file has %+v", again)
			}
		})
	}
	d.tb = t
	without := restored(t, backup)
	if got := seen(t, without, store.Selection{}); len(got) != 120 {
		t.Fatalf("without deletions: %d profiles", len(got))
	}
	// A backup made since has them, and one of another store knows of none.
	newer := t.TempDir()
	if _, err := d.s.BackupDir(ctx, newer, nil); err != nil {
		t.Fatal(err)
	}
	foreign := readDeletions(t, file)[2]
	foreign.Service = "stays"
	m, err := store.RestoreDir(ctx, newer, store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store"), Deletions: append(readDeletions(t, file), foreign)})
	if err != nil || len(m.Deleted) != 0 || len(m.Old) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestDeletionWithoutCatalog loses the catalog at every moment after
// something was deleted.
func TestDeletionWithoutCatalog(t *testing.T) {
	ctx := context.Background()
	d := newDeletionStory(t)
	d.delete()
	hidden := copyDir(t, d.dir) // with what is deleted, in blocks and in the log
	late := []inquest.Key{d.put("gone", "late1x", t0.Add(time.Hour)), d.put("part", "late2x", t0.Add(time.Hour))}
	flush(t, d.s)
	more := copyDir(t, d.dir)
	d.words = slices.DeleteFunc(d.words, func(w string) bool { return strings.HasPrefix(w, "late") })
	settle(t, d.s)
	done := copyDir(t, d.dir)
	for i, dir := range []string{hidden, more, done} {
		now := late
		if i == 0 {
			now = nil
		}
		when := []string{"hidden", "more has come", "done"}[i]
		have := d.have
		if i == 0 {
			d.have = map[inquest.Key]mark{}
			for k, m := range have {
				if !slices.Contains(late, k) {
					d.have[k] = m
				}
			}
		}
		if err := os.Remove(filepath.Join(dir, "catalog.db")); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, d.with)
		waitReady(t, s)
		d.check(when, s, now...)
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		d.check(when+", flushed", s, now...)
		// And once more, before anything is taken off the disk.
		again := copyDir(t, dir)
		if err := os.Remove(filepath.Join(again, "catalog.db")); err != nil {
			t.Fatal(err)
		}
		d.erased(when, s, dir, now...)
		if i%2 == 1 { // or somebody repairs it
			check(t, again, true, false)
		}
		s = open(t, again, d.with)
		waitReady(t, s)
		d.erased(when+", again", s, again, now...)
		d.have = have
	}
	// What it says is in the catalog too.
	if err := os.Remove(deletionFile(more)); err != nil {
		t.Fatal(err)
	}
	s := open(t, more, d.with)
	d.erased("without file", s, more, late...)
	if got := readDeletions(t, fileBytes(t, deletionFile(more))); len(got) != 2 {
		t.Fatalf("%+v", got)
	}
}

// TestDeletionFileDamaged damages the file of deletions, with the catalog
// there and without it: what can be read of it counts, and the rest is
// reported.
func TestDeletionFileDamaged(t *testing.T) {
	d := newDeletionStory(t)
	d.delete()
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	good := fileBytes(t, deletionFile(d.dir))
	first := bytes.IndexByte(good, '\n') + 1
	step := 37
	if testing.Short() {
		step = 211
	}
	for at := 0; at < len(good); at += step {
		for _, catalog := range []bool{true, false} {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			d.damage(t, fmt.Sprintf("byte %d of %d, catalog %v", at, len(good), catalog), bad, catalog, true, first)
		}
		d.damage(t, fmt.Sprintf("%d bytes of %d", at, len(good)), good[:at], false, false, first)
	}
}

// damage opens a store with another file of deletions, the first line of which
// ended at first.
func (d *deletionStory) damage(t *testing.T, when string, bad []byte, catalog, flipped bool, first int) {
	t.Helper()
	dir := copyDir(t, d.dir)
	defer os.RemoveAll(dir)
	if err := os.WriteFile(deletionFile(dir), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if !catalog {
		if err := os.Remove(filepath.Join(dir, "catalog.db")); err != nil {
			t.Fatal(err)
		}
	}
	inCheck := slices.ContainsFunc(check(t, dir, false, false).Problems, func(p store.CheckProblem) bool { return p.Where == "deletions.jsonl" })
	s := open(t, dir, d.with, func(o *store.Options) { o.Idle = true })
	waitReady(t, s)
	defer s.Close()
	reported := slices.ContainsFunc(s.Stats().Quarantined, func(q string) bool { return strings.HasPrefix(q, "deletions.jsonl: line ") })
	aside, _ := filepath.Glob(deletionFile(dir) + ".broken-*")
	tail := bytes.HasSuffix(bad, []byte("\n"))
	if reported != flipped && tail || reported != (len(aside) == 1) || reported != inCheck {
		t.Fatalf("%s: reported %v, kept as %v", when, s.Stats().Quarantined, aside)
	}
	got := seen(t, s, store.Selection{})
	lost := map[string]bool{}
	for k, m := range d.have {
		if d.doomed(m) && got[k] {
			lost[m.service] = true
		} else if !d.doomed(m) && !got[k] {
			t.Fatalf("%s: %s is gone", when, m.word)
		}
	}
	_, _, sum := bytes.Cut(bad[:min(first, len(bad))], []byte("\n"))
	switch {
	case catalog && len(lost) > 0,
		flipped && sum && len(lost) > 1, // but for the end of a line one is left
		!flipped && len(bad) >= first && lost["gone"]:
		t.Fatalf("%s: there again: %v", when, lost)
	}
	// From now on it is whole.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, damaged, err := store.ReadDeletions(bytes.NewReader(fileBytes(t, deletionFile(dir))))
	if err != nil || len(damaged) > 0 {
		t.Fatalf("%s: %v %v", when, err, damaged)
	}
}

// TestDeletionDiskFull: without space a deletion is refused, and nothing of it
// is left, whatever happens next.
func TestDeletionDiskFull(t *testing.T) {
	for _, mode := range []store.FaultMode{store.FullOnce, store.FullFrom} {
		d := newDeletionStory(t)
		flush(t, d.s)
		settle(t, d.s)
		if err := d.s.Close(); err != nil {
			t.Fatal(err)
		}
		files := &store.Faults{}
		files.Arm(mode, -1)
		s := open(t, d.dir, d.with, store.WithFaults(files), func(o *store.Options) { o.Idle = true })
		waitReady(t, s)
		want := seen(t, s, store.Selection{})
		refused := 0
		for call := 0; ; call++ {
			files.Arm(mode, call)
			_, err := s.Delete(t.Context(), store.Deletion{Service: "gone"})
			failed, _ := files.Failed()
			files.Repair()
			if err == nil {
				break
			}
			refused++
			if !errors.Is(err, inquest.ErrDiskFull) || !strings.Contains(err.Error(), "nothing was deleted") {
				t.Fatalf("%v, call %d, %s: %v", mode, call, failed, err)
			}
			if diff := cmp.Diff(want, seen(t, s, store.Selection{})); diff != "" {
				t.Fatalf("%v, call %d, %s: %s", mode, call, failed, diff)
			}
			cut := copyDir(t, d.dir)
			if err := os.Remove(filepath.Join(cut, "catalog.db")); err != nil {
				t.Fatal(err)
			}
			again := open(t, cut, d.with, func(o *store.Options) { o.Idle = true })
			waitReady(t, again)
			if diff := cmp.Diff(want, seen(t, again, store.Selection{})); diff != "" {
				t.Fatalf("%v, call %d, %s, opened again: %s", mode, call, failed, diff)
			}
			_ = again.Close()
		}
		if refused < 4 { // create, write, sync, sync of the directory, commit
			t.Errorf("%v: refused %d times", mode, refused)
		}
		if got := seen(t, s, store.Selection{}); len(got) != len(want)-40 {
			t.Errorf("%d profiles of %d are left", len(got), len(want))
		}
	}
}

// TestHorizonWithoutCatalog: what an earlier policy hid stays hidden when the
// catalog is lost.
func TestHorizonWithoutCatalog(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	with := func(o *store.Options) { o.Now, o.Idle = c.now, true }
	s := open(t, dir, func(o *store.Options) { o.Now, o.Epoch = c.now, 1000*time.Hour })
	m := newMarks(t, s, c)
	for i := range 10 {
		m.put("svc", fmt.Sprint("word", i), c.now())
		c.advance(time.Hour)
	}
	flush(t, s)
	short := store.Retention{Raw: 5 * time.Hour, FiveMinutes: 5 * time.Hour, Hour: 5 * time.Hour, Day: 5 * time.Hour}
	for _, r := range []store.Retention{short, {}} {
		if err := s.SetRetention(r); err != nil {
			t.Fatal(err)
		}
	}
	want := seen(t, s, store.Selection{})
	if len(want) == 0 || len(want) == 10 {
		t.Fatalf("%d profiles", len(want))
	}
	cut := copyDir(t, dir)
	if err := os.Remove(filepath.Join(cut, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	again := open(t, cut, with)
	waitReady(t, again)
	if diff := cmp.Diff(want, seen(t, again, store.Selection{})); diff != "" {
		t.Fatal(diff)
	}
}

// TestDeletionFaults lets every call of the file system fail, once or from then
// on, while something is deleted, and while a store is opened of which the
// catalog is lost: what was acknowledged stays deleted, and nothing is half.
func TestDeletionFaults(t *testing.T) {
	t.Parallel()
	d := newDeletionStory(t)
	flush(t, d.s)
	settle(t, d.s)
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	idle := func(o *store.Options) { o.Idle = true }
	left := func(dir string) (n int) {
		s := open(t, dir, d.with, idle)
		defer s.Close()
		waitReady(t, s)
		for k := range seen(t, s, store.Selection{}) {
			if d.have[k].service == "gone" {
				n++
			}
		}
		return n
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for _, mode := range []store.FaultMode{store.FailOnce, store.FailFrom, store.FullFrom, store.NoCatalog} {
		for call := 0; ; call += step {
			dir, files := copyFast(t, d.dir), &store.Faults{}
			files.Arm(mode, -1)
			s := open(t, dir, d.with, store.WithFaults(files), idle)
			waitReady(t, s)
			files.Arm(mode, call)
			_, err := s.Delete(t.Context(), store.Deletion{Service: "gone"})
			failed, _ := files.Failed()
			when := fmt.Sprintf("%v, call %d, %s: %v", mode, call, failed, err)
			lost := copyFast(t, dir)
			files.Repair()
			_ = s.Close()
			if err := os.Remove(filepath.Join(lost, "catalog.db")); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{dir, lost} {
				if n := left(dir); n != 0 && (n != 40 || err == nil) {
					t.Fatalf("%s: %d are left", when, n)
				}
			}
			if failed == "" && err == nil {
				t.Log("delete", when)
				break
			}
			if !errors.Is(err, inquest.ErrUnavailable) && !errors.Is(err, inquest.ErrDiskFull) && err != nil {
				t.Errorf("%s: of no kind a caller could act on", when)
			}
		}
	}
	base := copyFast(t, d.dir)
	s := open(t, base, d.with, idle)
	if _, err := s.Delete(t.Context(), store.Deletion{Service: "gone"}); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if err := os.Remove(filepath.Join(base, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []store.FaultMode{store.FailOnce, store.FailFrom, store.FullFrom} {
		for call := 0; ; call += step {
			dir, files := copyFast(t, base), &store.Faults{}
			files.Arm(mode, call)
			o := store.Options{Dir: dir, MinFreeBytes: 1}
			d.with(&o)
			idle(&o)
			store.WithFaults(files)(&o)
			s, err := store.Open(t.Context(), o)
			if err == nil {
				_ = s.Close()
			}
			failed, _ := files.Failed()
			if n := left(dir); n != 0 {
				t.Fatalf("%v, call %d, %s: %v: %d are there again", mode, call, failed, err, n)
			}
			if failed == "" {
				t.Log("open", mode, call)
				break
			}
		}
	}
}
