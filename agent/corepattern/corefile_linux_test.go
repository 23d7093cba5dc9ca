package corepattern_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
)

// as is a program that dies as another user, in a directory of that user's.
func as(t *testing.T, uid int, script string) *exec.Cmd {
	t.Helper()
	cmd := command(t, "sh", "-c", script)
	if err := os.Chown(cmd.Dir, uid, uid); err != nil {
		proc.Missing(t, "not root: %v", err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: []uint32{uint32(uid), 4242}}}
	return cmd
}

const nobody = 65534

// TestCoreFileIsTheUsers sees that what we write for the kernel has the rights
// that the kernel's own would have.
func TestCoreFileIsTheUsers(t *testing.T) {
	proc.TakeCorePattern(t, "core")
	ds := &deaths{}
	start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: ds.foreign, Exe: handler(t)})

	cmd := as(t, nobody, "ulimit -c unlimited; kill -SEGV $$")
	run(t, cmd)
	ds.get(t)
	info := onlyFile(t, cmd.Dir)
	if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody || info.Mode() != 0o600 {
		t.Errorf("core of %d:%d, %v", st.Uid, st.Gid, info.Mode())
	}
	data, err := os.ReadFile(filepath.Join(cmd.Dir, info.Name()))
	if err != nil || len(data) < 18 || string(data[:4]) != "\x7fELF" || data[16] != 4 { // ET_CORE
		t.Errorf("what was written is no core (%v)", err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Blocks*512 > info.Size() {
		t.Errorf("%d bytes take %d on disk", info.Size(), st.Blocks*512)
	}

	// A directory that the user may not write gets nothing.
	cmd = as(t, nobody, "ulimit -c unlimited; kill -SEGV $$")
	if err := os.Chown(cmd.Dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cmd.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, cmd)
	if entries, _ := os.ReadDir(cmd.Dir); len(entries) > 0 {
		t.Errorf("a user wrote %v into root's directory", entries)
	}
	if err := ds.failure(t); !errors.Is(err, os.ErrPermission) {
		t.Errorf("error %v", err)
	}

	// RLIMIT_CORE cuts it off.
	cmd = as(t, nobody, "ulimit -c 64; kill -SEGV $$") // in units of 512 or 1024 bytes
	run(t, cmd)
	ds.get(t)
	if st := onlyFile(t, cmd.Dir).Sys().(*syscall.Stat_t); st.Blocks*512 > 64<<10 {
		t.Errorf("RLIMIT_CORE of 64 KiB at most, and %d bytes written", st.Blocks*512)
	}
}

// TestCoreFileFollowsNoLink has links lie where the core is to go.
func TestCoreFileFollowsNoLink(t *testing.T) {
	proc.TakeCorePattern(t, "sub/core")
	ds := &deaths{}
	start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: ds.foreign, Exe: handler(t)})
	victim := short(t)
	file := filepath.Join(victim, "core")
	if err := os.WriteFile(file, []byte("precious"), 0o666); err != nil {
		t.Fatal(err)
	}
	unharmed := func() {
		t.Helper()
		if data, err := os.ReadFile(file); string(data) != "precious" {
			t.Errorf("the victim has %d bytes (%v)", len(data), err)
		}
		if entries, _ := os.ReadDir(victim); len(entries) != 1 {
			t.Errorf("beside the victim: %v", entries)
		}
	}

	cmd := native(t) // as root, whom nothing else would stop
	if err := os.Mkdir(filepath.Join(cmd.Dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, filepath.Join(cmd.Dir, "sub", "core")); err != nil {
		t.Fatal(err)
	}
	run(t, cmd)
	ds.get(t)
	unharmed()
	if info, err := os.Lstat(filepath.Join(cmd.Dir, "sub", "core")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("instead of the link: %v (%v)", info, err)
	}

	// A directory that leads out of the process's own is not followed.
	cmd = native(t)
	if err := os.Symlink(victim, filepath.Join(cmd.Dir, "sub")); err != nil {
		t.Fatal(err)
	}
	run(t, cmd)
	unharmed()
	ds.failure(t)

	// Something of that name that is no file stays.
	cmd = native(t)
	if err := os.MkdirAll(filepath.Join(cmd.Dir, "sub", "core"), 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, cmd)
	if err := ds.failure(t); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
}

// TestCoreFileInItsRoot sees that an absolute pattern counts from the root of
// the process.
func TestCoreFileInItsRoot(t *testing.T) {
	dir := short(t)
	proc.TakeCorePattern(t, dir+"/core.%e")
	ds := &deaths{}
	start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: ds.foreign, Exe: handler(t)})
	cmd := command(t, "unshare", "-m", "sh", "-c", "mount -t tmpfs none "+dir+" && sh -c 'ulimit -c unlimited; kill -SEGV $$'; ls "+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	ds.get(t)
	if string(out) != "core.sh\n" {
		t.Errorf("in its root: %q", out)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("in ours: %v", entries)
	}
}

// TestHostileNames has a program whose name would be dangerous in a command
// line or as a file.
func TestHostileNames(t *testing.T) {
	proc.TakeCorePattern(t, "")
	dir := short(t)
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("#!/bin/sh\n/usr/bin/cat >/dev/null\nprintf '%s|' \"$@\" > "+dir+"/args.new\n/usr/bin/mv "+dir+"/args.new "+dir+"/args\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	const evil = "..;x %s |$(a)" // the kernel keeps 15 bytes of it
	exe := filepath.Join(dir, evil)
	if err := os.WriteFile(exe, sh, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"|" + old + " %e %s", "core.%e"} {
		write(t, patternFile, pattern)
		ds := &deaths{}
		l := start(t, corepattern.Options{Mode: corepattern.ModePipe, Handle: ds.foreign, Exe: handler(t)})
		cmd := command(t, exe, "-c", "ulimit -c unlimited; kill -SEGV $$")
		run(t, cmd)
		ds.get(t)
		if strings.HasPrefix(pattern, "|") {
			within(t, "the old handler is done", func() bool { _, err := os.Stat(dir + "/args"); return err == nil })
			if got := read(t, dir+"/args"); got != evil+"|11|" {
				t.Errorf("the old handler got %q", got)
			}
		} else if got := onlyFile(t, cmd.Dir).Name(); got != "core."+evil {
			t.Errorf("core file %q", got)
		}
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledWhileRead has somebody kill the process that is held.
func TestKilledWhileRead(t *testing.T) {
	proc.TakeCorePattern(t, "")
	ds := &deaths{}
	for _, mode := range []string{corepattern.ModeSocket, corepattern.ModePipe} {
		t.Run(mode, func(t *testing.T) {
			if mode == corepattern.ModeSocket {
				needSocket(t)
			}
			held, started := make(chan bool), make(chan int, 1)
			l := start(t, corepattern.Options{Mode: mode, Exe: handler(t), Handle: func(ctx context.Context, d *corepattern.Death) {
				pid := <-started
				started <- pid
				if d.PID != pid {
					return
				}
				ds.head(ctx, d)
				held <- true
				n, err := io.Copy(io.Discard, d.Stream) // ends
				t.Logf("%s: %d bytes, %v", mode, n, err)
				held <- true
			}})
			cmd := crash(t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			started <- cmd.Process.Pid
			<-held
			cmd.Process.Kill()
			select {
			case <-held:
			case <-time.After(10 * time.Second):
				t.Error("the stream does not end")
			}
			cmd.Wait()
			if err := l.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
