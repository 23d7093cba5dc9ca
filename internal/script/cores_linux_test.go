package script

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest/internal/proc"
)

// TestSetupCores runs what the page on cores only shows, because it changes
// the machine for a moment.
func TestSetupCores(t *testing.T) {
	proc.TakeCorePattern(t, "")
	before, err := proc.CorePattern()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "cores")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	agent := filepath.Join(dir, "agent") // short enough for a pattern
	if err := os.Symlink(filepath.Join(programs, "agent"), agent); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, int) {
		t.Helper()
		cmd := exec.Command(agent, args...)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, mode := range []string{"auto", "pipe"} {
		out, code := run("setup-cores", "-mode", mode, "-cores-dir", dir)
		if code != 0 || !strings.Contains(out, "a program died and its core came") {
			t.Errorf("setup-cores -mode %s ends with %d:\n%s", mode, code, out)
		}
	}
	out, code := run("setup-cores", "-json", "-cores-dir", dir)
	var setup struct {
		Plan  struct{ Mode, Pattern, Then string }
		Trial *struct{ Signal int }
	}
	if err := json.Unmarshal([]byte(out), &setup); err != nil || code != 0 || setup.Trial == nil || setup.Trial.Signal != 6 || setup.Plan.Then == "" {
		t.Errorf("setup-cores -json ends with %d (%v):\n%s", code, err, out)
	}
	if out, code := run("restore-cores", "-cores-dir", dir); code != 0 || out != "there is nothing to restore\n" {
		t.Errorf("restore-cores ends with %d: %s", code, out)
	}
	if out, code := run("setup-cores", "-mode", "off", "-cores-dir", dir); code != 1 {
		t.Errorf("setup-cores -mode off ends with %d:\n%s", code, out)
	}
	if after, err := proc.CorePattern(); after != before {
		t.Errorf("pattern %q, before %q (%v)", after, before, err)
	}

	out, code = run("doctor", "-cores-dir", dir)
	if !strings.HasPrefix(out, "this host\n") || code > 2 {
		t.Errorf("doctor ends with %d:\n%s", code, out)
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours without a terminal")
	}
}
