package ingest

import (
	"math"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

const (
	clockTolerance = 5 * time.Second  // clocks that differ by less are taken as equal
	maxAhead       = 10 * time.Minute // how far in the future a profile may be
	maxHold        = 5 * time.Minute
)

// span is when a profile was taken, by the collector's clock.
type span struct {
	start, end time.Time
	shift      time.Duration // added to what the sender said
}

// times finds when a profile was taken: as the parameters say, else as the
// body says, else now. A sender whose clock is known to be off is corrected.
// ErrInvalid if that makes no sense or lies outside what is accepted.
func (in *Ingest) times(p *Push, kind inquest.Kind, prof *profile.Profile) (span, error) {
	now, kept := in.o.Now().UTC(), in.retention(p.Service, kind)
	s := stated(p, prof)
	if s.start.IsZero() {
		s.end = now
		s.start = now.Add(-duration(prof))
	} else if !p.SentAt.IsZero() {
		if offset := now.Sub(p.SentAt).Round(time.Millisecond); offset.Abs() > clockTolerance {
			s.shift = offset
			s.start, s.end = s.start.Add(offset), s.end.Add(offset)
		}
	}
	s.start, s.end = s.start.UTC(), s.end.UTC()
	const layout = time.RFC3339Nano
	switch {
	case s.end.Before(s.start):
		return s, inquest.Errorf(inquest.ErrInvalid, "the profile ends (%s) before it starts (%s)", s.end.Format(layout), s.start.Format(layout))
	case s.start.Before(now.Add(-kept)):
		return s, inquest.Errorf(inquest.ErrInvalid, "the profile is too old: it starts at %s, it is %s now, and profiles are kept for %v",
			s.start.Format(layout), now.Format(layout), kept)
	case in.o.Store.Hides(p.Service, kind, s.start):
		return s, inquest.Errorf(inquest.ErrInvalid, "the profile is too old: it starts at %s, and what began then was deleted, for its age or for want of space",
			s.start.Format(layout))
	case s.end.After(now.Add(maxAhead)):
		return s, inquest.Errorf(inquest.ErrInvalid, "the profile is of the future: it is of %s to %s, it is %s now, and clocks may be ahead by %v at most (a header %s corrects that)",
			s.start.Format(layout), s.end.Format(layout), now.Format(layout), maxAhead, inquest.HeaderSentAt)
	}
	return s, nil
}

// retention is how old a profile may be: what the store would delete at once is
// refused.
func (in *Ingest) retention(service string, kind inquest.Kind) time.Duration {
	if age := in.o.Store.RawAge(service, kind); age != store.Forever {
		return age
	}
	return in.o.Retention
}

// stated is what parameters and body say, by the sender's clock; start is zero
// if they say nothing.
func stated(p *Push, prof *profile.Profile) span {
	d := duration(prof)
	switch {
	case !p.Start.IsZero() && !p.End.IsZero():
		return span{start: p.Start, end: p.End}
	case !p.Start.IsZero():
		return span{start: p.Start, end: p.Start.Add(d)}
	case !p.End.IsZero():
		return span{start: p.End.Add(-d), end: p.End}
	case prof.TimeNanos > 0:
		start := time.Unix(0, prof.TimeNanos)
		return span{start: start, end: start.Add(d)}
	}
	return span{}
}

// duration is how long the body says it observed.
func duration(prof *profile.Profile) time.Duration {
	return time.Duration(min(max(prof.DurationNanos, 0), math.MaxInt64/4))
}

// hold is how long a profile stands for when the sender plans the next one
// after so long: not more than maxHold, not less than it observed; 0 if the
// sender does not say.
func hold(planned time.Duration, m *inquest.ProfileMeta) time.Duration {
	if planned <= 0 {
		return 0
	}
	return max(min(planned, maxHold), m.End.Sub(m.Start))
}

// instantsOnly says whether no value of a profile is a delta.
func instantsOnly(kind inquest.Kind, prof *profile.Profile) bool {
	for _, t := range profile.Types(kind, prof) {
		if t.Temporality == inquest.Delta {
			return false
		}
	}
	return true
}
