package corepattern_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
)

// packers are the tools that write what systemd-coredump stores.
var packers = []struct {
	ext  string
	args []string
}{
	{"", nil},
	{".zst", []string{"zstd", "-q", "-c"}},
	{".lz4", []string{"lz4", "-q", "-c"}},
	{".xz", []string{"xz", "-q", "-c"}},
}

const boot = "0123456789abcdef0123456789abcdef"

// store writes a core as systemd-coredump does.
func store(t *testing.T, dir string, pid int, core []byte, ext string, args []string) string {
	t.Helper()
	data := core
	if args != nil {
		if _, err := exec.LookPath(args[0]); err != nil {
			proc.Missing(t, "%v", err)
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(core)
		var err error
		if data, err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, fmt.Sprintf("core.my\\x2eprog.v2.1234.%s.%d.%d%s", boot, pid, int64(1790000000_000000+pid), ext))
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"pid": fmt.Sprint(pid), "uid": "1234", "gid": "99", "signal": "6",
		"rlimit": "18446744073709551615", "exe": "/opt/prog", "comm": "my.prog.v2", "hostname": "h"} {
		if err := unix.Setxattr(name, "user.coredump."+k, []byte(v), 0); err != nil {
			proc.Missing(t, "extended attributes: %v", err)
		}
	}
	return name
}

// coreOf is a core of mostly zeros, some of it random.
func coreOf(size int) []byte {
	b := make([]byte, size)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16] = 4
	r := rand.New(rand.NewPCG(1, 2))
	for i := size / 2; i < size/2+size/8; i++ {
		b[i] = byte(r.Uint32())
	}
	return b
}

func inSystemd(dir, state string, handle corepattern.Handler) corepattern.Options {
	return corepattern.Options{Mode: corepattern.ModeSystemd, Cores: []string{dir}, StateDir: state,
		Handle: handle, Poll: 10 * time.Millisecond, Again: time.Hour}
}

func TestSystemdTellsOfDeaths(t *testing.T) {
	proc.TakeCorePattern(t, "") // no other agent is at work
	dir, state := short(t), t.TempDir()
	core := coreOf(5 << 20)
	want := sha256.Sum256(core)
	for i, p := range packers {
		store(t, dir, 100+i, core, p.ext, p.args)
	}
	os.WriteFile(filepath.Join(dir, ".#core.temporary"), core, 0o600)
	os.WriteFile(filepath.Join(dir, "README"), core, 0o600)
	ds := &deaths{}
	handle := func(_ context.Context, d *corepattern.Death) {
		h := sha256.New()
		_, err := io.Copy(h, d.Stream)
		ds.fail(err)
		if !bytes.Equal(h.Sum(nil), want[:]) {
			ds.fail(fmt.Errorf("%s is not what was stored", d.Path))
		}
		d.Taken()
		ds.add(d)
	}
	l := start(t, inSystemd(dir, state, handle))
	seen := map[int]bool{}
	for _, d := range await(t, ds, len(packers)) {
		seen[d.PID] = true
		if d.UID != 1234 || d.GID != 99 || d.Signal != 6 || d.Source != corepattern.ModeSystemd || d.CoreLimit != corepattern.NoCoreLimit ||
			d.Told["EXE"] != "/opt/prog" || !d.At.Equal(time.UnixMicro(int64(1790000000_000000+d.PID))) {
			t.Errorf("death %+v", d)
		}
	}
	if len(seen) != len(packers) {
		t.Errorf("processes %v", seen)
	}
	if err := l.Stop(); err != nil {
		t.Error(err)
	}

	// They are left where they are, and not taken again, except what is new.
	store(t, dir, 200, core, "", nil)
	if entries, _ := os.ReadDir(dir); len(entries) != len(packers)+3 {
		t.Errorf("left: %v", entries)
	}
	*ds = deaths{}
	start(t, inSystemd(dir, state, handle))
	if d := await(t, ds, 1)[0]; d.PID != 200 {
		t.Errorf("death %+v", d)
	}
}

func TestSystemdDamagedCores(t *testing.T) {
	proc.TakeCorePattern(t, "") // no other agent is at work
	dir := short(t)
	core := coreOf(1 << 20)
	for i, p := range packers[1:] {
		name := store(t, dir, 300+i, core, p.ext, p.args)
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, info.Size()/2); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, fmt.Sprintf("core.x.1.%s.%d.1%s", boot, 400+i, p.ext)), []byte(strings.Repeat("no", 50)), 0o600)
	}
	ds := &deaths{}
	l := start(t, inSystemd(dir, t.TempDir(), func(_ context.Context, d *corepattern.Death) {
		if n, err := io.Copy(io.Discard, d.Stream); err == nil {
			ds.fail(fmt.Errorf("%s of %d bytes is whole", d.Path, n))
		}
		d.Taken()
		ds.add(d)
	}))
	from := time.Now()
	for len(ds.get(t)) < 5 && time.Since(from) < 5*time.Second { // xz says so at once
		time.Sleep(5 * time.Millisecond)
	}
	if n := len(ds.get(t)); n < 5 || l.State().Error == "" {
		t.Errorf("%d deaths, %+v", n, l.State())
	}
}

// TestSystemdReadsTheJournal runs a journalctl of its own: the fields of the
// entry win over the file's attributes.
func TestSystemdReadsTheJournal(t *testing.T) {
	proc.TakeCorePattern(t, "") // no other agent is at work
	dir, bin := short(t), short(t)
	name := store(t, dir, 500, coreOf(1<<16), "", nil)
	script := `#!/bin/sh
for a; do last=$a; done
[ "$last" = "COREDUMP_FILENAME=` + name + `" ] || exit 1
echo '{"COREDUMP_UNIT":"api.service","COREDUMP_SIGNAL":"11","COREDUMP_CMDLINE":null,"COREDUMP_EXE":"/opt/other","_PID":"7"}'
`
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ds := &deaths{}
	start(t, inSystemd(dir, t.TempDir(), func(_ context.Context, d *corepattern.Death) {
		d.Taken()
		ds.add(d)
	}))
	d := await(t, ds, 1)[0]
	if d.Signal != 11 || d.Told["UNIT"] != "api.service" || d.Told["EXE"] != "/opt/other" || d.Told["COMM"] != "my.prog.v2" {
		t.Errorf("signal %d, told %v", d.Signal, d.Told)
	}
}
