package symbolize

import (
	"encoding/binary"
	"math/bits"

	"github.com/goinquest/inquest"
)

// The layout of a table of native functions. Numbers are uvarints unless said
// otherwise; a column is a count, a byte w and count little-endian numbers of w bytes.
//
//	magic, with the version in its last byte
//	length and text: what could not be read of the debug information
//	names: length and text of all one after the other, column of their ends
//	files: the same; the first is "", an unknown file
//	functions by name: columns of name, line of the declaration, source
//	nodes, callers first: columns of function, caller + 1 (0: none), file and line of the call
//	segments: count, column of the first address of each block, column of where its bytes
//	begin, length and bytes of all blocks
//
// A block has up to nativeBlock segments. Each is the distance to the address before
// times 4, with bit 0 set if a node and bit 1 if a file follows; the
// difference of lines as a zigzag varint; that of nodes and that of files
// likewise. A block begins at differences from 0, its first distance is 0.
const (
	nativeMagic = "INQNAT\x00\x01"
	nativeBlock = 16
)

// nativeTexts are strings in the order they are added, equal neighbours once.
type nativeTexts struct {
	text []byte
	ends []uint64
	last string
}

func (t *nativeTexts) add(s string) uint64 {
	if n := len(t.ends); n == 0 || t.last != s {
		t.text = append(t.text, s...)
		t.ends = append(t.ends, uint64(len(t.text)))
		t.last = s
	}
	return uint64(len(t.ends) - 1)
}

type nativeWriter struct{ b []byte }

func (w *nativeWriter) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *nativeWriter) text(s []byte) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *nativeWriter) texts(t *nativeTexts) {
	w.text(t.text)
	w.column(t.ends)
}

func (w *nativeWriter) column(c []uint64) {
	var all uint64
	for _, v := range c {
		all |= v
	}
	width := max(1, (bits.Len64(all)+7)/8) // of no bytes there could be any number
	w.number(uint64(len(c)))
	w.b = append(w.b, byte(width))
	for _, v := range c {
		for i := range width {
			w.b = append(w.b, byte(v>>(8*i)))
		}
	}
}

func (w *nativeWriter) segments(list []nativeSegment) {
	var first, at []uint64
	var b []byte
	var last nativeSegment
	for i, s := range list {
		if i%nativeBlock == 0 {
			first = append(first, s.addr)
			at = append(at, uint64(len(b)))
			last = nativeSegment{addr: s.addr}
		}
		head := (s.addr - last.addr) << 2
		if s.node != last.node {
			head |= 1
		}
		if s.file != last.file {
			head |= 2
		}
		b = binary.AppendUvarint(b, head)
		b = binary.AppendVarint(b, int64(s.line)-int64(last.line))
		if s.node != last.node {
			b = binary.AppendVarint(b, int64(s.node)-int64(last.node))
		}
		if s.file != last.file {
			b = binary.AppendVarint(b, int64(s.file)-int64(last.file))
		}
		last = s
	}
	w.number(uint64(len(list)))
	w.column(first)
	w.column(at)
	w.text(b)
}

// nativeReader reads a table; what does not fit sets bad.
type nativeReader struct {
	b   []byte
	bad bool
}

func (r *nativeReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *nativeReader) text() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

// nativeColumn is numbers of width bytes each.
type nativeColumn struct {
	b     []byte // with up to 8 bytes more, so that a number can be read at once
	width int
	count int
	mask  uint64
}

func (r *nativeReader) column() nativeColumn {
	n := r.number()
	if len(r.b) == 0 || r.b[0] < 1 || r.b[0] > 8 || n > 1<<31 || n*uint64(r.b[0]) > uint64(len(r.b)-1) {
		r.bad, r.b = true, nil
		return nativeColumn{}
	}
	c := nativeColumn{width: int(r.b[0]), count: int(n)}
	size := c.count * c.width
	c.mask = 1<<(8*c.width) - 1
	c.b = r.b[1:min(len(r.b), 1+size+8)]
	r.b = r.b[1+size:]
	return c
}

// at is number i, which must be there: i is less than count.
func (c *nativeColumn) at(i int) uint64 {
	if b := c.b[i*c.width:]; len(b) >= 8 {
		return binary.LittleEndian.Uint64(b) & c.mask
	}
	return c.last(i)
}

// last is a number at the very end of the table.
func (c *nativeColumn) last(i int) uint64 {
	var v uint64
	for k, x := range c.b[i*c.width : (i+1)*c.width] {
		v |= uint64(x) << (8 * k)
	}
	return v
}

// below checks that all numbers are less than a limit.
func (c *nativeColumn) below(limit int) bool {
	for i := range c.count {
		if c.at(i) >= uint64(limit) {
			return false
		}
	}
	return true
}

// nativeStrings are the strings of a table.
type nativeStrings struct {
	text string
	ends nativeColumn
}

func (r *nativeReader) strings() nativeStrings {
	s := nativeStrings{text: string(r.text()), ends: r.column()}
	var last uint64
	for i := range s.ends.count {
		end := s.ends.at(i)
		if end < last || end > uint64(len(s.text)) {
			r.bad = true
			return nativeStrings{}
		}
		last = end
	}
	return s
}

func (s *nativeStrings) at(i int) string {
	from := uint64(0)
	if i > 0 {
		from = s.ends.at(i - 1)
	}
	return s.text[from:s.ends.at(i)]
}

// openNative opens a table that encodeNative made. It refers to b, which must
// not change any more. All of it is checked: the error is ErrInvalid.
func openNative(b []byte) (*nativeTable, error) {
	if len(b) < len(nativeMagic) || string(b[:len(nativeMagic)]) != nativeMagic {
		return nil, inquest.Errorf(inquest.ErrInvalid, "no table of native functions of a known version")
	}
	r := &nativeReader{b: b[len(nativeMagic):]}
	t := &nativeTable{damaged: string(r.text()), names: r.strings(), files: r.strings()}
	for _, c := range []*nativeColumn{
		&t.functionName, &t.functionLine, &t.functionSource,
		&t.nodeFunction, &t.nodeCaller, &t.callFile, &t.callLine,
	} {
		*c = r.column()
	}
	t.count = int(min(r.number(), 1<<31))
	t.first, t.blockAt = r.column(), r.column()
	t.blocks = r.text()
	if r.bad || len(r.b) > 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the table of native functions is cut off or damaged")
	}
	if err := t.check(); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the table of native functions is damaged: %w", err)
	}
	return t, nil
}
