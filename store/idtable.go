package store

import "math/bits"

// idTable maps 64-bit keys to ids by open addressing. The zero value is
// ready. Keys are mixed here, so that they may be ids put together.
//
// The order of slots is that of the mixed keys, so that a larger table is
// filled from its beginning to its end, and tables grow by half.
type idTable struct {
	slots []idSlot
	n     int
}

// idSlot has the halves of its key apart, since it would take 16 bytes
// otherwise: nearly every look-up is a cache miss, and here it is only one.
type idSlot struct {
	low, high uint32
	id        uint32 // id + 1, 0 = empty
}

func (t *idTable) get(key uint64) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	for i := slot(key, len(t.slots)); ; {
		s := &t.slots[i]
		if s.id == 0 {
			return 0, false
		}
		if s.low == uint32(key) && s.high == uint32(key>>32) {
			return s.id - 1, true
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// put adds a key that is not there.
func (t *idTable) put(key uint64, id uint32) {
	if t.n*4 >= len(t.slots)*3 {
		t.grow()
	}
	t.place(idSlot{uint32(key), uint32(key >> 32), id + 1})
	t.n++
}

func (t *idTable) place(s idSlot) {
	i := slot(uint64(s.high)<<32|uint64(s.low), len(t.slots))
	for t.slots[i].id != 0 {
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	t.slots[i] = s
}

func (t *idTable) grow() {
	old := t.slots
	t.slots = make([]idSlot, max(8, len(old)+len(old)/2))
	for _, s := range old {
		if s.id != 0 {
			t.place(s)
		}
	}
}

// slot spreads keys over a table of n slots. Keys that outsiders choose are
// keyed hashes or ids we gave out, so a fixed multiplier does.
func slot(key uint64, n int) int {
	i, _ := bits.Mul64(key*0x9e3779b97f4a7c15, uint64(n))
	return int(i)
}

// childIndex finds the children of a tree's nodes by a label, of which each
// child of a node has another one. Most nodes have one child, and chains of
// them are added at once, so the first child of each node stands in a column:
// neighbours in memory, where a table would be a cache miss for each. The zero
// value is ready; node 0 is the root, and no child.
type childIndex struct {
	first []uint32 // by node, 0 = no child; may be shorter than the tree
	more  idTable  // parent<<32 | label → other children
}

// find returns the child of a node that has a label. labels are those of all
// nodes.
func (x *childIndex) find(parent, label uint32, labels []uint32) (child uint32, ok bool) {
	if int(parent) >= len(x.first) || x.first[parent] == 0 {
		return 0, false
	}
	if child = x.first[parent]; labels[child] == label {
		return child, true
	}
	return x.more.get(uint64(parent)<<32 | uint64(label))
}

// add adds a child that find did not find.
func (x *childIndex) add(parent, label, child uint32) {
	for len(x.first) <= int(child) {
		x.first = append(x.first, 0)
	}
	if x.first[parent] == 0 {
		x.first[parent] = child
		return
	}
	x.more.put(uint64(parent)<<32|uint64(label), child)
}
