package store

import (
	"encoding/binary"
	"errors"

	"github.com/goinquest/inquest"
)

// row is one stored profile: what is known of it, and its samples packed. A
// row never changes once it is made.
type row struct {
	key        inquest.Key
	hash       uint64 // of the body as sent
	start, end int64  // unix ns
	hold       int64  // ns
	shift      int64  // ns added to the sender's times
	timeNanos  int64  // as the body says
	duration   int64  // ns, as the body says
	period     int64
	labels     uint32 // profile label set
	process    uint32
	form       uint32
	flags      uint8
	samples    uint32
	totals     []int64   // per value column
	data       []byte    // see appendSamples
	cell       *cellInfo // of rollups; nil: the row is a profile
}

// rowBytes is about what a row takes in memory beside totals and data.
const rowBytes = 176

// How a column of values is written.
const (
	valuesPlain  = 0 // uvarint each
	valuesSigned = 1 // zigzag varint each
	valuesPeriod = 2 // each is the one of column 0 times the profile's period: nothing is written
	valuesZero   = 3 // all are 0: nothing is written

	// In groups only:
	valuesBits       = 4 // bit lengths here, mantissas in another stream
	valuesSBits      = 5 // the same of zigzag values
	valuesCount      = 6 // objects of Go's heap: counts as bit lengths and mantissas, see scale.go
	valuesSCount     = 7 // the same of zigzag counts
	valuesCountBytes = 8 // bytes that follow from the counts of the column before
	valuesTimes      = 9 // each is the one of the column before times a number of its row
)

// appendSamples packs the samples of b, whose series were looked up: the
// series ids in ascending order as differences, then each column in the order
// of the ids: a mode and the values. totals receives the sum of each column.
func appendSamples(dst []byte, b *body, totals []int64) []byte {
	prev := uint64(0)
	for _, v := range b.ids {
		id := v >> 32
		dst = binary.AppendUvarint(dst, id-prev)
		prev = id
	}
	for c := range totals {
		var mode byte
		mode, totals[c] = columnMode(b, c, len(totals))
		dst = append(dst, mode)
		switch mode {
		case valuesPlain:
			for _, v := range b.ids {
				dst = binary.AppendUvarint(dst, uint64(b.p.Values[int(uint32(v))*len(totals)+c]))
			}
		case valuesSigned:
			for _, v := range b.ids {
				dst = appendVarint(dst, b.p.Values[int(uint32(v))*len(totals)+c])
			}
		}
	}
	return dst
}

func columnMode(b *body, col, cols int) (mode byte, total int64) {
	product, zero, signed := col > 0, true, false
	values := b.p.Values
	for at := 0; at+cols <= len(values); at += cols {
		v := values[at+col]
		total += v
		zero = zero && v == 0
		signed = signed || v < 0
		product = product && v == values[at]*b.p.Period
	}
	switch {
	case zero:
		return valuesZero, total
	case product:
		return valuesPeriod, total
	case signed:
		return valuesSigned, total
	}
	return valuesPlain, total
}

// samples are the unpacked samples of one or more profiles.
type samples struct {
	ids  []uint32  // series
	vals [][]int64 // [column], in the order of ids
}

var errSamples = errors.New("samples are damaged")

// unpack appends the samples of a row with n of them and the given number of
// columns. Series must be below limit.
func (s *samples) unpack(data []byte, n uint32, cols int, period int64, limit int) error {
	c := cursor{b: data}
	if uint64(n) > uint64(len(data)) {
		return errSamples
	}
	from := len(s.ids)
	id := uint64(0)
	for range n {
		id += c.uvarint()
		if id >= uint64(limit) {
			return errSamples
		}
		s.ids = append(s.ids, uint32(id))
	}
	for len(s.vals) < cols {
		s.vals = append(s.vals, nil)
	}
	for col := range cols {
		vals := s.vals[col]
		switch c.byte() {
		case valuesPlain:
			for range n {
				vals = append(vals, int64(c.uvarint()))
			}
		case valuesSigned:
			for range n {
				vals = append(vals, c.varint())
			}
		case valuesPeriod:
			if col == 0 {
				return errSamples
			}
			for _, v := range s.vals[0][from:] {
				vals = append(vals, v*period)
			}
		case valuesZero:
			for range n {
				vals = append(vals, 0)
			}
		default:
			return errSamples
		}
		s.vals[col] = vals
	}
	if c.bad {
		return errSamples
	}
	return nil
}

func (s *samples) reset() {
	s.ids = s.ids[:0]
	for i := range s.vals {
		s.vals[i] = s.vals[i][:0]
	}
}

// appendRow writes a row for the log: everything but what the frame's index
// says (key, hash, start, samples, flags).
func appendRow(dst []byte, r *row) []byte {
	for _, v := range [...]int64{r.end - r.start, r.hold, r.shift, r.timeNanos - r.start, r.duration, r.period} {
		dst = appendVarint(dst, v)
	}
	dst = appendIDs(dst, []uint32{r.labels, r.process, r.form})
	for _, v := range r.totals {
		dst = appendVarint(dst, v)
	}
	return append(dst, r.data...)
}

// readRow reads what appendRow wrote into r, of which the parts in the frame's
// index are known. The samples are checked by unpacking them.
func readRow(c *cursor, r *row, t *tables, cols int, s *samples) {
	r.end = r.start + c.varint()
	r.hold, r.shift = c.varint(), c.varint()
	r.timeNanos = r.start + c.varint()
	r.duration, r.period = c.varint(), c.varint()
	r.labels, r.process, r.form = c.id(len(t.metaSets)), c.id(len(t.processes)), c.id(len(t.forms))
	r.totals = make([]int64, cols)
	for i := range r.totals {
		r.totals[i] = c.varint()
	}
	if c.bad {
		return
	}
	r.data = append([]byte(nil), c.b...)
	s.reset()
	if s.unpack(r.data, r.samples, cols, r.period, len(t.leaves)) != nil {
		c.fail()
	}
}
