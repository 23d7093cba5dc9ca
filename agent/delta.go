package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/spool"
	"github.com/goinquest/inquest/profile"
	"github.com/klauspost/compress/zstd"
)

const (
	maxBaselineBytes = 256 << 20 // of a state as it is in memory
	baselineLife     = 24 * time.Hour
)

// cumulative is the state a delta is made from: one per target, process and
// kind.
type cumulative struct {
	mu     sync.Mutex
	loaded bool // snap and taken are those of the spool
	seen   bool // there is a snapshot
	snap   profile.Snapshot
	taken  time.Time
}

// putDelta makes a cumulative profile the difference to the one before it and
// spools it together with the state for the next. After an error the state is
// as before, so that the next difference covers this one.
func (a *Agent) putDelta(s *spec, r request, c *codec, p *profile.Profile, end time.Time, out *outcome) error {
	key := baselineKey(s, r.kind)
	cum := a.cumulative(key)
	cum.mu.Lock()
	defer cum.mu.Unlock()
	if !cum.loaded {
		if err := cum.load(a.spool, key); err != nil {
			a.log.Warn("baseline", inquest.LogTarget, s.id, inquest.LogKind, r.kind, inquest.LogErr, err)
		}
	}
	last := cum.taken
	how := cum.snap.Delta(r.kind, p)
	h := &out.head
	if how == profile.Difference && cum.seen {
		// It stands for the time since the last one, no more and no less.
		h.Start = since(last, end).UTC()
		h.Hold = h.End.Sub(h.Start)
		p.TimeNanos, p.DurationNanos = h.Start.UnixNano(), int64(h.Hold)
	} else {
		h.Hold = 0 // the next one begins where it lies: derived when read
		p.TimeNanos, p.DurationNanos = end.UnixNano(), 0
	}
	cum.loaded = false // until it is on disk
	base := spool.Baseline{Key: key, Taken: end, Data: c.zstd.EncodeAll(cum.snap.AppendBinary(nil), nil)}
	item, err := a.spool.Put(*h, c.encode(p), &base, r.claim)
	if err != nil {
		return err
	}
	out.item = item
	cum.loaded, cum.seen, cum.taken = true, true, end
	return nil
}

// since is when a difference begins whose last profile was taken at last:
// then, unless the clock was set meanwhile.
func since(last, end time.Time) time.Time {
	begin := last.Round(0) // as the clock on the wall said
	passed := end.Sub(last)
	if off := end.Round(0).Sub(begin) - passed; passed > 0 && off.Abs() < time.Second {
		return begin
	}
	return end.Round(0).Add(-max(passed, time.Millisecond))
}

// baselineKey names the state of a target's kind.
func baselineKey(s *spec, kind inquest.Kind) string {
	return s.id + "|" + s.process + "|" + string(kind)
}

// load reads the state that the spool has; none is no error.
func (cum *cumulative) load(sp *spool.Spool, key string) error {
	cum.snap, cum.taken, cum.seen = profile.Snapshot{}, time.Time{}, false
	b, ok := sp.Baseline(key)
	if !ok {
		return nil
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBaselineBytes))
	if err != nil {
		return err
	}
	defer dec.Close()
	data, err := dec.DecodeAll(b.Data, nil)
	if err == nil {
		err = cum.snap.UnmarshalBinary(data)
	}
	if err != nil {
		cum.snap = profile.Snapshot{}
		return fmt.Errorf("read baseline: %w", err)
	}
	cum.taken, cum.seen = b.Taken, true
	return nil
}

// cumulative returns the state of a key, which it keeps.
func (a *Agent) cumulative(key string) *cumulative {
	a.cumMu.Lock()
	defer a.cumMu.Unlock()
	c := a.cums[key]
	if c == nil {
		c = &cumulative{}
		a.cums[key] = c
	}
	return c
}

// forgetBaselines lets go of the states of targets that are gone: at once
// from memory, after a day from disk, in case they come back.
func (a *Agent) forgetBaselines() {
	keep := map[string]bool{}
	for _, t := range a.list() {
		s := t.current()
		for kind := range endpoints {
			keep[baselineKey(s, kind)] = true
		}
	}
	a.cumMu.Lock()
	for key := range a.cums {
		if !keep[key] {
			delete(a.cums, key)
		}
	}
	a.cumMu.Unlock()
	a.spool.Forget(time.Now().Add(-baselineLife), keep)
}
