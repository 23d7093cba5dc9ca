package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Digest is what one process did in one step, by function: of every function
// of which the stack or a callee has at least 0.05 % of a column's total, and
// one entry for the rest. The columns are the section's Types; of instants
// they hold value × hold, see HeldPerSecond.
type Digest struct {
	Name      []uint32  // by entry, ascending: index into FuncTree().Names; 0 is the rest, which is always there
	Self, Cum [][]int64 // [column][entry]; a stack counts once for a function, however often it recurs
}

// Digests calls each with the digest of every row of a section of digests. The
// digest is valid during the call. The sum of Self is the row's total, exactly.
// Single values are rounded, by at most a thousandth of themselves or a
// 130,000th of the total, whichever is more; the rest makes up for it, so it
// may be below zero. Of the rest Cum is Self. Where pieces of a step came
// together later, a function that one piece had not kept lacks what it had
// there, at most 0.05 % of that piece.
func (p *Part) Digests(ctx context.Context, section int, each func(row int, d *Digest) error) error {
	sec, err := p.section(section)
	if err != nil {
		return err
	}
	if !sec.digest {
		return fmt.Errorf("section %d of service %q has no digests", section, p.Service)
	}
	if err := p.load(loadedCore | loadedMeta); err != nil {
		return err
	}
	var r digestReader
	at := 0
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, err := p.groupRows(g, sec.cols)
		if err == nil {
			err = r.read(func(id uint8) ([]byte, error) { return p.groupStream(g, id) }, rows, sec.cols, len(p.tables.names))
		}
		if err != nil {
			return p.damaged(err)
		}
		for i := range rows {
			if err := each(at+i, r.row(i, rows[i].totals)); err != nil {
				return err
			}
		}
		at += g.rows
	}
	return nil
}

// How values of digests are rounded: to so many bits from the highest one of
// the value on, and from that of the total on.
const (
	digestBits      = 10
	digestTotalBits = 17
)

// dropped is how many low bits a value of the given bit length loses where
// the total has total bits.
func dropped(length, total int) int { return max(length-digestBits, total-digestTotalBits, 0) }

// rounded drops bits of a value.
func rounded(u uint64, total int) uint64 {
	drop := dropped(bits.Len64(u), total)
	if drop == 0 {
		return u
	}
	if up := (u + 1<<(drop-1)) >> drop << drop; up>>63 == 0 {
		return up
	}
	return u >> drop << drop // as a signed number it would not fit
}

// How a cum is written: as one of these, or as its bit length and digestOwn.
const (
	digestZero = 0
	digestLast = 1 // as that of the function before it in the row: callers have what their only callee has
	digestSelf = 2 // as its self
	digestOwn  = 2
)

// digest is the entries of one row, but the rest.
type digest struct {
	name      []uint32
	self, cum [][]int64 // [column][entry]
}

// digestWriter packs groups of digests.
type digestWriter struct {
	raw        []byte
	bits       bitWriter
	at         []int
	last       []uint64
	self, cums []byte
}

// group packs digests, which belong to rows. Entries go by function and then
// by row: one function has like magnitudes in all of them.
func (w *digestWriter) group(pk *packer, rows []*row, ds []*digest, cols int) *group {
	g := &group{rows: len(rows), from: rows[0].start, until: rows[0].start}
	w.raw = appendRows(w.raw[:0], rows, cols)
	g.streams = append(g.streams, pk.stream(streamRows, w.raw))
	names := digestNames(ds)
	w.raw = appendDigestShape(w.raw[:0], names, ds)
	g.streams = append(g.streams, pk.stream(streamSeries, w.raw))
	for i, r := range rows {
		g.from, g.until = min(g.from, r.start), max(g.until, r.start)
		g.samples += int64(len(ds[i].name))
	}
	for col := range cols {
		w.column(pk, g, names, rows, ds, col)
	}
	return g
}

// digestNames lists the names of all digests, ascending.
func digestNames(ds []*digest) []uint32 {
	var seen bitset
	for _, d := range ds {
		if n := len(d.name); n > 0 {
			seen.fit(int(d.name[n-1]) + 1)
		}
		for _, n := range d.name {
			seen.add(n)
		}
	}
	return seen.list()
}

// appendDigestShape writes which functions there are and which rows have
// each, as groups of samples do with series.
func appendDigestShape(dst []byte, names []uint32, ds []*digest) []byte {
	dst = append(dst, seriesBitmap)
	dst = appendUvarint32(dst, uint32(len(names)))
	prev := uint32(0)
	for _, n := range names {
		dst = appendUvarint32(dst, n-prev)
		prev = n
	}
	width := (len(ds) + 7) / 8
	from := len(dst)
	dst = append(dst, make([]byte, width*len(names))...)
	for row, d := range ds {
		k := 0
		for _, n := range d.name {
			for names[k] != n {
				k++
			}
			dst[from+width*k+row/8] |= 1 << (row % 8)
		}
	}
	return dst
}

// column writes one column of all digests: selves, then cums.
func (w *digestWriter) column(pk *packer, g *group, names []uint32, rows []*row, ds []*digest, col int) {
	signed := slices.ContainsFunc(ds, func(d *digest) bool {
		return slices.ContainsFunc(d.self[col], negative) || slices.ContainsFunc(d.cum[col], negative)
	})
	units, totals := make([]uint64, len(ds)), make([]int, len(ds))
	head := []byte{byte(btoi(signed))}
	for i, d := range ds {
		units[i] = unitOf(rows[i].totals[col], d.self[col], d.cum[col])
		totals[i] = bits.Len64(magnitude(rows[i].totals[col]) / units[i])
		head = binary.AppendUvarint(head, units[i])
	}
	w.self, w.cums, w.bits.out = append(w.self[:0], head...), w.cums[:0], w.bits.out[:0]
	w.each(names, ds, func(row, k int) {
		v := ds[row].self[col][k]
		u := rounded(magnitude(v)/units[row], totals[row])
		w.self = append(w.self, w.own(u, v < 0, signed, totals[row]))
	})
	w.last = resize(w.last, len(ds))
	clear(w.last)
	w.each(names, ds, func(row, k int) {
		v, s := ds[row].cum[col][k], ds[row].self[col][k]
		u := rounded(magnitude(v)/units[row], totals[row])
		own := rounded(magnitude(s)/units[row], totals[row])
		key := u<<1 | uint64(btoi(v < 0)) // the last one is the same if the lost bit is not used
		switch {
		case u == 0:
			w.cums = append(w.cums, digestZero)
		case u == own && (v < 0) == (s < 0):
			w.cums = append(w.cums, digestSelf)
		case key == w.last[row] && u>>63 == 0:
			w.cums = append(w.cums, digestLast)
		default:
			w.cums = append(w.cums, digestOwn+w.own(u, v < 0, signed, totals[row]))
		}
		if u != 0 {
			w.last[row] = key
		}
	})
	mantissas := slices.Clone(w.bits.finish())
	g.streams = append(g.streams,
		pk.stream(columnStream(col, streamValues), w.self),
		pk.stream(columnStream(col, streamRest), w.cums),
		newStream(columnStream(col, streamBits), codecRaw, mantissas, len(mantissas)))
}

// own writes a rounded value's sign and mantissa and returns its bit length.
func (w *digestWriter) own(u uint64, minus, signed bool, total int) byte {
	if u == 0 {
		return 0
	}
	if signed {
		w.bits.write(uint64(btoi(minus)), 1)
	}
	n := bits.Len64(u)
	drop := dropped(n, total)
	kept := uint(n - 1 - drop)
	w.bits.write(u>>drop&(1<<kept-1), kept)
	return byte(n)
}

// each calls f with every entry, by function and then by row.
func (w *digestWriter) each(names []uint32, ds []*digest, f func(row, k int)) {
	w.at = resize(w.at, len(ds))
	clear(w.at)
	for _, n := range names {
		for row, d := range ds {
			if k := w.at[row]; k < len(d.name) && d.name[k] == n {
				f(row, k)
				w.at[row]++
			}
		}
	}
}

func negative(v int64) bool { return v < 0 }

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// unitOf is the greatest number that divides everything, as the period does
// with CPU time.
func unitOf(total int64, lists ...[]int64) uint64 {
	unit := magnitude(total)
	for _, list := range lists {
		for _, v := range list {
			if unit == 1 {
				return 1
			}
			for m := magnitude(v); m != 0; {
				unit, m = m, unit%m
			}
		}
	}
	return max(unit, 1)
}

var errDigest = errors.New("digests are damaged")

// digestReader unpacks groups of digests. Its memory is reused.
type digestReader struct {
	shape     shape
	self, cum [][]int64 // [column][entry by function, then by row]
	at        [][]int32 // [row] entries
	names     [][]uint32
	d         Digest
}

// read unpacks the digests of rows, whose names must be below limit.
func (r *digestReader) read(get fetch, rows []row, cols, limit int) error {
	raw, err := get(streamSeries)
	if err != nil {
		return err
	}
	if err := r.shape.read(raw, len(rows), limit); err != nil {
		return err
	}
	if !r.shape.dense() {
		return errDigest
	}
	r.at, r.names = resize(r.at, len(rows)), resize(r.names, len(rows))
	for i := range rows {
		r.at[i], r.names[i] = r.at[i][:0], append(r.names[i][:0], 0)
	}
	r.shape.each(func(k, row int, id uint32) {
		r.at[row], r.names[row] = append(r.at[row], int32(k)), append(r.names[row], id)
	})
	for len(r.self) < cols {
		r.self, r.cum = append(r.self, nil), append(r.cum, nil)
	}
	r.self, r.cum = r.self[:cols], r.cum[:cols]
	for col := range cols {
		if err := r.column(get, rows, col); err != nil {
			return err
		}
	}
	return nil
}

func (r *digestReader) column(get fetch, rows []row, col int) error {
	head, err := get(columnStream(col, streamValues))
	if err != nil {
		return err
	}
	cums, err := get(columnStream(col, streamRest))
	if err != nil {
		return err
	}
	mantissas, err := get(columnStream(col, streamBits))
	if err != nil {
		return err
	}
	c := cursor{b: head}
	signed := c.byte() != 0
	units, totals := make([]uint64, len(rows)), make([]int, len(rows))
	for i := range rows {
		units[i] = max(c.uvarint(), 1)
		totals[i] = bits.Len64(magnitude(rows[i].totals[col]) / units[i])
	}
	if c.bad || len(c.b) != r.shape.n || len(cums) != r.shape.n {
		return errDigest
	}
	m := mantissaReader{signed: signed, left: 8 * len(mantissas)}
	if cap(mantissas) < len(mantissas)+bitPad {
		mantissas = append(make([]byte, 0, len(mantissas)+bitPad), mantissas...)
	}
	m.b = mantissas[:len(mantissas)+bitPad]
	selves := resize(r.self[col], r.shape.n)
	r.shape.each(func(k, row int, _ uint32) {
		selves[k] = m.next(int(c.b[k]), totals[row]) * int64(units[row])
	})
	all := resize(r.cum[col], r.shape.n)
	last := make([]int64, len(rows))
	r.shape.each(func(k, row int, _ uint32) {
		switch s := cums[k]; s {
		case digestZero:
			all[k] = 0
			return
		case digestLast:
			all[k] = last[row]
		case digestSelf:
			all[k] = selves[k]
		default:
			all[k] = m.next(int(s-digestOwn), totals[row]) * int64(units[row])
		}
		last[row] = all[k]
	})
	r.self[col], r.cum[col] = selves, all
	if m.bad {
		return errDigest
	}
	return nil
}

// mantissaReader reads rounded values.
type mantissaReader struct {
	bitReader
	left   int // bits
	signed bool
	bad    bool
}

func (m *mantissaReader) next(length, total int) int64 {
	if length == 0 || length > 64 || m.bad {
		m.bad = m.bad || length > 64
		return 0
	}
	drop := dropped(length, total)
	kept := length - 1 - drop
	if m.left -= kept + btoi(m.signed); kept < 0 || m.left < 0 {
		m.bad = true
		return 0
	}
	minus := m.signed && m.read(1) != 0
	v := int64((1<<kept | m.read(uint(kept))) << drop)
	if minus {
		return -v
	}
	return v
}

// row makes the digest of a row that was read.
func (r *digestReader) row(i int, totals []int64) *Digest {
	d := &r.d
	d.Name = r.names[i]
	for len(d.Self) < len(r.self) {
		d.Self, d.Cum = append(d.Self, nil), append(d.Cum, nil)
	}
	d.Self, d.Cum = d.Self[:len(r.self)], d.Cum[:len(r.self)]
	for col := range r.self {
		self, cum := append(d.Self[col][:0], 0), append(d.Cum[col][:0], 0)
		rest := totals[col]
		for _, k := range r.at[i] {
			self, cum = append(self, r.self[col][k]), append(cum, r.cum[col][k])
			rest -= r.self[col][k]
		}
		self[0], cum[0] = rest, rest
		d.Self[col], d.Cum[col] = self, cum
	}
	return d
}
