package calltree

// DiffTree is two trees on one skeleton: every path of either has one node.
// Nodes stand in pre-order; siblings come by descending BaseCum + HeadCum,
// then by name. The columns mean what they mean in Tree.
type DiffTree struct {
	Names                                []string
	Name                                 []uint32
	Parent                               []int32
	BaseSelf, BaseCum, HeadSelf, HeadCum []int64 // per node
}

// Diff puts base and head, neither of them pruned, on one skeleton.
func Diff(base, head *Tree) *DiffTree {
	var m merger
	fromBase := append([]int32(nil), m.merge(base.Names, base.Name, base.Parent, base.Self)...)
	fromHead := m.merge(head.Names, head.Name, head.Parent, head.Self)
	n := len(m.name)
	size := make([]int32, n) // every node stays
	weight := make([]int64, n)
	for i, id := range fromBase {
		if id >= 0 {
			weight[id] += base.Cum[i]
		}
	}
	for i, id := range fromHead {
		if id >= 0 {
			weight[id] += head.Cum[i]
		}
	}
	for i := n - 1; i >= 0; i-- {
		size[i]++
		if i > 0 {
			size[m.parent[i]] += size[i]
		}
	}
	o := m.arrange(RootName, size, weight)
	d := &DiffTree{
		Names: o.names, Name: o.name, Parent: o.parent,
		BaseSelf: make([]int64, n), BaseCum: make([]int64, n),
		HeadSelf: make([]int64, n), HeadCum: make([]int64, n),
	}
	place(o.pos, fromBase, base, d.BaseSelf, d.BaseCum)
	place(o.pos, fromHead, head, d.HeadSelf, d.HeadCum)
	return d
}

// place copies t's values to where its nodes stand in a diff.
func place(pos, node []int32, t *Tree, self, cum []int64) {
	for i, id := range node {
		if id >= 0 {
			self[pos[id]], cum[pos[id]] = t.Self[i], t.Cum[i]
		}
	}
}
