package doctor_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/doctor"
	"github.com/goinquest/inquest/internal/proc"
)

// patient is a program that does what its arguments say, and waits.
const patient = `package main

import (
	"io"
	"os"
	"runtime/debug"
	"syscall"
)

func main() {
	for _, a := range os.Args[1:] {
		switch a {
		case "crash":
			debug.SetTraceback("crash")
		case "undumpable":
			syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
		}
	}
	os.Stdout.WriteString("ready\n")
	io.Copy(io.Discard, os.Stdin)
}
`

// build builds the patient.
func build(t *testing.T, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "patient") // other users may run it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	source, exe := filepath.Join(dir, "main.go"), filepath.Join(dir, "patient")
	if err := os.WriteFile(source, []byte(patient), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", append(append([]string{"build", "-o", exe}, flags...), source)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return exe
}

// admit starts a program, which ends with the test, and waits until it is
// ready.
func admit(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
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
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the patient says %q (%v)", line, err)
	}
}

// patientOf is a patient with standard error in a file.
func patientOf(t *testing.T, exe string, args ...string) *exec.Cmd {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	cmd := exec.Command(exe, args...)
	cmd.Stderr = f
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	return cmd
}

// examine is what is found of one process, by check.
func examine(t *testing.T, cmd *exec.Cmd, o doctor.Options) map[string]doctor.Finding {
	t.Helper()
	o.Only = strconv.Itoa(cmd.Process.Pid)
	r, err := doctor.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Processes) != 1 || r.Processes[0].PID != cmd.Process.Pid {
		t.Fatalf("processes %+v", r.Processes)
	}
	m := map[string]doctor.Finding{}
	for _, f := range r.Processes[0].Findings {
		m[f.Check] = f
		if (f.State == doctor.Missing) != (f.Cure != "") && f.State != doctor.Unknown {
			t.Errorf("a state without a cure, or the opposite: %+v", f)
		}
	}
	return m
}

func expect(t *testing.T, m map[string]doctor.Finding, check, state, text string) {
	t.Helper()
	if f := m[check]; f.State != state || !strings.Contains(f.Text, text) {
		t.Errorf("%s: %+v, want %s, %q", check, f, state, text)
	}
}

func TestTraceback(t *testing.T) {
	plain, stripped, pie := build(t), build(t, "-ldflags=-s -w"), build(t, "-buildmode=pie")
	for _, c := range []struct {
		exe, env, arg string
		state         string
	}{
		{plain, "", "", doctor.Missing},
		{plain, "GOTRACEBACK=all", "", doctor.Missing},
		{plain, "GOTRACEBACK=crash", "", doctor.Fine},
		{plain, "", "crash", doctor.Fine},
		{pie, "", "", doctor.Missing},
		{pie, "", "crash", doctor.Fine},
		{stripped, "", "", doctor.Unknown},
		{stripped, "", "crash", doctor.Unknown},
		{stripped, "GOTRACEBACK=crash", "", doctor.Fine},
	} {
		cmd := patientOf(t, c.exe, c.arg)
		cmd.Env = append(cmd.Env, c.env)
		admit(t, cmd)
		expect(t, examine(t, cmd, doctor.Options{}), "traceback", c.state, "")
	}
}

func TestWhatIsMissing(t *testing.T) {
	exe := build(t)
	well := patientOf(t, exe, "crash")
	admit(t, well)
	m := examine(t, well, doctor.Options{Targets: []inquest.Target{}})
	for _, check := range []string{"traceback", "crash text", "filter", "dumpable", "memory", "namespaces"} {
		expect(t, m, check, doctor.Fine, "")
	}
	expect(t, m, "profiles", doctor.Missing, "serves none")

	silent := patientOf(t, exe)
	silent.Stderr = nil // the null device
	admit(t, silent)
	expect(t, examine(t, silent, doctor.Options{}), "crash text", doctor.Missing, os.DevNull)

	if err := os.WriteFile("/proc/"+strconv.Itoa(well.Process.Pid)+"/coredump_filter", []byte("0x10"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, examine(t, well, doctor.Options{}), "filter", doctor.Missing, "heap and stacks")

	if os.Getuid() == 0 { // of root's own processes it cannot be seen
		cmd := patientOf(t, exe, "undumpable")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		admit(t, cmd)
		expect(t, examine(t, cmd, doctor.Options{}), "dumpable", doctor.Missing, "prctl")
	}
}

// TestFiles is about what counts only where the kernel writes files.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	exe := build(t)
	proc.TakeCorePattern(t, dir+"/core.%P")
	cmd := patientOf(t, exe)
	admit(t, cmd)
	files := doctor.Options{Mode: corepattern.ModeDirectory}
	for limit, state := range map[uint64]string{0: doctor.Missing, 1 << 20: doctor.Missing, corepattern.NoCoreLimit: doctor.Fine} {
		if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: limit, Max: corepattern.NoCoreLimit}, nil); err != nil {
			t.Fatal(err)
		}
		expect(t, examine(t, cmd, files), "core limit", state, "")
	}
	if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: corepattern.NoCoreLimit}, nil); err != nil {
		t.Fatal(err)
	}
	expect(t, examine(t, cmd, doctor.Options{Mode: corepattern.ModePipe, Dir: "/run/x"}), "core limit", doctor.Fine, "does not matter")

	limits, err := doctor.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, l := range limits {
		found = found || l.PID == cmd.Process.Pid && l.Bytes == 0
	}
	if !found {
		t.Errorf("limits %+v", limits)
	}

	inside := patientOf(t, "unshare", "-m", "sh", "-c", "mount -t tmpfs none "+filepath.Dir(dir)+" && exec /proc/self/fd/3")
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside.ExtraFiles = []*os.File{f}
	admit(t, inside)
	m := examine(t, inside, files)
	expect(t, m, "namespaces", doctor.Missing, "no such directory")
	expect(t, examine(t, inside, doctor.Options{Mode: corepattern.ModePipe, Dir: "/run/x"}), "namespaces", doctor.Fine, "mnt")
}

func TestOfTheHost(t *testing.T) {
	r, err := doctor.Run(t.Context(), doctor.Options{Spool: t.TempDir(), SpoolQuota: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	checks := map[string]string{}
	for _, f := range r.Host {
		checks[f.Check] = f.State
	}
	for _, check := range []string{"cores", "kernel", "old handler", "rights", "ptrace", "spool"} {
		if checks[check] == "" {
			t.Errorf("nothing on %s in %+v", check, r.Host)
		}
	}
	if _, err := doctor.Run(t.Context(), doctor.Options{Only: "no-such-service"}); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("no such service: %v", err)
	}
}
