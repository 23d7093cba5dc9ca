package corepattern

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// stopTime is how long Stop waits for old handlers that still read a core.
const stopTime = 10 * time.Second

// slotTime is how long a death waits until others are done with. Processes that
// are to start again must not wait for ever.
const slotTime = time.Minute

// Listener gets the deaths of a host. It is safe for concurrent use.
type Listener struct {
	o      Options
	mode   string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // of goroutines that take deaths, and of deaths
	slots  chan struct{}
	gaps   int64

	own      *ownership // nil: the pattern was left as it is
	state    state
	guardian *guardians
	socket   *net.UnixListener // for socket and pipe
	dumpable int               // what this process was before
	foreign  atomic.Int64
	lastErr  atomic.Pointer[string]
	stop     func() error // once
}

// Start listens for deaths in the mode of o, or in the best one there is, and
// changes the host's core pattern if the mode needs that. Errors are of kind
// ErrUnavailable if the host does not allow the mode, and ErrConflict if
// another agent takes the host's cores.
func Start(o Options) (*Listener, error) {
	o = o.withDefaults()
	p, err := Look(o)
	if err != nil {
		return nil, err
	}
	if p.Mode == ModeOff {
		kind := inquest.ErrUnavailable
		if p.Other != "" {
			kind = inquest.ErrConflict
		}
		return nil, inquest.Errorf(kind, "%s", p.Problem)
	}
	l := &Listener{o: o, mode: p.Mode, slots: make(chan struct{}, o.AtOnce)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.start(p); err != nil {
		l.cancel()
		return nil, errors.Join(err, l.undo())
	}
	l.stop = sync.OnceValue(l.end)
	return l, nil
}

func (l *Listener) start(p *Plan) (err error) {
	switch l.mode {
	case ModeDirectory, ModeSystemd:
		return l.startFiles(p)
	}
	if l.own, err = own(l.o.Dir); err != nil {
		return err
	}
	// If we died with a core, the kernel would wait for our own answer.
	l.dumpable = setDumpable(0)
	take := l.socketDeath
	if l.mode == ModePipe {
		l.socket, err = listenAt(handPath(l.o.Dir))
		take = l.handedDeath
	} else {
		l.socket, err = listenAt(socketPath(l.o.Dir))
	}
	if err != nil {
		return err
	}
	// The guardian first: there is no moment without.
	if l.guardian, err = startGuardian(l.o.exe(), l.o.Dir, l.o.Logger); err != nil {
		return err
	}
	if l.state, l.gaps, err = l.own.install(p.Then, p.ThenLimit); err != nil {
		return err
	}
	l.wg.Go(func() { l.accept(take) })
	return nil
}

// exe is the executable to start guardians by: this process's own, whatever
// has its name by now.
func (o *Options) exe() string {
	if o.Exe != "" {
		return o.Exe
	}
	return "/proc/self/exe"
}

// hostExe is the executable as the kernel has to find it.
func (o *Options) hostExe() (string, error) {
	if o.Exe != "" {
		return o.Exe, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(exe)
}

// listenAt makes a socket for root alone.
func listenAt(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	s, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// accept takes deaths from the socket until it is closed.
func (l *Listener) accept(take func(*net.UnixConn)) {
	for {
		c, err := l.socket.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, for example
			l.fail("accept a death", err)
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		l.wg.Go(func() { take(c) })
	}
}

// socketDeath handles a death that the kernel tells itself.
func (l *Listener) socketDeath(c *net.UnixConn) {
	d, err := socketDeath(c)
	if err != nil {
		l.fail("death of a process", err)
		c.Close()
		return
	}
	chain(d, l.state.old())
	l.handle(d)
}

// handle gives a death to the handler when there is a slot for it; until then
// the kernel holds the process. When the handler returns, it is over.
func (l *Listener) handle(d *Death) {
	defer d.Release()
	wait := time.NewTimer(slotTime)
	defer wait.Stop()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-wait.C:
		l.fail(fmt.Sprintf("death of process %d", d.PID), inquest.Errorf(inquest.ErrBusy, "%d others were not done with within %v", cap(l.slots), slotTime))
		return
	case <-l.ctx.Done():
		return
	}
	if d.Taken == nil {
		d.Taken = func() {}
	}
	foreign := d.Foreign
	d.Foreign = func() error {
		l.foreign.Add(1)
		if err := foreign(); err != nil {
			err = fmt.Errorf("death of process %d for the old handler: %w", d.PID, err)
			l.lastErr.Store(new(err.Error()))
			return err
		}
		return nil
	}
	l.o.Handle(l.ctx, d)
}

func (l *Listener) fail(what string, err error) {
	l.lastErr.Store(new(fmt.Sprintf("%s: %v", what, err)))
	l.o.Logger.Warn("death not taken", "what", what, inquest.LogErr, err)
}

// State says how deaths are got. Of the numbers, Foreign and Gaps are set:
// deaths given to the old handler, and times before this listener in which
// deaths may have been lost.
func (l *Listener) State() inquest.CaptureState {
	st := inquest.CaptureState{Mode: l.mode, Foreign: l.foreign.Load(), Gaps: l.gaps}
	if e := l.lastErr.Load(); e != nil {
		st.Error = *e
	}
	if l.own != nil {
		if now, err := readSysctl(patternFile); err == nil && now != l.state.Pattern {
			st.Problem = fmt.Sprintf("somebody has set the host's core pattern to %q; restart the agent to set it again", now)
		}
	}
	return st
}

// Stop gives the host its old core handler back, ends ctx of the handlers and
// waits until they have returned. Processes that are held go. It may be called
// again.
func (l *Listener) Stop() error { return l.stop() }

func (l *Listener) end() error {
	err := l.undo()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.wg.Wait()
	}()
	select {
	case <-done:
	case <-time.After(stopTime):
		err = errors.Join(err, inquest.Errorf(inquest.ErrUnavailable, "deaths are still handled after %v", stopTime))
	}
	return err
}

// undo takes back what start did, in the opposite order.
func (l *Listener) undo() error {
	var err error
	if l.own != nil && l.guardian != nil {
		err = l.own.restore()
	}
	l.cancel()
	if l.socket != nil {
		l.socket.Close()
	}
	if l.guardian != nil && err == nil {
		l.guardian.stop()
	}
	if l.own != nil {
		setDumpable(l.dumpable)
		l.own.release()
	}
	return err
}

// setDumpable says whether the kernel may dump this process, and returns what
// was before.
func setDumpable(v int) int {
	before, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || before != 1 {
		before = 0 // 2 is the kernel's to give
	}
	unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(v), 0, 0, 0)
	return before
}
