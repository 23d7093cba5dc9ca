package profile

import "math/bits"

// ids maps the ids of one table of a message to indexes. Ids may be any
// number but 0, in any order. While they come as 1, 2, 3, …, as Go and most
// other producers number them, nothing is stored at all.
type ids struct {
	n      int      // ids added
	sparse []uint64 // by index; empty while ids are dense
	slots  []uint32 // open addressing, index+1, 0 = free; used if sparse
	key    [2]uint64
}

func (t *ids) reset(key [2]uint64) {
	t.n, t.sparse, t.key = 0, t.sparse[:0], key
}

// dense reports whether the id of index i is i+1.
func (t *ids) dense() bool { return len(t.sparse) == 0 }

// add gives the next index to id.
func (t *ids) add(id uint64) {
	t.n++
	if len(t.sparse) == 0 {
		if id == uint64(t.n) {
			return
		}
		for i := range t.n - 1 {
			t.sparse = append(t.sparse, uint64(i+1))
		}
	}
	t.sparse = append(t.sparse, id)
}

// build makes find work. It returns the index of the first id that is 0 or
// was there before, -1 if there is none.
func (t *ids) build() (bad int) {
	if t.dense() {
		return -1
	}
	size := 1 << bits.Len(uint(2*t.n))
	if cap(t.slots) < size {
		t.slots = make([]uint32, size)
	}
	t.slots = t.slots[:size]
	clear(t.slots)
	for i, id := range t.sparse {
		if id == 0 {
			return i
		}
		slot := t.slot(id)
		if t.slots[slot] != 0 {
			return i
		}
		t.slots[slot] = uint32(i + 1)
	}
	return -1
}

// slot finds the slot of id: the one that holds it, else the free one where
// it belongs.
func (t *ids) slot(id uint64) int {
	mask := len(t.slots) - 1
	i := int(mix(id^t.key[0], t.key[1])) & mask
	for t.slots[i] != 0 && t.sparse[t.slots[i]-1] != id {
		i = (i + 1) & mask
	}
	return i
}

// find returns the index of id, ok is false if no entry has it.
func (t *ids) find(id uint64) (index uint32, ok bool) {
	if t.dense() {
		return uint32(id - 1), id-1 < uint64(t.n)
	}
	s := t.slots[t.slot(id)]
	return s - 1, s != 0
}
