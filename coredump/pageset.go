package coredump

import "slices"

// pageSet is the pages of a process that may be taken, and those that were.
type pageSet struct {
	p     *Process
	page  uint64
	have  []Extent // sorted, disjoint, whole pages, each within one mapping
	first []uint64 // by have: number of its first page
	taken []uint64 // bits, by number of page
	seen  map[uint64]bool
}

// newPageSet finds out what there is. Without present it is all that a process
// could have written to.
func newPageSet(p *Process, present []Extent) pageSet {
	ps := pageSet{p: p, page: p.PageSize, seen: map[uint64]bool{}}
	j := 0
	for i, m := range p.Mappings {
		if ps.barred(i) || m.End() < m.Addr || m.End() > maxAddr {
			continue
		}
		if present == nil {
			if m.Flags&2 != 0 || m.Inode == 0 {
				ps.add(m.Extent)
			}
			continue
		}
		for j < len(present) && present[j].End() <= m.Addr {
			j++
		}
		for k := j; k < len(present) && present[k].Addr < m.End(); k++ {
			start, end := max(present[k].Addr, m.Addr), min(present[k].End(), m.End())
			ps.add(Extent{start, end - start})
		}
	}
	var n uint64
	for _, e := range ps.have {
		ps.first = append(ps.first, n)
		n += e.Size / ps.page
	}
	ps.taken = make([]uint64, min(n, maxPages)/64+1)
	return ps
}

// maxPages bounds what is kept of which were taken: 256 GiB of small pages.
const maxPages = 1 << 26

func (ps *pageSet) add(e Extent) {
	start, end := (e.Addr+ps.page-1)&^(ps.page-1), e.End()&^(ps.page-1)
	if start < end && (len(ps.have) == 0 || start >= ps.have[len(ps.have)-1].End()) {
		ps.have = append(ps.have, Extent{start, end - start})
	}
}

// barred reports whether a mapping is not to be touched, or never of interest:
// code and constants of files.
func (ps *pageSet) barred(i int) bool {
	m := &ps.p.Mappings[i]
	return m.IO || m.NoDump || m.Flags&4 == 0 || m.Inode != 0 && (m.Shared || m.Flags&1 != 0)
}

// find is the first extent that ends behind an address.
func (ps *pageSet) find(addr uint64) int {
	i, _ := slices.BinarySearchFunc(ps.have, addr, func(e Extent, addr uint64) int {
		if e.End() <= addr {
			return -1
		}
		return 1
	})
	return i
}

// has reports whether an address is there.
func (ps *pageSet) has(addr uint64) bool {
	i := ps.find(addr)
	return i < len(ps.have) && ps.have[i].Addr <= addr
}

// present are the parts of a range that are there.
func (ps *pageSet) present(e Extent) []Extent {
	var out []Extent
	for i := ps.find(e.Addr); i < len(ps.have) && ps.have[i].Addr < e.End(); i++ {
		start, end := max(e.Addr, ps.have[i].Addr), min(e.End(), ps.have[i].End())
		out = append(out, Extent{start, end - start})
	}
	return out
}

// take appends the pages from start to end that are there and were not taken,
// as far as left bytes allow.
func (ps *pageSet) take(out []Extent, start, end, left uint64) ([]Extent, uint64) {
	for i := ps.find(start); i < len(ps.have) && ps.have[i].Addr < end; i++ {
		e := ps.have[i]
		from, to := max(start, e.Addr)&^(ps.page-1), min(end, e.End())
		for at := from; at < to; at += ps.page {
			no := ps.first[i] + (at-e.Addr)/ps.page
			if left < ps.page || no >= maxPages {
				return out, 0
			}
			bit := uint64(1) << (no % 64)
			if ps.taken[no/64]&bit != 0 {
				continue
			}
			ps.taken[no/64] |= bit
			left -= ps.page
			if n := len(out); n > 0 && out[n-1].End() == at && at != e.Addr {
				out[n-1].Size += ps.page
			} else {
				out = append(out, Extent{at, ps.page})
			}
		}
	}
	return out, left
}

// visited reports whether a place was asked for before, and notes it.
func (ps *pageSet) visited(addr uint64) bool {
	addr &^= hopScan/2 - 1
	if ps.seen[addr] {
		return true
	}
	if len(ps.seen) < maxVisited {
		ps.seen[addr] = true
	}
	return false
}

const maxVisited = 1 << 17

// mapping is the number of the mapping an address is in, -1 if there is none.
func (ps *pageSet) mapping(addr uint64) int {
	i, ok := slices.BinarySearchFunc(ps.p.Mappings, addr, func(m Mapping, addr uint64) int {
		if m.End() <= addr {
			return -1
		}
		if m.Addr > addr {
			return 1
		}
		return 0
	})
	if !ok {
		return -1
	}
	return i
}

// count is how many pages of a mapping are there.
func (ps *pageSet) count(i int) uint64 {
	var n uint64
	for _, e := range ps.present(ps.p.Mappings[i].Extent) {
		n += e.Size
	}
	return n / ps.page
}
