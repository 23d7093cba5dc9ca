package store

import (
	"slices"

	"github.com/goinquest/inquest"
)

// reach says from when on there are rows: what the policy in force keeps, less
// what went under earlier ones, or for want of space. It never changes; the
// catalog has a copy, so that what was hidden or dropped is not taken for
// complete under a policy that keeps more.
type reach struct {
	Policy Retention
	Past   []pastPolicy // the last one is Policy's own past
	Floor  horizon      // by resolution, of all services: what went for want of space
}

// pastPolicy is a policy that was in force until At. Newest is the last start
// there was then: a clock that was wrong hides nothing that came later.
type pastPolicy struct {
	Policy     Retention
	At, Newest int64 // unix ns
}

// maxPast bounds what is remembered of earlier policies.
const maxPast = 32

var noHorizon = horizon{minTime, minTime, minTime, minTime}

func newReach() *reach { return &reach{Floor: noHorizon} }

// of is from when on rows of a service are kept, profiles being of a kind; ""
// is any. Where a resolution ends the next one takes over: that happens at
// one of its steps.
func (r *reach) of(now int64, service string, kind inquest.Kind) horizon {
	h := r.before(service, kind)
	for i, from := range agedHorizon(&r.Policy, now, service, kind) {
		h[i] = max(h[i], from)
	}
	h.align()
	return h
}

// before is of without what the policy in force has hidden since it was last
// noted.
func (r *reach) before(service string, kind inquest.Kind) horizon {
	h := r.Floor
	for i := range r.Past {
		p := &r.Past[i]
		for j, from := range agedHorizon(&p.Policy, p.At, service, kind) {
			if p.Newest < maxTime {
				from = min(from, ceilTo(p.Newest+1, int64(Day.Duration())))
			}
			h[j] = max(h[j], from)
		}
	}
	h.align()
	return h
}

// agedHorizon is what a policy keeps at a time: a little more than it has to,
// as a resolution ends at a step of the next.
func agedHorizon(p *Retention, now int64, service string, kind inquest.Kind) horizon {
	h := noHorizon
	for i, age := range p.ages(service, kind) {
		if age == Forever || now < minTime+int64(age) {
			continue
		}
		h[i] = now - int64(age) - int64(Resolution(i).Duration()) + 1
	}
	for i := range h {
		if length := h.next(Resolution(i)); length > 0 && h[i] != minTime {
			h[i] = floorTo(h[i], length)
		}
	}
	return h
}

// next is the step of the resolution that takes over where r ends, 0 if none
// does.
func (h *horizon) next(r Resolution) int64 {
	for c := r + 1; c <= Day; c++ {
		if h[c] < h[r] {
			return int64(c.Duration())
		}
	}
	return int64(r.Duration())
}

// align moves the ends of resolutions forward to steps of those that take
// over.
func (h *horizon) align() {
	for i := range h {
		if length := h.next(Resolution(i)); length > 0 && h[i] != minTime {
			h[i] = ceilTo(h[i], length)
		}
	}
}

// needed is h without what no coarser resolution makes up for: that is gone
// and no reason to read the others coarsely.
func (h horizon) needed() horizon {
	for r := Raw; r <= Day; r++ {
		coarser := maxTime
		for c := r + 1; c <= Day; c++ {
			coarser = min(coarser, h[c])
		}
		if h[r] <= coarser {
			h[r] = minTime
		}
	}
	return h
}

func (h horizon) earliest() int64 { return slices.Min(h[:]) }

// classes are names that stand for all services the policies tell apart: ""
// for those without exception, else a name or a pattern, which takes itself.
func (r *reach) classes() []string {
	out := []string{""}
	add := func(p *Retention) {
		for i := range p.Services {
			if !slices.Contains(out, p.Services[i].Match) {
				out = append(out, p.Services[i].Match)
			}
		}
	}
	add(&r.Policy)
	for i := range r.Past {
		add(&r.Past[i].Policy)
	}
	return out
}

// kinds are the kinds the policies tell apart, and "" for the others.
func (r *reach) kinds() []inquest.Kind {
	out := []inquest.Kind{""}
	add := func(p *Retention) {
		for kind := range p.Kinds {
			if !slices.Contains(out, kind) {
				out = append(out, kind)
			}
		}
	}
	add(&r.Policy)
	for i := range r.Past {
		add(&r.Past[i].Policy)
	}
	return out
}

// bounds are the earliest and latest horizons of any service and kind.
func (r *reach) bounds(now int64) (first, last horizon) {
	first, last = horizon{maxTime, maxTime, maxTime, maxTime}, noHorizon
	for _, class := range r.classes() {
		for _, kind := range r.kinds() {
			for i, from := range r.of(now, class, kind) {
				first[i], last[i] = min(first[i], from), max(last[i], from)
			}
		}
	}
	return first, last
}

// horizon is from when on there are rows of all of the services, by
// resolution; s.mu is held. What the policy would drop counts from the moment
// there is something to drop.
func (s *Store) horizon(sv *Services) *horizon {
	r, now := s.reach.Load(), s.o.Now().UnixNano()
	oldest := maxTime
	for _, b := range s.blocks {
		oldest = min(oldest, b.info.from)
	}
	names := sv.Names
	if names == nil {
		names = slices.DeleteFunc(r.classes(), func(class string) bool {
			return class != "" && sv.Match != nil && !isPattern(class) && !sv.Match(class)
		})
	}
	h := noHorizon
	for _, name := range names {
		of, before := r.of(now, name, ""), r.before(name, "")
		for i := range of {
			if of[i] <= oldest {
				of[i] = before[i]
			}
		}
		for i, from := range of.needed() {
			h[i] = max(h[i], from)
		}
	}
	h.align()
	return &h
}

func (s *Store) horizonSeconds(r Resolution) float64 {
	from := s.reach.Load().of(s.o.Now().UnixNano(), "", "")[r]
	if from == minTime {
		return 0
	}
	return float64(from) / 1e9
}

// hiding says which rows a view leaves out although they are still stored.
type hiding struct {
	reach   *reach
	now     int64
	rollups bool // the view has rows of rollups
	known   map[hidingKey]horizon
}

type hidingKey struct {
	service string
	kind    inquest.Kind
}

func (s *Store) hiding(rollups bool) *hiding {
	return &hiding{s.reach.Load(), s.o.Now().UnixNano(), rollups, map[hidingKey]horizon{}}
}

// since is from when on rows count. Profiles that are in no rollup yet count
// as long as a rollup would.
func (x *hiding) since(service string, kind inquest.Kind, r Resolution, waiting bool) int64 {
	key := hidingKey{service, kind}
	h, ok := x.known[key]
	if !ok {
		h = x.reach.of(x.now, service, kind)
		x.known[key] = h
	}
	if r == Raw && waiting && x.rollups {
		return h.earliest()
	}
	return h[r]
}

// mayShare says whether rows of several services together have what counts of
// each in the window: not where some are kept longer than others.
func (x *hiding) mayShare(w Span) bool {
	first, last := x.reach.bounds(x.now)
	for r := fleetFrom; r <= Day; r++ {
		if first[r] != last[r] && w.From < last[r] {
			return false
		}
	}
	return true
}

// after cuts off what of the spans is before from. The spans given stay as
// they are.
func after(spans []Span, from int64) []Span {
	if !slices.ContainsFunc(spans, func(s Span) bool { return s.From < from }) {
		return spans
	}
	var out []Span
	for _, s := range spans {
		if s.From = max(s.From, from); !s.empty() {
			out = append(out, s)
		}
	}
	return out
}

func isPattern(match string) bool {
	return slices.ContainsFunc([]byte(match), func(c byte) bool { return c == '*' || c == '?' })
}
