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
	n := t.Len()
	if max < 1 || n <= max {
		return t, Pruned{}
	}
	p := pruner{parent: t.Parent, keep: make([]bool, n), room: max - 1}
	p.keep[0] = true
	rest := max / 2
	p.room -= rest
	p.take(largest(t.Self, max-rest))
	p.room += rest
	p.take(largest(t.Cum, max))
	return p.cut(t)
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

// cut makes the tree of the kept nodes.
func (p *pruner) cut(t *Tree) (*Tree, Pruned) {
	var left Pruned
	kept := 0
	for _, k := range p.keep {
		if k {
			kept++
		}
	}
	out := &Tree{
		Name:   make([]uint32, 0, kept),
		Parent: make([]int32, 0, kept),
		Self:   make([]int64, 0, kept),
		Cum:    make([]int64, 0, kept),
	}
	pos := make([]int32, t.Len())
	for i, k := range p.keep {
		if !k {
			left.Nodes++
			left.Value += t.Self[i]
			continue
		}
		pos[i] = int32(len(out.Name))
		parent := int32(-1)
		if i > 0 {
			parent = pos[t.Parent[i]]
		}
		out.Name = append(out.Name, t.Name[i])
		out.Parent = append(out.Parent, parent)
		out.Self = append(out.Self, t.Self[i])
		out.Cum = append(out.Cum, t.Cum[i])
	}
	out.Names = renumber(t.Names[0], t.Names, out.Name)
	return out, left
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
	for b := len(place) - 1; b >= low; b-- { // place[b] is now where the bucket ends
		slices.SortFunc(out[begin:place[b]], func(a, b int32) int {
			return cmp.Or(cmp.Compare(magnitude(values[b]), magnitude(values[a])), cmp.Compare(a, b))
		})
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
