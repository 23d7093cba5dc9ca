package testprog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options say how a program runs.
type Options struct {
	Args []string
	Env  []string // besides GOTRACEBACK=crash; variables of the tests are not handed on but for PATH and HOME
	Dir  string   // its working directory, where cores may appear; "" is a new one
	Core int64    // limit of a core file in bytes; -1 is none
}

// Process is a program that runs.
type Process struct {
	PID        int
	Addr       string // where it listens; "" if it does not
	Goroutines int    // when it was ready
	Dir        string

	cmd    *exec.Cmd
	stderr lockedBuffer
	ended  chan struct{}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Start runs a program until the end of the test, and returns once it is
// ready.
func Start(t testing.TB, exe string, o Options) *Process {
	t.Helper()
	p := &Process{ended: make(chan struct{})}
	var lines io.Reader
	p.cmd, lines = command(t, exe, o, &p.stderr)
	p.Dir = p.cmd.Dir
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.PID = p.cmd.Process.Pid
	t.Cleanup(func() {
		p.Kill()
		<-p.ended
	})
	ready := make(chan error, 1)
	go func() {
		ready <- p.ready(lines)
		_, _ = io.Copy(io.Discard, lines) // until it ends
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	select {
	case err := <-ready:
		if err != nil {
			t.Fatalf("start %s %q: %v\n%s", exe, o.Args, err, p.Stderr())
		}
	case <-time.After(time.Minute):
		t.Fatalf("start %s %q: not ready after a minute", exe, o.Args)
	}
	return p
}

// command prepares a program.
func command(t testing.TB, exe string, o Options, stderr io.Writer) (*exec.Cmd, io.Reader) {
	t.Helper()
	args := append([]string{exe}, o.Args...)
	if o.Core != 0 {
		limit := fmt.Sprint(o.Core)
		if o.Core < 0 {
			limit = "unlimited"
		}
		args = append([]string{"prlimit", "--core=" + limit}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOTRACEBACK=crash"}, o.Env...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if cmd.Dir = o.Dir; o.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	lines, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, lines
}

// ready reads the line of a program that is.
func (p *Process) ready(lines io.Reader) error {
	line, err := bufio.NewReaderSize(lines, 256).ReadString('\n')
	if err != nil {
		return errors.New("it ended before it was ready")
	}
	pid := 0
	if _, err := fmt.Sscanf(line, "ready %d %s %d", &pid, &p.Addr, &p.Goroutines); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	p.Addr = strings.TrimPrefix(p.Addr, "-")
	return nil
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the process if it has not ended.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() }

// Stderr is what the process wrote there until now.
func (p *Process) Stderr() string { return p.stderr.String() }

// Wait waits for the end of the process, and returns what it wrote to stderr.
func (p *Process) Wait(t testing.TB, timeout time.Duration) (stderr string, state *os.ProcessState) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(timeout):
		t.Fatalf("process %d has not ended after %v", p.PID, timeout)
	}
	return p.Stderr(), p.cmd.ProcessState
}

// Text is what a program writes while it dies.
func Text(t testing.TB, exe string, o Options) string {
	t.Helper()
	text, _ := Start(t, exe, o).Wait(t, time.Minute)
	return text
}
