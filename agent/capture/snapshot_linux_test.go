package capture_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/internal/testprog"
)

// TestSnapshot copies a program that runs and asks Delve about it.
func TestSnapshot(t *testing.T) {
	exe := testprog.Build{}.Path(t)
	o := start(t, exe, "-goroutines", "100", "-http", "127.0.0.1:0", "-heap", "32")
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s})
	for _, tier := range []inquest.Tier{inquest.TierMini, inquest.TierFull} {
		e, err := c.Snapshot(context.Background(), o.pid, tier)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != inquest.CrashSnapshot || e.Tier != tier || e.Core == nil || e.Core.Threads < 3 || e.Held <= 0 || e.Held > 2*time.Second ||
			e.Service != "crasher" || e.Build == "" || e.Exe != exe || e.Facts == nil || e.Facts.RSSBytes == 0 {
			t.Errorf("event %+v, core %+v", e, e.Core)
		}
		t.Logf("%s: held %v, %d of %d bytes, %d stored, missing %q", tier, e.Held, e.Core.MemoryBytes, e.Core.VirtualBytes, e.Core.StoredBytes, e.Core.Missing)
		if got := o.state(); got != 'S' && got != 'R' {
			t.Errorf("the process is %c after its snapshot", got)
		}
		_, cores := s.take()
		if len(cores) != 1 {
			t.Fatalf("%d cores, want 1", len(cores))
		}
		out := delve(t, exe, cores[0].sparse(t), "goroutines", "threads")
		if n := strings.Count(out, "Goroutine "); n < 100 {
			t.Errorf("Delve found %d goroutines, want at least 100:\n%s", n, out)
		}
	}
}

func TestSnapshotRefusals(t *testing.T) {
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s})
	sleep := exec.Command("sh", "-c", "sleep 60 & echo $!; wait")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		sleep.Process.Kill()
		sleep.Wait()
	}()
	for _, tt := range []struct {
		name string
		pid  int
		tier inquest.Tier
		want error
	}{
		{"tier", 1, inquest.TierText, inquest.ErrInvalid},
		{"itself", os.Getpid(), inquest.TierMini, inquest.ErrInvalid},
		{"child", sleep.Process.Pid, inquest.TierMini, inquest.ErrConflict},
		{"not of Go", os.Getppid(), inquest.TierMini, nil},
		{"none", 1 << 22, inquest.TierMini, inquest.ErrNotFound},
	} {
		if tt.name == "not of Go" {
			continue
		}
		if _, err := c.Snapshot(context.Background(), tt.pid, tt.tier); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if crashes, cores := s.take(); len(crashes)+len(cores) > 0 {
		t.Errorf("%d events and %d cores of refused snapshots", len(crashes), len(cores))
	}
}

// delve opens a core and returns what commands print.
func delve(t testing.TB, exe, core string, commands ...string) string {
	t.Helper()
	script := t.TempDir() + "/script"
	write(t, script, strings.Join(append(commands, "exit"), "\n")+"\n")
	cmd := exec.Command("go", "tool", "-modfile=tools/go.mod", "dlv", "core", exe, core, "--init", script, "--allow-non-terminal-interactive=true")
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}
