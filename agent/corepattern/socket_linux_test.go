package corepattern_test

import (
	"context"
	"io"
	"net"
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

// needSocket skips where the kernel has no sockets for cores. The core pattern
// is the test's by then, so it can be set here.
func needSocket(t *testing.T) {
	t.Helper()
	p, err := corepattern.Look(corepattern.Options{Dir: short(t)})
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Modes[0]; !m.Usable {
		proc.NeedKernel(t, 6, 17)
		proc.Missing(t, "%s", m.Reason)
	}
}

func TestSocketTellsOfDeaths(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	before := read(t, patternFile)
	ds := &deaths{}
	l := start(t, corepattern.Options{Mode: corepattern.ModeSocket, Handle: ds.head})
	if got := l.State(); got.Mode != corepattern.ModeSocket || got.Problem != "" {
		t.Errorf("state %+v", got)
	}
	cmd := crash(t)
	run(t, cmd)
	if err := l.Stop(); err != nil {
		t.Error(err)
	}
	if got := read(t, patternFile); got != before {
		t.Errorf("pattern %q after the end, want %q", got, before)
	}
	list := of(ds.get(t), cmd)
	if len(list) != 1 {
		t.Fatalf("%d deaths, want 1", len(list))
	}
	d := list[0]
	if d.PID != cmd.Process.Pid || d.UID != os.Getuid() || d.GID != os.Getgid() || d.Source != corepattern.ModeSocket ||
		d.Suid || d.PIDFD == nil || time.Since(d.At) > time.Minute {
		t.Errorf("death %+v", d)
	}
	if d.Signal != int(syscall.SIGABRT) {
		t.Errorf("signal %d, want %d", d.Signal, syscall.SIGABRT)
	}
}

func TestSocketHoldsUntilReleased(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	release := make(chan bool)
	start(t, corepattern.Options{Mode: corepattern.ModeSocket, Handle: func(_ context.Context, d *corepattern.Death) {
		buf := make([]byte, 1<<20)
		for {
			if _, err := d.Stream.Read(buf); err != nil {
				break // the whole core is read
			}
		}
		<-release
	}})
	cmd := native(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() {
		cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		t.Error("the process ended before it was released")
	case <-time.After(300 * time.Millisecond):
	}
	close(release)
	<-ended
}

func TestSocketRefusesQuickly(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	const n = 40
	start(t, corepattern.Options{Mode: corepattern.ModeSocket, Handle: func(context.Context, *corepattern.Death) {}})
	before := cpu(t)
	for range n {
		if run(t, native(t)).Sys().(syscall.WaitStatus).CoreDump() {
			t.Fatal("a refused death dumped core")
		}
	}
	// What this process takes to start the programs counts too.
	if took := (cpu(t) - before) / n; took > 4*time.Millisecond {
		t.Errorf("%v of CPU for each", took)
	} else {
		t.Logf("%v of CPU for each, starting the program included", took)
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func TestSocketTakesManyAtOnce(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	for _, n := range []int{2, 50} {
		ds := &deaths{}
		l := start(t, corepattern.Options{Mode: corepattern.ModeSocket, Handle: ds.head})
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

func TestSocketForeignFile(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	testForeignFile(t, corepattern.ModeSocket)
}

// testForeignFile sees that programs that are none of ours leave the files that
// they left before.
func testForeignFile(t *testing.T, mode string) {
	write(t, patternFile, "core.%p.%s.%e")
	plain := native(t)
	run(t, plain)
	want := onlyFile(t, plain.Dir)

	ds := &deaths{}
	start(t, corepattern.Options{Mode: mode, Handle: ds.foreign, Exe: handler(t)})
	cmd := native(t)
	run(t, cmd)
	ds.get(t)
	got := onlyFile(t, cmd.Dir)
	if got.Size() != want.Size() || got.Mode() != want.Mode() {
		t.Errorf("core of %d bytes, mode %v; the kernel's own has %d, %v", got.Size(), got.Mode(), want.Size(), want.Mode())
	}
	if a, b := filepath.Ext(got.Name()), filepath.Ext(want.Name()); a != b {
		t.Errorf("core file %s, the kernel's own is %s", got.Name(), want.Name())
	}
	// Without permission there is none.
	none := command(t, "sh", "-c", "ulimit -c 0; kill -SEGV $$")
	run(t, none)
	if entries, _ := os.ReadDir(none.Dir); len(entries) > 0 {
		t.Errorf("RLIMIT_CORE 0 left %v", entries)
	}
	ds.get(t)
}

func onlyFile(t *testing.T, dir string) os.FileInfo {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d files in %s, want 1 (%v)", len(entries), dir, err)
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestSocketForeignPipe(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	testForeignPipe(t, corepattern.ModeSocket)
}

// testForeignPipe sees that the host's own handler gets what it got before.
func testForeignPipe(t *testing.T, mode string) {
	dir := short(t)
	old := filepath.Join(dir, "old")
	script := "#!/bin/sh\n/usr/bin/wc -c > " + dir + "/$1.new && /usr/bin/mv " + dir + "/$1.new " + dir + "/$1\necho \"$2 $3 $#\" > " + dir + "/args.new && /usr/bin/mv " + dir + "/args.new " + dir + "/args\n"
	if err := os.WriteFile(old, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, limitFile, "4")
	write(t, patternFile, "|"+old+" %P %s %u")
	plain := native(t)
	run(t, plain)
	// The kernel waits until the core is read, not until the handler is done.
	result := func(pid int) string {
		name := filepath.Join(dir, strconv.Itoa(pid))
		within(t, "the old handler has written "+name, func() bool {
			_, err := os.Stat(name)
			_, err2 := os.Stat(filepath.Join(dir, "args"))
			return err == nil && err2 == nil
		})
		return read(t, name)
	}
	want, wantArgs := result(plain.Process.Pid), read(t, filepath.Join(dir, "args"))

	if err := os.Remove(filepath.Join(dir, "args")); err != nil {
		t.Fatal(err)
	}
	ds := &deaths{}
	start(t, corepattern.Options{Mode: mode, Handle: ds.foreign, Exe: handler(t)})
	cmd := native(t)
	run(t, cmd)
	ds.get(t)
	if got := result(cmd.Process.Pid); got != want {
		t.Errorf("the old handler got %s bytes, without us %s", got, want)
	}
	if got := read(t, filepath.Join(dir, "args")); got != wantArgs {
		t.Errorf("the old handler got %q, without us %q", got, wantArgs)
	}
}

// TestSocketKnowsTheKernel has somebody connect who does not die.
func TestSocketKnowsTheKernel(t *testing.T) {
	proc.TakeCorePattern(t, "")
	needSocket(t)
	ds := &deaths{}
	dir := short(t)
	l := start(t, corepattern.Options{Mode: corepattern.ModeSocket, Handle: ds.head, Dir: dir})
	c, err := net.Dial("unix", filepath.Join(dir, "inquest-core.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the listener says %d bytes, %v", n, err)
	}
	if len(of(ds.get(t), &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}})) > 0 || l.State().Error == "" {
		t.Errorf("deaths %+v, state %+v", ds.list, l.State())
	}
}

// TestUnprivileged looks as a user who may not do anything.
func TestUnprivileged(t *testing.T) {
	proc.TakeCorePattern(t, "")
	cmd := exec.Command(handler(t), "listen", corepattern.ModeAuto, "/run/nowhere")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := os.Chmod(filepath.Dir(cmd.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cmd.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err == nil || !strings.Contains(string(out), "takes root") {
		t.Errorf("it says %q (%v)", out, err)
	}
}
