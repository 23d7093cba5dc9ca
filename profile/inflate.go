package profile

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// inflater unpacks a usual gzip body in one go: one member, no optional
// header fields, a size trailer that is right. Everything is in memory, so
// there is no window to keep and no state to leave and enter; that makes it
// faster than a streaming reader. Whatever is unusual or wrong it leaves to
// one: it only ever says that it could not.
//
// The format is that of RFC 1951 and 1952. A table entry holds all that a code
// means, by these bits, so that one look-up decodes most symbols:
//
//	literal:   31 set, 16–23 the byte, 0–7 bits of the code
//	length or  16–30 base, 8–11 bits of the code,
//	distance:  0–7 bits of the code and the extra bits behind it
//	sub-table: 15 and 14 set, 16–30 where it begins, 8–11 its bits, 0–7 bits of this table
//	end:       15 set, 0–7 bits of the code
//	no code:   15 set, 0–7 zero
type inflater struct {
	lit  [litTableSize]uint32
	dist [distTableSize]uint32
	pre  [1 << preTableBits]uint32
	lens [maxLitCodes + maxDistCodes + maxRepeat]uint8

	in  []byte
	pos int    // next byte of in
	buf uint64 // bits of in that are not used yet, the next one lowest
	cnt uint   // how many of buf's bits count
	out []byte // length: the promised size and slack behind it
	o   int    // bytes of out written
}

const (
	litTableBits  = 11
	distTableBits = 8
	preTableBits  = 7
	litTableSize  = 4096 // more than the 2342 that 288 codes of 15 bits can need
	distTableSize = 1024 // more than the 402 that 32 codes of 15 bits can need
	maxLitCodes   = 288
	maxDistCodes  = 32
	maxCodeBits   = 15
	maxRepeat     = 138 // longest run one symbol of a code description stands for
	inflateSlack  = 3 + 258 + 16

	entryLiteral  = 1 << 31
	entrySpecial  = 1 << 15
	entrySubTable = 1 << 14

	gzipHeaderBytes  = 10
	gzipTrailerBytes = 8
)

// What symbols mean, as table entries without the bits of their codes.
var (
	litMeaning  = litMeanings()
	distMeaning = distMeanings()
	preMeaning  = preMeanings()
	fixedLens   = fixedLengths()
)

// preOrder is the order in which a block gives the code lengths' lengths.
var preOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func litMeanings() (m [maxLitCodes]uint32) {
	for i := range 256 {
		m[i] = entryLiteral | uint32(i)<<16
	}
	m[256] = entrySpecial
	base := uint32(3)
	for i := 257; i < 285; i++ {
		extra := uint32(0)
		if i >= 265 {
			extra = uint32(i-261) / 4
		}
		m[i] = base<<16 | extra
		base += 1 << extra
	}
	m[285] = 258 << 16
	// 286 and 287 take part in the fixed code but mean nothing.
	m[286], m[287] = noMeaning, noMeaning
	return m
}

func distMeanings() (m [maxDistCodes]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(0)
		if i >= 4 {
			extra = uint32(i-2) / 2
		}
		m[i] = base<<16 | extra
		base += 1 << extra
	}
	m[30], m[31] = noMeaning, noMeaning
	return m
}

func preMeanings() (m [len(preOrder)]uint32) {
	for i := range m {
		m[i] = uint32(i) << 16
	}
	return m
}

// noMeaning marks a code that must not occur.
const noMeaning = ^uint32(0)

func fixedLengths() (l [maxLitCodes + maxDistCodes]uint8) {
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		case i < 288:
			l[i] = 8
		default:
			l[i] = 5
		}
	}
	return l
}

// gunzip unpacks body into dst's memory if that is large enough. It reports
// false, with nothing said about body, if it is not as usual.
func (f *inflater) gunzip(dst, body []byte) ([]byte, bool) {
	if len(body) < gzipHeaderBytes+gzipTrailerBytes || body[0] != 0x1f || body[1] != 0x8b || body[2] != 8 || body[3] != 0 {
		return dst, false
	}
	trailer := body[len(body)-gzipTrailerBytes:]
	promised := binary.LittleEndian.Uint32(trailer[4:])
	if uint64(cap(dst)) < uint64(promised)+inflateSlack {
		return dst, false
	}
	size := int(promised)
	f.in, f.pos, f.buf, f.cnt = body, gzipHeaderBytes, 0, 0
	f.out, f.o = dst[:size+inflateSlack], 0
	ok := f.blocks(size)
	end, n := f.pos-int(f.cnt>>3), f.o
	f.in, f.out = nil, nil
	if !ok || n != size || end != len(body)-gzipTrailerBytes ||
		crc32.ChecksumIEEE(dst[:size]) != binary.LittleEndian.Uint32(trailer) {
		return dst, false
	}
	return dst[:size], true
}

// blocks unpacks all blocks, to at most size bytes.
func (f *inflater) blocks(size int) bool {
	for {
		if !f.need(3) {
			return false
		}
		last := f.take(1) == 1
		ok := false
		switch f.take(2) {
		case 0:
			ok = f.stored(size)
		case 1:
			ok = f.tables(fixedLens[:], maxLitCodes) && f.codes(size)
		case 2:
			ok = f.dynamic() && f.codes(size)
		}
		if !ok || last {
			return ok
		}
	}
}

// need refills buf to at least n (≤ 48) bits, false if the input ends before.
func (f *inflater) need(n uint) bool {
	for f.cnt < 56 && f.pos < len(f.in) {
		f.buf |= uint64(f.in[f.pos]) << f.cnt
		f.pos++
		f.cnt += 8
	}
	return f.cnt >= n
}

// take removes n bits from buf, which has them.
func (f *inflater) take(n uint) uint32 {
	v := uint32(f.buf) & (1<<n - 1)
	f.buf >>= n
	f.cnt -= n
	return v
}

// stored copies a block that is not compressed.
func (f *inflater) stored(size int) bool {
	f.take(f.cnt & 7)
	if !f.need(32) {
		return false
	}
	n, inverse := f.take(16), f.take(16)
	if n != ^inverse&0xffff {
		return false
	}
	f.pos -= int(f.cnt >> 3)
	f.buf, f.cnt = 0, 0
	if int(n) > len(f.in)-f.pos || int(n) > size-f.o {
		return false
	}
	f.o += copy(f.out[f.o:], f.in[f.pos:f.pos+int(n)])
	f.pos += int(n)
	return true
}

// dynamic reads the description of a block's codes.
func (f *inflater) dynamic() bool {
	if !f.need(14) {
		return false
	}
	lits, dists, pres := int(f.take(5))+257, int(f.take(5))+1, int(f.take(4))+4
	if lits > 286 || dists > 30 {
		return false
	}
	var preLens [len(preOrder)]uint8
	for _, i := range preOrder[:pres] {
		if !f.need(3) {
			return false
		}
		preLens[i] = uint8(f.take(3))
	}
	if !buildTable(f.pre[:], preTableBits, preLens[:], preMeaning[:]) {
		return false
	}
	for i := 0; i < lits+dists; {
		if !f.need(14) {
			return false
		}
		e := f.pre[f.buf&(1<<preTableBits-1)]
		if e&entrySpecial != 0 {
			return false
		}
		f.take(uint(e & 0xff))
		value, n := uint8(0), 1
		switch sym := e >> 16; sym {
		case 16:
			if i == 0 {
				return false
			}
			value, n = f.lens[i-1], int(f.take(2))+3
		case 17:
			n = int(f.take(3)) + 3
		case 18:
			n = int(f.take(7)) + 11
		default:
			value = uint8(sym)
		}
		for range n { // lens has room for a run that goes too far
			f.lens[i] = value
			i++
		}
		if i > lits+dists {
			return false
		}
	}
	return f.tables(f.lens[:lits+dists], lits)
}

// tables builds the tables of the codes whose lengths are lens, the first
// lits of them for literals and lengths, the others for distances.
func (f *inflater) tables(lens []uint8, lits int) bool {
	return buildTable(f.lit[:], litTableBits, lens[:lits], litMeaning[:]) &&
		buildTable(f.dist[:], distTableBits, lens[lits:], distMeaning[:])
}

// buildTable makes the look-up table of a canonical Huffman code: the low
// tableBits bits of the input select an entry, or a sub-table for the bits
// behind. A code that leaves bit patterns without meaning is refused, but for
// one of a single symbol with one bit: compressors make that when a block has
// one distance or none.
func buildTable(table []uint32, tableBits uint, lens []uint8, meaning []uint32) bool {
	var count [maxCodeBits + 1]int
	for _, l := range lens {
		count[l]++
	}
	count[0] = 0
	var next [maxCodeBits + 2]int // place of the next symbol of a length in order
	space, codes := 0, 0
	for l := 1; l <= maxCodeBits; l++ {
		space += count[l] << (maxCodeBits - l)
		next[l+1] = next[l] + count[l]
		codes += count[l]
	}
	single := codes == 1 && count[1] == 1
	if space != 1<<maxCodeBits && !single {
		return false
	}
	var order [maxLitCodes]uint16
	for sym, l := range lens {
		if l != 0 {
			order[next[l]] = uint16(sym)
			next[l]++
		}
	}
	if single {
		for i := range 1 << tableBits {
			table[i] = entrySpecial
		}
	}
	return fillTable(table, tableBits, &count, order[:codes], meaning)
}

// fillTable enters the symbols in order of their codes; count is how many
// there are of each length.
func fillTable(table []uint32, tableBits uint, count *[maxCodeBits + 1]int, order []uint16, meaning []uint32) bool {
	code, length := uint32(0), uint(1)
	free := 1 << tableBits // first entry behind the table and its sub-tables
	prefix, sub, subBits := ^uint32(0), 0, uint(0)
	for _, sym := range order {
		for count[length] == 0 {
			length++
			code <<= 1
		}
		reversed := uint32(bits.Reverse16(uint16(code))) >> (16 - length)
		entry := coded(meaning[sym], length)
		if length <= tableBits {
			for i := reversed; i < 1<<tableBits; i += 1 << length {
				table[i] = entry
			}
		} else {
			if p := reversed & (1<<tableBits - 1); p != prefix {
				// As many bits as it takes until codes fill the sub-table.
				prefix, sub, subBits = p, free, length-tableBits
				for used := count[length]; used < 1<<subBits && tableBits+subBits < maxCodeBits; {
					subBits++
					used = used<<1 + count[tableBits+subBits]
				}
				free += 1 << subBits
				if free > len(table) {
					return false
				}
				table[p] = entrySpecial | entrySubTable | uint32(sub)<<16 | uint32(subBits)<<8 | uint32(tableBits)
			}
			entry = coded(meaning[sym], length-tableBits)
			for i := reversed >> tableBits; i < 1<<subBits; i += 1 << (length - tableBits) {
				table[sub+int(i)] = entry
			}
		}
		count[length]--
		code++
	}
	return true
}

// coded adds the bits of a code to what its symbol means.
func coded(meaning uint32, length uint) uint32 {
	if meaning == noMeaning {
		return entrySpecial
	}
	if meaning&(entryLiteral|entrySpecial) != 0 {
		return meaning | uint32(length)
	}
	return meaning + uint32(length)<<8 + uint32(length)
}
