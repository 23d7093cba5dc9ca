package store

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"unsafe"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func updateChecksum(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendVarint(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// cursor reads what the append functions wrote. After the first thing that
// cannot be read, bad is set and everything reads as zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() {
	c.bad = true
	c.b = nil
}

func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := c.b[0]
		c.b = c.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 { return unzigzag(c.uvarint()) }

// varints reads as many numbers as dst has room for.
func (c *cursor) varints(dst []int64) {
	b, at := c.b, 0
	for i := range dst {
		if at < len(b) && b[at] < 0x80 {
			dst[i] = unzigzag(uint64(b[at]))
			at++
			continue
		}
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			clear(dst[i:])
			c.fail()
			return
		}
		dst[i] = unzigzag(v)
		at += n
	}
	c.b = b[at:]
}

// ids reads as many references as dst has room for.
func (c *cursor) ids(dst []uint32, limit int) {
	b, at := c.b, 0
	for i := range dst {
		var v uint64
		n := 1
		if at < len(b) && b[at] < 0x80 {
			v = uint64(b[at])
		} else {
			v, n = binary.Uvarint(b[at:])
		}
		if n <= 0 || v >= uint64(limit) {
			clear(dst[i:])
			c.fail()
			return
		}
		dst[i] = uint32(v)
		at += n
	}
	c.b = b[at:]
}

// skip passes over n numbers, whatever they are.
func (c *cursor) skip(n int) {
	b := c.b
	for len(b) >= 8 {
		ends := bits.OnesCount64(^binary.LittleEndian.Uint64(b) & 0x8080808080808080)
		if ends >= n {
			break
		}
		n -= ends
		b = b[8:]
	}
	for ; n > 0; b = b[1:] {
		if len(b) == 0 {
			c.fail()
			return
		}
		if b[0] < 0x80 {
			n--
		}
	}
	c.b = b
}

// id reads a reference, which must be below limit.
func (c *cursor) id(limit int) uint32 {
	v := c.uvarint()
	if v >= uint64(limit) {
		c.fail()
		return 0
	}
	return uint32(v)
}

// count reads a number of things that each take at least one more byte.
func (c *cursor) count() int {
	v := c.uvarint()
	if v > uint64(len(c.b)) {
		c.fail()
		return 0
	}
	return int(v)
}

// bounded reads a number that must not exceed limit.
func (c *cursor) bounded(limit int) int {
	v := c.uvarint()
	if v > uint64(limit) {
		c.fail()
		return 0
	}
	return int(v)
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail()
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) string() string { return string(c.bytes(c.count())) }

// text views bytes that nobody changes any more as a string.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// appendStrings writes the lengths of all strings and then their bytes.
func appendStrings(dst []byte, ss []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ss)))
	for _, s := range ss {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
	}
	for _, s := range ss {
		dst = append(dst, s...)
	}
	return dst
}

// strings reads what appendStrings wrote. The strings share the cursor's
// memory, which must not change.
func (c *cursor) strings() []string {
	n := c.count()
	lens := c.b
	var total uint64
	for range n {
		l := c.uvarint()
		if total += l; total > maxStreamBytes {
			c.fail()
		}
	}
	body := c.bytes(int(total))
	if c.bad {
		return nil
	}
	out := make([]string, n)
	at := cursor{b: lens}
	for i := range out {
		l := int(at.uvarint())
		out[i] = text(body[:l])
		body = body[l:]
	}
	return out
}

// bitWriter packs mantissas: the bits of a value below its highest one, from
// the lowest bit of each byte up. Bit lengths are kept elsewhere, a byte each.
type bitWriter struct {
	out  []byte
	acc  uint64 // bits that do not make eight bytes yet
	fill uint   // how many they are
}

func (w *bitWriter) write(v uint64, n uint) {
	if n == 0 {
		return
	}
	w.acc |= v << w.fill
	if w.fill+n >= 64 {
		w.out = binary.LittleEndian.AppendUint64(w.out, w.acc)
		w.acc = v >> (64 - w.fill) // n < 64, so some bits were in acc before
		w.fill = w.fill + n - 64
		return
	}
	w.fill += n
}

func (w *bitWriter) finish() []byte {
	for n := (w.fill + 7) / 8; n > 0; n-- {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
	w.acc, w.fill = 0, 0
	return w.out
}

// bitReader reads mantissas. b ends with bitPad bytes that belong to no value,
// so that no read has to look for the end; the caller checks beforehand that
// the lengths add up to no more than what is there.
type bitReader struct {
	b   []byte
	pos uint
}

const bitPad = 9

func (r *bitReader) read(n uint) uint64 {
	i := r.pos >> 3
	shift := r.pos & 7
	v := binary.LittleEndian.Uint64(r.b[i:]) >> shift
	if n > 56 && shift > 0 {
		v |= uint64(r.b[i+8]) << (64 - shift)
	}
	r.pos += n
	return v & (1<<n - 1)
}

// value reads the value of a bit length between 1 and 64.
func (r *bitReader) value(length uint8) uint64 {
	n := uint(length) - 1
	return 1<<n | r.read(n)
}

func bitLength(v uint64) uint8 { return uint8(bits.Len64(v)) }
