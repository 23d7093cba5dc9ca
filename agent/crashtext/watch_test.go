package crashtext_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/crashtext"
	"github.com/goinquest/inquest/internal/proc"
)

// textOf is a crash text, told apart by its number.
func textOf(n int) string {
	return fmt.Sprintf("panic: number %d\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:%d +0x1d\nexit status 2\n", n, n)
}

// watch starts a Watcher that looks often.
func watch(t testing.TB, d *deaths, o crashtext.WatchOptions) *crashtext.Watcher {
	t.Helper()
	o.Joiner = crashtext.NewJoiner(100*time.Millisecond, d.found)
	o.Interval = 10 * time.Millisecond
	w, err := crashtext.NewWatcher(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Start()
	stop := sync.OnceFunc(func() { w.Stop(); o.Joiner.Close() })
	t.Cleanup(stop)
	return w
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// numbers are the deaths' own, in order.
func (d *deaths) numbers() string {
	var out []string
	for _, c := range d.all() {
		out = append(out, strings.TrimPrefix(c.Message, "panic: number "))
	}
	return strings.Join(out, " ")
}

// TestWatchFiles: a log that is rotated in all the ways there are, and a
// Watcher that is stopped meanwhile.
func TestWatchFiles(t *testing.T) {
	dir := t.TempDir()
	log, state := filepath.Join(dir, "shop.log"), filepath.Join(t.TempDir(), "state")
	o := crashtext.WatchOptions{Files: []string{filepath.Join(dir, "*.log")}, State: state}
	var d deaths
	is := func(want string) {
		t.Helper()
		within(t, "deaths "+want, func() bool { return d.numbers() == want })
	}
	appendTo(t, log, textOf(0)) // is history
	w := watch(t, &d, o)
	appendTo(t, log, "started\n"+textOf(1)+"started\n")
	is("1")

	rename := func(to string) {
		t.Helper()
		if err := os.Rename(log, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(log + ".1")
	appendTo(t, log+".1", textOf(2))
	appendTo(t, log, textOf(3))
	is("1 2 3")

	if err := os.Truncate(log, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // a look, and it has not grown beyond what it was
	appendTo(t, log, textOf(4))
	is("1 2 3 4")

	appendTo(t, filepath.Join(dir, "other.log"), textOf(5))
	is("1 2 3 4 5")

	// Half a text, and the Watcher stops.
	half := len(textOf(6)) / 2
	appendTo(t, log, textOf(6)[:half])
	time.Sleep(15 * time.Millisecond)
	w.Stop()
	appendTo(t, log, textOf(6)[half:]+textOf(7))
	rename(log + ".2")
	appendTo(t, log, textOf(8))
	appendTo(t, filepath.Join(dir, "third.log"), textOf(9))
	w = watch(t, &d, o)
	within(t, "nine deaths", func() bool { return len(d.all()) >= 9 })
	time.Sleep(100 * time.Millisecond)
	if got := d.numbers(); strings.Count(got, " ") != 8 || !strings.Contains(got, "6 7") || !strings.Contains(got, "8") || !strings.Contains(got, "9") {
		t.Errorf("deaths %s, want 1 to 9", got)
	}
	if got := w.Watching(); len(got) != 3 {
		t.Errorf("watching %q", got)
	}
	w.Stop()
	w = watch(t, &d, o)
	time.Sleep(100 * time.Millisecond)
	w.Stop()
	if n := len(d.all()); n != 9 {
		t.Errorf("%d deaths after a restart with nothing new, want 9", n)
	}
	for _, c := range d.all() {
		if !strings.Contains("shop other third", c.Service) || c.Class != "panic:string" || len(c.ID) != 32 || c.Source[0] != "file" {
			t.Errorf("%+v", c)
		}
	}
}

func TestWatchContainers(t *testing.T) {
	dir := t.TempDir()
	id := strings.Repeat("0123456789abcdef", 4)
	var d deaths
	watch(t, &d, crashtext.WatchOptions{Files: []string{filepath.Join(dir, "*.log"), filepath.Join(dir, "*", "*-json.log")}})
	var cri, docker strings.Builder
	for line := range strings.Lines(textOf(1)) {
		fmt.Fprintf(&cri, "2026-11-22T01:02:03.5Z stderr F %s", line)
		fmt.Fprintf(&docker, "{\"log\":%q,\"stream\":\"stderr\",\"time\":\"2026-11-22T01:02:03.5Z\"}\n", line)
	}
	appendTo(t, filepath.Join(dir, "shop-7d9_prod_web-"+id+".log"), cri.String())
	if err := os.Mkdir(filepath.Join(dir, id), 0o700); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, id, id+"-json.log"), docker.String())
	within(t, "both deaths", func() bool { return len(d.all()) == 2 })
	at := time.Date(2026, 11, 22, 1, 2, 3, 5e8, time.UTC)
	for _, c := range d.all() {
		if c.Facts == nil || c.Facts.Container != id || !c.At.Equal(at) || c.Text.Goroutines != 1 {
			t.Fatalf("%+v %+v", c, c.Facts)
		}
		kubernetes := c.Service == "web" && c.Facts.Pod == "shop-7d9" && c.Facts.Namespace == "prod"
		if !kubernetes && c.Service != id[:12] {
			t.Errorf("%+v %+v", c, c.Facts)
		}
	}
}

// TestWatchStderr: the standard error of a process is a file, and it mirrors its
// crash to the agent too. It is one death, with the reason from the file.
func TestWatchStderr(t *testing.T) {
	var d deaths
	j := crashtext.NewJoiner(10*time.Second, d.found)
	t.Cleanup(j.Close)
	r, _, socket := receive(t, crashtext.ReceiverOptions{Joiner: j})
	var mu sync.Mutex
	var pids []int
	w, err := crashtext.NewWatcher(crashtext.WatchOptions{Joiner: j, Interval: 10 * time.Millisecond, Processes: func() []int {
		mu.Lock()
		defer mu.Unlock()
		return pids
	}})
	if err != nil {
		t.Fatal(err)
	}
	cmd, _ := dies(t, socket, "wait-throw")
	log := filepath.Join(t.TempDir(), "stderr.log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = f
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, "the process is connected", func() bool { return r.Connected(cmd.Process.Pid) })
	mu.Lock()
	pids = []int{cmd.Process.Pid}
	mu.Unlock()
	w.Start()
	t.Cleanup(w.Stop)
	if got := w.Watching(); len(got) != 1 || got[0] != log {
		t.Errorf("watching %q", got)
	}
	_, _ = in.Write([]byte("\n"))
	_ = cmd.Wait() // it dies
	_ = f.Close()
	within(t, "a death", func() bool { return len(d.all()) == 1 })
	c := d.all()[0]
	if c.Class != "fatal:sync: unlock of unlocked mutex" || c.PID != cmd.Process.Pid || c.ID != inquest.CrashID(c.Process) { // whichever way was first
		t.Errorf("%+v", c)
	}
}

// TestWatchJournal reads what journalctl would write, from a script that
// remembers how it was called.
func TestWatchJournal(t *testing.T) {
	dir := t.TempDir()
	script, feed, called := filepath.Join(dir, "journalctl"), filepath.Join(dir, "feed"), filepath.Join(dir, "called")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$*\" >> "+called+"\nexec tail -n +1 -f "+feed+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cursor := 0
	entry := func(pid int, message string) string {
		cursor++
		return fmt.Sprintf("{\"__CURSOR\":\"c%d\",\"__REALTIME_TIMESTAMP\":\"1795309323500000\",\"_PID\":\"%d\",\"_SYSTEMD_UNIT\":\"shop.service\",\"MESSAGE\":%s}\n", cursor, pid, message)
	}
	var text strings.Builder
	text.WriteString("not json\n")
	for line := range strings.Lines(textOf(1)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" { // journald leaves these out
			text.WriteString(entry(4000001, fmt.Sprintf("%q", line)))
			text.WriteString(entry(4000002, `[255, 120]`))
		}
	}
	text.WriteString(entry(4000003, `"panic: begun"`))
	appendTo(t, feed, text.String())
	var d deaths
	state := filepath.Join(dir, "state")
	o := crashtext.WatchOptions{Journal: true, Units: []string{"shop.service"}, JournalCommand: []string{script}, State: state}
	w := watch(t, &d, o)
	within(t, "a death", func() bool { return len(d.all()) >= 1 })
	c := d.all()[0]
	if c.Message != "panic: number 1" || c.Service != "shop" || c.PID != 4000001 || c.Facts.Unit != "shop.service" || !c.At.Equal(time.UnixMicro(1795309323500000)) || c.Source[0] != "journal" {
		t.Errorf("%+v", c)
	}
	within(t, "the text without stacks of a process that is gone", func() bool { return len(d.all()) == 2 })
	within(t, "a cursor in the state", func() bool {
		data, _ := os.ReadFile(state)
		return strings.Contains(string(data), fmt.Sprintf(`"journal":"c%d"`, cursor))
	})
	w.Stop()
	w = watch(t, &d, o)
	within(t, "a second call", func() bool {
		data, _ := os.ReadFile(called)
		return strings.Contains(string(data), fmt.Sprintf("--after-cursor=c%d _TRANSPORT=stdout _SYSTEMD_UNIT=shop.service", cursor))
	})
	if data, _ := os.ReadFile(called); !strings.HasPrefix(string(data), "--follow --output=json --output-fields=MESSAGE,_PID,_SYSTEMD_UNIT --quiet --no-pager --lines=0 ") {
		t.Errorf("called with %s", data)
	}
	w.Stop()
}

// TestJournalctl: the real one takes the arguments.
func TestJournalctl(t *testing.T) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		proc.Missing(t, "%v", err)
	}
	for _, args := range [][]string{{"--lines=0"}, {"--no-tail", "--after-cursor=x"}} {
		out, err := exec.CommandContext(t.Context(), "journalctl", append([]string{"--output=json", "--output-fields=MESSAGE,_PID,_SYSTEMD_UNIT", "--quiet", "--no-pager"}, args...)...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || strings.Contains(string(out), "unrecognized option") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

func TestWatchOptions(t *testing.T) {
	for _, pattern := range []string{"[", "/var/log/[", "relative/*.log"} {
		if _, err := crashtext.NewWatcher(crashtext.WatchOptions{Files: []string{pattern}}); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("pattern %q: %v, want it invalid", pattern, err)
		}
	}
	state := filepath.Join(t.TempDir(), "state")
	appendTo(t, state, "damaged")
	w, err := crashtext.NewWatcher(crashtext.WatchOptions{State: state})
	if err != nil {
		t.Fatal(err)
	}
	w.Start()
	w.Stop()
}
