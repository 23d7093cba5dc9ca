package store

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/goinquest/inquest"
)

// appendRows writes what is known of each row beside its samples, column by
// column.
func appendRows(dst []byte, rows []*row, cols int) []byte {
	prev := int64(0)
	for _, r := range rows {
		dst = appendVarint(dst, r.start-prev)
		prev = r.start
	}
	for _, get := range [...]func(r *row) int64{
		func(r *row) int64 { return r.end - r.start },
		func(r *row) int64 { return r.hold },
		func(r *row) int64 { return r.shift },
		func(r *row) int64 { return r.timeNanos - r.start },
		func(r *row) int64 { return r.duration },
		func(r *row) int64 { return r.period },
	} {
		for _, r := range rows {
			dst = appendVarint(dst, get(r))
		}
	}
	for _, get := range [...]func(r *row) uint32{
		func(r *row) uint32 { return r.labels },
		func(r *row) uint32 { return r.process },
		func(r *row) uint32 { return r.form },
		func(r *row) uint32 { return uint32(r.flags) },
		func(r *row) uint32 { return r.samples },
	} {
		for _, r := range rows {
			dst = binary.AppendUvarint(dst, uint64(get(r)))
		}
	}
	for c := range cols {
		for _, r := range rows {
			dst = appendVarint(dst, r.totals[c])
		}
	}
	return appendKeys(dst, rows)
}

// appendKeys writes the distinct first halves of the keys, then for each row
// which it has and by how much its second half is above the row's before with
// that first half: one, mostly, for an agent's keys.
func appendKeys(dst []byte, rows []*row) []byte {
	index := map[uint64]uint32{}
	var heads []uint64
	for _, r := range rows {
		h := binary.BigEndian.Uint64(r.key[:8])
		if _, ok := index[h]; !ok {
			index[h] = uint32(len(heads))
			heads = append(heads, h)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(heads)))
	for _, h := range heads {
		dst = binary.LittleEndian.AppendUint64(dst, h)
	}
	last := make([]uint64, len(heads))
	for _, r := range rows {
		dst = binary.AppendUvarint(dst, uint64(index[binary.BigEndian.Uint64(r.key[:8])]))
	}
	for _, r := range rows {
		i := index[binary.BigEndian.Uint64(r.key[:8])]
		seq := binary.BigEndian.Uint64(r.key[8:])
		dst = appendVarint(dst, int64(seq-last[i]))
		last[i] = seq
	}
	return dst
}

var errRows = errors.New("rows are damaged")

// readRows reads what appendRows wrote for n rows. References are checked
// against t's tables by the caller's limits.
func readRows(b []byte, n, cols int, limits rowLimits) ([]row, error) {
	c := cursor{b: b}
	if n > len(b) {
		return nil, errRows
	}
	rows := make([]row, n)
	totals := make([]int64, n*cols)
	prev := int64(0)
	for i := range rows {
		rows[i].totals = totals[i*cols : (i+1)*cols : (i+1)*cols]
		prev += c.varint()
		rows[i].start = prev
	}
	for i := range rows {
		rows[i].end = rows[i].start + c.varint()
	}
	for _, field := range [...]func(r *row) *int64{
		func(r *row) *int64 { return &r.hold },
		func(r *row) *int64 { return &r.shift },
		func(r *row) *int64 { return &r.timeNanos },
		func(r *row) *int64 { return &r.duration },
		func(r *row) *int64 { return &r.period },
	} {
		for i := range rows {
			*field(&rows[i]) = c.varint()
		}
	}
	for i := range rows {
		rows[i].timeNanos += rows[i].start
		rows[i].labels = c.id(limits.labels)
	}
	for i := range rows {
		rows[i].process = c.id(limits.processes)
	}
	for i := range rows {
		rows[i].form = c.id(limits.forms)
	}
	for i := range rows {
		rows[i].flags = uint8(c.id(256))
	}
	for i := range rows {
		rows[i].samples = uint32(c.bounded(maxStreamBytes))
	}
	for col := range cols {
		for i := range rows {
			rows[i].totals[col] = c.varint()
		}
	}
	readKeys(&c, n, func(i int) *inquest.Key { return &rows[i].key })
	if c.bad {
		return nil, errRows
	}
	return rows, nil
}

// read adds n rows that appendRows wrote, without what only merging and export
// need. A process with a number other than 0 may still be without a name.
func (b *rowsBuilder) read(raw []byte, n int, limits rowLimits) error {
	c := cursor{b: raw}
	if n > len(raw) {
		return errRows
	}
	out, from := b.rows, len(b.rows.Start)
	add := func(col *[]int64) []int64 {
		*col = slices.Grow(*col, n)[:from+n]
		c.varints((*col)[from:])
		return (*col)[from:]
	}
	start := add(&out.Start)
	for i := 1; i < n; i++ {
		start[i] += start[i-1]
	}
	for i, d := range add(&out.End) {
		out.End[from+i] = start[i] + d
	}
	add(&out.Hold)
	c.skip(4 * n) // shift, timeNanos, duration, period
	b.ids = resize(b.ids, 2*n)
	sets, procs := b.ids[:n], b.ids[n:]
	c.ids(sets, limits.labels)
	c.ids(procs, limits.processes)
	c.skip(n) // form
	if c.bad {
		return errRows
	}
	for i, set := range sets {
		set, proc := b.who(set, procs[i])
		out.LabelSet, out.Process = append(out.LabelSet, set), append(out.Process, proc)
	}
	for range n {
		out.Flags = append(out.Flags, uint8(c.id(256)))
	}
	for range n {
		out.Samples = append(out.Samples, uint32(c.bounded(maxStreamBytes)))
	}
	for col := range out.Totals {
		add(&out.Totals[col])
	}
	out.Key = slices.Grow(out.Key, n)[:from+n]
	readKeys(&c, n, func(i int) *inquest.Key { return &out.Key[from+i] })
	if c.bad {
		return errRows
	}
	return nil
}

// rowLimits are the sizes of the tables rows refer to.
type rowLimits struct{ labels, processes, forms int }

// readKeys reads n keys to where key says.
func readKeys(c *cursor, n int, key func(i int) *inquest.Key) {
	heads := make([]uint64, c.count())
	for i := range heads {
		heads[i] = c.u64()
	}
	which := make([]uint32, n)
	c.ids(which, len(heads))
	if c.bad {
		return
	}
	last := make([]uint64, len(heads))
	for i, h := range which {
		last[h] += uint64(c.varint())
		k := key(i)
		binary.BigEndian.PutUint64(k[:8], heads[h])
		binary.BigEndian.PutUint64(k[8:], last[h])
	}
}
