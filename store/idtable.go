package store

// idTable maps 64-bit keys to ids by open addressing. The zero value is
// ready. Keys are mixed here, so that they may be ids put together.
type idTable struct {
	keys []uint64
	ids  []uint32 // id + 1, 0 = empty
	n    int
}

func (t *idTable) get(key uint64) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	mask := uint64(len(t.ids) - 1)
	for i := slot(key) & mask; ; i = (i + 1) & mask {
		if t.ids[i] == 0 {
			return 0, false
		}
		if t.keys[i] == key {
			return t.ids[i] - 1, true
		}
	}
}

// put adds a key that is not there.
func (t *idTable) put(key uint64, id uint32) {
	if t.n*3 >= len(t.ids)*2 {
		t.grow()
	}
	t.place(key, id+1)
	t.n++
}

func (t *idTable) place(key uint64, stored uint32) {
	mask := uint64(len(t.ids) - 1)
	i := slot(key) & mask
	for t.ids[i] != 0 {
		i = (i + 1) & mask
	}
	t.keys[i], t.ids[i] = key, stored
}

func (t *idTable) grow() {
	keys, ids := t.keys, t.ids
	size := max(8, 2*len(ids))
	t.keys, t.ids = make([]uint64, size), make([]uint32, size)
	for i, id := range ids {
		if id != 0 {
			t.place(keys[i], id)
		}
	}
}

// slot spreads a key over the table. Keys that outsiders choose are keyed
// hashes or ids we gave out, so a fixed multiplier does.
func slot(key uint64) uint64 {
	key *= 0x9e3779b97f4a7c15
	return key ^ key>>32
}
