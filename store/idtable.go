package store

// tableSlotBytes is about what one entry of an idTable takes.
const tableSlotBytes = 27

// idTable maps 64-bit keys to ids by open addressing. The zero value is
// ready. Keys are mixed here, so that they may be ids put together. Key and id
// lie together, so that a look-up in a large table is one cache miss.
type idTable struct {
	slots []idSlot
	n     int
}

type idSlot struct {
	key uint64
	id  uint32 // id + 1, 0 = empty
}

func (t *idTable) get(key uint64) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	mask := uint64(len(t.slots) - 1)
	for i := slot(key) & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.id == 0 {
			return 0, false
		}
		if s.key == key {
			return s.id - 1, true
		}
	}
}

// put adds a key that is not there.
func (t *idTable) put(key uint64, id uint32) {
	if t.n*3 >= len(t.slots)*2 {
		t.grow()
	}
	t.place(idSlot{key, id + 1})
	t.n++
}

func (t *idTable) place(s idSlot) {
	mask := uint64(len(t.slots) - 1)
	i := slot(s.key) & mask
	for t.slots[i].id != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *idTable) grow() {
	old := t.slots
	t.slots = make([]idSlot, max(64, 2*len(old)))
	for _, s := range old {
		if s.id != 0 {
			t.place(s)
		}
	}
}

// slot spreads a key over the table. Keys that outsiders choose are keyed
// hashes or ids we gave out, so a fixed multiplier does.
func slot(key uint64) uint64 {
	key *= 0x9e3779b97f4a7c15
	return key ^ key>>32
}
