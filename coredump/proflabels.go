package coredump

// profLabels reads the labels of runtime/pprof that goroutines have.
type profLabels struct {
	m       *words
	release int
	known   map[uint64]map[string]string
	bytes   int
	cut     bool
}

const (
	maxLabels      = 64      // of a goroutine
	maxLabelSets   = 1 << 14 // that differ
	maxLabelBytes  = 512     // of a key or value
	maxLabelsBytes = 8 << 20 // of all

	// A map of strings by strings as it was until Go 1.23 (runtime/map.go).
	mapB           = 9  // log2 of the number of buckets
	mapBuckets     = 16 // address
	mapOldBuckets  = 24
	mapSlots       = 8
	mapBucketBytes = mapSlots + mapSlots*32 + 8
	mapMinTop      = 5
	maxMapBuckets  = 64
)

// read returns the labels at an address; they are shared.
func (ls *profLabels) read(addr uint64) map[string]string {
	if addr == 0 {
		return nil
	}
	out, ok := ls.known[addr]
	if ok {
		return out
	}
	if len(ls.known) >= maxLabelSets || ls.bytes >= maxLabelsBytes {
		ls.cut = true
		return nil
	}
	out = map[string]string{}
	if ls.release >= 24 {
		ls.list(out, addr)
	} else {
		ls.table(out, addr)
	}
	if len(out) == 0 {
		out = nil
	}
	ls.known[addr] = out
	return out
}

// list reads a slice of pairs of strings, as labels are since Go 1.24.
func (ls *profLabels) list(out map[string]string, addr uint64) {
	at, ok1 := ls.m.word(addr)
	n, ok2 := ls.m.word(addr + 8)
	room, ok3 := ls.m.word(addr + 16)
	if !ok1 || !ok2 || !ok3 || n > room {
		return
	}
	for i := range min(n, maxLabels) {
		ls.pair(out, at+i*32, at+i*32+16)
	}
}

// table reads a pointer to a map, as labels were before.
func (ls *profLabels) table(out map[string]string, addr uint64) {
	at, ok := ls.m.word(addr)
	head := ls.m.read(make([]byte, 0, 48), at, 48)
	if !ok || head == nil {
		return
	}
	b := min(head[mapB], 6)
	f := gFields{head}
	buckets, old := f.word(mapBuckets), f.word(mapOldBuckets)
	left := maxMapBuckets
	for i := range uint64(1) << b {
		ls.bucket(out, buckets+i*mapBucketBytes, &left)
	}
	for i := range uint64(1) << (max(b, 1) - 1) {
		if old != 0 {
			ls.bucket(out, old+i*mapBucketBytes, &left)
		}
	}
}

// bucket reads a bucket and those that it overflowed to.
func (ls *profLabels) bucket(out map[string]string, at uint64, left *int) {
	for ; at != 0 && *left > 0; *left-- {
		var tops [mapSlots]byte
		b := ls.m.read(tops[:0], at, mapSlots)
		if b == nil {
			return
		}
		copy(tops[:], b)
		for i, top := range tops {
			if key := at + mapSlots + uint64(i)*16; top >= mapMinTop && len(out) < maxLabels {
				ls.pair(out, key, key+mapSlots*16)
			}
		}
		at, _ = ls.m.word(at + mapBucketBytes - 8)
	}
}

// pair takes the strings whose headers are at two addresses.
func (ls *profLabels) pair(out map[string]string, key, value uint64) {
	k, ok1 := ls.text(key)
	v, ok2 := ls.text(value)
	if !ok2 {
		v = "?"
	}
	if ok1 && k != "" {
		out[k] = v
	}
}

func (ls *profLabels) text(header uint64) (string, bool) {
	at, ok1 := ls.m.word(header)
	n, ok2 := ls.m.word(header + 8)
	if !ok1 || !ok2 || n > maxAddr {
		return "", false
	}
	n = min(n, maxLabelBytes)
	if n == 0 {
		return "", true
	}
	b := ls.m.read(make([]byte, 0, n), at, n)
	ls.bytes += len(b)
	return valid(string(b)), b != nil
}
