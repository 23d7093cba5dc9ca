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

// newPlan orders what is there of a process: first the stack of the thread
// that died, then the rest of the minicore, then, of a full core, everything
// else. present and mini are by address; regions are the mappings.
func newPlan(regions []region, present, mini []coredump.Extent, first coredump.Extent, tier inquest.Tier) *plan {
	p := &plan{}
	byRegion := split(regions, present)
	chosen := split(regions, mini)
	var head, rest, others []coredump.Extent
	for i := range regions {
		r := &regions[i]
		here, want := byRegion[i], chosen[i]
		s := coredump.Segment{Extent: r.Extent, Flags: r.Flags}
		out := subtract(here, want)
		if len(here) == 0 {
			want = nil // nothing of it was ever written, or may be kept
			if r.Inode != 0 || r.Flags == 0 || r.NoDump || r.IO {
				s.Fill = coredump.FillMissing
			}
		} else if len(out) == 0 {
			want = here // all there is: what is not there is zero
		} else if r.file() || tier == inquest.TierFull {
			want = intersect(want, here)
		}
		if sum(out) > 0 && tier != inquest.TierFull || r.file() && sum(here) < r.Size {
			s.Fill = coredump.FillMissing
		}
		if tier != inquest.TierFull {
			p.left += sum(out)
			out = nil
		}
		p.header.Segments = append(p.header.Segments, s)
		near := intersect(want, []coredump.Extent{first})
		head = append(head, near...)
		rest = append(rest, subtract(want, near)...)
		others = append(others, out...)
	}
	p.header.Extents = slices.Concat(head, rest)
	p.header.Mini = len(p.header.Extents)
	p.mini = sum(p.header.Extents)
	if tier == inquest.TierFull {
		p.header.Extents = append(p.header.Extents, others...)
		if p.header.Mini == 0 && len(others) > 0 {
			p.header.Mini = len(p.header.Extents)
		}
	}
	p.total = sum(p.header.Extents)
	return p
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

// stackOf is where the thread that died looks first: its stack from the
// stack pointer on.
func stackOf(p *coredump.Process) coredump.Extent {
	if len(p.Threads) == 0 {
		return coredump.Extent{}
	}
	return stackFrom(p.Threads[0].SP, p.PageSize)
}

func stackFrom(sp, page uint64) coredump.Extent {
	return coredump.Extent{Addr: sp &^ (page - 1), Size: 64 << 10}
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
