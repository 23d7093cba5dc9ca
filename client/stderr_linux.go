package client

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// teeEnv, in the environment of a program, says that it is the process that
// copies the standard error of its parent.
const teeEnv = "INQUEST_STDERR_OF"

const (
	readyFD      = 3 // the copying process closes it when it has tried to reach the agent
	readyTimeout = 2 * time.Second
)

// init is where the copying process branches off: it runs nothing of the
// program but the initialization of packages that come before this one.
func init() {
	if v, ok := os.LookupEnv(teeEnv); ok {
		tee(v)
		os.Exit(0)
	}
}

// CaptureStderr has everything that is written to the file descriptor of
// standard error pass through a second process, which writes it to where it
// went before, and tells the agent the lines that look like a crash. For a
// fatal error of the runtime that is the only way to know which one it was:
// debug.SetCrashOutput leaves that line out.
//
// The second process is the program's own executable, started anew; it takes
// some megabytes. The program itself keeps its process id, standard input,
// signals and exit code. The second process is in a session of its own,
// ignores signals that ask to end, and ends when the program and all its
// children that inherited standard error have: so whoever waits for the end of
// standard error gets all of it. Should it be killed, standard error is put back.
//
// It fails for process 1 of a container, whose end takes all others along before
// they have written the last of it: let the agent read the container's log
// instead. Call it early in main, at most once. Standard error is no terminal
// any more. What os.Stderr writes may arrive a moment after it was written.
func CaptureStderr(o Options) error {
	o = o.withDefaults()
	if o.off() {
		return nil
	}
	if os.Getpid() == 1 {
		return errors.New("capture stderr: process 1 cannot: nothing outlives it")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("capture stderr: %w", err)
	}
	defer func() { _ = w.Close() }() // its copy at descriptor 2 stays
	before, err := duplicate(2)
	if err != nil {
		return errors.Join(fmt.Errorf("capture stderr: %w", err), r.Close())
	}
	ready, told, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("capture stderr: %w", err), r.Close(), before.Close())
	}
	defer func() { _ = ready.Close() }() // nothing is read from it
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{os.Args[0], "(standard error)"}
	cmd.Stdin, cmd.Stderr = r, before
	cmd.Env = append(os.Environ(), teeEnv+"="+fmt.Sprint(os.Getpid()), "INQUEST_CRASH_SOCKET="+o.Socket,
		"OTEL_SERVICE_NAME="+o.Service, "INQUEST_RELEASE="+o.Release, "GOMAXPROCS=1", "GOTRACEBACK=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{told}
	if err := errors.Join(cmd.Start(), told.Close()); err != nil {
		return errors.Join(fmt.Errorf("capture stderr: %w", err), r.Close(), before.Close())
	}
	// The agent asks whose child it is, so it should know of it before the
	// program has a chance to die.
	_ = ready.SetReadDeadline(time.Now().Add(readyTimeout)) // a pipe has deadlines
	_, _ = ready.Read(make([]byte, 1))                      // its end is all that comes
	if err := syscall.Dup3(int(w.Fd()), 2, 0); err != nil {
		// The other process ends by itself: nobody else has the pipe.
		return errors.Join(fmt.Errorf("capture stderr: %w", err), r.Close(), before.Close())
	}
	go guard(cmd, r, before)
	return nil
}

func duplicate(fd int) (*os.File, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 {
		return nil, os.NewSyscallError("fcntl", errno)
	}
	return os.NewFile(n, "stderr"), nil
}

// guard puts standard error back if the copying process ends first. It holds
// the reading end of the pipe until then, so that nobody dies of writing to it.
func guard(cmd *exec.Cmd, r, before *os.File) {
	_ = cmd.Wait() // how it ended does not matter
	_ = syscall.Dup3(int(before.Fd()), 2, 0)
	copyRest(r, before)
	_ = r.Close() // all of it was read
}

// copyRest writes what is left in the pipe.
func copyRest(r, to *os.File) {
	fd := int(r.Fd())
	if syscall.SetNonblock(fd, true) != nil {
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		_, _ = to.Write(buf[:n]) // there is no other place to say that it failed
	}
}

// tee copies standard input to standard error until all who write to it are
// gone, and tells the agent what may be of a crash.
func tee(parent string) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	var pid int
	if _, err := fmt.Sscan(parent, &pid); err != nil {
		return
	}
	teller := newTeller(Options{}.withDefaults(), pid, func() { _ = syscall.Close(readyFD) })
	buf := make([]byte, 64<<10)
	for {
		n, err := os.Stdin.Read(buf)
		_, _ = os.Stderr.Write(buf[:n]) // should it be gone, the agent is told all the same
		teller.take(buf[:n])
		if err != nil {
			break
		}
	}
	teller.finish()
}
