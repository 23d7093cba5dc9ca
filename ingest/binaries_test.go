package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprofile "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
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
	var body bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&body, 0); err != nil {
		t.Fatal(err)
	}
	p, err := pprofile.Parse(&body)
	if err != nil {
		t.Fatal(err)
	}
	build := p.Mapping[0].BuildID
	if build != stored.GNUBuildID {
		t.Errorf("the profile is of build %s, the program is %s", build, stored.GNUBuildID)
	}
	var offsets []uint64
	for _, l := range p.Location {
		offsets = append(offsets, l.Address-l.Mapping.Start+l.Mapping.Offset)
	}
	for _, id := range []string{build, strings.ToUpper(build), stored.GoBuildID, stored.GoBuildID} { // made, opened, found open
		frames, err := b.Frames(ctx, id, offsets)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range p.Location {
			if fs := frames[i]; len(fs) != len(l.Line) || fs[0].Profiled() != l.Line[0].Function.Name {
				t.Errorf("%s: %#x is %v, want %s", id, l.Address, fs, l.Line[0].Function.Name)
			}
		}
	}
}

// TestLateBinary: nothing is known of a binary before it comes, and all from
// then on; its companion, which comes later still, adds what is not Go's.
func TestLateBinary(t *testing.T) {
	for _, tool := range []string{"gcc", "strip", "objcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			proc.Missing(t, "%v", err)
		}
	}
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
	}
	for name, text := range map[string]string{
		"go.mod":  "module example.org/late\n\ngo 1.24\n",
		"main.go": "package main\n\n// __attribute__((noinline)) static int twice(int x) { volatile int y = x; return 2 * y; }\nimport \"C\"\n\nfunc main() { println(C.twice(20)) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("go", "build", "-o", "whole", ".")
	run("objcopy", "--only-keep-debug", "whole", "debug")
	run("strip", "-o", "stripped", "whole")
	read := func(name string) []byte {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	whole := read("whole")
	is, err := symbolize.Identify(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := symbolize.WriteTable(&table, symbolize.Input{ReaderAt: bytes.NewReader(whole), Size: int64(len(whole))}, nil); err != nil {
		t.Fatal(err)
	}
	known, err := symbolize.OpenTable(bytes.NewReader(table.Bytes()), int64(table.Len()))
	if err != nil {
		t.Fatal(err)
	}
	// The offset of a function: the way back from its address.
	var offsets []uint64
	for _, name := range []string{"main.main", "twice"} {
		at := known.Functions(name)
		if len(at) != 1 {
			t.Fatalf("%s is at %x", name, at)
		}
		for off := range uint64(len(whole)) {
			if addr, ok := known.Address(off); ok && addr == at[0].Start {
				offsets = append(offsets, off)
				break
			}
		}
	}
	b := newBinaries(t, ingest.BinariesOptions{})
	ctx := context.Background()
	check := func(when string, want ...string) {
		t.Helper()
		frames, err := b.Frames(ctx, is.ID, offsets)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range want {
			got := ""
			if len(frames[i]) > 0 {
				got = frames[i][0].Function
			}
			if got != want {
				t.Errorf("%s: function %d is %q, want %q", when, i, got, want)
			}
		}
	}
	check("before", "", "")
	gen := b.Generation()
	for _, step := range []struct {
		file string
		want []string
	}{{"stripped", []string{"main.main", ""}}, {"debug", []string{"main.main", "twice"}}} {
		if _, _, err := b.Receive(ctx, &ingest.BinaryUpload{Body: bytes.NewReader(read(step.file))}); err != nil {
			t.Fatal(err)
		}
		check("with "+step.file, step.want...)
		if now := b.Generation(); now == gen {
			t.Errorf("%s came, the generation did not change", step.file)
		} else {
			gen = now
		}
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
		life  time.Duration // of the agent: when it started
	}{
		{"a", 0, []string{"b1", "b2", "b3", "b4"}, 0},
		{"b", 0, []string{"b5", "b6"}, 0},
		{"c", time.Minute, []string{}, 0},
		{"a", 5 * time.Minute, []string{"b5", "b6"}, 0}, // asked of b before, in vain
		{"a", time.Minute, []string{}, 0},               // it could not upload the others
		{"c", 0, []string{"b1", "b2", "b3", "b4"}, 0},
		{"a", 31 * time.Minute, []string{"b1", "b2", "b3", "b4"}, 0},
		{"a", time.Second, []string{"b1", "b2", "b3", "b4"}, time.Second}, // it was restarted
		{"a", time.Second, []string{"b5", "b6"}, time.Second},
	} {
		now = now.Add(step.after)
		if diff := cmp.Diff(step.want, b.Lease(step.agent, time.Unix(0, 0).Add(step.life), ids)); diff != "" {
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
