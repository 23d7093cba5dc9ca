package store

import (
	"encoding/binary"
	"errors"
)

var errGroup = errors.New("row group is damaged")

// shape says which series the samples of a group have, in the order in which
// values are stored.
type shape struct {
	rows  int
	n     int      // samples
	ends  []uint32 // by row: end of each row's samples; nil if dense
	ids   []uint32 // by row: series of each sample; dense: the distinct series
	width int      // dense: bytes of the bitmap per series
	bits  []byte   // dense: width bytes per series
}

// read unpacks the series stream of a group of rows rows; series must be
// below limit.
func (s *shape) read(raw []byte, rows, limit int) error {
	c := cursor{b: raw}
	s.rows = rows
	switch c.byte() {
	case seriesByRow:
		return s.readSparse(&c, limit)
	case seriesBitmap:
		return s.readDense(&c, limit)
	}
	return errGroup
}

func (s *shape) readSparse(c *cursor, limit int) error {
	s.bits = nil
	if s.rows > len(c.b) {
		return errGroup
	}
	s.ends = resize(s.ends, s.rows)
	total := uint64(0)
	for i := range s.ends {
		total += uint64(c.bounded(len(c.b)))
		s.ends[i] = uint32(total)
		if total > uint64(len(c.b)) {
			return errGroup
		}
	}
	s.n = int(total)
	s.ids = resize(s.ids, s.n)
	b, at, ids := c.b, 0, s.ids
	from := uint32(0)
	for _, end := range s.ends {
		id := uint64(0)
		for k := from; k < end; k++ {
			if at < len(b) && b[at] < 0x80 {
				id += uint64(b[at])
				at++
			} else {
				v, n := binary.Uvarint(b[at:])
				if n <= 0 {
					return errGroup
				}
				id += v
				at += n
			}
			if id >= uint64(limit) {
				return errGroup
			}
			ids[k] = uint32(id)
		}
		from = end
	}
	return nil
}

func (s *shape) readDense(c *cursor, limit int) error {
	s.ends = s.ends[:0]
	n := c.count()
	s.ids = resize(s.ids, n)
	id := uint64(0)
	for i := range s.ids {
		id += c.uvarint()
		if id >= uint64(limit) {
			return errGroup
		}
		s.ids[i] = uint32(id)
	}
	s.width = (s.rows + 7) / 8
	s.bits = c.bytes(n * s.width)
	if c.bad {
		return errGroup
	}
	if s.bits == nil {
		s.bits = []byte{}
	}
	// Bits beyond the last row would be samples of no profile.
	if spare := uint(s.width*8 - s.rows); spare > 0 {
		for i := s.width - 1; i < len(s.bits); i += s.width {
			if s.bits[i]>>(8-spare) != 0 {
				return errGroup
			}
		}
	}
	s.n = popcount(s.bits)
	return nil
}

func (s *shape) dense() bool { return s.bits != nil }

// each calls f for every sample in stored order.
func (s *shape) each(f func(k int, row int, id uint32)) {
	if !s.dense() {
		k := uint32(0)
		for r, end := range s.ends {
			for ; k < end; k++ {
				f(int(k), r, s.ids[k])
			}
		}
		return
	}
	k := 0
	for i, id := range s.ids {
		for r, b := 0, s.bits[i*s.width:]; r < s.rows; r++ {
			if b[r/8]>>(r%8)&1 != 0 {
				f(k, r, id)
				k++
			}
		}
	}
}

// columnReader unpacks value columns of groups. Its slices are reused.
type columnReader struct {
	vals  []int64
	sizes []int64 // of the series' allocations, where counts are stored
	scale []float64
}

// fetch returns an unpacked stream of the group by id; nil if the group does
// not have it.
type fetch func(id uint8) ([]byte, error)

// read unpacks column col of a group of the given shape into r.vals, in
// stored order.
func (r *columnReader) read(get fetch, s *shape, col int) ([]int64, error) {
	var err error
	r.vals, err = r.column(r.vals[:0], get, s, col)
	return r.vals, err
}

func (r *columnReader) column(vals []int64, get fetch, s *shape, col int) ([]int64, error) {
	raw, err := get(columnStream(col, streamValues))
	if err != nil {
		return vals, err
	}
	if len(raw) == 0 {
		return vals, errGroup
	}
	mode, body := raw[0], raw[1:]
	switch mode {
	case valuesZero:
		vals = resize(vals, s.n)
		clear(vals)
		return vals, nil
	case valuesPlain, valuesSigned:
		return readVarints(vals, body, s.n, mode == valuesSigned)
	case valuesPeriod:
		return r.multiples(vals, get, s, col, 0, body)
	case valuesTimes:
		return r.multiples(vals, get, s, col, col-1, body)
	case valuesBits, valuesSBits:
		mantissas, err := get(columnStream(col, streamBits))
		if err != nil {
			return vals, err
		}
		return readBits(vals, body, mantissas, s.n, mode == valuesSBits)
	case valuesCount, valuesSCount:
		return r.objects(vals, get, s, col, mode, body)
	case valuesCountBytes:
		return r.bytes(vals, get, s, col, body)
	}
	return vals, errGroup
}

func readVarints(vals []int64, b []byte, n int, signed bool) ([]int64, error) {
	if n > len(b) {
		return vals, errGroup
	}
	vals = resize(vals, n)
	at := 0
	for i := range vals {
		if at < len(b) && b[at] < 0x80 {
			vals[i] = int64(b[at])
			at++
			continue
		}
		v, k := binary.Uvarint(b[at:])
		if k <= 0 {
			return vals, errGroup
		}
		vals[i] = int64(v)
		at += k
	}
	if signed {
		for i, v := range vals {
			vals[i] = unzigzag(uint64(v))
		}
	}
	return vals, nil
}

// readBits unpacks n values of bit lengths lens. mantissas may be read up to
// their capacity.
func readBits(vals []int64, lens, mantissas []byte, n int, signed bool) ([]int64, error) {
	if n != len(lens) {
		return vals, errGroup
	}
	var total uint64
	for _, l := range lens {
		if l > 64 {
			return vals, errGroup
		}
		if l > 1 {
			total += uint64(l) - 1
		}
	}
	if (total+7)/8 != uint64(len(mantissas)) {
		return vals, errGroup
	}
	if cap(mantissas) < len(mantissas)+bitPad {
		mantissas = append(make([]byte, 0, len(mantissas)+bitPad), mantissas...)
	}
	r := bitReader{b: mantissas[:len(mantissas)+bitPad]}
	vals = resize(vals, n)
	for i, l := range lens {
		if l == 0 {
			vals[i] = 0
			continue
		}
		vals[i] = int64(r.value(l))
	}
	if signed {
		for i, v := range vals {
			vals[i] = unzigzag(uint64(v))
		}
	}
	return vals, nil
}

// multiples makes a column that is an earlier one times a number of each row.
func (r *columnReader) multiples(vals []int64, get fetch, s *shape, col, of int, body []byte) ([]int64, error) {
	if of < 0 || of >= col {
		return vals, errGroup
	}
	c := cursor{b: body}
	if s.rows > len(body) {
		return vals, errGroup
	}
	periods := make([]int64, s.rows)
	same := true
	for i := range periods {
		periods[i] = c.varint()
		same = same && periods[i] == periods[0]
	}
	if c.bad {
		return vals, errGroup
	}
	vals, err := r.column(vals, get, s, of)
	if err != nil {
		return vals, err
	}
	switch {
	case same && s.rows > 0:
		for i := range vals {
			vals[i] *= periods[0]
		}
	case !s.dense():
		k := uint32(0)
		for row, end := range s.ends {
			for ; k < end; k++ {
				vals[k] *= periods[row]
			}
		}
	default:
		s.each(func(k, row int, _ uint32) { vals[k] *= periods[row] })
	}
	return vals, nil
}
