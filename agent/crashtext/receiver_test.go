package crashtext_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/crashtext"
	"github.com/goinquest/inquest/coredump"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if exe, err := buildDies(); err == nil {
		_ = os.RemoveAll(filepath.Dir(exe))
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// buildDies builds the client's own test program: what users link is what is
// tested here.
var buildDies = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dies")
	if err != nil {
		return "", err
	}
	exe := filepath.Join(dir, "dies")
	cmd := exec.Command("go", "build", "-o", exe, "./internal/dies")
	cmd.Dir = filepath.Join("..", "..", "client")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	cmd.Stderr = os.Stderr
	return exe, cmd.Run()
})

// deaths are what was told.
type deaths struct {
	mu    sync.Mutex
	crash []inquest.Crash
	text  [][]byte
}

func (d *deaths) found(c inquest.Crash, text []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crash = append(d.crash, c)
	d.text = append(d.text, text)
}

func (d *deaths) all() []inquest.Crash {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]inquest.Crash{}, d.crash...)
}

func within(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

// receive starts a Receiver.
func receive(t testing.TB, o crashtext.ReceiverOptions) (*crashtext.Receiver, *deaths, string) {
	t.Helper()
	var d deaths
	if o.Joiner == nil {
		o.Joiner = crashtext.NewJoiner(300*time.Millisecond, d.found)
		t.Cleanup(o.Joiner.Close)
	}
	if o.Socket == "" {
		o.Socket = filepath.Join(t.TempDir(), "run", "crash.sock")
	}
	r := crashtext.NewReceiver(o)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r, &d, o.Socket
}

// dies starts the program, without a core.
func dies(t testing.TB, socket, how string, env ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := buildDies()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "sh", "-c", `ulimit -c 0; exec "$0" "$@"`, exe, how)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "INQUEST_CRASH_SOCKET="+socket, "SERVICE_NAME=shop", "INQUEST_RELEASE=v7")
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func TestReceive(t *testing.T) {
	r, d, socket := receive(t, crashtext.ReceiverOptions{})
	cmd, stderr := dies(t, socket, "wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	within(t, "the process is connected", func() bool { return r.Connected(pid) })
	_, _ = in.Write([]byte("\n"))
	_ = cmd.Wait() // it dies
	within(t, "a death", func() bool { return len(d.all()) == 1 })
	c := d.all()[0]
	exe, _ := buildDies()
	if c.Class != "panic:string" || c.Message != "panic: after a wait" || c.Kind != inquest.CrashDeath || c.Service != "shop" || c.Release != "v7" ||
		c.PID != pid || c.Exe != exe || c.UID != os.Getuid() || c.Build == "" || c.Tier != inquest.TierText || len(c.Source) != 1 || c.Source[0] != "client" {
		t.Errorf("%+v", c)
	}
	if parts := strings.Split(c.Process, ":"); len(parts) != 3 || parts[1] != fmt.Sprint(pid) || c.ID != inquest.CrashID(c.Process) {
		t.Errorf("process %q, id %s", c.Process, c.ID)
	}
	if since := time.Since(c.Started); since < 0 || since > time.Minute {
		t.Errorf("started %v ago", since)
	}
	if len(c.Frames) < 2 || c.Frames[1].Function != "main.main" || c.Text.Goroutines < 2 {
		t.Errorf("frames %v, %d goroutines", c.Frames, c.Text.Goroutines)
	}
	if !bytes.Equal(d.text[0], stderr.Bytes()) {
		t.Errorf("text %q, want %q", d.text[0], stderr)
	}
	if r.Connected(pid) {
		t.Error("a dead process is connected")
	}
	cmd, _ = dies(t, socket, "exit")
	_ = cmd.Run() // exits with 7
	time.Sleep(400 * time.Millisecond)
	if n := len(d.all()); n != 1 {
		t.Errorf("%d deaths, an exit is none", n)
	}
}

// TestReceiveJoins: the crash output says not which error it was, standard
// error does, and it is one death.
func TestReceiveJoins(t *testing.T) {
	_, d, socket := receive(t, crashtext.ReceiverOptions{})
	cmd, _ := dies(t, socket, "throw")
	_ = cmd.Run() // it dies
	within(t, "a death", func() bool { return len(d.all()) == 1 })
	if c := d.all()[0]; c.Class != inquest.ClassUnknown || c.Message != "" || len(c.Frames) == 0 {
		t.Errorf("%+v", c)
	}
	cmd, _ = dies(t, socket, "throw", "CAPTURE_STDERR=1")
	_ = cmd.Run() // it dies
	within(t, "another death", func() bool { return len(d.all()) == 2 })
	c := d.all()[1]
	if c.Class != "fatal:sync: unlock of unlocked mutex" || c.Process == "" || c.ID != inquest.CrashID(c.Process) || c.PID != cmd.Process.Pid || len(c.Frames) == 0 {
		t.Errorf("%+v", c)
	}
	time.Sleep(500 * time.Millisecond)
	if n := len(d.all()); n != 2 {
		t.Errorf("told %d times, want 2", n)
	}
}

// TestReceiveMany: fifty at once, each with hundreds of goroutines.
func TestReceiveMany(t *testing.T) {
	const n = 50
	_, d, socket := receive(t, crashtext.ReceiverOptions{})
	var wg sync.WaitGroup
	texts := make([]*bytes.Buffer, n)
	for i := range n {
		cmd, stderr := dies(t, socket, "many", "GOROUTINES=300")
		texts[i] = stderr
		wg.Go(func() { _ = cmd.Run() })
	}
	wg.Wait()
	within(t, "all deaths", func() bool { return len(d.all()) == n })
	want := map[string]bool{}
	for _, s := range texts {
		want[s.String()] = true
	}
	ids := map[string]bool{}
	for i, c := range d.all() {
		ids[c.ID] = true
		if c.Class != "panic:string" || c.Text.Goroutines < 300 || !want[string(d.text[i])] {
			t.Errorf("%s, %d goroutines, %d bytes of %d", c.Class, c.Text.Goroutines, len(d.text[i]), c.Text.Bytes)
		}
	}
	if len(ids) != n {
		t.Errorf("%d ids of %d deaths", len(ids), n)
	}
}

// connect is a program that is this test, and does not die.
func connect(t testing.TB, socket, first string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if first == "" {
		return conn // it may be turned away by now
	}
	if _, err := conn.Write([]byte(first)); err != nil {
		t.Fatal(err)
	}
	return conn
}

const helloLine = `inquest/1 {"stream":"crash","pid":1,"service":"shop","go":"go1.26"}` + "\n"

// TestReceiveBig drains ninety megabytes and keeps their beginning. They come
// from a child, for only who dies is believed.
func TestReceiveBig(t *testing.T) {
	size := 90 << 20
	if testing.Short() {
		size = 9 << 20
	}
	_, d, socket := receive(t, crashtext.ReceiverOptions{})
	file := filepath.Join(t.TempDir(), "text")
	var b bytes.Buffer
	b.WriteString(helloLine + "panic: big\n\n")
	n := 0
	for ; b.Len() < size; n++ {
		fmt.Fprintf(&b, "goroutine %d [select, %d minutes]:\nmain.wait(0x%x)\n\t/src/main.go:%d +0x1\nmain.main()\n\t/src/main.go:1 +0x1\n\n", n+1, n%9, n, n%7)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var before runtime.MemStats
	b = bytes.Buffer{}
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	most := mostHeap()
	send(t, socket, file)
	within(t, "a death", func() bool { return len(d.all()) == 1 })
	grown := most() - before.HeapAlloc
	t.Logf("%d MiB, %d goroutines in %v; the heap grew by at most %d KiB", size>>20, n, time.Since(began), grown>>10)
	c := d.all()[0]
	if c.Text.Goroutines != n || len(c.Text.Buckets) != 7 || c.Text.Kept != 1<<20 || !c.Text.Truncated || len(d.text[0]) != 1<<20 {
		t.Errorf("%d goroutines of %d in %d buckets, kept %d of %d", c.Text.Goroutines, n, len(c.Text.Buckets), c.Text.Kept, c.Text.Bytes)
	}
	if grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// mostHeap watches how large the heap becomes until it is asked.
func mostHeap() func() uint64 {
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		var m runtime.MemStats
		var max uint64
		for {
			select {
			case <-stop:
				most <- max
				return
			case <-time.After(20 * time.Millisecond):
				if runtime.ReadMemStats(&m); m.HeapAlloc > max {
					max = m.HeapAlloc
				}
			}
		}
	}()
	return func() uint64 { close(stop); return <-most }
}

// send has a process that ends right after it send a file. It is this test's
// own executable, see TestSend.
func send(t testing.TB, socket, file string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestSend$")
	cmd.Env = append(os.Environ(), "SEND_TO="+socket, "SEND_FILE="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestSend is the process of send.
func TestSend(t *testing.T) {
	socket := os.Getenv("SEND_TO")
	if socket == "" {
		t.Skip("only for other tests")
	}
	data, err := os.ReadFile(os.Getenv("SEND_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, socket, "")
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
}

// TestReceiveBudget: texts that have no space are read all the same.
func TestReceiveBudget(t *testing.T) {
	_, d, socket := receive(t, crashtext.ReceiverOptions{MaxBytes: 100 << 10})
	cmd, stderr := dies(t, socket, "many")
	_ = cmd.Run() // it dies
	within(t, "a death", func() bool { return len(d.all()) == 1 })
	if c := d.all()[0]; c.Class != "panic:string" || c.Text.Bytes != int64(stderr.Len()) || !c.Text.Truncated || len(d.text[0]) > 100<<10 || c.Text.Goroutines == 0 {
		t.Errorf("%s, %+v, %d bytes kept", c.Class, c.Text, len(d.text[0]))
	}
}

// TestReceiveHostile: peers that lie, stall, or come in numbers.
func TestReceiveHostile(t *testing.T) {
	r, d, socket := receive(t, crashtext.ReceiverOptions{MaxConns: 40})
	for _, first := range []string{
		"", "hello\n", "inquest/1 {}\n", "inquest/1 {\"stream\":\"x\"}\n", strings.Repeat("x", 10000), helloLine,
		helloLine + "panic: I live\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1\n",
	} {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(first)) // it may be turned away
		_ = conn.Close()
		time.Sleep(20 * time.Millisecond)
	}
	// This process takes all it can get, and leaves it open.
	for range 60 {
		conn := connect(t, socket, "")
		_, _ = conn.Write([]byte(helloLine + "panic: slow"))
	}
	cmd, _ := dies(t, socket, "panic")
	_ = cmd.Run() // it dies
	within(t, "a death", func() bool { return len(d.all()) == 1 })
	if c := d.all()[0]; c.Message != "panic: as asked" || c.PID != cmd.Process.Pid {
		t.Errorf("%+v", c)
	}
	if !r.Connected(os.Getpid()) {
		t.Error("this process is not connected")
	}
}

// TestReceiveRestart: a program finds the agent that was started anew, and a
// socket that was left by a killed one is no obstacle. Two at once are.
func TestReceiveRestart(t *testing.T) {
	r, _, socket := receive(t, crashtext.ReceiverOptions{})
	second := crashtext.NewReceiver(crashtext.ReceiverOptions{Socket: socket, Joiner: crashtext.NewJoiner(0, func(inquest.Crash, []byte) {})})
	if err := second.Start(); !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("a second agent: %v, want a conflict", err)
	}
	cmd, _ := dies(t, socket, "wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, "the process is connected", func() bool { return r.Connected(cmd.Process.Pid) })
	r.Stop()
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	again, d, _ := receive(t, crashtext.ReceiverOptions{Socket: socket})
	within(t, "the process is connected again", func() bool { return again.Connected(cmd.Process.Pid) })
	time.Sleep(50 * time.Millisecond)
	_, _ = in.Write([]byte("\n"))
	_ = cmd.Wait() // it dies
	within(t, "a death", func() bool { return len(d.all()) == 1 })
}

// TestJoin puts texts of one process together, in any order.
func TestJoin(t *testing.T) {
	stacks := "\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1 +0x1\n\ngoroutine 2 [sleep]:\nmain.f()\n\t/a.go:2 +0x1\n"
	parse := func(s string) *coredump.Text {
		got, err := coredump.ParseText(strings.NewReader(s), coredump.TextLimits{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, reason := range []string{"fatal error: found bad pointer\n", "fatal error: found bad pointer\n" + stacks} {
		for _, order := range []string{"client first", "stderr first", "too late"} {
			var d deaths
			j := crashtext.NewJoiner(50*time.Millisecond, d.found)
			client := func() { j.Tell(inquest.Crash{ID: "1", Source: []string{"client"}, Service: "shop"}, parse(stacks)) }
			other := func() { j.Tell(inquest.Crash{ID: "1", Source: []string{"journal"}, Service: "x"}, parse(reason)) }
			switch order {
			case "client first":
				client()
				other()
			case "stderr first":
				other()
				client()
			case "too late":
				client()
				within(t, "a first time", func() bool { return len(d.all()) == 1 })
				other()
			}
			j.Close()
			all := d.all()
			if c := all[len(all)-1]; c.Class != "fatal:found bad pointer" || c.Message != "fatal error: found bad pointer" || len(c.Frames) != 1 || c.Text.Goroutines != 2 {
				t.Errorf("%s: %+v, %+v", order, c, c.Text)
			}
			if len(all) > 2 || order == "client first" && len(all) != 1 {
				t.Errorf("%s: told %d times", order, len(all))
			}
		}
	}
}
