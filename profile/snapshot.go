package profile

import (
	"math"
	"math/bits"

	"github.com/goinquest/inquest"
)

// Outcome of Snapshot.Delta.
type Outcome uint8

// The outcomes.
const (
	Baseline   Outcome = iota // first snapshot: nothing to subtract from; delta columns are zero, instants kept
	Difference                // delta columns hold the amounts since the last snapshot
	Reset                     // a counter fell or its columns changed: as Baseline
)

// String returns "baseline", "difference" or "reset".
func (o Outcome) String() string {
	switch o {
	case Difference:
		return "difference"
	case Reset:
		return "reset"
	}
	return "baseline"
}

// Snapshot is the cumulative state of one process and kind: per stack and
// labels, of which it keeps a keyed 64-bit hash, the value of every delta
// column. It takes 16 + 8 × columns bytes per stack. The zero value has seen
// nothing yet. It is not safe for concurrent use.
type Snapshot struct {
	key     hashKey
	columns uint64 // hash of the names and units of the delta columns
	cols    int    // number of delta columns
	stacks  []uint64
	values  []int64  // stack i: values[i*cols:][:cols]
	slots   []uint32 // open addressing over stacks: index+1, 0 = free
	taken   bool     // a snapshot was taken
}

// Delta rewrites p in place: delta columns become what was added since the
// last snapshot, instants stay, samples of equal stack and labels are added
// up, samples whose values are all zero are dropped. p's cumulative values
// become the snapshot.
//
// A fall of a count column, a stack with a count that is gone, or other
// columns than last time mean that the process started anew: Reset, and p is
// the new baseline. A byte or time column that falls alone does so by
// rounding: its delta is 0, and the snapshot keeps the higher value, so that
// nothing is counted twice when it comes back.
//
// Bodies must come in the order of their time and before Truncate. Of one
// older than the last only the instants count: give it to a new Snapshot,
// whose baseline leaves them alone.
func (s *Snapshot) Delta(kind inquest.Kind, p *Profile) Outcome {
	if s.key == (hashKey{}) {
		s.key = newHashKey()
	}
	delta := deltaColumns(kind, p)
	next := Snapshot{key: s.key, taken: true, cols: len(delta.columns)}
	c := newContents(p, &next.key)
	next.columns = columnsHash(c, delta.columns)
	samples := next.take(c, delta.columns)

	outcome, last := Difference, s
	switch {
	case !s.taken:
		outcome, last = Baseline, nil
	case s.columns != next.columns || s.cols != next.cols || s.fell(&next, delta.counts):
		outcome, last = Reset, nil
	}
	next.rewrite(last, p, delta.columns, samples)
	*s = next
	return outcome
}

// deltas says which columns of a profile are deltas, and which of those, by
// position among them, count events: only these tell a reset.
type deltas struct {
	columns []int
	counts  []bool
}

func deltaColumns(kind inquest.Kind, p *Profile) deltas {
	var d deltas
	counts := false
	for i, t := range Types(kind, p) {
		if t.Temporality == inquest.Delta {
			d.columns = append(d.columns, i)
			d.counts = append(d.counts, t.Unit == "count")
			counts = counts || t.Unit == "count"
		}
	}
	if !counts {
		// Nothing exact to go by: any fall is a reset.
		for i := range d.counts {
			d.counts[i] = true
		}
	}
	return d
}

func columnsHash(c *contents, columns []int) uint64 {
	h := uint64(len(columns))
	for _, col := range columns {
		vt := c.p.SampleTypes[col]
		h = c.key.word(h, c.strings[vt.Type])
		h = c.key.word(h, c.strings[vt.Unit])
	}
	return h
}

// take makes s the cumulative state of c.p. Samples of one stack are added up
// into the first of them, all of whose columns then hold the sums; the others
// become zero. It returns the sample of each stack.
func (s *Snapshot) take(c *contents, columns []int) (samples []uint32) {
	p := c.p
	n := p.NumSamples()
	s.stacks = make([]uint64, 0, n)
	s.makeSlots(n)
	samples = make([]uint32, 0, n)
	for i := range n {
		h := c.sample(i)
		slot, found := s.find(h)
		if !found {
			s.stacks = append(s.stacks, h)
			s.slots[slot] = uint32(len(s.stacks))
			samples = append(samples, uint32(i))
			continue
		}
		into, from := p.SampleValues(int(samples[s.slots[slot]-1])), p.SampleValues(i)
		for col, v := range from {
			into[col] += v
			from[col] = 0
		}
	}
	s.values = make([]int64, 0, len(samples)*s.cols)
	for _, i := range samples {
		values := p.SampleValues(int(i))
		for _, col := range columns {
			s.values = append(s.values, values[col])
		}
	}
	return samples
}

func (s *Snapshot) makeSlots(n int) {
	s.slots = make([]uint32, 1<<bits.Len(uint(2*n)))
}

// find returns the slot of a stack, or the free one where it belongs.
func (s *Snapshot) find(h uint64) (slot int, found bool) {
	mask := len(s.slots) - 1
	i := int(h) & mask
	for s.slots[i] != 0 && s.stacks[s.slots[i]-1] != h {
		i = (i + 1) & mask
	}
	return i, s.slots[i] != 0
}

// of returns the values of a stack, nil if s does not have it.
func (s *Snapshot) of(h uint64) []int64 {
	slot, found := s.find(h)
	if !found {
		return nil
	}
	i := int(s.slots[slot]-1) * s.cols
	return s.values[i : i+s.cols]
}

// fell reports whether a counter of next is below that of s.
func (s *Snapshot) fell(next *Snapshot, counts []bool) bool {
	for i, h := range s.stacks {
		now := next.of(h)
		for c, was := range s.values[i*s.cols:][:s.cols] {
			if counts[c] && (now == nil && was > 0 || now != nil && now[c] < was) {
				return true
			}
		}
	}
	return false
}

// rewrite turns p, of which s was taken as the given samples, into what was
// added since last, into zeros if last is nil, and drops what is zero.
func (s *Snapshot) rewrite(last *Snapshot, p *Profile, columns []int, samples []uint32) {
	keep := 0
	stacks, labels := uint32(0), uint32(0)
	for stack, sample := range samples {
		i := int(sample)
		values := p.SampleValues(i)
		now := s.values[stack*s.cols:][:s.cols]
		var was []int64
		if last != nil {
			was = last.of(s.stacks[stack])
		}
		for c, col := range columns {
			values[col] = 0
			if last != nil {
				values[col], now[c] = increase(was, c, now[c])
			}
		}
		if allZero(values) {
			continue
		}
		p.moveSample(i, keep, &stacks, &labels)
		keep++
	}
	p.shrink(keep, stacks, labels)
}

// increase returns what column c gained over was (nil: 0) and the value to
// go on from.
func increase(was []int64, c int, now int64) (gain, base int64) {
	if was == nil {
		return now, now
	}
	if now <= was[c] {
		return 0, was[c]
	}
	if gain = now - was[c]; gain < 0 { // overflow
		gain = math.MaxInt64
	}
	return gain, now
}

func allZero(values []int64) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}
