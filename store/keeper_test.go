package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// logText is a log that is read while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// onlyBlocks looks for files of blocks that nobody knows of.
func onlyBlocks(t *testing.T, when, dir string, s *store.Store) {
	t.Helper()
	known := 0
	for _, n := range s.Levels() {
		known += n
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "blocks", "*")); len(files) != known {
		t.Fatalf("%s: files %v, %d blocks are known", when, files, known)
	}
}

// panicStory is a deletionStory of which all is rolled up but for one block,
// and whose files panic.
func panicStory(t *testing.T) (*deletionStory, *store.FaultyFiles, *logText) {
	t.Helper()
	files, log := &store.FaultyFiles{}, &logText{}
	d := newDeletionStory(t)
	d.put("part", "nextday", t0.Add(24*time.Hour))
	flush(t, d.s)
	settle(t, d.s)
	d.put("new", "new", d.c.now())
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	d.s = open(t, d.dir, d.with, store.WithFiles(files), func(o *store.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	waitReady(t, d.s)
	return d, files, log
}

const panicked = "background job panicked"

// TestKeeperPanic has each write of a block in the background panic: nothing
// is left of what its job had done, and it succeeds when it is done again.
func TestKeeperPanic(t *testing.T) {
	t.Parallel()
	n := int64(1)
	for ; ; n++ {
		d, files, log := panicStory(t)
		files.Panic.Store(n)
		d.delete()
		err := d.s.Settle(context.Background()) // the panic may have been before
		when := fmt.Sprintf("write %d: %v", n, err)
		if err != nil && !strings.Contains(err.Error(), "internal error: a write to a block") {
			t.Fatal(when)
		}
		happened := log.count(panicked)
		if happened > 1 || err != nil && happened == 0 || happened != log.count("faultyFile).Write") {
			t.Fatalf("%s: panicked %d times", when, happened)
		}
		d.check(when, d.s)
		onlyBlocks(t, when, d.dir, d.s)
		settle(t, d.s)
		onlyBlocks(t, when+", again", d.dir, d.s)
		d.erased(when, d.s, d.dir)
		if happened == 0 {
			break
		}
	}
	if n < 5 {
		t.Errorf("%d writes", n-1)
	}
}

// TestKeeperRests: the others go on without a job that panics, which is not
// tried again at once, whoever wakes the keeper.
func TestKeeperRests(t *testing.T) {
	t.Parallel()
	for range 100 {
		if keeperRests(t) {
			return
		}
	}
	t.Error("all was done before it could panic, each time")
}

// keeperRests is false if no job panicked: all was done before the test was.
func keeperRests(t *testing.T) bool {
	d, files, log := panicStory(t)
	settle(t, d.s)
	d.put("other", "other", d.c.now())
	flush(t, d.s)
	files.Panic.Store(1)
	if d.s.Stats().Pending == 0 {
		return false
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, d.s.Stats())
			}
		}
	}
	if _, err := d.s.Delete(context.Background(), store.Deletion{Service: "nobody"}); err != nil { // which wakes the keeper
		t.Fatal(err)
	}
	await("no panic", func() bool { return d.s.Stats().Pending == 0 || log.count("background job put off") == 1 })
	if log.count(panicked) == 0 {
		return false
	}
	d.delete()
	await("not taken off the disk", func() bool {
		ds, err := d.s.Deletions()
		return err == nil && !ds[2].Done.IsZero()
	})
	if rolling := log.count(`job="roll up"`) > 0; rolling && d.s.Stats().Pending == 0 || log.count(panicked) != 1 {
		t.Errorf("it does not rest: %+v", d.s.Stats())
	}
	d.check("hidden", d.s)
	settle(t, d.s)
	d.check("settled", d.s)
	if d.s.Stats().Pending != 0 {
		t.Errorf("%+v", d.s.Stats())
	}
	return true
}

// TestIdle: a store that is opened idle does nothing in the background and
// keeps the policy that was in force.
func TestIdle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *store.Options) { o.Retention.Raw = 24 * time.Hour })
	fill(t, s, 0, 6)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, rollNow, func(o *store.Options) { o.Idle = true })
	if err := s.Settle(context.Background()); !errors.Is(err, inquest.ErrUnavailable) {
		t.Error(err)
	}
	if got := s.Retention().Raw; got != 24*time.Hour || s.Levels()[2] > 0 {
		t.Errorf("profiles are kept %v, blocks by level: %v", got, s.Levels())
	}
}
