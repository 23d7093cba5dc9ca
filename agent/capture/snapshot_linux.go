package capture

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// snapshotSource is who tells of snapshots.
const snapshotSource = "command"

// Snapshot copies a process that goes on: its threads are stopped while
// registers and the minicore are read, at most for Options.Stop; of a full
// core, what could not be read by then is read while the process runs, and
// said to be so. The event is told to the sink and returned. The error is of
// kind inquest.ErrNotFound if there is no such process or it ended,
// inquest.ErrInvalid if it is not of Go, inquest.ErrBusy if too much is copied
// already, and inquest.ErrForbidden or inquest.ErrConflict if it cannot be stopped.
func (c *Capturer) Snapshot(ctx context.Context, pid int, tier inquest.Tier) (*inquest.Crash, error) {
	if !tier.Cores() {
		return nil, inquest.Errorf(inquest.ErrInvalid, "snapshot: tier %q: want mini or full", tier)
	}
	if err := mayTrace(pid); err != nil {
		return nil, err
	}
	program, done, err := c.programs.open(pid)
	if err != nil {
		return nil, fmt.Errorf("snapshot of process %d: %w", pid, err)
	}
	defer done()
	if program.build == nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "snapshot of process %d: %s is not a Go program", pid, exePath(pid))
	}
	turn, reason := c.turn(c.opts.Wait, ctx.Done())
	if reason != "" {
		return nil, inquest.Errorf(inquest.ErrBusy, "snapshot of process %d: %s", pid, reason)
	}
	defer turn()
	s := &snapshot{Capturer: c, pid: pid, program: program}
	if s.event, err = c.event(inquest.CrashSnapshot, pid, c.now()); err != nil {
		return nil, err
	}
	s.describe(tier)
	if err := s.run(ctx, tier); err != nil {
		return nil, fmt.Errorf("snapshot of process %d: %w", pid, err)
	}
	c.observe(&s.event)
	return &s.event, nil
}

// snapshot is one on its way.
type snapshot struct {
	*Capturer
	pid     int
	program *program
	event   inquest.Crash
	live    *live
}

func (s *snapshot) describe(tier inquest.Tier) {
	e := &s.event
	e.ID = inquest.SnapshotID(e.Process, e.At)
	e.Exe, e.Build = exePath(s.pid), s.program.build.ID
	e.UID, _ = readIDs(s.pid)
	e.Class, e.Wanted, e.Source = inquest.CrashSnapshot, tier, []string{snapshotSource}
	s.name(e, s.program.build)
}

// run opens and looks up what can be before, so that the process stands still
// for as short as possible.
func (s *snapshot) run(ctx context.Context, tier inquest.Tier) (err error) {
	if s.live, err = openLive(s.pid, s.program, true); err != nil {
		return err
	}
	defer func() { _ = s.live.Close() }() // only read
	auxv, err := s.live.readAuxv()
	if err != nil {
		return err
	}
	id, err := identify(s.pid, 0, auxv)
	if err != nil {
		return err
	}
	facts := Facts(s.pid)
	t := &taking{
		event: &s.event, live: s.live, build: s.program.build, funcs: s.program.funcs,
		late:  fmt.Sprintf("not read within the %v that it may be stopped", s.opts.Stop),
		facts: func() *inquest.Facts { return facts },
	}
	early, took := s.look(t)
	st := stopProcess(ctx, s.pid, s.opts.Stop)
	defer st.release()
	select {
	case <-st.ready:
	case <-st.detached:
		return st.err
	}
	return guard(func() error { return s.take(ctx, t, st, id, tier, early, took) })
}

// look selects a minicore of the process as it runs: what is found is only
// nearly right, but how long it takes is known then.
func (s *snapshot) look(t *taking) (mini []coredump.Extent, took time.Duration) {
	began := time.Now()
	err := guard(func() error {
		_, own, err := s.live.present(nil)
		if err == nil {
			mini, err = t.choose(s.live.process, own, s.opts.MiniBytes)
		}
		return err
	})
	if t.missing = nil; err != nil {
		mini = nil
	}
	return mini, time.Since(began)
}

// take copies the process, which is stopped, and lets it go.
func (s *snapshot) take(ctx context.Context, t *taking, st *stopping, id *identity, tier inquest.Tier, early []coredump.Extent, took time.Duration) error {
	if st.unstopped > 0 {
		t.missing = append(t.missing, fmt.Sprintf("registers of %d threads that did not stop", st.unstopped))
	}
	if err := s.live.again(); err != nil {
		return err
	}
	s.live.setThreads(st.threads, 0)
	t.notes = notes(id, st.threads, s.live.regions)
	t.release = st.release
	if early != nil && took > s.opts.Stop/3 {
		t.mini = sorted(stacks(s.live.process))
		used := slices.Clone(t.mini)
		for _, e := range early {
			t.mini = append(t.mini, subtract([]coredump.Extent{e}, used)...)
		}
		t.missing = append(t.missing, "what goroutines began to use just before it was stopped")
	}
	t.until = st.began.Add(s.opts.Stop)
	if tier == inquest.TierFull {
		t.goOn, t.until = t.until, st.began.Add(s.opts.Hold)
	}
	if err := s.Capturer.take(ctx, t, tier); err != nil {
		return err
	}
	if s.event.Core == nil {
		return inquest.Errorf(inquest.ErrDiskFull, "%s", s.event.Reason)
	}
	return nil
}

// stopping is a process while it is stopped.
type stopping struct {
	resume    chan struct{}
	once      sync.Once
	ready     chan struct{} // closed when it has stopped; the fields below are set then
	began     time.Time
	threads   []stoppedThread
	unstopped int

	detached chan struct{} // closed when it goes on; the fields below are set then
	held     time.Duration
	err      error
}

// stopProcess stops a process until it is released, ctx ends, or it was
// stopped for that long.
func stopProcess(ctx context.Context, pid int, most time.Duration) *stopping {
	st := &stopping{resume: make(chan struct{}), ready: make(chan struct{}), detached: make(chan struct{}), began: time.Now()}
	go func() {
		defer close(st.detached)
		st.err = whileStopped(ctx, pid, func(t *tracer) error {
			st.threads, st.unstopped = t.registers()
			close(st.ready)
			timer := time.NewTimer(most - time.Since(st.began))
			defer timer.Stop()
			select {
			case <-st.resume:
			case <-ctx.Done():
			case <-timer.C:
			}
			return nil
		})
		st.held = time.Since(st.began)
	}()
	return st
}

// release lets the process go on and returns how long it stood.
func (st *stopping) release() time.Duration {
	st.once.Do(func() { close(st.resume) })
	<-st.detached
	return st.held
}

// stacks are what threads are using of their stacks, which others may be
// behind.
func stacks(p *coredump.Process) []coredump.Extent {
	var out []coredump.Extent
	for _, th := range p.Threads {
		out = append(out, coredump.Extent{Addr: th.SP &^ (p.PageSize - 1), Size: 64 << 10})
	}
	return out
}

// guard turns a panic into an error: what is looked at belongs to others.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}
