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

	sums  []int64 // [node*columns + column]; zero between two uses
	marks bitset
}

// maxFreeDigests is how many of them wait for another use.
const maxFreeDigests = 256

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
		if len(p.free) < maxFreeDigests {
			p.free = append(p.free, c)
		}
	}
	return nil
}

// gather adds the entries of a cell up in p.sums; marks says where.
func (p *procCells) gather(c *procCell) {
	p.marks.fit(len(p.d.funcUp))
	cols := len(c.vals)
	p.sums = grown(p.sums, cols*len(p.d.funcUp))
	for _, n := range c.node {
		p.marks.add(n)
	}
	sums := p.sums
	for i, vals := range c.vals {
		for k, n := range c.node {
			sums[int(n)*cols+i] += vals[k]
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
	cols := len(c.vals)
	for i := range c.vals {
		c.vals[i] = c.vals[i][:0]
		for _, n := range c.node {
			at := int(n)*cols + i
			c.vals[i] = append(c.vals[i], p.sums[at])
			p.sums[at] = 0
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
	nodes []treeNode
	sums  []int64 // [(name*columns + column)*2]: self, then cum
	names bitset
}

// treeNode is a node of the function-level tree.
type treeNode struct {
	up, name uint32
	outer    bool // no caller of it has its name
}

// callers extends nodes to those there are.
func (x *digester) callers() {
	up, name := x.d.funcUp, x.d.funcName
	for n := len(x.nodes); n < len(up); n++ {
		if n == 0 {
			x.nodes = append(x.nodes, treeNode{})
			continue
		}
		outer := true
		for at := up[n]; at > 0 && outer; at = up[at] {
			outer = name[at] != name[n]
		}
		x.nodes = append(x.nodes, treeNode{uint32(up[n]), name[n], outer})
	}
}

// digest makes the digest of a cell.
func (x *digester) digest(p *procCells, c *procCell) *digest {
	p.gather(c)
	cols := len(c.vals)
	x.climb(p.marks, p.sums, cols)
	return x.cut(c)
}

// climb makes x.sums of sums, which is [node*columns + column] of the nodes in
// marks: it adds every node's sum to its caller's, from the leaves on, as callers
// have lower numbers. It leaves sums and marks empty.
func (x *digester) climb(marks bitset, sums []int64, cols int) {
	x.callers()
	x.sums = grown(x.sums, 2*cols*len(x.d.names))
	x.names.fit(len(x.d.names))
	marks.each(func(n uint32) { // what is at a node, before what is below it comes along
		to := x.sums[2*cols*int(x.nodes[n].name):]
		for i, v := range sums[int(n)*cols:][:cols] {
			to[2*i] += v
		}
	})
	names := x.names
	for w := len(marks) - 1; w >= 0; w-- {
		for marks[w] != 0 {
			bit := 63 - bits.LeadingZeros64(marks[w])
			marks[w] &^= 1 << bit
			n := w<<6 + bit
			own := sums[n*cols:][:cols]
			if n == 0 {
				clear(own)
				names.add(0)
				continue
			}
			node := x.nodes[n]
			marks.add(node.up)
			names.add(node.name)
			to, cum := sums[int(node.up)*cols:][:cols], x.sums[2*cols*int(node.name):][:2*cols]
			for i, v := range own {
				to[i] += v
				if node.outer {
					cum[2*i+1] += v
				}
				own[i] = 0
			}
		}
	}
}

// cut takes the functions that are worth an entry.
func (x *digester) cut(c *procCell) *digest {
	cols := len(c.vals)
	out := &digest{self: make([][]int64, cols), cum: make([][]int64, cols)}
	least := make([]uint64, cols)
	for i, v := range c.totals {
		least[i] = max(1, (magnitude(v)+digestShare-1)/digestShare)
	}
	x.names.each(func(n uint32) {
		keep := false
		for i, v := range x.sums[2*cols*int(n):][:2*cols] {
			keep = keep || magnitude(v) >= least[i/2]
		}
		if keep && n > 0 {
			out.name = append(out.name, n)
		}
	})
	all := make([]int64, 2*cols*len(out.name))
	for i := range cols {
		out.self[i], all = all[:len(out.name):len(out.name)], all[len(out.name):]
		out.cum[i], all = all[:len(out.name):len(out.name)], all[len(out.name):]
		for k, n := range out.name {
			at := 2 * (int(n)*cols + i)
			out.self[i][k], out.cum[i][k] = x.sums[at], x.sums[at+1]
		}
	}
	x.names.each(func(n uint32) { clear(x.sums[2*cols*int(n):][:2*cols]) })
	clear(x.names)
	return out
}

// digestShare is which part of a total is worth an entry: 1 in 2,000.
const digestShare = 2000

// row is the row of a digest.
func (c *procCell) row(d *digest) *row {
	info := c.cellInfo
	info.processes = []uint32{c.proc}
	return &row{
		start: c.start, end: c.end, hold: c.hold, timeNanos: c.start, labels: c.set, process: c.proc,
		flags: c.flags, samples: uint32(len(d.name)), totals: slices.Clone(c.totals), cell: &info,
	}
}
