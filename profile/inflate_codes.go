package profile

import "encoding/binary"

// codes unpacks the symbols of one block until its end, to at most size
// bytes in all. The slack behind out lets it check for the end of out once
// per round and copy in words.
func (f *inflater) codes(size int) bool {
	in, out := f.in, f.out
	pos, buf, cnt, o := f.pos, f.buf, f.cnt, f.o
	lit, dist := &f.lit, &f.dist
	for o <= size {
		// A round takes at most 48 bits: a length of 15 + 5, a distance of
		// 15 + 13. Bits of buf beyond cnt are those that follow in the input, so
		// reading them again does no harm.
		if pos+8 <= len(in) {
			buf |= binary.LittleEndian.Uint64(in[pos:]) << (cnt & 63)
			pos += int((63 - cnt) >> 3)
			cnt |= 56
		} else if pos, buf, cnt = refillTail(in, pos, buf, cnt); cnt < 48 {
			return false
		}
		e := lit[buf&(1<<litTableBits-1)]
		if e&entryLiteral != 0 {
			// Up to three literals in a round: 33 bits.
			out[o] = byte(e >> 16)
			o++
			buf >>= e & 63
			cnt -= uint(e & 63)
			if e = lit[buf&(1<<litTableBits-1)]; e&entryLiteral == 0 {
				continue
			}
			out[o] = byte(e >> 16)
			o++
			buf >>= e & 63
			cnt -= uint(e & 63)
			if e = lit[buf&(1<<litTableBits-1)]; e&entryLiteral == 0 {
				continue
			}
			out[o] = byte(e >> 16)
			o++
			buf >>= e & 63
			cnt -= uint(e & 63)
			continue
		}
		if e&entrySpecial != 0 {
			if e&entrySubTable != 0 {
				buf >>= litTableBits
				cnt -= litTableBits
				e = lit[(e>>16&0x7fff+uint32(buf)&(1<<(e>>8&15)-1))&(litTableSize-1)]
				if e&entryLiteral != 0 {
					out[o] = byte(e >> 16)
					o++
					buf >>= e & 63
					cnt -= uint(e & 63)
					continue
				}
			}
			if e&entrySpecial != 0 {
				n := uint(e & 63)
				f.pos, f.buf, f.cnt, f.o = pos, buf>>n, cnt-n, o
				f.trim()
				return n != 0 // 0: a code without meaning
			}
		}
		extra := uint32(buf>>(e>>8&15)) & (1<<(e&63-e>>8&15) - 1)
		length := int(e>>16&0x7fff + extra)
		buf >>= e & 63
		cnt -= uint(e & 63)

		e = dist[buf&(1<<distTableBits-1)]
		if e&entrySpecial != 0 {
			if e&entrySubTable == 0 {
				return false
			}
			buf >>= distTableBits
			cnt -= distTableBits
			if e = dist[(e>>16&0x7fff+uint32(buf)&(1<<(e>>8&15)-1))&(distTableSize-1)]; e&entrySpecial != 0 {
				return false
			}
		}
		extra = uint32(buf>>(e>>8&15)) & (1<<(e&63-e>>8&15) - 1)
		distance := int(e>>16&0x7fff + extra)
		buf >>= e & 63
		cnt -= uint(e & 63)
		if distance > o {
			return false
		}
		if distance < 8 {
			o = copyNear(out, o, distance, length)
			continue
		}
		// Words may go beyond the match, as far as the slack.
		from, end := o-distance, o+length
		for ; o < end; o += 8 {
			binary.LittleEndian.PutUint64(out[o:], binary.LittleEndian.Uint64(out[from:]))
			from += 8
		}
		o = end
	}
	return false
}

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
