package store

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// How long a profile stands for: its hold.
//
//   - a stated hold as it is, at most maxHold;
//   - else the time to the next Start of the same process and kind among those
//     that are looked at together, at most maxHold; the last takes its
//     predecessor's, and one that is alone its own observed time, or loneHold if
//     that is zero;
//   - never less than it observed (End−Start).
//
// One exception keeps time from being counted twice: a snapshot of a cumulative
// kind that was not subtracted observed nothing, and where a difference covers
// the moment it was taken, that difference stands for the time. So it is with
// the first snapshot, where the next begins, and with one that came late. The
// snapshot's hold is then zero.
//
// Queries look at what they select together, rollups at what is rolled up
// together: where no hold is stated, the profiles at the seams between two
// batches of rollups may get others than a query over both would give them.
const (
	maxHold  = int64(5 * time.Minute)
	loneHold = int64(time.Minute)
)

// StatedHold is the hold in ns of a profile that observed so many ns, as far
// as it depends on nothing else. clear says that it does not: else Holds
// decides, with the others of its process. baseline says that the profile is
// of a kind that has amounts over time and observed no time.
func StatedHold(stated, observed int64, baseline bool) (hold int64, clear bool) {
	return max(min(stated, maxHold), observed), stated > 0 && !baseline
}

// Held is a profile whose hold depends on the others of its process and kind.
type Held struct {
	Process    uint32 // any number that processes are told apart by
	Kind       inquest.Kind
	Start, End int64 // unix ns
	Stated     int64 // ns, 0 or less: unknown
	Baseline   bool  // of a kind that has amounts over time, and Start == End
}

// Holds decides the holds, in ns, of profiles among which are all there are of
// their processes.
func Holds(ps []Held) []int64 {
	holds := make([]int64, len(ps))
	order := make([]int32, len(ps))
	for i := range ps {
		order[i] = int32(i)
	}
	same := func(a, b *Held) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.Kind, b.Kind))
	}
	slices.SortFunc(order, func(i, j int32) int {
		a, b := &ps[i], &ps[j]
		return cmp.Or(same(a, b), cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
	})
	for len(order) > 0 {
		n := 1
		for n < len(order) && same(&ps[order[0]], &ps[order[n]]) == 0 {
			n++
		}
		holdsOfOne(ps, order[:n], holds)
		order = order[n:]
	}
	return holds
}

// holdsOfOne decides the holds of one process and kind, given in the order of
// time.
func holdsOfOne(ps []Held, order []int32, holds []int64) {
	covered := int64(math.MinInt64) // the latest end so far
	for k, i := range order {
		p := &ps[i]
		last, observed := k == len(order)-1, p.End-p.Start
		var gap int64
		switch {
		case !last:
			gap = min(ps[order[k+1]].Start-p.Start, maxHold)
		case k > 0:
			gap = holds[order[k-1]]
		}
		if last && gap == 0 && observed == 0 {
			gap = loneHold
		}
		holds[i], _ = StatedHold(p.Stated, observed, p.Baseline)
		if p.Stated <= 0 {
			holds[i] = max(gap, observed)
		}
		if p.Baseline && (p.Start < covered || !last && ps[order[k+1]].Start == p.Start && ps[order[k+1]].End > p.Start) {
			holds[i] = 0
		}
		covered = max(covered, p.End)
	}
}
