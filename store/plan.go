package store

import (
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// Span is a half-open range of time [From, Until) in unix ns.
type Span struct{ From, Until int64 }

// Contains says whether t lies in the span.
func (s Span) Contains(t int64) bool { return t >= s.From && t < s.Until }

func (s Span) empty() bool { return s.From >= s.Until }

// plan says what of a window is read at which resolution: spans that do not
// overlap and together are the window. Those of Raw are what only profiles can
// answer, where rollups have the rest.
type plan struct {
	whole Span // the window; wider than asked for where only rollups are left
	spans [Day + 1][]Span
	hide  *hiding // what does not count although it is there
}

// horizon is, by resolution, from when on there are rows that start then.
type horizon [Day + 1]int64

// finest is the finest resolution that has what starts at t, Day if none has.
func (h *horizon) finest(t int64) Resolution {
	for r := Raw; r < Day; r++ {
		if t >= h[r] {
			return r
		}
	}
	return Day
}

// planWindow divides a window. Where the horizon leaves only rollups, its ends
// move outwards to whole steps. step, if not 0, is a length at whose multiples
// the answer is cut: coarser steps cannot be used; nor can any coarser than
// coarsest.
func planWindow(w Span, step time.Duration, coarsest Resolution, h *horizon) *plan {
	p := &plan{whole: w}
	if from := h.finest(w.From); from != Raw {
		p.whole.From = floorTo(w.From, int64(from.Duration()))
	}
	if until := h.finest(w.Until - 1); until != Raw {
		p.whole.Until = ceilTo(w.Until, int64(until.Duration()))
	}
	rest := []Span{p.whole}
	for r := coarsest; r > Raw; r-- {
		length := int64(r.Duration())
		if step != 0 && int64(step)%length != 0 {
			continue
		}
		var left []Span
		for _, s := range rest {
			in := Span{ceilTo(max(s.From, h[r]), length), floorTo(s.Until, length)}
			if in.empty() {
				left = append(left, s)
				continue
			}
			p.spans[r] = append(p.spans[r], in)
			if out := (Span{s.From, in.From}); !out.empty() {
				left = append(left, out)
			}
			if out := (Span{in.Until, s.Until}); !out.empty() {
				left = append(left, out)
			}
		}
		rest = left
	}
	p.spans[Raw] = rest
	return p
}

// window is the plan's in place of the one asked for, which may be unbounded.
func (p *plan) window(asked inquest.Window) inquest.Window {
	if !asked.From.IsZero() {
		asked.From = unixTime(p.whole.From)
	}
	if !asked.Until.IsZero() {
		asked.Until = unixTime(p.whole.Until)
	}
	return asked
}

// plan divides the window of a selection; s.mu is held.
func (s *Store) plan(sel *Selection) (p *plan) {
	from, until := windowNanos(sel.Window)
	w := Span{from, until}
	switch {
	case sel.Digests:
		length := int64(FiveMinutes.Duration())
		p = rawOnly(Span{floorTo(from, length), ceilTo(until, length)})
	case !sel.Rollups:
		p = rawOnly(w)
	default:
		coarsest := Day
		if sel.PerProcess {
			coarsest = FiveMinutes
		}
		p = planWindow(w, sel.Step, coarsest, s.horizon(&sel.Services))
	}
	p.hide = s.hiding(sel.Rollups)
	sel.Fleet = sel.Fleet && p.hide.mayShare(p.whole) && s.mayShareCut(p.whole)
	return p
}

// RollupKeeps says whether the rows of rollups keep a label of profiles.
func (s *Store) RollupKeeps(label string) bool {
	switch label {
	case inquest.LabelService, inquest.LabelRelease, inquest.LabelBuild:
		return true
	}
	return slices.Contains(s.o.RollupLabels, label)
}

// KnownFrom is since when there are rows of a resolution of all of the
// services: zero if none were ever dropped.
func (s *Store) KnownFrom(services Services, r Resolution) time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if from := s.horizon(&services)[r]; from != minTime {
		return unixTime(from)
	}
	return time.Time{}
}

// Finest is the finest resolution that has all of the services at time t.
func (s *Store) Finest(services Services, t time.Time) Resolution {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.horizon(&services).finest(boundNanos(t, minTime))
}

// rawOnly is the plan of a window that profiles alone answer.
func rawOnly(w Span) *plan {
	p := &plan{whole: w}
	p.spans[Raw] = []Span{w}
	return p
}

// touch says whether rows that start from first to last may lie in the spans.
func touch(spans []Span, first, last int64) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return first < s.Until && last >= s.From })
}

func within(spans []Span, t int64) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return s.Contains(t) })
}

// floorTo is the largest multiple of length that is not above t.
func floorTo(t, length int64) int64 {
	r := t % length
	if r < 0 {
		r += length
	}
	if t-r > t { // below the smallest number there is
		return minTime
	}
	return t - r
}

// ceilTo is the smallest multiple of length that is not below t.
func ceilTo(t, length int64) int64 {
	f := floorTo(t, length)
	if f == t || f > maxTime-length {
		return f
	}
	return f + length
}
