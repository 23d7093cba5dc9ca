package capture

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/coredump"
)

// death is one death on its way.
type death struct {
	*Capturer
	d       *corepattern.Death
	began   time.Time
	once    sync.Once
	held    time.Duration // set by release
	program *program
	notes   *coredump.Notes // nil: nobody said
	live    *live
	event   inquest.Crash
}

// Death deals with one process that dumps core: it is given away if it is not
// of Go, else told to the sink, with a core if that is wanted and within the
// budgets. The process is released as soon as it is not needed, at the latest
// when Death returns.
func (c *Capturer) Death(ctx context.Context, d *corepattern.Death) {
	j := &death{Capturer: c, d: d, began: d.At}
	if now := c.now(); j.began.IsZero() || j.began.After(now) || now.Sub(j.began) > time.Minute {
		j.began = now
	}
	defer j.release()
	outcome, err := j.run(ctx)
	c.metrics.count(outcome, err)
	if err != nil {
		c.log.Warn("capture", "process", d.PID, "outcome", outcome, inquest.LogErr, err)
	}
}

// release lets the process go and returns how long it was held.
func (j *death) release() time.Duration {
	j.once.Do(func() {
		if j.d.Path == "" {
			j.held = j.now().Sub(j.began)
		}
		j.d.Release()
	})
	return j.held
}

// run returns what became of the death. Whatever goes wrong with somebody
// else's memory, the agent goes on.
func (j *death) run(ctx context.Context) (outcome string, err error) {
	defer func() {
		if p := recover(); p != nil {
			outcome, err = outcomeFailed, fmt.Errorf("panic: %v", p)
		}
	}()
	if j.d.Path != "" {
		return j.file(ctx)
	}
	program, done, err := j.programs.open(j.d.PID)
	if err != nil {
		return outcomeFailed, err
	}
	defer done()
	if j.program = program; program.build == nil {
		return outcomeForeign, j.d.Foreign()
	}
	if j.event, err = j.Capturer.event(inquest.CrashDeath, j.d.PID, j.began); err != nil {
		return outcomeFailed, err
	}
	j.watcher.died(j.event.Process)
	j.describe()
	if err := j.open(); err != nil {
		j.event.Reason = "it could not be read: " + clip(err.Error())
		j.finish(inquest.TierNone)
		return outcomeFailed, err
	}
	defer func() { _ = j.live.Close() }() // only read
	key := coredump.CaptureKey(j.live.process, j.program.funcs)
	j.event.Class, j.event.Key = key.Class, key.Hash
	j.event.Frames = key.Frames[:min(len(key.Frames), inquest.CrashFrames)]
	return j.decide(ctx, func(tier inquest.Tier) error { return j.copy(ctx, tier) })
}

// describe fills in what is known without reading memory.
func (j *death) describe() {
	e := &j.event
	e.Source = []string{j.d.Source}
	e.Exe, e.Build, e.Signal = exePath(j.d.PID), j.program.build.ID, j.d.Signal
	if e.UID = j.d.UID; e.UID < 0 {
		e.UID, _ = readIDs(j.d.PID)
	}
	j.name(e, j.program.build)
}

// name fills in what the service of a process is called.
func (c *Capturer) name(e *inquest.Crash, b *inquest.Build) {
	if c.opts.Target != nil {
		if t, ok := c.opts.Target(e.PID, e.Process); ok {
			e.Service, e.Instance, e.Release, e.Labels = t.Service, t.Instance, t.Release, t.Labels
		}
	}
	if e.Service == "" {
		e.Service = host.ServiceName(e.PID, e.Exe, b)
	}
	if e.Instance == "" {
		e.Instance = c.opts.Host
	}
}

// open makes the process readable. The kernel's stream says what the threads
// were doing and what may be dumped; without it we look ourselves.
func (j *death) open() error {
	if j.d.Stream != nil {
		n, err := coredump.ReadNotes(j.d.Stream)
		if err != nil {
			j.log.Warn("read the notes of a core", "process", j.d.PID, inquest.LogErr, err)
		} else {
			j.notes = n
		}
	}
	var err error
	if j.live, err = openLive(j.d.PID, j.program, j.notes == nil); err != nil {
		return err
	}
	if j.notes == nil {
		return j.makeNotes()
	}
	p := j.live.process
	p.Threads, p.Auxv = j.notes.Process.Threads, j.notes.Process.Auxv
	if j.event.Signal == 0 {
		j.event.Signal = j.notes.Signal
	}
	return nil
}

// makeNotes makes the notes that nobody gave us. Of registers there are the
// two that the kernel tells of threads that stand still.
func (j *death) makeNotes() error {
	auxv, err := j.live.readAuxv()
	if err != nil {
		return err
	}
	id, err := identify(j.d.PID, j.d.Signal, auxv)
	if err != nil {
		return err
	}
	tids, err := listThreads(j.d.PID)
	if err != nil {
		return err
	}
	var threads []stoppedThread
	for _, tid := range tids {
		t := stoppedThread{tid: tid, sets: []registerSet{standing(j.d.PID, tid)}}
		if tid == j.d.TID {
			threads = append([]stoppedThread{t}, threads...)
		} else {
			threads = append(threads, t)
		}
	}
	j.live.setThreads(threads, j.d.Signal)
	j.notes = &coredump.Notes{Raw: notes(id, threads, j.live.regions)}
	return nil
}

// decide finds out how much is wanted and may be taken, and has it taken.
func (j *death) decide(ctx context.Context, take func(inquest.Tier) error) (outcome string, err error) {
	e := &j.event
	now := j.now()
	wanted, _ := j.policy.known(e.Service, e.Build, e.Key, now)
	reason := j.budget.mayCore(e.Service, e.Key, now)
	if reason == "" {
		wanted = j.policy.wanted(ctx, e.Service, e.Build, e.Key, now)
	}
	e.Wanted = wanted
	if !wanted.Cores() {
		j.reject("")
		return outcomeRejected, nil
	}
	if j.d.Suid {
		reason = "it has rights that its user has not"
	}
	var turn func()
	if reason == "" {
		if turn, reason = j.turn(j.opts.Wait, ctx.Done()); reason == "" {
			defer turn()
			reason = j.budget.core(e.Service, e.Key, j.now())
		}
	}
	if reason != "" {
		j.reject(reason)
		return outcomeRejected, nil
	}
	waited := j.now().Sub(j.began)
	if wanted == inquest.TierFull && j.live != nil && waited > j.opts.Wait/2 {
		wanted, e.Reason = inquest.TierMini, fmt.Sprintf("it waited for %v while others were copied", waited.Round(time.Millisecond))
	}
	if err := take(wanted); err != nil {
		if e.Reason == "" {
			e.Reason = "it could not be copied: " + clip(err.Error())
		}
		j.finish(inquest.TierNone)
		return outcomeFailed, err
	}
	if e.Core == nil { // there was no room
		j.finish(inquest.TierNone)
		return outcomeRejected, nil
	}
	j.observe(e)
	j.d.Taken()
	return outcomeCore, nil
}

// copy takes a core of the process that is held.
func (j *death) copy(ctx context.Context, tier inquest.Tier) error {
	return j.take(ctx, &taking{
		event: &j.event, live: j.live, build: j.program.build, funcs: j.program.funcs, notes: j.notes.Raw, told: j.notes.Segments, release: j.release,
		until: j.began.Add(j.opts.Hold), late: fmt.Sprintf("not copied within %v", j.opts.Hold), facts: func() *inquest.Facts { return Facts(j.d.PID) },
	}, tier)
}

// reject tells a death of which no core is kept: by itself, or with others
// alike if there are many.
func (j *death) reject(reason string) {
	e := &j.event
	e.Reason = reason
	if j.budget.event(e.Service, e.Key, j.now()) {
		j.finish(inquest.TierNone)
		return
	}
	e.Held = j.release()
	j.fold.add(*e)
	j.metrics.folded.Inc()
	j.observe(e)
	j.d.Taken()
}

// finish tells a death without a core.
func (j *death) finish(tier inquest.Tier) {
	e := &j.event
	e.Tier = tier
	if j.d.Path == "" {
		e.Facts = Facts(j.d.PID)
	}
	e.Held = j.release()
	j.tell(*e)
	j.observe(e)
	j.d.Taken()
}

func (c *Capturer) observe(e *inquest.Crash) {
	c.metrics.held.WithLabelValues(string(e.Tier)).Observe(e.Held.Seconds())
}
