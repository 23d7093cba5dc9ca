package corepattern_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
)

// handler is this program under a name that is short enough for a pattern.
func handler(t *testing.T) string {
	t.Helper()
	name := filepath.Join(short(t), "h")
	if err := os.Link(os.Args[0], name); err != nil {
		data, err := os.ReadFile(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func TestPipeTellsOfDeaths(t *testing.T) {
	proc.TakeCorePattern(t, "")
	before, limit := read(t, patternFile), read(t, limitFile)
	ds := &deaths{}
	l := start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: ds.head, Exe: handler(t)})
	if got := read(t, limitFile); got == "0" {
		t.Error("the kernel does not wait for handlers")
	}
	cmd := crash(t)
	run(t, cmd)
	if err := l.Stop(); err != nil {
		t.Error(err)
	}
	if p, n := read(t, patternFile), read(t, limitFile); p != before || n != limit {
		t.Errorf("pattern %q, limit %s after the end, want %q, %s", p, n, before, limit)
	}
	list := of(ds.get(t), cmd)
	if len(list) != 1 {
		t.Fatalf("%d deaths, want 1; %s", len(list), l.State().Error)
	}
	d := list[0]
	if d.PID != cmd.Process.Pid || d.TID < d.PID || d.Signal != int(syscall.SIGABRT) || d.UID != os.Getuid() || d.GID != os.Getgid() ||
		d.Suid || d.PIDFD == nil || d.Source != corepattern.ModePipe {
		t.Errorf("death %+v", d)
	}
}

func TestPipeHoldsUntilReleased(t *testing.T) {
	proc.TakeCorePattern(t, "")
	start(t, corepattern.Options{Mode: corepattern.ModePipe, Exe: handler(t), Handle: func(_ context.Context, d *corepattern.Death) {
		time.Sleep(300 * time.Millisecond)
	}})
	cmd := native(t)
	from := time.Now()
	run(t, cmd)
	if took := time.Since(from); took < 300*time.Millisecond {
		t.Errorf("the process ended after %v, before it was released", took)
	}
}

func TestPipeTakesManyAtOnce(t *testing.T) {
	proc.TakeCorePattern(t, "")
	exe := handler(t)
	for _, n := range []int{2, 50} {
		ds := &deaths{}
		l := start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: ds.head, Exe: exe})
		var cmds []*exec.Cmd
		for range n {
			cmd := native(t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, cmd)
		}
		for _, cmd := range cmds {
			wait(t, cmd)
		}
		if got := of(ds.get(t), cmds...); len(got) != n {
			t.Errorf("%d deaths, want %d; %s", len(got), n, l.State().Error)
		}
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestPipeForeign(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		proc.TakeCorePattern(t, "")
		testForeignFile(t, corepattern.ModePipe)
	})
	t.Run("pipe", func(t *testing.T) {
		proc.TakeCorePattern(t, "")
		testForeignPipe(t, corepattern.ModePipe)
	})
}

// TestPipeWithoutAgent sees that the handler gives the core to the old one
// when there is no agent.
func TestPipeWithoutAgent(t *testing.T) {
	proc.TakeCorePattern(t, "core.%p")
	exe, dir := handler(t), short(t)
	l := start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: (&deaths{}).head, Exe: exe, Dir: dir})
	ours := read(t, patternFile)
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	write(t, limitFile, "4")
	write(t, patternFile, ours)
	cmd := native(t)
	run(t, cmd)
	if got, want := onlyFile(t, cmd.Dir).Name(), "core."+strconv.Itoa(cmd.Process.Pid); got != want {
		t.Errorf("core file %s, want %s", got, want)
	}
	// The handler knows the pattern before ours; nobody may think it is his.
	if p, err := corepattern.Look(corepattern.Options{Dir: dir}); err != nil || !strings.HasPrefix(p.Old, "core") {
		t.Errorf("old pattern %+v (%v)", p, err)
	}
}
