package capture_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
)

// TestStoredCores takes cores that were written into files.
func TestStoredCores(t *testing.T) {
	exe := testprog.Build{}.Path(t)
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, PerKey: anything, PerService: anything, TempDir: t.TempDir()})
	o := start(t, exe, "-http", "127.0.0.1:0", "-goroutines", "10")
	if _, err := c.Snapshot(context.Background(), o.pid, inquest.TierFull); err != nil {
		t.Fatal(err)
	}
	_, cores := s.take()
	name := cores[0].sparse(t)
	broken := filepath.Join(t.TempDir(), "broken")
	write(t, broken, "\x7fELF and nothing else")

	for _, tt := range []struct {
		name    string
		path    string
		packed  bool // the stream is no file
		tier    inquest.Tier
		deaths  int64
		foreign error // what the old handler says, if it is to be asked
	}{
		{"mini", name, false, inquest.TierMini, 1, nil},
		{"full", name, false, inquest.TierFull, 1, nil},
		{"packed", name, true, inquest.TierFull, 1, nil},
		{"broken", broken, false, inquest.TierFull, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.SetPolicy(inquest.CapturePolicy{Default: tt.tier})
			f, err := os.Open(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			var released, taken int
			d := &corepattern.Death{
				PID: 1, UID: -1, GID: -1, At: time.Now().Add(-time.Hour), Source: corepattern.ModeSystemd, Path: tt.path, Stream: f,
				Told:    map[string]string{"UNIT": "checkout@1.service", "EXE": "/opt/checkout", "ENVIRON": "A=B\nPOD_NAME=checkout-0"},
				Release: func() { released++ }, Taken: func() { taken++ }, Foreign: func() error { t.Error("given away"); return nil },
			}
			if tt.packed {
				d.Stream = struct{ io.Reader }{f}
			}
			before := c.State()
			c.Death(context.Background(), d)
			f.Close()
			crashes, cores := s.take()
			if released == 0 || int64(len(crashes)) != tt.deaths || int64(len(cores)) != tt.deaths || int64(taken) != tt.deaths {
				t.Fatalf("released %d times, taken %d times, %d events, %d cores, %+v", released, taken, len(crashes), len(cores), c.State())
			}
			if tt.deaths == 0 {
				if got := c.State(); got.Failed != before.Failed+1 || got.Error == "" {
					t.Errorf("state %+v", got)
				}
				return
			}
			e := crashes[0]
			if e.Tier != tt.tier || e.Service != "checkout" || e.Exe != "/opt/checkout" || e.Facts.Pod != "checkout-0" || e.Held != 0 || e.Process != "" || e.ID == "" || e.Build == "" {
				t.Errorf("event %+v", e)
			}
			if tt.tier == inquest.TierFull {
				if n := strings.Count(delve(t, exe, cores[0].sparse(t), "goroutines"), "Goroutine "); n < 10 {
					t.Errorf("Delve found %d goroutines", n)
				}
			}
		})
	}
}

// TestStoredBlanked takes a core as gdb wrote it, with its secrets, and keeps
// these neither in memory nor in notes.
func TestStoredBlanked(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, PerKey: anything, PerService: anything, TempDir: t.TempDir()})
	o := start(t, testprog.Build{}.Path(t), "-http", "127.0.0.1:0", "hunter2-argument")
	name := gcore(t, o.pid)
	for _, tier := range []inquest.Tier{inquest.TierMini, inquest.TierFull} {
		c.SetPolicy(inquest.CapturePolicy{Default: tier})
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Death(context.Background(), &corepattern.Death{
			Path: name, Stream: f, Source: corepattern.ModeDirectory, UID: -1, GID: -1,
			Release: func() {}, Taken: func() {}, Foreign: func() error { t.Error("given away"); return nil },
		})
		f.Close()
		_, cores := s.take()
		if len(cores) != 1 {
			t.Fatalf("%d cores, %+v", len(cores), c.State())
		}
		for what, file := range map[string]string{"gdb's core": name, "ours": cores[0].sparse(t)} {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"hunter2-argument", "hunter2-not-to-be-seen"} {
				if found := bytes.Contains(data, []byte(secret)); found != (what != "ours") {
					t.Errorf("%s: %s in %s: %v", tier, secret, what, found)
				}
			}
		}
		if core := cores[0].image(t).Ledger().Header().Core; len(core.Blanked) == 0 {
			t.Errorf("%s: the image does not say what was blanked", tier)
		}
	}
}

// TestStoredForeign leaves cores of other programs alone.
func TestStoredForeign(t *testing.T) {
	if os.Getuid() != 0 {
		proc.Missing(t, "gcore needs the rights of root")
	}
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s})
	name := nativeCore(t)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	foreign := errors.New("the old handler was asked")
	asked := 0
	c.Death(context.Background(), &corepattern.Death{
		Path: name, Stream: f, Source: corepattern.ModeDirectory, UID: -1, GID: -1,
		Release: func() {}, Taken: func() { t.Error("taken") }, Foreign: func() error { asked++; return foreign },
	})
	if asked != 1 || c.State().Foreign != 1 {
		t.Errorf("asked %d times, %+v", asked, c.State())
	}
	if crashes, _ := s.take(); len(crashes) > 0 {
		t.Errorf("told %+v", crashes)
	}
}

// nativeCore is a core of a program that is not of Go.
func nativeCore(t *testing.T) string {
	t.Helper()
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	}()
	return gcore(t, sleep.Process.Pid)
}

// gcore has gdb write the core of a process.
func gcore(t *testing.T, pid int) string {
	t.Helper()
	if _, err := exec.LookPath("gcore"); err != nil {
		proc.Missing(t, "gcore is not here")
	}
	prefix := filepath.Join(t.TempDir(), "core")
	if out, err := exec.Command("gcore", "-o", prefix, strconv.Itoa(pid)).CombinedOutput(); err != nil {
		proc.Missing(t, "gcore: %v: %s", err, out)
	}
	return prefix + "." + strconv.Itoa(pid)
}
