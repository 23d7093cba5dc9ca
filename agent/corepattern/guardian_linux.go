package corepattern

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/goinquest/inquest"
)

// farewell is what an agent tells its guardian when it ends in order.
const farewell = "bye"

// guardianWait is how long a guardian tries to get the lock of an agent that
// is dying: the kernel closes the files of a process one after the other.
const guardianWait = 900 * time.Millisecond

// Guardian is the child that outlives an agent: it reads from, the pipe that
// the agent holds open, and gives the host its core handler back when that
// ends without a farewell. It ends then, or when another agent has taken over.
func Guardian(dir string, from io.Reader) error {
	// What ends the agent, as a service's end, must not end its guardian first.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	said, err := io.ReadAll(io.LimitReader(from, 64))
	if string(said) == farewell {
		return nil
	}
	end := time.Now().Add(guardianWait)
	for {
		_, e := Restore(dir)
		if e == nil {
			return err
		}
		if !errors.Is(e, inquest.ErrConflict) || time.Now().After(end) {
			return errors.Join(err, e)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// guardians keeps one guardian alive.
type guardians struct {
	exe, dir string
	log      *slog.Logger
	cancel   context.CancelFunc
	done     chan struct{}

	mu  sync.Mutex
	pid int // 0 between two of them
}

// startGuardian starts a guardian and, when it dies, another.
func startGuardian(exe, dir string, log *slog.Logger) (*guardians, error) {
	ctx, cancel := context.WithCancel(context.Background())
	g := &guardians{exe: exe, dir: dir, log: log, cancel: cancel, done: make(chan struct{})}
	cmd, pipe, err := g.start()
	if err != nil {
		cancel()
		return nil, err
	}
	go g.run(ctx, cmd, pipe)
	return g, nil
}

func (g *guardians) start() (*exec.Cmd, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	cmd := exec.Command(g.exe, CommandGuardian, g.dir)
	cmd.Args[0] = os.Args[0] // for people to see whose it is
	cmd.Stdin = r
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's signals are not for it
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, nil, fmt.Errorf("start the guardian of the core pattern: %w", err)
	}
	g.mu.Lock()
	g.pid = cmd.Process.Pid
	g.mu.Unlock()
	return cmd, w, nil
}

// run waits for the guardian's end and starts the next, at most one a second.
func (g *guardians) run(ctx context.Context, cmd *exec.Cmd, pipe *os.File) {
	defer close(g.done)
	for {
		ended := make(chan error, 1)
		started := time.Now()
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ctx.Done():
			io.WriteString(pipe, farewell)
			pipe.Close()
			<-ended
			return
		case err := <-ended:
			pipe.Close()
			g.log.Warn("the guardian of the core pattern ended, another is started", inquest.LogErr, err)
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(0, time.Second-time.Since(started))):
			}
			started = time.Now()
			var err error
			if cmd, pipe, err = g.start(); err == nil {
				break
			}
			g.log.Error("core pattern without a guardian", inquest.LogErr, err)
		}
	}
}

// stop ends the guardian, which then changes nothing.
func (g *guardians) stop() {
	g.cancel()
	<-g.done
}
