package client_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest/client"
)

// agent takes what programs send.
type agent struct {
	listener *net.UnixListener
	mu       sync.Mutex
	streams  map[string]*bytes.Buffer // by kind of stream
	hellos   []string
	conns    []net.Conn
	pipes    []*os.File
	asleep   atomic.Bool // it takes connections and reads nothing
	ended    sync.WaitGroup
}

func listen(t testing.TB, socket string) *agent {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{listener: l, streams: map[string]*bytes.Buffer{}}
	a.ended.Add(1)
	go a.accept()
	t.Cleanup(a.close)
	return a
}

func (a *agent) accept() {
	defer a.ended.Done()
	for {
		conn, err := a.listener.AcceptUnix()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.conns = append(a.conns, conn)
		a.mu.Unlock()
		a.ended.Add(1)
		go a.read(conn)
	}
}

func (a *agent) read(conn *net.UnixConn) {
	defer a.ended.Done()
	oob := make([]byte, 64)
	first := make([]byte, 4096)
	n, oobn, _, _, err := conn.ReadMsgUnix(first, oob)
	if err != nil {
		return
	}
	line := string(first[:n])
	kind, from := "stderr", io.Reader(conn)
	if strings.Contains(line, `"stream":"crash"`) {
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			return
		}
		fds, err := syscall.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 || syscall.SetNonblock(fds[0], true) != nil {
			return
		}
		pipe := os.NewFile(uintptr(fds[0]), "crash")
		defer func() { _ = pipe.Close() }()
		a.mu.Lock()
		a.pipes = append(a.pipes, pipe)
		a.mu.Unlock()
		kind, from = "crash", pipe
	}
	a.mu.Lock()
	a.hellos = append(a.hellos, line)
	a.mu.Unlock()
	buf := make([]byte, 4096)
	for !a.asleep.Load() {
		n, err := from.Read(buf)
		a.mu.Lock()
		if a.streams[kind] == nil {
			a.streams[kind] = &bytes.Buffer{}
		}
		a.streams[kind].Write(buf[:n])
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// close ends the agent as a kill would.
func (a *agent) close() {
	_ = a.listener.Close()
	a.mu.Lock()
	for _, c := range a.conns {
		_ = c.Close()
	}
	for _, p := range a.pipes {
		_ = p.Close()
	}
	a.mu.Unlock()
	a.ended.Wait()
}

func (a *agent) text(kind string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams[kind] == nil {
		return ""
	}
	return a.streams[kind].String()
}

func (a *agent) said() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.hellos...)
}

// within waits until something is so.
func within(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 15 seconds: %s", what)
		}
	}
}

var buildDies = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dies")
	if err != nil {
		return "", err
	}
	exe := filepath.Join(dir, "dies")
	cmd := exec.Command("go", "build", "-o", exe, "./internal/dies")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return exe, cmd.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if exe, err := buildDies(); err == nil {
		_ = os.RemoveAll(filepath.Dir(exe))
	}
	os.Exit(code)
}

// program is testdata's, without cores.
func program(ctx context.Context, t testing.TB, socket, how string, env ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := buildDies()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `ulimit -c 0; exec "$0" "$@"`, exe, how)
	cmd.Dir = t.TempDir()
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOTRACEBACK=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "INQUEST_CRASH_SOCKET="+socket, "SERVICE_NAME=shop", "INQUEST_RELEASE=v7")
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func socketName(t testing.TB) string { return filepath.Join(t.TempDir(), "s") }

func TestMirror(t *testing.T) {
	for _, socket := range []string{socketName(t), "@inquest-client-test"} {
		if socket[0] == '@' && runtime.GOOS != "linux" {
			continue
		}
		a := listen(t, socket)
		cmd, stderr := program(context.Background(), t, socket, "many")
		err := cmd.Run()
		if err == nil || !strings.Contains(err.Error(), "signal: aborted") {
			t.Errorf("ended with %v, want SIGABRT", err)
		}
		within(t, "the whole text", func() bool { return a.text("crash") == stderr.String() })
		if n := strings.Count(stderr.String(), "\ngoroutine "); n < 2000 {
			t.Errorf("%d goroutines, want all", n)
		}
		if h := a.said(); len(h) != 1 || !strings.HasPrefix(h[0], `inquest/1 {"stream":"crash","pid":`) || !strings.Contains(h[0], `"service":"shop","release":"v7","go":"go1.`) {
			t.Errorf("said %q", h)
		}
	}
}

func TestMirrorThrow(t *testing.T) {
	socket := socketName(t)
	a := listen(t, socket)
	cmd, stderr := program(context.Background(), t, socket, "throw", "INQUEST_TRACEBACK=single")
	if err := cmd.Run(); err == nil || err.Error() != "exit status 2" {
		t.Errorf("ended with %v", err)
	}
	within(t, "a text", func() bool { return strings.Contains(a.text("crash"), "main.main()") })
	if !strings.Contains(stderr.String(), "fatal error: sync: unlock of unlocked mutex") {
		t.Errorf("standard error: %s", stderr)
	}
}

// TestTraceback: the user's GOTRACEBACK counts.
func TestTraceback(t *testing.T) {
	for env, want := range map[string]string{
		"GOTRACEBACK=none": "", "GOTRACEBACK=single": "\ngoroutine 1 [", "INQUEST_TRACEBACK=keep": "\ngoroutine 1 [", "INQUEST_TRACEBACK=single": "\ngoroutine 1 [",
	} {
		cmd, stderr := program(context.Background(), t, "off", "many", env)
		if err := cmd.Run(); err == nil || err.Error() != "exit status 2" {
			t.Errorf("%s: ended with %v, want no SIGABRT", env, err)
		}
		if n := strings.Count(stderr.String(), "\ngoroutine "); want == "" && n != 0 || want != "" && n != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: %d goroutines", env, n)
		}
	}
}

// TestNoAgent: nothing breaks.
func TestNoAgent(t *testing.T) {
	for _, socket := range []string{filepath.Join(t.TempDir(), "none"), "/proc/none/none", "off", strings.Repeat("long", 100)} {
		cmd, stderr := program(context.Background(), t, socket, "panic", "GOTRACEBACK=single")
		err := cmd.Run()
		if err == nil || err.Error() != "exit status 2" || !strings.HasPrefix(stderr.String(), "panic: as asked\n\ngoroutine 1 [running]:\n") {
			t.Errorf("%s: %v: %s", socket, err, stderr)
		}
	}
}

// TestAgentComes starts the agent after the program, and again.
func TestAgentComes(t *testing.T) {
	socket := socketName(t)
	cmd, stderr := program(context.Background(), t, socket, "wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		a := listen(t, socket)
		within(t, "a connection", func() bool { return len(a.said()) == 1 })
		a.close()
	}
	a := listen(t, socket)
	within(t, "a connection", func() bool { return len(a.said()) == 1 })
	time.Sleep(50 * time.Millisecond) // the program sets its output after it has said hello
	_, _ = io.WriteString(in, "\n")
	_ = cmd.Wait() // it dies
	within(t, "the whole text", func() bool { return a.text("crash") == stderr.String() })
}

// TestStopped dies beside agents that do not answer, and that do not read.
func TestStopped(t *testing.T) {
	silent := socketName(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: silent, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	asleep := socketName(t)
	listen(t, asleep).asleep.Store(true)
	for _, socket := range []string{silent, asleep} {
		cmd, stderr := program(context.Background(), t, socket, "many", "GOROUTINES=50")
		began := time.Now()
		_ = cmd.Run() // it dies
		if took := time.Since(began); took > 5*time.Second || strings.Count(stderr.String(), "\ngoroutine ") < 50 {
			t.Errorf("a program took %v to die: %s", took, stderr)
		}
	}
}

// TestMirrorStop leaves nothing behind in a program that goes on.
func TestMirrorStop(t *testing.T) {
	socket := socketName(t)
	a := listen(t, socket)
	before := runtime.NumGoroutine()
	m := client.NewMirror(client.Options{Socket: socket, Traceback: "keep"})
	if !m.Connected() {
		t.Error("not connected to an agent that is there")
	}
	within(t, "hello", func() bool { return len(a.said()) == 1 })
	m.Stop()
	m.Stop()
	if m.Connected() {
		t.Error("connected after Stop")
	}
	within(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// BenchmarkIdle is what a program does while it is connected, and without a
// Mirror: the processor time is that of all of it, agent and all.
func BenchmarkIdle(b *testing.B) {
	for _, connected := range []bool{false, true} {
		b.Run(fmt.Sprintf("connected=%v", connected), func(b *testing.B) {
			if connected {
				socket := socketName(b)
				listen(b, socket)
				m := client.NewMirror(client.Options{Socket: socket, Traceback: "keep"})
				defer m.Stop()
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cpu := processorTime()
			b.ResetTimer()
			for range b.N {
				time.Sleep(500 * time.Millisecond)
			}
			seconds := b.Elapsed().Seconds()
			b.ReportMetric(float64((processorTime()-cpu).Microseconds())/seconds, "µs-cpu/s")
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/seconds, "allocs/s")
		})
	}
}
