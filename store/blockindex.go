package store

import "slices"

// blockIndex finds blocks by time without looking at all of them: by UTC day
// for those that touch few days, as almost all do. It is not safe for
// concurrent use.
type blockIndex struct {
	days map[int64]map[*block]struct{} // day since the epoch → blocks with rows in it
	long map[*block]struct{}           // blocks that touch more than longDays
}

const (
	dayNanos = int64(24 * 60 * 60 * 1e9)
	longDays = 8
)

func newBlockIndex() *blockIndex {
	return &blockIndex{days: map[int64]map[*block]struct{}{}, long: map[*block]struct{}{}}
}

// daysOf is the first and the last day a range of time touches.
func daysOf(from, to int64) (first, last int64) {
	return floorTo(from, dayNanos) / dayNanos, floorTo(to, dayNanos) / dayNanos
}

func (x *blockIndex) add(b *block) {
	first, last := daysOf(b.info.from, b.info.to)
	if last-first >= longDays {
		x.long[b] = struct{}{}
		return
	}
	for d := first; d <= last; d++ {
		if x.days[d] == nil {
			x.days[d] = map[*block]struct{}{}
		}
		x.days[d][b] = struct{}{}
	}
}

func (x *blockIndex) remove(b *block) {
	delete(x.long, b)
	first, last := daysOf(b.info.from, b.info.to)
	if last-first >= longDays {
		return
	}
	for d := first; d <= last; d++ {
		delete(x.days[d], b)
		if len(x.days[d]) == 0 {
			delete(x.days, d)
		}
	}
}

// overlapping lists the blocks with rows between two times, both inclusive, in
// the order in which they were made.
func (x *blockIndex) overlapping(from, to int64) []*block {
	var out []*block
	take := func(bs map[*block]struct{}, day int64) {
		for b := range bs {
			if b.info.from > to || b.info.to < from {
				continue
			}
			// One that touches several days is taken on the first that is looked at.
			if first, _ := daysOf(max(b.info.from, from), to); first == day {
				out = append(out, b)
			}
		}
	}
	for b := range x.long {
		if b.info.from <= to && b.info.to >= from {
			out = append(out, b)
		}
	}
	first, last := daysOf(from, to)
	if last-first < int64(len(x.days)) {
		for d := first; d <= last; d++ {
			take(x.days[d], d)
		}
	} else {
		for d, bs := range x.days {
			take(bs, d)
		}
	}
	slices.SortFunc(out, func(a, b *block) int {
		switch {
		case a.info.created < b.info.created:
			return -1
		case a.info.created > b.info.created:
			return 1
		}
		return 0
	})
	return out
}
