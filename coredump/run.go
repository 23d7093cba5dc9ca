package coredump

// run is a range of addresses that can be read: bytes of the stream, or zeros.
type run struct {
	Extent
	pos  uint64 // of the stream, unless it is zero
	zero bool
	seg  int32 // index of its segment
}

// runBuilder collects runs by address.
type runBuilder struct {
	l    *Ledger
	has  func(block int) bool // nil: all are here
	runs []run
}

// runs lists what can be read of an image, by address: what of its segments
// is not in any run is missing. has says which blocks are here, nil stands
// for all of them.
func (l *Ledger) runs(has func(block int) bool) []run {
	b := &runBuilder{l: l, has: has}
	h := l.header
	starts := make([]uint64, len(h.Extents)) // in the stream
	pos := uint64(0)
	for i, e := range h.Extents {
		starts[i] = pos
		pos += e.Size
	}
	order := byAddress(h.Extents)
	for i, s := range h.Segments {
		at := s.Addr
		for len(order) > 0 && h.Extents[order[0]].Addr < s.End() {
			e := h.Extents[order[0]]
			b.fill(int32(i), at, e.Addr, s.Fill)
			b.extent(int32(i), e, starts[order[0]])
			at = e.End()
			order = order[1:]
		}
		b.fill(int32(i), at, s.End(), s.Fill)
	}
	return b.runs
}

// fill adds [from, to) of a segment that no extent has.
func (b *runBuilder) fill(seg int32, from, to uint64, fill Fill) {
	if fill == FillZero {
		b.add(run{Extent: Extent{from, to - from}, zero: true, seg: seg})
	}
}

// extent adds an extent that is at pos of the stream, as far as it is here.
func (b *runBuilder) extent(seg int32, e Extent, pos uint64) {
	l := b.l
	end := min(pos+e.Size, l.written)
	for pos < end {
		n, _, to := blockAt(pos, l.mini, l.total)
		to = min(to, end)
		addr := e.Addr
		size := to - pos
		if b.has == nil || b.has(n) {
			b.block(seg, n, addr, pos, to)
		}
		e.Addr += size
		pos = to
	}
}

// block adds [pos, to) of one block, without what was skipped.
func (b *runBuilder) block(seg int32, n int, addr, pos, to uint64) {
	zero := b.l.blocks[n].Stored == 0
	for _, s := range b.l.skips[b.l.first[n]:b.l.first[n+1]] {
		if s.pos+s.size <= pos || s.pos >= to {
			continue
		}
		if s.pos > pos {
			b.add(run{Extent: Extent{addr, s.pos - pos}, pos: pos, zero: zero, seg: seg})
		}
		next := min(s.pos+s.size, to)
		addr += next - pos
		pos = next
	}
	if pos < to {
		b.add(run{Extent: Extent{addr, to - pos}, pos: pos, zero: zero, seg: seg})
	}
}

// add appends a run, to the last one if it goes on with it.
func (b *runBuilder) add(r run) {
	if r.Size == 0 {
		return
	}
	if k := len(b.runs); k > 0 {
		last := &b.runs[k-1]
		if last.seg == r.seg && last.End() == r.Addr && last.zero == r.zero && (r.zero || last.pos+last.Size == r.pos) {
			last.Size += r.Size
			return
		}
	}
	b.runs = append(b.runs, r)
}

// within compares the range [from, to) with a position, for binary searches:
// the range that has it, or else the first behind it, is what is looked for.
func within(at, from, to uint64) int {
	switch {
	case to <= at:
		return -1
	case from > at:
		return 1
	}
	return 0
}
