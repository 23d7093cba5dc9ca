package capture

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// ELF machines (elf.h) by Go's names.
var machines = map[string]uint16{"amd64": 62, "arm64": 183}

// plan is what is copied of a process, in which order.
type plan struct {
	header coredump.Header
	mini   uint64 // bytes
	total  uint64
	left   uint64 // bytes of memory that the tier leaves out
}

// smallData is how much of the variables of a program or library a minicore
// keeps even if the process has not written to them: what is in the file then
// may not be at hand.
const smallData = 4 << 20

// newPlan orders what is there of a process: the minicore, in the order of
// mini, and then, of a full core, everything else. present and the mappings in
// regions are by address, mini is disjoint.
func newPlan(regions []region, present, mini []coredump.Extent, tier inquest.Tier) *plan {
	p := &plan{}
	byRegion := split(regions, present)
	chosen := split(regions, sorted(slices.Clone(mini)))
	var kept, others []coredump.Extent // by address
	for i := range regions {
		s, want, out := divide(&regions[i], byRegion[i], chosen[i], tier)
		p.header.Segments = append(p.header.Segments, s)
		kept = append(kept, want...)
		if tier == inquest.TierFull {
			others = append(others, out...)
		} else {
			p.left += sum(out)
		}
	}
	p.header.Extents = inOrder(kept, mini)
	p.mini = sum(p.header.Extents)
	if len(p.header.Extents) > 0 {
		p.header.Mini = len(p.header.Extents)
	}
	if tier == inquest.TierFull {
		p.header.Extents = append(p.header.Extents, others...)
	}
	p.total = sum(p.header.Extents)
	return p
}

// divide says what of a region a minicore has, and what else is there of it.
func divide(r *region, here, want []coredump.Extent, tier inquest.Tier) (s coredump.Segment, mini, others []coredump.Extent) {
	s = coredump.Segment{Extent: r.Extent, Flags: r.Flags}
	if len(here) == 0 { // nothing of it was ever written, or may be kept
		if r.Inode != 0 || r.Flags == 0 || r.NoDump || r.IO {
			s.Fill = coredump.FillMissing
		}
		return s, nil, nil
	}
	if r.file() && r.Flags&flagW != 0 && len(want) > 0 && sum(here) <= smallData {
		want = here
	}
	others = subtract(here, want)
	switch {
	case len(others) == 0:
		want = here // all there is: what is not there is zero
	case r.file() || tier == inquest.TierFull:
		want = intersect(want, here)
	}
	if len(others) > 0 && tier != inquest.TierFull || r.file() && sum(here) < r.Size {
		s.Fill = coredump.FillMissing
	}
	return s, want, others
}

// inOrder returns what is kept in the order of a list that has most of it; the
// rest follows. kept is by address.
func inOrder(kept, list []coredump.Extent) []coredump.Extent {
	out := make([]coredump.Extent, 0, len(kept))
	for _, e := range list {
		i, _ := slices.BinarySearchFunc(kept, e.Addr, func(k coredump.Extent, addr uint64) int {
			if k.End() <= addr {
				return -1
			}
			return 1
		})
		for ; i < len(kept) && kept[i].Addr < e.End(); i++ {
			from, to := max(e.Addr, kept[i].Addr), min(e.End(), kept[i].End())
			out = append(out, coredump.Extent{Addr: from, Size: to - from})
		}
	}
	return append(out, subtract(kept, sorted(slices.Clone(list)))...)
}

// file says whether what is not in memory of a region is in a file.
func (r *region) file() bool { return r.Inode != 0 && !r.deleted }

// split divides extents that are sorted by address among regions.
func split(regions []region, extents []coredump.Extent) [][]coredump.Extent {
	out := make([][]coredump.Extent, len(regions))
	at := 0
	for i := range regions {
		for at < len(extents) && extents[at].Addr < regions[i].End() {
			e := extents[at]
			from, to := max(e.Addr, regions[i].Addr), min(e.End(), regions[i].End())
			if from < to {
				out[i] = append(out[i], coredump.Extent{Addr: from, Size: to - from})
			}
			if e.End() > regions[i].End() {
				break
			}
			at++
		}
	}
	return out
}

// subtract is what of a is not in b; both are sorted and each is disjoint.
func subtract(a, b []coredump.Extent) []coredump.Extent {
	var out []coredump.Extent
	for _, e := range a {
		for len(b) > 0 && b[0].End() <= e.Addr {
			b = b[1:]
		}
		from := e.Addr
		for _, x := range b {
			if x.Addr >= e.End() {
				break
			}
			if x.Addr > from {
				out = append(out, coredump.Extent{Addr: from, Size: x.Addr - from})
			}
			from = x.End()
		}
		if from < e.End() {
			out = append(out, coredump.Extent{Addr: from, Size: e.End() - from})
		}
	}
	return out
}

// intersect is what is in both; each is sorted and disjoint.
func intersect(a, b []coredump.Extent) []coredump.Extent {
	var out []coredump.Extent
	for _, e := range a {
		for len(b) > 0 && b[0].End() <= e.Addr {
			b = b[1:]
		}
		for _, x := range b {
			if x.Addr >= e.End() {
				break
			}
			from, to := max(e.Addr, x.Addr), min(e.End(), x.End())
			out = append(out, coredump.Extent{Addr: from, Size: to - from})
		}
	}
	return out
}

func sum(list []coredump.Extent) (n uint64) {
	for _, e := range list {
		n += e.Size
	}
	return n
}

// sorted orders extents by address and joins those that touch or overlap.
func sorted(list []coredump.Extent) []coredump.Extent {
	slices.SortFunc(list, func(a, b coredump.Extent) int { return cmp.Compare(a.Addr, b.Addr) })
	out := list[:0]
	for _, e := range list {
		if n := len(out); n > 0 && e.Addr <= out[n-1].End() {
			out[n-1].Size = max(out[n-1].End(), e.End()) - out[n-1].Addr
			continue
		}
		out = append(out, e)
	}
	return out
}

// missing says for people what of memory is not in a core.
func (p *plan) missing() []string {
	if p.left == 0 {
		return nil
	}
	return []string{fmt.Sprintf("heap that no goroutine's stack leads to within a few steps: %s", size(p.left))}
}

// size spells a number of bytes.
func size(n uint64) string {
	for _, u := range []struct {
		bytes uint64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
