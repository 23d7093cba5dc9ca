package store

import (
	"cmp"
	"math/bits"
	"slices"
)

// procKey names what a digest is of: one process and its labels in one step.
type procKey struct {
	layout    int
	set, proc uint32
	start     int64
}

// compare orders keys by time.
func (k *procKey) compare(o *procKey) int {
	return cmp.Or(cmp.Compare(k.start, o.start), cmp.Compare(k.layout, o.layout), cmp.Compare(k.proc, o.proc), cmp.Compare(k.set, o.set))
}

// procCell collects the samples of a process in a step, for its digest: nodes
// and values, added up from time to time. It takes memory as the process has
// stacks, not as the tree has nodes.
type procCell struct {
	procKey
	cellInfo
	end      int64
	totals   []int64
	node     []uint32
	vals     [][]int64 // [digested column][entry]
	distinct int       // entries after the last compaction
}

// procCells are the open ones, within a bound in bytes; beyond it the older
// half of them is flushed.
type procCells struct {
	max   int64
	bytes int64
	d     *rollDict
	open  map[procKey]*procCell
	free  []*procCell
	flush func(c *procCell) error

	sums  [][]int64 // [column][node]; zero between two uses
	marks bitset
}

// digestBytes is the bound on open digests.
const digestBytes = 24 << 20

// compactFrom is how many entries a cell has at least when they are added up.
const compactFrom = 2048

func (p *procCells) get(key procKey, length int64, cols int) *procCell {
	c := p.open[key]
	if c == nil {
		c = &procCell{}
		if n := len(p.free); n > 0 {
			c, p.free = p.free[n-1], p.free[:n-1]
		}
		for len(c.vals) < cols {
			c.vals = append(c.vals, nil)
		}
		c.vals = c.vals[:cols]
		c.procKey, c.end = key, key.start+length
		c.totals = resize(c.totals, cols)
		clear(c.totals)
		p.open[key] = c
	}
	return c
}

// fit takes account of what was added to a cell.
func (p *procCells) fit(c *procCell, added int) {
	p.bytes += int64(added * (4 + 8*len(c.vals)))
	if len(c.node) >= compactFrom && len(c.node) >= 2*c.distinct {
		p.compact(c)
	}
}

// trim flushes the older half where there is too much.
func (p *procCells) trim() error {
	if p.bytes <= p.max {
		return nil
	}
	return p.close(len(p.open)/2 + 1)
}

// close flushes the oldest n.
func (p *procCells) close(n int) error {
	all := make([]*procCell, 0, len(p.open))
	for _, c := range p.open {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *procCell) int { return a.procKey.compare(&b.procKey) })
	for _, c := range all[:min(n, len(all))] {
		delete(p.open, c.procKey)
		p.bytes -= int64(len(c.node) * (4 + 8*len(c.vals)))
		if err := p.flush(c); err != nil {
			return err
		}
		node, vals, totals := c.node[:0], c.vals, c.totals
		for i := range vals {
			vals[i] = vals[i][:0]
		}
		*c = procCell{node: node, vals: vals, totals: totals}
		if len(p.free) < groupRows {
			p.free = append(p.free, c)
		}
	}
	return nil
}

// gather adds the entries of a cell up in p.sums; marks says where.
func (p *procCells) gather(c *procCell) {
	p.marks.fit(len(p.d.funcUp))
	for len(p.sums) < len(c.vals) {
		p.sums = append(p.sums, nil)
	}
	for i := range p.sums {
		p.sums[i] = grown(p.sums[i], len(p.d.funcUp))
	}
	for _, n := range c.node {
		p.marks.add(n)
	}
	for i, vals := range c.vals {
		sums := p.sums[i]
		for k, n := range c.node {
			sums[n] += vals[k]
		}
	}
}

// grown is s with n elements at least, new ones zero.
func grown[T any](s []T, n int) []T {
	if len(s) >= n {
		return s
	}
	return append(s, make([]T, n-len(s))...)
}

// compact leaves one entry per node.
func (p *procCells) compact(c *procCell) {
	p.gather(c)
	before := len(c.node)
	c.node = c.node[:0]
	p.marks.each(func(n uint32) { c.node = append(c.node, n) })
	for i := range c.vals {
		c.vals[i] = c.vals[i][:0]
		for _, n := range c.node {
			c.vals[i] = append(c.vals[i], p.sums[i][n])
			p.sums[i][n] = 0
		}
	}
	clear(p.marks)
	c.distinct = len(c.node)
	p.bytes -= int64((before - len(c.node)) * (4 + 8*len(c.vals)))
}

// digester makes digests of cells. Its memory is reused; all of it is zero
// between two uses.
type digester struct {
	d     *rollDict
	outer []bool // by node: no caller of it has its name
	self  [][]int64
	cum   [][]int64 // [column][name]
	names bitset
}

// callers extends outer to the nodes there are.
func (x *digester) callers() {
	up, name := x.d.funcUp, x.d.funcName
	for n := len(x.outer); n < len(up); n++ {
		outer := n > 0
		for at := up[n]; at > 0 && outer; at = up[at] {
			outer = name[at] != name[n]
		}
		x.outer = append(x.outer, outer)
	}
}

// digest makes the digest of a cell.
func (x *digester) digest(p *procCells, c *procCell) *digest {
	x.callers()
	p.gather(c)
	cols := len(c.vals)
	for len(x.self) < cols {
		x.self, x.cum = append(x.self, nil), append(x.cum, nil)
	}
	for i := range x.self {
		x.self[i], x.cum[i] = grown(x.self[i], len(x.d.names)), grown(x.cum[i], len(x.d.names))
	}
	x.names.fit(len(x.d.names))
	for i := range cols { // what is at a node, before what is below it comes along
		self, sums := x.self[i], p.sums[i]
		p.marks.each(func(n uint32) {
			self[x.d.funcName[n]] += sums[n]
		})
	}
	x.climb(p, cols)
	return x.cut(c)
}

// climb adds every node's sum to its caller's, from the leaves on: callers have
// lower numbers. It leaves sums and marks empty.
func (x *digester) climb(p *procCells, cols int) {
	up, name := x.d.funcUp, x.d.funcName
	sums := p.sums[:cols]
	for w := len(p.marks) - 1; w >= 0; w-- {
		for p.marks[w] != 0 {
			bit := 63 - bits.LeadingZeros64(p.marks[w])
			p.marks[w] &^= 1 << bit
			n := uint32(w<<6 + bit)
			if n > 0 {
				p.marks.add(uint32(up[n]))
			}
			x.names.add(name[n])
			for i := range sums {
				v := sums[i][n]
				sums[i][n] = 0
				if n > 0 {
					sums[i][up[n]] += v
				}
				if x.outer[n] {
					x.cum[i][name[n]] += v
				}
			}
		}
	}
}

// cut takes the functions that are worth an entry.
func (x *digester) cut(c *procCell) *digest {
	cols := len(c.vals)
	out := &digest{self: make([][]int64, cols), cum: make([][]int64, cols)}
	x.names.each(func(n uint32) {
		keep := false
		for i := range cols {
			keep = keep || weighty(x.self[i][n], c.totals[i]) || weighty(x.cum[i][n], c.totals[i])
		}
		if keep && n > 0 {
			out.name = append(out.name, n)
		}
	})
	for i := range cols {
		out.self[i], out.cum[i] = make([]int64, len(out.name)), make([]int64, len(out.name))
		for k, n := range out.name {
			out.self[i][k], out.cum[i][k] = x.self[i][n], x.cum[i][n]
		}
		self, cum := x.self[i], x.cum[i]
		x.names.each(func(n uint32) { self[n], cum[n] = 0, 0 })
	}
	clear(x.names)
	return out
}

// digestShare is which part of a total is worth an entry: 1 in 2,000.
const digestShare = 2000

func weighty(v, total int64) bool {
	if v == 0 {
		return false
	}
	hi, lo := bits.Mul64(magnitude(v), digestShare)
	return hi > 0 || lo >= magnitude(total)
}

// row is the row of a digest.
func (c *procCell) row(d *digest) *row {
	info := c.cellInfo
	info.processes = []uint32{c.proc}
	return &row{
		start: c.start, end: c.end, hold: c.hold, timeNanos: c.start, labels: c.set, process: c.proc,
		flags: c.flags, samples: uint32(len(d.name)), totals: slices.Clone(c.totals), cell: &info,
	}
}
