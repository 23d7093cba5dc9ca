package profile

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/goinquest/inquest"
)

// The durable form of a Snapshot, version 1:
//
//	"IQS" 0x01
//	8 bytes    first word of the hash key, little-endian
//	8 bytes    second word of the hash key
//	8 bytes    hash of the delta columns' names and units
//	uvarint    number of delta columns
//	uvarint    number of stacks
//	per stack, in ascending order of their hashes:
//	  uvarint  hash, less that of the stack before
//	  varint   value of each delta column (zigzag)
//	8 bytes    XXH64 of all before
//
// A Snapshot that has seen nothing is 0 bytes long.
const (
	snapshotMagic      = "IQS\x01"
	snapshotFixedBytes = len(snapshotMagic) + 3*8 // before the first uvarint
	snapshotSumBytes   = 8
)

// AppendBinary appends the snapshot's durable form to dst, about 8 bytes and
// its values as varints per stack.
func (s *Snapshot) AppendBinary(dst []byte) []byte {
	if !s.taken {
		return dst
	}
	start := len(dst)
	dst = append(dst, snapshotMagic...)
	for _, w := range [...]uint64{s.key[0], s.key[1], s.columns} {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	dst = binary.AppendUvarint(dst, uint64(s.cols))
	dst = binary.AppendUvarint(dst, uint64(len(s.stacks)))
	sorted := slices.Sorted(slices.Values(s.stacks))
	last := uint64(0)
	for _, h := range sorted {
		dst = binary.AppendUvarint(dst, h-last)
		last = h
		for _, v := range s.of(h) {
			dst = binary.AppendVarint(dst, v)
		}
	}
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst[start:]))
}

// UnmarshalBinary reads what AppendBinary wrote; data is not kept. The error
// is of kind ErrInvalid, and s is then as it was.
func (s *Snapshot) UnmarshalBinary(data []byte) error {
	if len(data) == 0 {
		*s = Snapshot{}
		return nil
	}
	if len(data) < snapshotFixedBytes+snapshotSumBytes {
		return badSnapshot("it has %d bytes, too few", len(data))
	}
	if string(data[:len(snapshotMagic)]) != snapshotMagic {
		return badSnapshot("it begins with %q, not %q: not a snapshot of version 1", data[:len(snapshotMagic)], snapshotMagic)
	}
	body, sum := data[:len(data)-snapshotSumBytes], data[len(data)-snapshotSumBytes:]
	if xxhash.Sum64(body) != binary.LittleEndian.Uint64(sum) {
		return badSnapshot("its checksum is wrong")
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(body[len(snapshotMagic)+8*i:]) }
	n := Snapshot{key: hashKey{word(0), word(1)}, columns: word(2), taken: true}
	rest := body[snapshotFixedBytes:]
	cols, w := binary.Uvarint(rest)
	if w <= 0 || cols > maxSampleTypes {
		return badSnapshot("its number of columns is wrong")
	}
	rest = rest[w:]
	stacks, w := binary.Uvarint(rest)
	// Every stack takes one byte for itself and one for each column, at least.
	if w <= 0 || stacks > uint64(len(rest))/(cols+1) {
		return badSnapshot("its number of stacks is wrong")
	}
	n.cols = int(cols)
	if err := n.readStacks(rest[w:], int(stacks)); err != nil {
		return err
	}
	*s = n
	return nil
}

// readStacks fills a new snapshot with the stacks and values in b.
func (s *Snapshot) readStacks(b []byte, n int) error {
	s.stacks = make([]uint64, 0, n)
	s.values = make([]int64, 0, n*s.cols)
	s.makeSlots(n)
	last := uint64(0)
	for i := range n {
		d, w := binary.Uvarint(b)
		h := last + d
		if w <= 0 || i > 0 && h <= last {
			return badSnapshot("stack %d of %d is wrong", i, n)
		}
		b, last = b[w:], h
		slot, _ := s.find(h)
		s.stacks = append(s.stacks, h)
		s.slots[slot] = uint32(i + 1)
		for c := range s.cols {
			v, w := binary.Varint(b)
			if w <= 0 {
				return badSnapshot("value %d of stack %d of %d is wrong", c, i, n)
			}
			s.values = append(s.values, v)
			b = b[w:]
		}
	}
	if len(b) != 0 {
		return badSnapshot("%d bytes are behind its end", len(b))
	}
	return nil
}

func badSnapshot(format string, args ...any) error {
	return inquest.Errorf(inquest.ErrInvalid, "damaged snapshot of cumulative values: "+format, args...)
}
