package client_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const capture = "CAPTURE_STDERR=1"

// TestCaptureThrow: the agent gets the line that SetCrashOutput leaves out.
func TestCaptureThrow(t *testing.T) {
	socket := socketName(t)
	a := listen(t, socket)
	cmd, stderr := program(context.Background(), t, socket, "throw", capture)
	err := cmd.Run()
	if err == nil || !strings.Contains(err.Error(), "signal: aborted") {
		t.Errorf("ended with %v", err)
	}
	if !strings.HasPrefix(stderr.String(), "fatal error: sync: unlock of unlocked mutex\n") || !strings.Contains(stderr.String(), "main.main()") {
		t.Errorf("standard error: %q", stderr)
	}
	within(t, "all of standard error", func() bool { return a.text("stderr") == stderr.String() })
}

// TestCaptureKeeps: exit code, standard input, and all that was written.
func TestCaptureKeeps(t *testing.T) {
	socket := socketName(t)
	a := listen(t, socket)
	cmd, stderr := program(context.Background(), t, socket, "exit", capture)
	if err := cmd.Run(); err == nil || err.Error() != "exit status 7" || stderr.String() != "the last line\n" {
		t.Errorf("%v, %q", err, stderr)
	}
	cmd, stderr = program(context.Background(), t, socket, "log", capture)
	if err := cmd.Run(); err != nil || strings.Count(stderr.String(), "\n") != 20000 || !strings.HasSuffix(stderr.String(), "line 19999\n") {
		t.Errorf("%v, %d bytes", err, stderr.Len())
	}
	cmd, _ = program(context.Background(), t, socket, "cat", capture)
	cmd.Stdin = strings.NewReader("in")
	if out, err := cmd.Output(); err != nil || string(out) != "in" {
		t.Errorf("%v, standard output %q", err, out)
	}
	if told := a.text("stderr"); told != "" {
		t.Errorf("the agent was told of a log: %.200q", told)
	}
}

// running starts a program that says that it is ready.
func running(t *testing.T, socket, how string) (*exec.Cmd, *bytes.Buffer, io.WriteCloser) {
	t.Helper()
	cmd, stderr := program(context.Background(), t, socket, how, capture)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd, stderr, in
}

// TestCaptureSignal sends a signal to the process group, as a terminal does.
func TestCaptureSignal(t *testing.T) {
	cmd, stderr, _ := running(t, socketName(t), "term")
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 3" || stderr.String() != "got terminated\n" {
		t.Errorf("%v, %q", err, stderr)
	}
}

// TestCaptureKilled kills the process that copies.
func TestCaptureKilled(t *testing.T) {
	cmd, stderr, in := running(t, socketName(t), "wait")
	child := childOf(t, cmd.Process.Pid)
	if err := syscall.Kill(child, syscall.SIGTERM); err != nil { // is ignored
		t.Fatal(err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	_, _ = io.WriteString(in, "\n")
	_ = cmd.Wait() // it dies
	if !strings.HasPrefix(stderr.String(), "panic: after a wait\n") {
		t.Errorf("standard error: %q", stderr)
	}
}

// TestCaptureAgentComes starts the agent when the program runs already.
func TestCaptureAgentComes(t *testing.T) {
	socket := socketName(t)
	cmd, stderr, in := running(t, socket, "wait")
	for range 2 {
		a := listen(t, socket)
		within(t, "two connections", func() bool { return len(a.said()) == 2 })
		a.close()
	}
	a := listen(t, socket)
	within(t, "two connections", func() bool { return len(a.said()) == 2 })
	time.Sleep(50 * time.Millisecond)
	_, _ = io.WriteString(in, "\n")
	_ = cmd.Wait() // it dies
	within(t, "all of standard error, twice", func() bool { return a.text("stderr") == stderr.String() && a.text("crash") == stderr.String() })
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", strconv.Itoa(pid), "children"))
	children := strings.Fields(string(data))
	for _, tid := range threads(pid) {
		more, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, tid))
		children = append(children, strings.Fields(string(more))...)
	}
	if err != nil || len(children) == 0 {
		t.Fatalf("no child: %v", err)
	}
	n, err := strconv.Atoi(children[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func threads(pid int) []string {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}
