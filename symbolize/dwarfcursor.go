package symbolize

import (
	"bytes"
	"encoding/binary"
)

// dwarfCursor reads values of a section one after the other. Reading past the
// end gives zeros and sets bad, so callers check once per entry.
type dwarfCursor struct {
	b   []byte
	off int
	bad bool
}

// dwarfAt is a cursor at an offset of a section.
func dwarfAt(b []byte, off uint64) dwarfCursor {
	if off > uint64(len(b)) {
		return dwarfCursor{bad: true}
	}
	return dwarfCursor{b: b, off: int(off)}
}

func (c *dwarfCursor) left() int { return len(c.b) - c.off }

func (c *dwarfCursor) fail() { c.bad, c.off = true, len(c.b) }

func (c *dwarfCursor) skip(n uint64) {
	if n > uint64(c.left()) {
		c.fail()
		return
	}
	c.off += int(n)
}

func (c *dwarfCursor) u8() uint8 {
	if c.off >= len(c.b) {
		c.fail()
		return 0
	}
	c.off++
	return c.b[c.off-1]
}

func (c *dwarfCursor) u16() uint16 { return uint16(c.fixed(2)) }
func (c *dwarfCursor) u32() uint32 { return uint32(c.fixed(4)) }
func (c *dwarfCursor) u64() uint64 { return c.fixed(8) }

// fixed reads a little-endian number of 1 to 8 bytes.
func (c *dwarfCursor) fixed(n int) uint64 {
	if n > c.left() {
		c.fail()
		return 0
	}
	b := c.b[c.off : c.off+n]
	c.off += n
	switch n {
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	case 8:
		return binary.LittleEndian.Uint64(b)
	}
	var v uint64
	for i, x := range b {
		v |= uint64(x) << (8 * i)
	}
	return v
}

// word reads an offset or a length: 8 bytes in the format of 64 bits, else 4.
func (c *dwarfCursor) word(wide bool) uint64 {
	if wide {
		return c.u64()
	}
	return uint64(c.u32())
}

// uleb reads an unsigned LEB128 number; bits above 64 are dropped.
func (c *dwarfCursor) uleb() uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		x := c.u8()
		v |= uint64(x&0x7f) << shift
		if x < 0x80 {
			return v
		}
	}
}

// sleb reads a signed LEB128 number.
func (c *dwarfCursor) sleb() int64 {
	var v int64
	for shift := uint(0); ; {
		x := c.u8()
		v |= int64(x&0x7f) << shift
		shift += 7
		if x < 0x80 {
			if x&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v
		}
	}
}

// text reads up to a zero byte, which it skips.
func (c *dwarfCursor) text() []byte {
	n := bytes.IndexByte(c.b[c.off:], 0)
	if n < 0 {
		c.fail()
		return nil
	}
	c.off += n + 1
	return c.b[c.off-n-1 : c.off-1]
}
