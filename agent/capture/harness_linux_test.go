package capture_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
)

// This program is also what package corepattern starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == corepattern.CommandGuardian {
		if err := corepattern.Guardian(os.Args[2], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "grow" {
		grow(os.Args[2])
	}
	if len(os.Args) > 2 && os.Args[1] == "odd" {
		odd(os.Args[2])
		return
	}
	os.Exit(testprog.Main(m))
}

// sink keeps what it is given, cores as files.
type sink struct {
	dir string

	mu      sync.Mutex
	crashes []inquest.Crash
	cores   []*core
	aborted int
	room    int64 // 0: any
	fails   error // of writing cores
}

// core is one core in a sink.
type core struct {
	*os.File
	sink   *sink
	begun  inquest.Crash
	crash  inquest.Crash
	ledger *coredump.Ledger
}

func newSink(t testing.TB) *sink {
	t.Helper()
	s := &sink{dir: t.TempDir()}
	t.Cleanup(func() {
		for _, c := range s.cores {
			c.Close()
		}
	})
	return s
}

func (s *sink) Crash(c inquest.Crash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes = append(s.crashes, c)
	return nil
}

func (s *sink) Room() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == 0 {
		return 1 << 40
	}
	return s.room
}

func (s *sink) Begin(c inquest.Crash) (capture.CoreFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.CreateTemp(s.dir, "core")
	if err != nil {
		return nil, err
	}
	return &core{File: f, sink: s, begun: c}, nil
}

func (c *core) Write(p []byte) (int, error) {
	c.sink.mu.Lock()
	err := c.sink.fails
	c.sink.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.File.Write(p)
}

func (c *core) Commit(e inquest.Crash, l *coredump.Ledger) error {
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	c.crash, c.ledger = e, l
	c.sink.cores = append(c.sink.cores, c)
	c.sink.crashes = append(c.sink.crashes, e)
	return nil
}

func (c *core) Abort() error {
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	c.sink.aborted++
	return errors.Join(c.Close(), os.Remove(c.Name()))
}

// take returns what came, and forgets it.
func (s *sink) take() (crashes []inquest.Crash, cores []*core) {
	s.mu.Lock()
	defer s.mu.Unlock()
	crashes, cores = s.crashes, s.cores
	s.crashes, s.cores = nil, nil
	return crashes, cores
}

// image opens a core.
func (c *core) image(t testing.TB) *coredump.Image {
	t.Helper()
	info, err := c.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := coredump.OpenImage(c.File, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// process is what a core is of.
func (c *core) process(t testing.TB) *coredump.Process {
	t.Helper()
	p, err := c.image(t).Process()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sparse writes a core as other programs want it, and returns its name.
func (c *core) sparse(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "core")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.image(t).CoreFile().WriteSparse(f); err != nil {
		t.Fatal(err)
	}
	return name
}

// capturer is one that takes whatever comes, unless o says else.
func capturer(t testing.TB, o capture.Options) *capture.Capturer {
	t.Helper()
	if o.Host == "" {
		o.Host = "testhost"
	}
	c, err := capture.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Stop)
	return c
}

// anything is no limit.
var anything = capture.Rate{Burst: -1}

// orphan is a program that runs and is no child of the test, as those that
// an agent looks at.
type orphan struct {
	pid  int
	addr string
}

// start runs a program, "ready" or not, until the test ends.
func start(t testing.TB, exe string, args ...string) *orphan {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	cmd := exec.Command("sh", append([]string{"-c", `out=$1; shift; exec 3>&1; "$@" >"$out" 2>&1 3>&- & echo $!`, "sh", out, exe}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GOTRACEBACK=crash", "DB_PASSWORD=hunter2-not-to-be-seen"}
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	o := &orphan{}
	if _, err := fmt.Sscan(string(text), &o.pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.kill() })
	for range 600 {
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(f).ReadString('\n')
		f.Close()
		if strings.HasPrefix(line, "ready ") {
			o.addr = strings.Fields(line)[2]
			return o
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s is not ready", exe)
	return nil
}

func (o *orphan) kill() { _ = syscall.Kill(o.pid, syscall.SIGKILL) }

// state is the letter of a process's state, 0 if it is gone.
func (o *orphan) state() byte {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", o.pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return rest[0]
}

// listen has deaths handled until the test ends.
func listen(t testing.TB, handle corepattern.Handler) {
	t.Helper()
	proc.TakeCorePattern(t, "")
	dir, err := os.MkdirTemp("", "ct") // short: it goes into the pattern
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := corepattern.Start(corepattern.Options{Mode: corepattern.ModeSocket, Dir: dir, AtOnce: 64, Handle: func(ctx context.Context, d *corepattern.Death) {
		if ppid(d.PID) != os.Getpid() { // somebody else's dies on this host
			_ = d.Foreign()
			return
		}
		handle(ctx, d)
	}})
	if errors.Is(err, inquest.ErrUnavailable) {
		proc.NeedKernel(t, 6, 17)
		proc.Missing(t, "no deaths through a socket here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// ppid is the parent of a process, 0 if it is gone.
func ppid(pid int) (parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, _ = fmt.Sscanf(string(text[bytes.LastIndexByte(text, ')')+1:]), " %c %d", new(rune), &parent)
	return parent
}

func write(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(value), 0o600); err != nil {
		t.Error(err)
	}
}
