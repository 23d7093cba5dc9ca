package profile

// contentIndex finds the index of an entry by the hash of its content. Equal
// hashes are told apart by the caller. The zero value is empty.
type contentIndex struct {
	slots []contentSlot // open addressing; length a power of two, at most 3/4 full
	n     int
}

type contentSlot struct {
	hash  uint64
	entry uint32 // index + 1, 0 = free
}

// find returns the first entry of the hash that is the one looked for.
func (x *contentIndex) find(h uint64, is func(entry uint32) bool) (entry uint32, found bool) {
	if x.n == 0 {
		return 0, false
	}
	mask := len(x.slots) - 1
	for i := int(h) & mask; x.slots[i].entry != 0; i = (i + 1) & mask {
		if s := &x.slots[i]; s.hash == h && is(s.entry-1) {
			return s.entry - 1, true
		}
	}
	return 0, false
}

// add adds an entry that find did not find.
func (x *contentIndex) add(h uint64, entry uint32) {
	x.grow(1)
	x.put(contentSlot{h, entry + 1})
	x.n++
}

// grow makes room for n entries more.
func (x *contentIndex) grow(n int) {
	size := max(64, len(x.slots))
	for 4*(x.n+n) > 3*size {
		size *= 2
	}
	if size == len(x.slots) {
		return
	}
	old := x.slots
	x.slots = make([]contentSlot, size)
	for _, s := range old {
		if s.entry != 0 {
			x.put(s)
		}
	}
}

func (x *contentIndex) put(s contentSlot) {
	mask := len(x.slots) - 1
	i := int(s.hash) & mask
	for x.slots[i].entry != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = s
}
