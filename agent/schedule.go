package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
)

const (
	maxBackoff   = 5 * time.Minute
	spreadFirst  = 5 * time.Second // first scrapes of new targets are spread over it
	cpuTries     = 3               // of a CPU profile that somebody else holds, within one round
	cpuRetryMost = 3 * time.Second
	rescanWait   = 300 * time.Millisecond
)

// The time of a target's rounds is its own: the phase follows from its id, so
// that targets and agents do not all fire at once, and a restart does not
// move it.
func phase(id string, interval time.Duration) time.Duration {
	return time.Duration(xxhash.Sum64String(id) % uint64(interval))
}

// slotAfter is the first time after now that lies on the target's phase.
func slotAfter(now time.Time, id string, interval time.Duration) time.Time {
	since := time.Duration(now.UnixNano())
	n := (since - phase(id, interval)) / interval
	return time.Unix(0, int64((n+1)*interval+phase(id, interval)))
}

// plan says when the next round begins, and the one after it. The first round
// of a target does not wait for its slot if there is time for one before.
func plan(now time.Time, s *spec, first bool) (at, next time.Time) {
	interval := s.schedule.Interval
	slot := slotAfter(now, s.id, interval)
	early := now.Add(phase(s.id, spreadFirst))
	if first && slot.Sub(early) > time.Duration(s.schedule.CPUSeconds)*time.Second+s.schedule.Timeout/2 {
		return early, slot
	}
	return slot, slot.Add(interval)
}

// runTarget starts the loop of a target. Callers hold a.mu.
func (a *Agent) runTarget(t *target) {
	ctx, cancel := context.WithCancel(a.scrapeCtx)
	t.stop = cancel
	a.scrapers.Go(func() {
		defer cancel()
		a.loop(ctx, t)
	})
}

// loop takes a target's profiles, one round after another, until ctx ends.
func (a *Agent) loop(ctx context.Context, t *target) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	first := true
	for ctx.Err() == nil {
		s, next := t.current(), time.Time{}
		timer.Stop()
		if s.skip == "" {
			var at time.Time
			at, next = plan(a.now(), s, first)
			timer.Reset(at.Sub(a.now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
			continue
		case <-timer.C:
			a.round(ctx, t, next)
			first = false
		}
	}
}

// round takes every kind of a target that is due, one after another; next is
// when the round after it is planned.
func (a *Agent) round(ctx context.Context, t *target, next time.Time) {
	if !t.acquire(ctx) {
		return
	}
	defer t.release()
	begin := a.now()
	if !begin.Before(next) {
		return // a command took so long that the next round is due
	}
	s := a.living(ctx, t)
	if s == nil || s.skip != "" {
		return
	}
	var down error
	for _, kind := range order(s.schedule.Kinds) {
		if ctx.Err() != nil {
			return
		}
		if !t.due(kind, a.now(), next) {
			continue
		}
		if down != nil {
			a.record(t, s, outcome{kind: kind, at: a.now(), err: down}, next)
			continue
		}
		out := a.takeScheduled(ctx, s, kind, t.failing(), begin, next)
		if ctx.Err() != nil {
			return // the agent stops, or the target is gone: nothing failed
		}
		a.record(t, s, out, next)
		if errors.Is(out.err, errUnreachable) || errors.Is(out.err, errEnded) {
			down = out.err
		}
	}
}

// order puts what takes long last, so that the others come at their time.
func order(kinds []inquest.Kind) []inquest.Kind {
	kinds = slices.Clone(kinds)
	slices.SortStableFunc(kinds, func(a, b inquest.Kind) int {
		return boolInt(a == inquest.KindCPU) - boolInt(b == inquest.KindCPU)
	})
	return kinds
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// errEnded is wrapped when the process behind a target is not there any more.
var errEnded = errors.New("the process has ended")

// living returns the target's spec if its process still lives. If it does
// not, targets are looked for anew; nil if that did not help in time.
func (a *Agent) living(ctx context.Context, t *target) *spec {
	s := t.current()
	if a.alive(s) {
		return s
	}
	a.rediscover()
	if !sleep(ctx, rescanWait) {
		return nil
	}
	if s = t.current(); a.alive(s) {
		return s
	}
	return nil
}

func (a *Agent) alive(s *spec) bool {
	return s.process == "" || s.source == sourceSelf || host.Alive(s.process)
}

// takeScheduled takes one kind in a round. A CPU profile that somebody else
// holds is tried again shortly, while there is time.
func (a *Agent) takeScheduled(ctx context.Context, s *spec, kind inquest.Kind, doubt bool, begin, next time.Time) outcome {
	seconds := time.Duration(s.schedule.CPUSeconds) * time.Second
	for try := 1; ; try++ {
		out := a.take(ctx, s, request{kind: kind, seconds: s.schedule.CPUSeconds, hold: next.Sub(begin), doubt: doubt})
		if !errors.Is(out.err, errCPUBusy) || try == cpuTries || a.now().Add(seconds+cpuRetryMost).After(next) {
			return out
		}
		a.metrics.cpuBusy.Inc()
		if !sleep(ctx, cpuRetryMost/2+rand.N(cpuRetryMost/2)) {
			return out
		}
	}
}

// due reports whether a kind is to be tried in a round: after failures some
// rounds are left out.
func (t *target) due(kind inquest.Kind, now, next time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.kind(kind)
	if now.Before(st.notBefore) {
		st.scrape.Next = later(next, st.notBefore)
		return false
	}
	return true
}

// failing reports whether something could not be taken of the target last time.
func (t *target) failing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.kinds {
		if st.fails > 0 {
			return true
		}
	}
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// record keeps what became of a scrape, for everybody to see.
func (a *Agent) record(t *target, s *spec, out outcome, next time.Time) {
	a.metrics.observe(out)
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.kind(out.kind)
	was := st.scrape.Error
	st.scrape.At, st.scrape.Duration, st.scrape.Bytes = out.at.UTC(), out.took, out.bytes
	st.scrape.Scrapes++
	st.scrape.Error = ""
	if out.err == nil {
		st.fails, st.notBefore, st.scrape.Next = 0, time.Time{}, next.UTC()
		st.build = out.build
	} else {
		st.fails++
		st.scrape.Failures++
		st.scrape.Error = out.err.Error()
		st.notBefore = next.Add(backoff(st.fails, s.schedule.Interval) - s.schedule.Interval)
		st.scrape.Next = st.notBefore.UTC()
	}
	if st.scrape.Error != was {
		a.log.Warn("scrape", inquest.LogTarget, s.id, inquest.LogService, s.service, inquest.LogKind, out.kind, inquest.LogErr, errText(out.err), "was", was)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// backoff is the pause from one try to the next after some failures in a row:
// the interval, then twice that, and so on up to five minutes.
func backoff(fails int, interval time.Duration) time.Duration {
	d := interval
	for i := 1; i < fails && d < maxBackoff; i++ {
		d *= 2
	}
	return max(interval, min(d, maxBackoff))
}

// acquire waits until nothing else is taken of the target.
func (t *target) acquire(ctx context.Context) bool {
	select {
	case t.busy <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *target) release() { <-t.busy }

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gone is the outcome of a scrape whose process ended under way.
func gone(s *spec) error { return fmt.Errorf("%w (%s)", errEnded, s.process) }
