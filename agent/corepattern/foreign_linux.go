package corepattern

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// maxReplay is how much of a core may have been read before it is found to be
// none of ours.
const maxReplay = 16 << 20

// noHandler is the RLIMIT_CORE of what no pipe handler gets, which is the
// kernel's sign for a handler that crashes itself.
const noHandler = 1

// replay is a stream that can be had again from its beginning.
type replay struct {
	r    io.Reader
	head bytes.Buffer // read already
	lost bool         // more was read than is kept
}

func (s *replay) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.head.Len()+n > maxReplay {
		s.lost, s.head = true, bytes.Buffer{}
	}
	if !s.lost {
		s.head.Write(p[:n])
	}
	return n, err
}

// whole is the stream from its beginning. Read must not be called any more.
func (s *replay) whole() (io.Reader, error) {
	if s.lost {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "more than %d bytes of the core were read, so the old handler cannot get it", maxReplay)
	}
	if s.head.Len() == 0 {
		return s.r, nil
	}
	return io.MultiReader(&s.head, s.r), nil
}

// chain gives deaths a Foreign that runs the handler which the host had before
// we came: old is its pattern. The streams of d are recorded from now on.
func chain(d *Death, old string) {
	if d.Stream == nil {
		return
	}
	s := &replay{r: d.Stream}
	d.Stream = s
	d.Foreign = func() error {
		defer d.Release()
		return giveOld(d, s, old)
	}
}

func giveOld(d *Death, s *replay, old string) error {
	switch patternKind(old) {
	case patternSocket:
		return inquest.Errorf(inquest.ErrUnavailable, "the host's own core handler is the socket %s, which takes cores from nobody but the kernel", old)
	case patternPipe:
		if d.CoreLimit == noHandler {
			return nil
		}
		r, err := s.whole()
		if err != nil {
			return err
		}
		return runHandler(d, r, old)
	}
	if d.CoreLimit < minCoreBytes || old == "" {
		return nil // the kernel would not have asked for the core either
	}
	r, err := s.whole()
	if err != nil {
		return err
	}
	return writeCoreFile(d, r, old)
}

// runHandler runs a pipe handler as the kernel does: no shell, no environment,
// the core on its standard input, and the pidfd as file 3 if it asks for one.
// The process is held until it ends.
func runHandler(d *Death, core io.Reader, old string) error {
	values := expansion(d, old)
	var args []string
	for _, word := range strings.Fields(old[1:]) {
		args = append(args, values.expand(word, false))
	}
	if len(args) == 0 {
		return inquest.Errorf(inquest.ErrInvalid, "the host's own core handler %q names no program", old)
	}
	cmd := &exec.Cmd{Path: args[0], Args: args, Dir: "/", Env: []string{}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if uses(old, 'F') && d.PIDFD != nil {
		cmd.ExtraFiles = []*os.File{d.PIDFD}
	}
	// A file, as the kernel's own pipe, is passed on as it is; else the core is
	// copied, and a handler that has read enough may close its end.
	cmd.Stdin = core
	if f, ok := core.(*os.File); ok {
		unix.SetNonblock(int(f.Fd()), false) // as a program expects its input
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the host's own core handler: %w", err)
	}
	// As the kernel does it, so that a handler which crashes is not handled.
	unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: noHandler, Max: noHandler}, nil)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the host's own core handler: %w", err)
	}
	return nil
}
