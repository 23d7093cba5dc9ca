package sandbox_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// tries is the stage of these tests: it does what it is asked to.
var tries = sandbox.Stage{Name: "tries", Start: func(c *sandbox.Child) (sandbox.Handler, error) {
	var fail string
	if err := c.Args(&fail); err != nil || fail != "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "asked to fail: %s", fail)
	}
	return func(request json.RawMessage) (any, error) {
		var what string
		if err := json.Unmarshal(request, &what); err != nil {
			return nil, err
		}
		what, arg, _ := strings.Cut(what, " ")
		return try(c, what, arg)
	}, nil
}}

var kept [][]byte

// try does one thing and returns what came of it.
func try(c *sandbox.Child, what, arg string) (any, error) {
	switch what {
	case "echo":
		return arg, nil
	case "read":
		b, err := os.ReadFile(arg)
		return string(b), err
	case "inherited":
		b, err := os.ReadFile(c.Path(0))
		return string(b), err
	case "append":
		f, err := os.OpenFile(c.Path(0), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			f.Close()
		}
		return nil, err
	case "create":
		return nil, os.WriteFile(arg, []byte("here"), 0o600)
	case "list":
		entries, err := os.ReadDir(arg)
		return len(entries), err
	case "dial":
		conn, err := net.Dial("tcp", arg)
		if err == nil {
			conn.Close()
		}
		return nil, err
	case "unix":
		_, err := net.Dial("unix", arg)
		return nil, err
	case "exec":
		out, err := exec.Command(arg).Output()
		return string(out), err
	case "kill":
		return nil, syscall.Kill(os.Getppid(), syscall.SIGTERM)
	case "owner":
		_, err := unix.FcntlInt(3, unix.F_SETOWN, os.Getppid())
		return nil, err
	case "ptrace":
		return nil, syscall.PtraceAttach(os.Getppid())
	case "executable":
		_, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_EXEC, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		return nil, err
	case "limit":
		return nil, unix.Prlimit(0, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}, nil)
	case "memory":
		for range 1 << 20 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
	case "spin":
		for {
			runtime.Gosched()
		}
	case "many":
		return make([]struct{}, 100_000), nil
	case "large":
		return strings.Repeat("x", 1<<20), nil
	case "panic":
		panic("as asked \x1b[31m\u202e")
	case "fatal":
		m := map[int]int{}
		for range 8 {
			go func() {
				for i := 0; ; i++ {
					m[i%10] = i
				}
			}()
		}
		time.Sleep(time.Hour)
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(7)
	case "objects":
		body := []byte(`{"value":[` + strings.Repeat("{},", 1<<20) + `{}]}`)
		_, _ = os.NewFile(4, "").Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...))
		time.Sleep(time.Hour)
	case "garbage":
		_, _ = os.NewFile(4, "").WriteString("\xff\xff\xff\xff")
		time.Sleep(time.Hour)
	case "close":
		_ = syscall.Close(4)
		time.Sleep(time.Hour)
	case "work":
		for i := range 200 { // collections, threads, timers
			kept = append(kept[:i%10], make([]byte, 1<<20))
			go time.Sleep(time.Millisecond)
		}
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
		return "done", nil
	}
	return nil, nil
}

func TestMain(m *testing.M) {
	sandbox.Main(tries)
	var err error
	if os.Getenv("SANDBOX_TEST_RESTRICTED") != "" {
		err = restrict()
	}
	if os.Getenv("SANDBOX_TEST_NO_LANDLOCK") != "" {
		err = deny(seccomp.SyscallGroup{Action: seccomp.ActionErrno, Names: []string{"landlock_create_ruleset"}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, o sandbox.Options) *sandbox.Process {
	t.Helper()
	o.Stage = tries.Name
	p, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// confined skips where the base does not hold.
func confined(t *testing.T) {
	t.Helper()
	if layers, err := sandbox.Probe(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err, layers)
		}
		t.Skip(err)
	}
}

// asNobody runs this test again, in processes without privileges.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv("SANDBOX_TEST_NOBODY") != "" {
		return
	}
	for _, restricted := range []bool{false, true} {
		t.Run(fmt.Sprintf("nobody restricted=%v", restricted), func(t *testing.T) { runAsNobody(t, restricted) })
	}
}

func runAsNobody(t *testing.T, restricted bool) {
	t.Helper()
	copied := filepath.Join(publicDir(t), "test")
	if err := copyFile(copied, "/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied, "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "SANDBOX_TEST_NOBODY=1", "TMPDIR="+publicDir(t))
	if restricted {
		cmd.Env = append(cmd.Env, "SANDBOX_TEST_RESTRICTED=1")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

// restrict does to this process what a careful unit of systemd does:
// NoNewPrivileges, RestrictNamespaces, SystemCallArchitectures, and a filter of
// dangerous calls.
func restrict() error {
	const spaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	return deny(seccomp.SyscallGroup{
		Action: seccomp.ActionErrno,
		Names:  []string{"unshare", "setns", "mount", "umount2", "pivot_root", "ptrace", "bpf", "kexec_load", "init_module", "reboot", "swapon"},
		NamesWithCondtions: []seccomp.NameWithConditions{{Name: "clone", Conditions: seccomp.ArgumentConditions{
			{Argument: 0, Operation: seccomp.BitsSet, Value: spaces},
		}}},
	})
}

func deny(group seccomp.SyscallGroup) error {
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{group},
	}})
}

// publicDir is a directory that any user can use.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sandbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

func TestChildCanDoHardlyAnything(t *testing.T) {
	confined(t)
	asNobody(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir := t.TempDir()
	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("handed on"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := start(t, sandbox.Options{Files: []*os.File{f}})
	var got string
	if err := p.Call(t.Context(), "inherited", &got); err != nil || got != "handed on" {
		t.Errorf("read what was handed on: %q, %v", got, err)
	}
	for _, what := range []string{
		"read /etc/passwd", "read /proc/self/maps", "read /proc/self/mem", "read " + secret, "list /", "list /proc/self/fd", "append",
		"create " + filepath.Join(dir, "new"), "create /tmp/sandbox-test-created", "create /dev/shm/sandbox-test-created",
		"dial " + listener.Addr().String(), "unix " + socket.Addr().String(), "exec /bin/true", "kill", "owner", "ptrace", "executable", "limit",
	} {
		if what == "read "+secret {
			continue // it is the one that was handed on, whatever its name
		}
		if err := p.Call(t.Context(), what, nil); err == nil {
			t.Errorf("%q was possible", what)
		} else if f := new(sandbox.Failure); errors.As(err, &f) {
			t.Errorf("%q ended the child: %v", what, f)
		}
	}
	if err := p.Call(t.Context(), "work", &got); err != nil || got != "done" {
		t.Errorf("ordinary work: %q, %v", got, err)
	}
	if os.Getenv("SANDBOX_TEST_NOBODY") != "" && os.Getuid() == 0 {
		t.Error("still root")
	}
}

func TestFailuresAreRecorded(t *testing.T) {
	confined(t)
	asNobody(t)
	for _, test := range []struct {
		do, how string
		kind    error
		limits  sandbox.Limits
		alive   bool
		detail  string
	}{
		{do: "memory", how: sandbox.Memory, kind: inquest.ErrTooLarge, limits: sandbox.Limits{MemoryBytes: 128 << 20}},
		{do: "spin", how: sandbox.Timeout, kind: inquest.ErrTooLarge, limits: sandbox.Limits{Call: 300 * time.Millisecond}},
		{do: "spin", how: sandbox.CPU, kind: inquest.ErrTooLarge, limits: sandbox.Limits{CPU: time.Second}},
		{do: "spin", how: sandbox.Timeout, kind: inquest.ErrTooLarge, limits: sandbox.Limits{Life: time.Second}},
		{do: "panic", how: sandbox.Panic, kind: inquest.ErrInvalid, alive: true, detail: "as asked \ufffd[31m\ufffd"},
		{do: "fatal", how: sandbox.Panic, kind: inquest.ErrInvalid, detail: "concurrent map writes"},
		{do: "exit", how: sandbox.Ended, kind: inquest.ErrUnavailable, detail: "last words"},
		{do: "garbage", how: sandbox.Output, kind: inquest.ErrTooLarge},
		{do: "objects", how: sandbox.Output, kind: inquest.ErrTooLarge},
		{do: "close", how: sandbox.Output, kind: inquest.ErrTooLarge},
	} {
		t.Run(test.do+" "+test.how, func(t *testing.T) {
			p := start(t, sandbox.Options{Limits: test.limits})
			err := p.Call(t.Context(), test.do, nil)
			var f *sandbox.Failure
			if errors.As(err, &f) && f.Detail == "exit status 66" {
				t.Skip("the race detector ended it in its own way")
			}
			if !errors.As(err, &f) || f.How != test.how || !errors.Is(err, test.kind) || !strings.Contains(f.Detail, test.detail) {
				t.Fatalf("got %v (%+v), want %q of kind %v", err, f, test.how, test.kind)
			}
			if f.Stage != "tries" || f.Elapsed == 0 {
				t.Errorf("failure %+v", f)
			}
			if err := p.Call(t.Context(), "echo x", nil); (err == nil) != test.alive {
				t.Errorf("the next call: %v", err)
			}
			if (p.Failure() == nil) != test.alive {
				t.Errorf("ended: %v", p.Failure())
			}
		})
	}
}

func TestChildIsKilledFromOutside(t *testing.T) {
	confined(t)
	p := start(t, sandbox.Options{})
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	var f *sandbox.Failure
	if err := p.Call(t.Context(), "echo x", nil); !errors.As(err, &f) || f.How != sandbox.Signal || f.Signal != "killed" {
		t.Errorf("got %v (%+v)", err, f)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	confined(t)
	p := start(t, sandbox.Options{Limits: sandbox.Limits{AnswerBytes: 64 << 10, AnswerValues: 1000}})
	if err := p.Call(t.Context(), "many", nil); !errors.Is(err, inquest.ErrTooLarge) {
		t.Errorf("an answer of 100,000 values: %v", err)
	}
	if err := p.Call(t.Context(), "large", nil); !errors.Is(err, inquest.ErrTooLarge) {
		t.Errorf("an answer of 1 MiB: %v", err)
	}
	if err := p.Call(t.Context(), "echo "+strings.Repeat("x", 17<<20), nil); !errors.Is(err, inquest.ErrTooLarge) {
		t.Errorf("a request of 17 MiB: %v", err)
	}
	var got string
	if err := p.Call(t.Context(), "echo again", &got); err != nil || got != "again" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

func TestIdleChildIsEnded(t *testing.T) {
	confined(t)
	p := start(t, sandbox.Options{Limits: sandbox.Limits{Idle: 50 * time.Millisecond}})
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it lives")
	}
	if f := p.Failure(); f.How != sandbox.Idle {
		t.Errorf("failure %+v", f)
	}
	if err := p.Call(t.Context(), "echo x", nil); !errors.Is(err, inquest.ErrUnavailable) {
		t.Errorf("call: %v", err)
	}
}

func TestContextEndsChild(t *testing.T) {
	confined(t)
	p := start(t, sandbox.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Call(ctx, "spin", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-p.Done()
}

func TestStageThatDoesNotBegin(t *testing.T) {
	confined(t)
	_, err := sandbox.Start(t.Context(), sandbox.Options{Stage: tries.Name, Args: "at once"})
	if !errors.Is(err, inquest.ErrInvalid) || err.Error() != "asked to fail: at once" {
		t.Errorf("got %v", err)
	}
	var f *sandbox.Failure
	if _, err := sandbox.Start(t.Context(), sandbox.Options{Stage: "nothing"}); !errors.As(err, &f) || f.How != sandbox.Ended {
		t.Errorf("a stage that is not there: %v", err)
	}
}

// TestWithoutBase runs in a process whose children cannot have Landlock.
func TestWithoutBase(t *testing.T) {
	if os.Getenv("SANDBOX_TEST_NO_LANDLOCK") == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestWithoutBase$")
		cmd.Env = append(os.Environ(), "SANDBOX_TEST_NO_LANDLOCK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	_, err := sandbox.Start(t.Context(), sandbox.Options{Stage: tries.Name})
	var f *sandbox.Failure
	if !errors.As(err, &f) || f.How != sandbox.Refused || !strings.Contains(f.Detail, "landlock") || !errors.Is(err, inquest.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := sandbox.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "landlock") {
		t.Errorf("probe: %v", err)
	}
	p := start(t, sandbox.Options{Unconfined: true})
	var got string
	if err := p.Call(t.Context(), "echo x", &got); err != nil || got != "x" {
		t.Errorf("unconfined: %q, %v", got, err)
	}
}

func TestFilesToWriteToAreRefused(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := sandbox.Start(t.Context(), sandbox.Options{Stage: tries.Name, Files: []*os.File{f}}); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestProbe(t *testing.T) {
	layers, err := sandbox.Probe(t.Context())
	for _, l := range layers {
		t.Logf("%+v", l)
	}
	if err != nil {
		t.Log(err)
	}
	if len(layers) == 0 {
		t.Fatal("no layers")
	}
	asNobody(t)
}

func TestClean(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"plain\ttext\n", "plain\ttext\n"},
		{"\x1b[2J\x00\xff", "\ufffd[2J\ufffd\ufffd"},
		{"right\u202eleft", "right\ufffdleft"},
		{strings.Repeat("a", 30), strings.Repeat("a", 20) + "…"},
	} {
		if diff := cmp.Diff(test.want, sandbox.Clean(test.in, 20)); diff != "" {
			t.Errorf("%q: %s", test.in, diff)
		}
	}
}
