package capture_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
)

// limited is a cgroup of a memory limit, and the file that takes its pids.
func limited(t *testing.T, limit string) (procs string) {
	t.Helper()
	for _, g := range []struct{ root, limit, swap string }{
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", ""},
	} {
		if _, err := os.Stat(filepath.Join(g.root, "cgroup.procs")); err != nil {
			continue // other groups are mounted below it
		}
		dir := filepath.Join(g.root, fmt.Sprintf("inquest-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			for range 100 {
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("%s is left", dir)
		})
		if os.WriteFile(filepath.Join(dir, g.limit), []byte(limit), 0o600) != nil {
			continue // it has no controller of memory
		}
		if g.swap != "" {
			_ = os.WriteFile(filepath.Join(dir, g.swap), []byte("0"), 0o600) // there may be no swap
		}
		return filepath.Join(dir, "cgroup.procs")
	}
	proc.Missing(t, "no cgroup with a limit on memory can be made here")
	return ""
}

// TestKilledForMemory has the kernel kill a program for its memory, and
// others end in other ways meanwhile.
func TestKilledForMemory(t *testing.T) {
	procs := limited(t, "40M")
	exe := testprog.Build{}.Path(t)
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s, Poll: 50 * time.Millisecond})
	begin := filepath.Join(t.TempDir(), "begin")
	victim := start(t, os.Args[0], "grow", begin)
	killed := start(t, exe, "-http", "127.0.0.1:0")
	bystander := start(t, exe, "-http", "127.0.0.1:0")
	for _, o := range []*orphan{victim, killed} {
		if err := os.WriteFile(procs, fmt.Append(nil, o.pid), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Watch([]int{victim.pid, killed.pid, bystander.pid, os.Getppid(), 1 << 22})
	killed.kill()
	time.Sleep(200 * time.Millisecond)
	if crashes, _ := s.take(); len(crashes) > 0 {
		t.Errorf("told %+v of a process that somebody killed", crashes)
	}
	write(t, begin, "")
	await(t, func() bool { return victim.state() == 0 || victim.state() == 'Z' })
	var crashes []inquest.Crash
	await(t, func() bool {
		more, _ := s.take()
		crashes = append(crashes, more...)
		return len(crashes) > 0
	})
	e := crashes[0]
	if len(crashes) != 1 || e.Kind != inquest.CrashOOM || e.PID != victim.pid || e.ID != inquest.CrashID(e.Process) || e.Build == "" ||
		e.Class != "oom" || !strings.Contains(e.Message, "40.0 MiB") || e.Service == "" {
		t.Errorf("events %+v", crashes)
	}
	if f := e.Facts; f == nil || f.MemoryLimit != 40<<20 || f.OOMKills != 1 || f.MemoryPeak < 30<<20 || !strings.Contains(f.Cgroup, "inquest-test") {
		t.Errorf("facts %+v", e.Facts)
	}
	c.Watch(nil)
	bystander.kill()
}

// grow keeps ever more memory once a file is there.
func grow(begin string) {
	fmt.Printf("ready %d - 1\n", os.Getpid())
	for {
		if _, err := os.Stat(begin); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var kept [][]byte
	for {
		kept = append(kept, bytes.Repeat([]byte("memory"), 1<<16))
		runtime.KeepAlive(kept)
	}
}
