package coredump

import (
	"bytes"
	"encoding/binary"
)

// pattern is text to be found, and from where on it is to be blanked.
type pattern struct {
	text []byte
	from int
}

// matcher finds many patterns at once. It looks at four bytes at a time, and not
// at every place: as many places apart as still see one of the first windows of
// each pattern's end. The rest is left to a comparison.
type matcher struct {
	patterns []pattern
	stride   int
	marks    [1 << windowBits]uint8 // by hash of four bytes: 1 if a pattern has them
	heads    map[uint32][]window    // by hash
}

// window is four bytes of a pattern.
type window struct {
	pattern, offset int
}

const (
	windowBits = 14 // the table stays in the processor's first cache
	windowSize = 4
	maxStride  = 13
)

// newMatcher makes a matcher of patterns of at least four bytes; nil if there
// are none.
func newMatcher(patterns []pattern) *matcher {
	if len(patterns) == 0 {
		return nil
	}
	m := &matcher{patterns: patterns, stride: maxStride, heads: map[uint32][]window{}}
	for _, p := range patterns {
		m.stride = min(m.stride, len(p.text)-windowSize+1)
	}
	for i, p := range patterns {
		// Ends are less alike than beginnings: addresses, paths, names.
		first := len(p.text) - windowSize - m.stride + 1
		for off := first; off < first+m.stride; off++ {
			h := hash4(binary.LittleEndian.Uint32(p.text[off:]))
			m.marks[h] = 1
			m.heads[h] = append(m.heads[h], window{i, off})
		}
	}
	return m
}

func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - windowBits) }

// find calls yield for each place in b where a pattern is.
func (m *matcher) find(b []byte, yield func(at int, p *pattern)) {
	i, s := 0, m.stride
	for ; i+3*s+windowSize <= len(b); i += 4 * s {
		w := b[i : i+3*s+windowSize]
		h0, h1 := hash4(binary.LittleEndian.Uint32(w)), hash4(binary.LittleEndian.Uint32(w[s:]))
		h2, h3 := hash4(binary.LittleEndian.Uint32(w[2*s:])), hash4(binary.LittleEndian.Uint32(w[3*s:]))
		if m.marks[h0]|m.marks[h1]|m.marks[h2]|m.marks[h3] != 0 {
			m.compare(b, i, h0, yield)
			m.compare(b, i+s, h1, yield)
			m.compare(b, i+2*s, h2, yield)
			m.compare(b, i+3*s, h3, yield)
		}
	}
	for ; i+windowSize <= len(b); i += s {
		m.compare(b, i, hash4(binary.LittleEndian.Uint32(b[i:])), yield)
	}
}

// compare looks for the patterns that have a window of this hash at i.
func (m *matcher) compare(b []byte, i int, h uint32, yield func(at int, p *pattern)) {
	if m.marks[h] == 0 {
		return
	}
	for _, w := range m.heads[h] {
		p := &m.patterns[w.pattern]
		if at := i - w.offset; at >= 0 && at+len(p.text) <= len(b) && bytes.Equal(b[at:at+len(p.text)], p.text) {
			yield(at, p)
		}
	}
}
