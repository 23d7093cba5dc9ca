// Package calltree is pure maths on merged call stacks: merge, prune, focus,
// sandwich, top and diff, and the types they work on.
//
// It knows function names and integer values, nothing else: no profiles, no
// units, no I/O, no clock. A Tree and a DiffTree are immutable once made and
// may be shared by goroutines; a Builder belongs to one goroutine at a time.
//
// Every result is canonical: it depends on the set of stacks and their values
// alone, never on the order in which they were merged.
package calltree

import (
	"cmp"
	"slices"
)

// RootName is the name of the root of every tree but those of Sandwich.
const RootName = "total"

// Tree is a merged call tree at function level, as columns.
//
// Node 0 is the root. Nodes stand in pre-order, so a parent comes before its
// children and a subtree is a run of nodes; children of one node have distinct
// names and come by descending Cum, then by name. Every node but the root has
// a non-zero Self somewhere in its subtree.
//
// Cum[i] is Self[i] plus the Cum of i's children. A tree that Prune made keeps
// the Cum of the whole, so there Cum[i] is at least that (of values that are
// not negative).
type Tree struct {
	Names  []string // Names[0] is the root's; the others are distinct, in the order nodes use them first
	Name   []uint32 // per node: index into Names
	Parent []int32  // per node: less than the node's own index; -1 for the root
	Self   []int64  // per node: value of the stacks that end here
	Cum    []int64  // per node: value of the stacks that pass through or end here
}

// Len is the number of nodes, the root included.
func (t *Tree) Len() int { return len(t.Name) }

// Total is the value of all stacks.
func (t *Tree) Total() int64 { return t.Cum[0] }

// columns is a tree before it is put in order: parents first, node 0 the root.
type columns struct {
	names  []string // not the root's
	name   []uint32 // index into names; not meant for node 0
	parent []int32
}

// tree makes a Tree of c with the values self, leaving out what holds none.
func (c *columns) tree(root string, self []int64) *Tree {
	n := len(c.name)
	cum := make([]int64, n)
	copy(cum, self)
	size := make([]int32, n) // nodes of the subtree that stay; 0 = left out
	size[0] = 1
	for i := n - 1; i > 0; i-- {
		if self[i] != 0 || size[i] != 0 {
			size[i]++
			size[c.parent[i]] += size[i]
		}
		cum[c.parent[i]] += cum[i]
	}
	o := c.arrange(root, size, cum)
	t := &Tree{Names: o.names, Name: o.name, Parent: o.parent, Self: make([]int64, len(o.name)), Cum: make([]int64, len(o.name))}
	for i, p := range o.pos {
		if p >= 0 {
			t.Self[p], t.Cum[p] = self[i], cum[i]
		}
	}
	return t
}

// arranged is the canonical order of some columns.
type arranged struct {
	pos    []int32 // per node of the columns: where it stands now, -1 if left out
	names  []string
	name   []uint32
	parent []int32
}

// arrange puts nodes in pre-order, siblings by descending weight, then name.
// size is the number of nodes of each subtree that stay, 0 where none does;
// the root always stays.
func (c *columns) arrange(root string, size []int32, weight []int64) arranged {
	n, kept := len(c.name), int(size[0])
	first, children := c.children(size)
	o := arranged{pos: make([]int32, n), name: make([]uint32, kept), parent: make([]int32, kept)}
	for i := range o.pos {
		o.pos[i] = -1
	}
	byWeight := func(a, b int32) int {
		if d := cmp.Compare(weight[b], weight[a]); d != 0 {
			return d
		}
		return cmp.Compare(c.names[c.name[a]], c.names[c.name[b]])
	}
	o.pos[0], o.parent[0] = 0, -1
	for i := range n {
		if size[i] == 0 {
			continue
		}
		kids := children[first[i]:first[i+1]]
		if len(kids) > 1 {
			slices.SortFunc(kids, byWeight)
		}
		at := o.pos[i] + 1
		for _, k := range kids {
			o.pos[k], o.parent[at], o.name[at] = at, o.pos[i], c.name[k]
			at += size[k]
		}
	}
	o.names = renumber(root, c.names, o.name)
	return o
}

// children lists the nodes with a size by parent: those of node i are
// children[first[i]:first[i+1]].
func (c *columns) children(size []int32) (first, children []int32) {
	n := len(c.name)
	first = make([]int32, n+1)
	for i := 1; i < n; i++ {
		if size[i] != 0 {
			first[c.parent[i]+1]++
		}
	}
	for i := 1; i <= n; i++ {
		first[i] += first[i-1]
	}
	children = make([]int32, first[n])
	for i := n - 1; i > 0; i-- { // from behind, so that first ends where it began
		if size[i] != 0 {
			p := c.parent[i]
			first[p+1]--
			children[first[p+1]] = int32(i)
		}
	}
	for i := range n {
		first[i] = first[i+1]
	}
	first[n] = int32(len(children))
	return first, children
}

// renumber rewrites name (node 0 the root) to indexes of the names it returns:
// the root's, then those in use in the order of their first use.
func renumber(root string, names []string, name []uint32) []string {
	to := make([]uint32, len(names)) // 0 = not used yet; the root has 0
	out := make([]string, 1, min(len(names), len(name))+1)
	out[0] = root
	for i := 1; i < len(name); i++ {
		id := &to[name[i]]
		if *id == 0 {
			*id = uint32(len(out))
			out = append(out, names[name[i]])
		}
		name[i] = *id
	}
	if len(name) > 0 {
		name[0] = 0
	}
	return out
}
