package debug_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goinquest/inquest/coredump/debug"
	"github.com/goinquest/inquest/internal/proc"
)

// TestNobody opens a core, and serves a debugger, as a user without privileges.
func TestNobody(t *testing.T) {
	if dir := os.Getenv("DEBUG_TEST_DIR"); dir != "" {
		o := debug.Options{Exe: open(t, filepath.Join(dir, "exe")), Core: open(t, filepath.Join(dir, "core"))}
		s, err := debug.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := lookAround(t, s); err != nil {
			t.Error(err)
		}
		for _, l := range s.Layers() {
			if l.Base && !l.Holds {
				t.Errorf("layer %+v", l)
			}
		}
		return
	}
	if os.Getuid() != 0 {
		proc.Missing(t, "only root can become somebody else")
	}
	confined(t)
	exe, core := small(t)
	dir, err := os.MkdirTemp("/tmp", "debug")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	for to, from := range map[string]string{"exe": exe, "core": core, "test": "/proc/self/exe"} {
		to = filepath.Join(dir, to)
		if err := copyFile(to, from); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(to, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=^TestNobody$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBUG_TEST_DIR="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
