package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprofile "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/store"
)

// newBinaries is a Binaries on a store of its own.
func newBinaries(t *testing.T, o ingest.BinariesOptions) *ingest.Binaries {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	o.Store = s
	b, err := ingest.NewBinaries(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Stop()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// This test's own program names the functions of a profile of itself.
func TestBinaryTable(t *testing.T) {
	raw, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("there is no /proc: ", err)
	}
	b := newBinaries(t, ingest.BinariesOptions{})
	ctx := context.Background()
	_, stored, err := b.Receive(ctx, &ingest.BinaryUpload{Body: bytes.NewReader(raw)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, then opened
		table, err := b.Table(ctx, stored.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&body, 0); err != nil {
			t.Fatal(err)
		}
		p, err := pprofile.Parse(&body)
		if err != nil {
			t.Fatal(err)
		}
		if b := p.Mapping[0].BuildID; b != "" && b != stored.GNUBuildID {
			t.Errorf("the profile is of build %s, the program is %s", b, stored.GNUBuildID)
		}
		for _, l := range p.Location {
			addr, ok := table.Address(l.Address - l.Mapping.Start + l.Mapping.Offset)
			frames := table.Frames(nil, addr)
			if !ok || len(frames) == 0 || frames[0].Function != l.Line[0].Function.Name {
				t.Errorf("%#x is %v, want %s", l.Address, frames, l.Line[0].Function.Name)
			}
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Table(ctx, strings.Repeat("0", 64)); !errors.Is(err, inquest.ErrNotFound) {
		t.Error(err)
	}
}

func TestLease(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	b := newBinaries(t, ingest.BinariesOptions{Now: func() time.Time { return now }})
	ids := []string{"b1", "", "b2", "b1", "b3", "b4", "b5", "b6"}
	for _, step := range []struct {
		agent string
		after time.Duration
		want  []string
	}{
		{"a", 0, []string{"b1", "b2", "b3", "b4"}},
		{"b", 0, []string{"b5", "b6"}},
		{"c", time.Minute, []string{}},
		{"a", 5 * time.Minute, []string{"b5", "b6"}}, // asked of b before, in vain
		{"a", time.Minute, []string{}},               // it could not upload the others
		{"c", 0, []string{"b1", "b2", "b3", "b4"}},
		{"a", 31 * time.Minute, []string{"b1", "b2", "b3", "b4"}},
	} {
		now = now.Add(step.after)
		if diff := cmp.Diff(step.want, b.Lease(step.agent, ids)); diff != "" {
			t.Errorf("%s at %s: %s", step.agent, now, diff)
		}
	}
}

func TestUpstreamURL(t *testing.T) {
	for _, url := range []string{"ftp://host/", "host", "http://", "https://host/?q=1", "://"} {
		if _, err := ingest.NewBinaries(ingest.BinariesOptions{Upstreams: []string{url}}); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
