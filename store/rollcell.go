package store

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// cellKey names a cell: one layout of a service, a label set, and when its
// step begins.
type cellKey struct {
	layout int
	set    uint32
	start  int64
}

// cellInfo is what a row of a rollup says of the profiles behind it, see
// streamCells.
type cellInfo struct {
	profiles  uint32
	observed  int64 // ns
	samples   int64
	truncated uint32
	processes []uint32 // ascending
	hold      int64    // ns; the row has it
	flags     uint8    // FlagTruncated; the row has it
}

// addInfo adds what is known of the profiles of a row.
func (c *cellInfo) addInfo(i *cellInfo, hold int64, flags uint8) {
	c.profiles += i.profiles
	c.observed += i.observed
	c.samples += i.samples
	c.truncated += i.truncated
	c.hold += hold
	c.flags |= flags & FlagTruncated
}

// cell adds up profiles, or rows of rollups, in memory.
type cell struct {
	cellKey
	end    int64
	used   uint64 // counts up with every use
	pin    uint64 // group of rows that is being added to it
	cols   int
	vals   []int64 // [node*cols + column]; zero beyond what marks say, up to its capacity
	marks  bitset  // nodes that may have values
	totals []int64 // by column
	procs  bitset  // processes
	cellInfo
}

// bitset is a set of small numbers.
type bitset []uint64

func (b bitset) add(n uint32) { b[n>>6] |= 1 << (n & 63) }

// fit makes room for numbers below n.
func (b *bitset) fit(n int) {
	for len(*b)*64 < n {
		*b = append(*b, 0)
	}
}

// each calls f with every number in the set, ascending.
func (b bitset) each(f func(n uint32)) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			f(uint32(i<<6 + bits.TrailingZeros64(w)))
		}
	}
}

func (b bitset) list() (out []uint32) {
	b.each(func(n uint32) { out = append(out, n) })
	return out
}

// fit makes room for the nodes and processes of d.
func (c *cell) fit(d *rollDict) {
	n := len(d.funcUp) * c.cols
	if cap(c.vals) < n {
		vals := make([]int64, n+n/8)
		copy(vals, c.vals)
		c.vals = vals
	}
	c.vals = c.vals[:n]
	c.marks.fit(len(d.funcUp))
	c.procs.fit(len(d.processes))
}

// addCell adds another cell of the same layout.
func (c *cell) addCell(from *cell) {
	c.addInfo(&from.cellInfo, from.hold, from.flags)
	for i, w := range from.procs {
		c.procs[i] |= w
	}
	for i, v := range from.totals {
		c.totals[i] += v
	}
	for i, w := range from.marks {
		c.marks[i] |= w
	}
	cols := c.cols
	from.marks.each(func(n uint32) {
		at := int(n) * cols
		src, dst := from.vals[at:at+cols], c.vals[at:at+cols]
		for i, v := range src {
			dst[i] += v
		}
	})
}

// reset empties the cell for another use.
func (c *cell) reset() {
	cols := c.cols
	c.marks.each(func(n uint32) { clear(c.vals[int(n)*cols:][:cols]) })
	clear(c.marks)
	clear(c.procs)
	*c = cell{vals: c.vals[:0], marks: c.marks[:0], procs: c.procs[:0], totals: c.totals[:0]}
}

// nodes appends the nodes that have values, ascending.
func (c *cell) nodes(dst []uint32) []uint32 {
	cols := c.cols
	c.marks.each(func(n uint32) {
		if slices.ContainsFunc(c.vals[int(n)*cols:][:cols], func(v int64) bool { return v != 0 }) {
			dst = append(dst, n)
		}
	})
	return dst
}

// row packs what nodes of the cell have. ids, ascending, is what they are in
// the dictionary of the row.
func (c *cell) row(ids, nodes []uint32) *row {
	info := c.cellInfo
	info.processes = c.procs.list()
	r := &row{
		start: c.start, end: c.end, hold: c.hold, timeNanos: c.start, labels: c.set, flags: c.flags,
		samples: uint32(len(ids)), totals: slices.Clone(c.totals), cell: &info,
	}
	prev := uint32(0)
	for _, n := range ids {
		r.data = binary.AppendUvarint(r.data, uint64(n-prev))
		prev = n
	}
	for col := range c.cols {
		r.data = appendColumn(r.data, nodes, func(n uint32) int64 { return c.vals[int(n)*c.cols+col] })
	}
	return r
}

// appendColumn packs one column of the samples of a row, as appendSamples
// does.
func appendColumn(dst []byte, ids []uint32, value func(id uint32) int64) []byte {
	var any int64
	signed := false
	for _, id := range ids {
		v := value(id)
		any |= v
		signed = signed || v < 0
	}
	switch {
	case any == 0:
		return append(dst, valuesZero)
	case signed:
		dst = append(dst, valuesSigned)
		for _, id := range ids {
			dst = appendVarint(dst, value(id))
		}
	default:
		dst = append(dst, valuesPlain)
		for _, id := range ids {
			dst = binary.AppendUvarint(dst, uint64(value(id)))
		}
	}
	return dst
}

// cellPool holds the open cells of one resolution, within a bound in bytes.
// Beyond it those that were not used for longest are flushed: rows add up, so
// a cell may become several.
type cellPool struct {
	length int64 // of a step, ns
	max    int64
	d      *rollDict
	flush  func(c *cell) error
	open   map[cellKey]*cell
	free   []*cell
	clock  uint64 // counts up with every use
	pin    uint64 // counts up with every group of rows
}

// minCells is how many cells may be open whatever they take.
const minCells = 2

// maxFreeCells is how many closed cells wait for another use.
const maxFreeCells = 4

// begin begins another group of rows: the cells of the one before may be
// flushed.
func (p *cellPool) begin() { p.pin++ }

// get opens a cell for the group of rows at hand, which may use several at
// once. It returns nil where there is no room for one more.
func (p *cellPool) get(key cellKey, cols int) (*cell, error) {
	p.clock++
	c := p.open[key]
	if c == nil {
		if err := p.makeRoom(int64(8 * cols * len(p.d.funcUp))); err != nil {
			return nil, err
		}
		if len(p.open) >= minCells && p.bytes()+int64(8*cols*len(p.d.funcUp)) > p.max {
			return nil, nil
		}
		c = &cell{}
		if n := len(p.free); n > 0 {
			c, p.free = p.free[n-1], p.free[:n-1]
		}
		c.cellKey, c.cols, c.end = key, cols, key.start+p.length
		c.totals = resize(c.totals, cols)
		clear(c.totals)
		p.open[key] = c
	}
	c.fit(p.d)
	c.used, c.pin = p.clock, p.pin
	return c, nil
}

// bytes is what the open cells take.
func (p *cellPool) bytes() (n int64) {
	for _, c := range p.open {
		n += int64(8 * cap(c.vals))
	}
	return n
}

// makeRoom flushes cells that the group at hand does not use.
func (p *cellPool) makeRoom(n int64) error {
	for len(p.open) >= minCells && p.bytes()+n > p.max {
		var old *cell
		for _, c := range p.open {
			if c.pin != p.pin && (old == nil || c.used < old.used) {
				old = c
			}
		}
		if old == nil {
			return nil
		}
		if err := p.close(old); err != nil {
			return err
		}
	}
	return nil
}

func (p *cellPool) close(c *cell) error {
	delete(p.open, c.cellKey)
	c.fit(p.d)
	err := p.flush(c)
	c.reset()
	if len(p.free) < maxFreeCells {
		p.free = append(p.free, c)
	}
	return err
}

// closeAll flushes what is open, in the order of time.
func (p *cellPool) closeAll() error {
	all := make([]*cell, 0, len(p.open))
	for _, c := range p.open {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *cell) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.layout, b.layout), cmp.Compare(a.set, b.set))
	})
	for _, c := range all {
		if err := p.close(c); err != nil {
			return err
		}
	}
	return nil
}
