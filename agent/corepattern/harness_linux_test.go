package corepattern_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/goinquest/inquest/agent/corepattern"
)

// This program is also what the package starts and what crashes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case corepattern.CommandGuardian:
			if err := corepattern.Guardian(os.Args[2], os.Stdin); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		case corepattern.CommandPipe:
			if err := corepattern.Pipe(os.Args[2:], os.Stdin); err != nil {
				os.Exit(1)
			}
			return
		case corepattern.CommandTrial:
			corepattern.Die()
		case "listen":
			listen(os.Args[2], os.Args[3])
			return
		}
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	patternFile = "/proc/sys/kernel/core_pattern"
	limitFile   = "/proc/sys/kernel/core_pipe_limit"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func write(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
}

// short is a temporary directory whose name fits into a core pattern.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start starts a listener that is stopped when the test ends.
func start(t *testing.T, o corepattern.Options) *corepattern.Listener {
	t.Helper()
	if o.Dir == "" {
		o.Dir = short(t)
	}
	l, err := corepattern.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// command is a program to die in an empty directory of its own.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = short(t)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	return cmd
}

// crash is a Go program that dies.
func crash(t *testing.T) *exec.Cmd { return command(t, os.Args[0], corepattern.CommandTrial) }

// native is a program that is not of Go and dies by the signal number 11.
func native(t *testing.T) *exec.Cmd {
	return command(t, "sh", "-c", "ulimit -c unlimited; kill -SEGV $$")
}

// wait waits for the end of a program that is to dump core, which the kernel
// tells in its status.
func wait(t *testing.T, cmd *exec.Cmd) *os.ProcessState {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() == syscall.SIGKILL {
		t.Errorf("process %d ended by %v", cmd.Process.Pid, cmd.ProcessState)
	}
	return cmd.ProcessState
}

func run(t *testing.T, cmd *exec.Cmd) *os.ProcessState {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, cmd)
}

// deaths collects what a handler is given.
type deaths struct {
	mu   sync.Mutex
	list []corepattern.Death
	errs []error
}

func (ds *deaths) add(d *corepattern.Death) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.list = append(ds.list, *d)
}

func (ds *deaths) fail(err error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if err != nil {
		ds.errs = append(ds.errs, err)
	}
}

// failure waits for the one error that a death is to end in, and forgets it.
func (ds *deaths) failure(t *testing.T) error {
	t.Helper()
	for from := time.Now(); time.Since(from) < 10*time.Second; time.Sleep(time.Millisecond) {
		ds.mu.Lock()
		errs := ds.errs
		ds.errs = nil
		ds.mu.Unlock()
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
	}
	t.Error("no death has failed")
	return nil
}

func (ds *deaths) get(t *testing.T) []corepattern.Death {
	t.Helper()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, err := range ds.errs {
		t.Error(err)
	}
	return ds.list
}

// of are the deaths of programs that the test has started; others of the machine
// may die too.
func of(list []corepattern.Death, cmds ...*exec.Cmd) []corepattern.Death {
	var own []corepattern.Death
	for _, d := range list {
		if slices.ContainsFunc(cmds, func(c *exec.Cmd) bool { return c.Process.Pid == d.PID }) {
			own = append(own, d)
		}
	}
	return own
}

// foreign is a handler that gives everything to the old one.
func (ds *deaths) foreign(_ context.Context, d *corepattern.Death) {
	ds.add(d)
	ds.fail(d.Foreign())
}

// head is a handler that reads the beginning of the core.
func (ds *deaths) head(_ context.Context, d *corepattern.Death) {
	ds.add(d)
	b := make([]byte, 4096)
	_, err := io.ReadFull(d.Stream, b)
	ds.fail(err)
	if string(b[:4]) != "\x7fELF" {
		ds.fail(fmt.Errorf("the core begins with %q", b[:4]))
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/mem", d.PID)); err != nil {
		ds.fail(err)
	}
	d.Taken()
}

// listen is an agent of its own process; it says when it listens.
func listen(mode, dir string) {
	ds := &deaths{}
	l, err := corepattern.Start(corepattern.Options{Mode: mode, Dir: dir, Handle: ds.head, Exe: os.Args[0]})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening", l.State().Gaps)
	if said, _ := io.ReadAll(os.Stdin); len(said) > 0 {
		corepattern.Die()
	}
	if err := l.Stop(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
