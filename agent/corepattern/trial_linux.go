package corepattern

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/goinquest/inquest"
)

// trialTime is how long the death of a trial may take to get here.
const trialTime = 10 * time.Second

// Trial is one death that was made to see whether deaths are got at.
type Trial struct {
	Mode   string        `json:"mode"`
	Signal int           `json:"signal"`
	Took   time.Duration `json:"took_ns"` // from the start of the program that died to its end
}

// Die ends the process by a panic that the kernel is to see. It is what
// CommandTrial does.
func Die() {
	var none syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &none) == nil {
		none.Cur = none.Max
		syscall.Setrlimit(syscall.RLIMIT_CORE, &none)
	}
	debug.SetTraceback("crash")
	panic("a trial of " + CommandTrial)
}

// Try listens as Start would, lets a child die, sees that its death comes with
// a core, and gives the host back what it had. Other deaths of that moment go
// to the old handler.
func Try(ctx context.Context, o Options) (*Trial, error) {
	o = o.withDefaults()
	got := make(chan error, 1)
	trial := &Trial{}
	var mu sync.Mutex // held until the child's number is known
	mu.Lock()
	unlock := sync.OnceFunc(mu.Unlock)
	defer unlock()
	var pid int
	o.Poll = 100 * time.Millisecond
	o.Handle = func(_ context.Context, d *Death) {
		mu.Lock()
		mine := d.PID == pid
		mu.Unlock()
		if !mine {
			d.Foreign()
			return
		}
		head := make([]byte, 4)
		_, err := io.ReadFull(d.Stream, head)
		if err == nil && string(head) != "\x7fELF" {
			err = inquest.Errorf(inquest.ErrInvalid, "what came begins with %q, as no core does", head)
		}
		trial.Signal = d.Signal
		d.Taken()
		d.Release()
		select {
		case got <- err:
		default:
		}
	}
	l, err := Start(o)
	if err != nil {
		return nil, err
	}
	trial.Mode = l.mode
	cmd := exec.Command(o.exe(), CommandTrial)
	cmd.Dir = "/"
	started := time.Now()
	if err := cmd.Start(); err != nil {
		unlock()
		l.Stop()
		return nil, fmt.Errorf("start a program that dies: %w", err)
	}
	pid = cmd.Process.Pid
	unlock()
	cmd.Wait()
	trial.Took = time.Since(started)
	select {
	case err = <-got:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(trialTime):
		err = inquest.Errorf(inquest.ErrUnavailable, "process %d died for a trial, and its death did not get here (%s)", pid, l.State().Error)
	}
	if e := l.Stop(); err == nil {
		err = e
	}
	return trial, err
}
