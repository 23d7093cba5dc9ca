package profile

import (
	"encoding/binary"
	"unsafe"
)

// codes unpacks the symbols of one block until its end, to at most size
// bytes in all. The slack behind out lets it check for the end of out once
// per round and copy in words.
//
// It reads and writes without bounds checks: slices take so many registers
// that buf would live in memory, which takes a sixth longer. What holds
// instead: words of in are read at pos <= len(in)-8; a round begins with o <=
// size and writes up to two literals and a match of 258 bytes in words, less
// than the slack; a match begins at 0 or behind, as distance <= o. Of cnt only
// the low eight bits count, so that an entry can be subtracted as it is.
func (f *inflater) codes(size int) bool {
	in, out := unsafe.Pointer(unsafe.SliceData(f.in)), unsafe.Pointer(unsafe.SliceData(f.out))
	end := len(f.in) - 8
	pos, buf, cnt, o := f.pos, f.buf, uint64(f.cnt), f.o
	for o <= size {
		// A length and distance take at most 48 bits: 15 + 5, 15 + 13. Bits of buf
		// beyond cnt are those that follow in the input, so reading them again
		// does no harm.
		if pos <= end {
			buf |= load64(in, pos) << (cnt & 63)
			pos += int((63 - cnt) >> 3 & 7)
			cnt |= 56
		} else {
			var c uint
			if pos, buf, c = refillTail(f.in, pos, buf, uint(cnt&0xff)); c < 48 {
				return false
			}
			cnt = uint64(c)
		}
		e := f.lit[buf&(1<<litTableBits-1)]
		if e&entryLiteral != 0 {
			// Up to two literals in a round: 22 bits.
			store8(out, o, byte(e>>16))
			o++
			buf >>= e & 63
			cnt -= uint64(e)
			if e = f.lit[buf&(1<<litTableBits-1)]; e&entryLiteral != 0 {
				store8(out, o, byte(e>>16))
				o++
				buf >>= e & 63
				cnt -= uint64(e)
				if e = f.lit[buf&(1<<litTableBits-1)]; e&entryLiteral != 0 {
					continue
				}
			}
			// The refill leaves the bits that e was looked up by.
			if pos > end {
				continue
			}
			buf |= load64(in, pos) << (cnt & 63)
			pos += int((63 - cnt) >> 3 & 7)
			cnt |= 56
		}
		if e&entrySpecial != 0 {
			if e&entrySubTable != 0 {
				buf >>= litTableBits
				cnt -= litTableBits
				e = f.lit[(e>>16&0x7fff+uint32(buf)&(1<<(e>>8&15)-1))&(litTableSize-1)]
				if e&entryLiteral != 0 {
					store8(out, o, byte(e>>16))
					o++
					buf >>= e & 63
					cnt -= uint64(e)
					continue
				}
			}
			if e&entrySpecial != 0 {
				return f.leave(pos, o, buf, uint(cnt&0xff), uint(e&63))
			}
		}
		length := int(e>>16&0x7fff + uint32(buf&(1<<(e&63)-1)>>(e>>8&15)))
		buf >>= e & 63
		cnt -= uint64(e)

		e = f.dist[buf&(1<<distTableBits-1)]
		if e&entrySpecial != 0 {
			if e&entrySubTable == 0 {
				return false
			}
			buf >>= distTableBits
			cnt -= distTableBits
			if e = f.dist[(e>>16&0x7fff+uint32(buf)&(1<<(e>>8&15)-1))&(distTableSize-1)]; e&entrySpecial != 0 {
				return false
			}
		}
		distance := int(e>>16&0x7fff + uint32(buf&(1<<(e&63)-1)>>(e>>8&15)))
		buf >>= e & 63
		cnt -= uint64(e)
		if distance > o {
			return false
		}
		if distance < 8 {
			o = copyNear(f.out, o, distance, length)
			continue
		}
		from := o - distance
		// Words may go beyond the match; two at once cost less than a wrong guess.
		store64(out, o, load64(out, from))
		store64(out, o+8, load64(out, from+8))
		for i := 16; i < length; i += 8 {
			store64(out, o+i, load64(out, from+i))
		}
		o += length
	}
	return false
}

func load64(p unsafe.Pointer, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, i))[:])
}

func store64(p unsafe.Pointer, i int, v uint64) {
	binary.LittleEndian.PutUint64((*[8]byte)(unsafe.Add(p, i))[:], v)
}

func store8(p unsafe.Pointer, i int, v byte) { *(*byte)(unsafe.Add(p, i)) = v }

// copyNear copies a match that overlaps itself within a word, and returns
// where it ends.
func copyNear(out []byte, o, distance, length int) int {
	end := o + length
	for ; o < end; o++ {
		out[o] = out[o-distance]
	}
	return end
}

// refillTail is the refill of the last eight bytes of the input.
func refillTail(in []byte, pos int, buf uint64, cnt uint) (int, uint64, uint) {
	for cnt < 56 && pos < len(in) {
		buf |= uint64(in[pos]) << cnt
		pos++
		cnt += 8
	}
	return pos, buf, cnt
}

// trim clears the bits of buf beyond cnt, which codes leaves there.
func (f *inflater) trim() { f.buf &= 1<<f.cnt - 1 }

// leave ends a block after a code of n bits, 0 for one without meaning.
func (f *inflater) leave(pos, o int, buf uint64, cnt, n uint) bool {
	f.pos, f.buf, f.cnt, f.o = pos, buf>>n, cnt-n, o
	f.trim()
	return n != 0
}
