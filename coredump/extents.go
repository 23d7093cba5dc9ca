package coredump

import (
	"cmp"
	"slices"
)

// merged returns extents by address, those that overlap or touch as one.
// Those closer than gap are one, too.
func merged(extents []Extent, gap uint64) []Extent {
	in := slices.Clone(extents)
	slices.SortFunc(in, func(a, b Extent) int { return cmp.Compare(a.Addr, b.Addr) })
	out := in[:0]
	for _, e := range in {
		if e.Size == 0 || e.End() < e.Addr {
			continue
		}
		if k := len(out); k > 0 && (out[k-1].End() >= e.Addr || e.Addr-out[k-1].End() < gap) {
			out[k-1].Size = max(out[k-1].End(), e.End()) - out[k-1].Addr
			continue
		}
		out = append(out, e)
	}
	return out
}

// common returns what is in both of two merged lists.
func common(a, b []Extent) []Extent {
	var out []Extent
	for len(a) > 0 && len(b) > 0 {
		from, to := max(a[0].Addr, b[0].Addr), min(a[0].End(), b[0].End())
		if from < to {
			out = append(out, Extent{from, to - from})
		}
		if a[0].End() < b[0].End() {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// without returns what is in a and not in b, both merged.
func without(a, b []Extent) []Extent {
	var out []Extent
	for _, e := range a {
		for len(b) > 0 && b[0].End() <= e.Addr {
			b = b[1:]
		}
		for i := 0; e.Size > 0 && i < len(b) && b[i].Addr < e.End(); i++ {
			if b[i].Addr > e.Addr {
				out = append(out, Extent{e.Addr, b[i].Addr - e.Addr})
			}
			end := min(b[i].End(), e.End())
			e = Extent{end, e.End() - end}
		}
		if e.Size > 0 {
			out = append(out, e)
		}
	}
	return out
}
