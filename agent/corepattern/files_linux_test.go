package corepattern_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
)

// taking collects whole cores.
type taking struct {
	deaths
	cores  map[string]int64 // bytes, by path
	taken  bool
	opened string // a file to open as the process would, and what is in it
}

func (ta *taking) handle(_ context.Context, d *corepattern.Death) {
	n, err := io.Copy(io.Discard, d.Stream)
	ta.fail(err)
	if ta.opened != "" {
		f, err := d.Open(ta.opened)
		if err == nil {
			var data []byte
			data, err = io.ReadAll(f)
			ta.opened = string(data)
			f.Close()
		}
		ta.fail(err)
	}
	if ta.taken {
		d.Taken()
	}
	d.Release()
	ta.mu.Lock()
	ta.cores[d.Path] = n
	ta.mu.Unlock()
	ta.add(d)
}

// await waits for a number of deaths.
func await(t *testing.T, ds *deaths, n int) []corepattern.Death {
	t.Helper()
	from := time.Now()
	for len(ds.get(t)) < n && time.Since(from) < 30*time.Second {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // for those that should not come
	list := ds.get(t)
	if len(list) != n {
		t.Fatalf("%d deaths, want %d", len(list), n)
	}
	return list
}

func inDirectory(handle corepattern.Handler) corepattern.Options {
	return corepattern.Options{Mode: corepattern.ModeDirectory, Handle: handle,
		Poll: 10 * time.Millisecond, Settle: 100 * time.Millisecond, Again: time.Hour}
}

func TestDirectoryTellsOfDeaths(t *testing.T) {
	dir := short(t)
	proc.TakeCorePattern(t, dir+"/core.%e.%P.%s.%t")
	ta := &taking{cores: map[string]int64{}, taken: true}
	l := start(t, inDirectory(ta.handle))
	cmd := crash(t)
	run(t, cmd)
	d := await(t, &ta.deaths, 1)[0]
	if d.PID != cmd.Process.Pid || d.Signal != 6 || d.UID != os.Getuid() || d.Source != corepattern.ModeDirectory || time.Since(d.At) > time.Minute {
		t.Errorf("death %+v", d)
	}
	if n := ta.cores[d.Path]; n < 1<<20 {
		t.Errorf("core of %d bytes", n)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("taken, and still there: %v", entries)
	}
	if got := l.State(); got.Mode != corepattern.ModeDirectory || got.Error != "" {
		t.Errorf("state %+v", got)
	}
}

// TestDirectoryLeavesWhatIsNotTaken sees what stays: cores that nobody took,
// files that are no cores, links, and cores of others than the kernel.
func TestDirectoryLeavesWhatIsNotTaken(t *testing.T) {
	dir := short(t)
	proc.TakeCorePattern(t, dir+"/core.%P")
	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x04\x00"
	for name, data := range map[string]string{"core.17": elf, "core.18": "hello", "mine.19": elf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("mine.19", filepath.Join(dir, "core.20")); err != nil {
		t.Fatal(err)
	}
	ta := &taking{cores: map[string]int64{}}
	start(t, inDirectory(ta.handle))
	if d := await(t, &ta.deaths, 1)[0]; d.PID != 17 {
		t.Errorf("death %+v", d)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 4 {
		t.Errorf("left: %v", entries)
	}
}

// TestDirectoryWaitsForTheWriter sees that a core which is still written is
// left alone.
func TestDirectoryWaitsForTheWriter(t *testing.T) {
	dir := short(t)
	proc.TakeCorePattern(t, dir+"/core.%P")
	ta := &taking{cores: map[string]int64{}, taken: true}
	start(t, inDirectory(ta.handle))
	f, err := os.Create(filepath.Join(dir, "core.1"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 9)+"\x04\x00")
	time.Sleep(300 * time.Millisecond)
	if n := len(ta.get(t)); n > 0 {
		t.Error("offered while it is written")
	}
	fmt.Fprint(f, "the rest")
	f.Close()
	d := await(t, &ta.deaths, 1)[0]
	if n := ta.cores[d.Path]; n != 18+8 {
		t.Errorf("%d bytes of the core, want %d", n, 18+8)
	}
}

// TestDirectoryOfContainers sees that a core is found which the kernel wrote
// where another mount namespace has other files under the same name.
func TestDirectoryOfContainers(t *testing.T) {
	dir := short(t)
	proc.TakeCorePattern(t, dir+"/core.%P")
	ta := &taking{cores: map[string]int64{}, taken: true, opened: filepath.Join(dir, "only-there")}
	start(t, inDirectory(ta.handle))
	cmd := command(t, "unshare", "-m", "sh", "-c", "mount -t tmpfs none "+dir+" && echo -n yes > "+dir+"/only-there && sleep 0.1; "+
		"sh -c 'ulimit -c unlimited; kill -SEGV $$'; rm -f "+dir+"/core; sleep 0.4; ls "+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v; is this not root?", err)
	}
	d := await(t, &ta.deaths, 1)[0]
	if n := ta.cores[d.Path]; n < 10000 {
		t.Errorf("core of %d bytes", n)
	}
	if ta.opened != "yes" {
		t.Errorf("the process's own file has %q", ta.opened)
	}
	if string(out) != "only-there\n" {
		t.Errorf("left there: %q", out)
	}
}
