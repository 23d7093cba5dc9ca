package store

import (
	"math/bits"
	"slices"
	"sort"
)

// keyTable knows, of keys without any order in them, which block may have one.
// Of each key it keeps bits of a hash that nobody outside can compute, and the
// number of its block. It may point to a block that does not have the key, but
// never misses one that has.
//
// While it grows it is sorted numbers of 8 bytes a key. Packed, it is 3.3 bytes
// a key, and of 4,000 keys that it does not have one points to some blocks.
type keyTable struct {
	sorted []uint64 // hash << blockBits | block
	recent []uint64 // the same; the newest
	packed packedKeys
}

const blockBits = 16 // of a block's number; the hash has the others

// packedKeys are keys by the first bits of their hash, the bucket: of each the
// 16 bits that follow, and the number of its block without its lowest bits.
type packedKeys struct {
	bits  int      // that name a bucket
	shift int      // lowest bits of block numbers that are left out
	ends  []uint32 // of the buckets
	rest  []uint16
	block []uint8
}

const bucketKeys = 16 // on average, at most

// add takes the keys of a block: their hashes, in any order, which it keeps.
func (t *keyTable) add(hashes []uint64, block int) {
	for i, h := range hashes {
		hashes[i] = h>>blockBits<<blockBits | uint64(block)
	}
	slices.Sort(hashes)
	t.recent = mergeSorted(t.recent, hashes)
	if len(t.recent) > len(t.sorted)/8+1<<12 {
		t.sorted, t.recent = mergeSorted(t.sorted, t.recent), nil
	}
}

func mergeSorted(a, b []uint64) []uint64 {
	if len(a) == 0 {
		return b
	}
	out := make([]uint64, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] <= b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// pack makes the table small; nothing is added afterwards.
func (t *keyTable) pack(blocks int) {
	all := mergeSorted(t.sorted, t.recent)
	t.sorted, t.recent = nil, nil
	if len(all) == 0 {
		return
	}
	p := packedKeys{
		bits:  bits.Len(uint((len(all) - 1) / bucketKeys)),
		shift: max(0, bits.Len(uint(blocks-1))-8),
		rest:  make([]uint16, len(all)),
		block: make([]uint8, len(all)),
	}
	p.ends = make([]uint32, 1<<p.bits)
	for i, e := range all {
		b, rest := p.split(e)
		p.rest[i], p.block[i] = rest, uint8(e&(1<<blockBits-1)>>p.shift)
		p.ends[b] = uint32(i + 1)
	}
	for i := 1; i < len(p.ends); i++ {
		p.ends[i] = max(p.ends[i], p.ends[i-1])
	}
	t.packed = p
}

func (p *packedKeys) split(hash uint64) (bucket uint64, rest uint16) {
	return hash >> (64 - p.bits), uint16(hash << p.bits >> 48)
}

// blocks calls f with the numbers of blocks that may have a key, from up to,
// not including, until. Numbers that no block has may be among them.
func (t *keyTable) blocks(hash uint64, f func(from, until int)) {
	low := hash >> blockBits << blockBits
	for _, list := range [...][]uint64{t.sorted, t.recent} {
		for i := sort.Search(len(list), func(i int) bool { return list[i] >= low }); i < len(list) && list[i]>>blockBits == low>>blockBits; i++ {
			n := int(list[i] & (1<<blockBits - 1))
			f(n, n+1)
		}
	}
	p := &t.packed
	if len(p.rest) == 0 {
		return
	}
	bucket, rest := p.split(hash)
	from := uint32(0)
	if bucket > 0 {
		from = p.ends[bucket-1]
	}
	for i := from; i < p.ends[bucket]; i++ {
		if p.rest[i] == rest {
			n := int(p.block[i]) << p.shift
			f(n, n+1<<p.shift)
		}
	}
}

func (t *keyTable) len() int { return len(t.sorted) + len(t.recent) + len(t.packed.rest) }

func (t *keyTable) memory() int64 {
	p := &t.packed
	return sliceBytes(t.sorted) + sliceBytes(t.recent) + sliceBytes(p.ends) + sliceBytes(p.rest) + sliceBytes(p.block)
}
