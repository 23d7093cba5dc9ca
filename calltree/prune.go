package calltree

import (
	"cmp"
	"math/bits"
	"slices"
)

// Pruned says what a drawing leaves out.
type Pruned struct {
	Nodes int   // nodes left out
	Value int64 // Σ of their Self
}

// Prune returns a tree of at most max nodes (max < 1: of all) for drawing, and
// what it leaves out. Half of the room goes to the nodes with the largest
// Self, with all their ancestors, the rest to those with the largest Cum.
//
// Kept nodes keep their Self and Cum, so widths stay true: the value of a
// subtree that was cut stays inside the Cum of its parent and is not added to
// any Self. Hence Cum[i] ≥ Self[i] + Σ Cum of i's children, and the missing
// part is what is not drawn. Do not merge, focus or rank a pruned tree.
func (t *Tree) Prune(max int) (*Tree, Pruned) {
	if max < 1 || t.Len() <= max {
		return t, Pruned{}
	}
	c := prune(t.Names, t.Name, t.Parent, t.Self, t.Cum, max)
	return &Tree{Names: c.names, Name: c.name, Parent: c.parent, Self: c.column(t.Self), Cum: c.column(t.Cum)}, c.left(t.Self)
}

// Prune is Tree.Prune for both sides at once: the room goes to the nodes with
// the largest values of the two added up. It returns what is left out of each.
func (t *DiffTree) Prune(max int) (d *DiffTree, base, head Pruned) {
	if max < 1 || len(t.Name) <= max {
		return t, Pruned{}, Pruned{}
	}
	c := prune(t.Names, t.Name, t.Parent, bothSides(t.BaseSelf, t.HeadSelf), bothSides(t.BaseCum, t.HeadCum), max)
	d = &DiffTree{
		Names: c.names, Name: c.name, Parent: c.parent, BaseSelf: c.column(t.BaseSelf), BaseCum: c.column(t.BaseCum),
		HeadSelf: c.column(t.HeadSelf), HeadCum: c.column(t.HeadCum),
	}
	return d, c.left(t.BaseSelf), c.left(t.HeadSelf)
}

// bothSides adds up magnitudes, as far as there are numbers for it.
func bothSides(a, b []int64) []int64 {
	sum := make([]int64, len(a))
	for i := range sum {
		sum[i] = int64(min(magnitude(a[i]), 1<<61) + min(magnitude(b[i]), 1<<61))
	}
	return sum
}

// cutting is what is left of a tree's columns.
type cutting struct {
	kept   []int32 // nodes of the whole tree, ascending
	keep   []bool  // per node of it
	names  []string
	name   []uint32
	parent []int32
}

// prune chooses at most max nodes of a tree.
func prune(names []string, name []uint32, parent []int32, self, cum []int64, max int) *cutting {
	p := pruner{parent: parent, keep: make([]bool, len(name)), room: max - 1}
	p.keep[0] = true
	rest := max / 2
	p.room -= rest
	p.take(largest(self, max-rest))
	p.room += rest
	p.take(largest(cum, max))
	c := &cutting{keep: p.keep}
	pos := make([]int32, len(name))
	for i, k := range p.keep {
		if !k {
			continue
		}
		pos[i] = int32(len(c.kept))
		up := int32(-1)
		if i > 0 {
			up = pos[parent[i]]
		}
		c.kept, c.name, c.parent = append(c.kept, int32(i)), append(c.name, name[i]), append(c.parent, up)
	}
	c.names = renumber(names[0], names, c.name)
	return c
}

// column is what is left of a column.
func (c *cutting) column(values []int64) []int64 {
	out := make([]int64, len(c.kept))
	for i, node := range c.kept {
		out[i] = values[node]
	}
	return out
}

// left says what is left out, of a column of own values.
func (c *cutting) left(self []int64) (p Pruned) {
	for i, k := range c.keep {
		if !k {
			p.Nodes++
			p.Value += self[i]
		}
	}
	return p
}

type pruner struct {
	parent []int32
	keep   []bool // per node; closed under parent
	room   int    // nodes that may still be kept
}

// take keeps nodes with their ancestors in the given order while there is
// room, passing over those that do not fit.
func (p *pruner) take(nodes []int32) {
	for _, i := range nodes {
		if p.room == 0 {
			return
		}
		missing := 0
		for j := i; !p.keep[j] && missing <= p.room; j = p.parent[j] {
			missing++
		}
		if missing > p.room {
			continue
		}
		p.room -= missing
		for j := i; !p.keep[j]; j = p.parent[j] {
			p.keep[j] = true
		}
	}
}

// largest returns the indexes of the k largest magnitudes of values, largest
// first, equal ones by index; zeros are never among them. It looks at the
// values near and above the k-th only: a histogram says where those stand, so
// that no more than the few of one bucket are left to be sorted.
func largest(values []int64, k int) []int32 {
	var place [64 << mantissaBits]int32 // per bucket: how many, then where they begin
	for _, v := range values {
		place[bucket(magnitude(v))]++
	}
	low, n := len(place), int32(0)
	for low > 1 && int(n) < k {
		low--
		place[low], n = n, n+place[low]
	}
	out := make([]int32, n)
	for i, v := range values {
		if b := bucket(magnitude(v)); b >= low {
			out[place[b]] = int32(i)
			place[b]++
		}
	}
	begin := int32(0)
	descending := func(a, b int32) int {
		return cmp.Or(cmp.Compare(magnitude(values[b]), magnitude(values[a])), cmp.Compare(a, b))
	}
	for b := len(place) - 1; b >= low; b-- { // place[b] is now where the bucket ends
		// Often it holds one value only, many times, and is in order already.
		for i := begin + 1; i < place[b]; i++ {
			if magnitude(values[out[i]]) > magnitude(values[out[i-1]]) {
				slices.SortFunc(out[begin:place[b]], descending)
				break
			}
		}
		begin = place[b]
	}
	return out[:min(k, len(out))]
}

// mantissaBits is how finely buckets divide a power of two.
const mantissaBits = 7

// bucket orders magnitudes coarsely: bucket(a) < bucket(b) implies a < b, and
// only zero has bucket 0.
func bucket(m uint64) int {
	if m < 1<<mantissaBits {
		return int(m)
	}
	e := bits.Len64(m) - mantissaBits // ≥ 1
	return (e-1)<<mantissaBits + int(m>>(e-1))
}

// magnitude is |v|; it holds that of the least int64 too.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}
