package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
)

// TestCoreReport keeps what is found out about a core beside it, over restarts
// and as long as the core.
func TestCoreReport(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	s := open(t, dir)
	c := crashOf(1, "shop", "ab")
	l, im, _ := coreOf(t, &c, 2, 1)
	id := l.ID()
	if err := s.PutCoreReport(ctx, id, 1, []byte("{}")); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("of no core: %v", err)
	}
	if _, err := sendCore(s, &c, l, im, inquest.TierFull); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CoreReport(id); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("before there is one: %v", err)
	}
	want := bytes.Repeat([]byte("what it tells "), 1000)
	for key := range uint64(2) {
		if err := s.PutCoreReport(ctx, id, key, want); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutCoreReport(ctx, id, 1, make([]byte, 64<<20)); !errors.Is(err, inquest.ErrTooLarge) {
		t.Errorf("a huge one: %v", err)
	}
	again := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
	again()
	if got, key, err := s.CoreReport(id); err != nil || key != 1 || !bytes.Equal(got, want) || s.CoreReports()[id] != 1 {
		t.Errorf("%d bytes, key %d, %v", len(got), key, err)
	}
	// One that is damaged, and one of no core, are not there.
	name := filepath.Join(dir, "cores", id+".report")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-3] ^= 1
	other := filepath.Join(dir, "cores", strings.Repeat("0", 32)+".report")
	for _, name := range []string{name, other} {
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if _, _, err := s.CoreReport(id); !errors.Is(err, inquest.ErrNotFound) || len(s.CoreReports()) != 0 {
		t.Errorf("a damaged one: %v", err)
	}
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one of no core: %v", err)
	}
	if err := s.PutCoreReport(ctx, id, 3, want); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteCore(id); err != nil {
		t.Fatal(err)
	}
	noCoreFiles(t, dir)
	if len(s.CoreReports()) != 0 {
		t.Error("the report of a deleted core is said to be there")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
