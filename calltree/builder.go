package calltree

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Builder merges trees by the path of names from the root. The zero value is
// ready.
type Builder struct {
	merger
	self []int64 // per node of the merger
}

// AddTree merges a tree given as columns: node i is a call of names[name[i]]
// from node parent[i] with the value self[i]. Node 0 is the root, whose name
// is not looked at; parents come before their children. name, parent and self
// have equal length. Siblings may share a name. The slices are borrowed during
// the call; the strings are kept.
func (b *Builder) AddTree(names []string, name []uint32, parent []int32, self []int64) {
	if len(name) == 0 {
		return
	}
	to := b.merge(names, name, parent, self)
	b.self = grown(b.self, len(b.name))
	for i, id := range to {
		if id >= 0 {
			b.self[id] += self[i]
		}
	}
}

// Add merges t, which must not come from Prune: what that left out would be
// lost.
func (b *Builder) Add(t *Tree) { b.AddTree(t.Names, t.Name, t.Parent, t.Self) }

// Bytes is about how much memory the builder and the Tree it will make take,
// but for the text of names, and how many names it has.
func (b *Builder) Bytes() (bytes int64, names int) {
	return 64*int64(len(b.names)) + 48*int64(len(b.name)) + 8*int64(len(b.slots)), len(b.names)
}

// Tree returns what was merged so far. Nodes in whose subtree every Self is
// zero are left out.
func (b *Builder) Tree() *Tree { return b.tree(RootName) }

// Single is the Tree that a Builder makes of one tree, given as for AddTree, in
// which siblings have distinct names. It does not have to look for nodes.
func Single(names []string, name []uint32, parent []int32, self []int64) *Tree {
	if len(name) == 0 {
		return new(Builder).Tree()
	}
	// Mostly few of the nodes of a part of the store have a value of one type.
	pos := make([]int32, len(name)) // 1: there is a value below; then where the node goes
	live := 1
	for i := len(name) - 1; i > 0; i-- {
		if self[i] != 0 {
			pos[i] = 1
		}
		if pos[i] != 0 {
			pos[parent[i]] = 1
			live++
		}
	}
	c := columns{names: names, name: make([]uint32, 1, live), parent: make([]int32, 1, live)}
	values := make([]int64, 1, live)
	c.parent[0], values[0], pos[0] = -1, self[0], 0
	for i := 1; i < len(name); i++ {
		if pos[i] == 0 {
			continue
		}
		pos[i] = int32(len(c.name))
		c.name, c.parent, values = append(c.name, name[i]), append(c.parent, pos[parent[i]]), append(values, self[i])
	}
	return c.tree(RootName, values)
}

func (b *Builder) tree(root string) *Tree {
	b.start(0)
	b.self = grown(b.self, len(b.name))
	return b.columns.tree(root, b.self)
}

// merger gives every path of names one node.
type merger struct {
	columns
	ids   map[string]uint32 // name → index into names
	slots []slot            // open addressing, a power of two of them, at most half full
	shift uint8             // 64 - log2(len(slots))
	mul   uint64            // random and odd: crafted trees cannot aim at collisions

	to     []int32  // scratch: per node of the tree being merged
	nameTo []uint32 // scratch: per name of it
}

// slot holds a node, found by its parent and name. node is 0 in an empty slot:
// the root is nobody's child. tag is part of the hash, so that other nodes are
// passed over without a look at their columns.
type slot struct {
	tag  uint32
	node int32
}

const unknownName = ^uint32(0)

// start makes the root, and room for about that many names.
func (m *merger) start(names int) {
	if m.ids != nil {
		return
	}
	m.ids = make(map[string]uint32, names)
	m.names = make([]string, 0, names)
	m.mul = rand.Uint64() | 1
	m.name, m.parent = []uint32{0}, []int32{-1}
	m.reserve(100)
}

// merge finds or makes a node for every node of the tree that has a value in
// its subtree, and -1 for the others. The result is valid until the next call.
func (m *merger) merge(names []string, name []uint32, parent []int32, self []int64) []int32 {
	to, live := m.mark(parent, self)
	m.start(min(live, len(names)))
	m.reserve(max(0, live-len(m.name))) // what is there already is likely to come again
	nameTo := slices.Grow(m.nameTo[:0], len(names))[:len(names)]
	m.nameTo = nameTo
	for i := range nameTo {
		nameTo[i] = unknownName
	}
	to[0] = 0
	for i := 1; i < len(to); i++ {
		if to[i] < 0 {
			continue
		}
		n := nameTo[name[i]]
		if n == unknownName {
			n = m.intern(names[name[i]])
			nameTo[name[i]] = n
		}
		to[i] = m.child(to[parent[i]], n)
	}
	return to
}

// mark returns the scratch column with 0 for nodes that have a value in their
// subtree and -1 for the others, and how many have one.
func (m *merger) mark(parent []int32, self []int64) (to []int32, live int) {
	to = slices.Grow(m.to[:0], len(parent))[:len(parent)]
	m.to = to
	for i := range to {
		to[i] = -1
	}
	for i := len(to) - 1; i > 0; i-- {
		if self[i] != 0 {
			to[i] = 0
		}
		if to[i] == 0 {
			to[parent[i]] = 0
			live++
		}
	}
	return to, live
}

func (m *merger) intern(name string) uint32 {
	id, ok := m.ids[name]
	if !ok {
		id = uint32(len(m.names))
		m.ids[name] = id
		m.names = append(m.names, name)
	}
	return id
}

// child returns the node of a name below a parent, made if need be.
func (m *merger) child(parent int32, name uint32) int32 {
	h := m.hash(parent, name)
	tag, mask := uint32(h), uint64(len(m.slots)-1)
	for at := h >> m.shift; ; at++ {
		s := &m.slots[at&mask]
		if s.node == 0 {
			node := int32(len(m.name))
			*s = slot{tag, node}
			m.name = append(m.name, name)
			m.parent = append(m.parent, parent)
			m.reserve(0)
			return node
		}
		if s.tag == tag && m.parent[s.node] == parent && m.name[s.node] == name {
			return s.node
		}
	}
}

// hash spreads a node's identity; its upper bits say where the node is looked
// for first, the lower half is the tag.
func (m *merger) hash(parent int32, name uint32) uint64 {
	hi, lo := bits.Mul64(uint64(uint32(parent))<<32|uint64(name), m.mul)
	return hi ^ lo
}

// reserve makes room for n more nodes.
func (m *merger) reserve(n int) {
	n += len(m.name)
	if 2*n <= len(m.slots) {
		return
	}
	m.name = slices.Grow(m.name, n-len(m.name))
	m.parent = slices.Grow(m.parent, n-len(m.parent))
	size := 1 << bits.Len(uint(2*n))
	m.slots = make([]slot, size)
	m.shift = uint8(64 - bits.TrailingZeros(uint(size)))
	mask := uint64(size - 1)
	for i := 1; i < len(m.name); i++ {
		h := m.hash(m.parent[i], m.name[i])
		at := h >> m.shift
		for m.slots[at&mask].node != 0 {
			at++
		}
		m.slots[at&mask] = slot{uint32(h), int32(i)}
	}
}

// grown returns s with zeros added up to the length n.
func grown(s []int64, n int) []int64 {
	if n <= len(s) {
		return s
	}
	old := len(s)
	s = slices.Grow(s, n-old)[:n]
	clear(s[old:])
	return s
}
