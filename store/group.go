package store

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/goinquest/inquest"
)

// Bounds of a row group. A group is what a reader takes or leaves as a whole:
// larger ones pack better, smaller ones let a short window read less.
const (
	groupRows    = 64
	groupSpan    = int64(10 * 60 * 1e9) // ns between the first and the last start
	groupSamples = 1 << 18              // unless one row has more
)

// denseBits is how many bits of bitmap a sample may cost, one for every series
// and row. Zeros pack well, and by series values take so much less (heap values
// 40 % less than at six bits, where new stacks keep coming) that only groups with
// hardly a series in common are written row by row.
const denseBits = 20

// How the series of a group's samples are written.
const (
	seriesByRow  = 0 // sparse: for each row its series
	seriesBitmap = 1 // dense: for each series the rows that have it
)

// stream is one stored piece of a group or of a part, with its own checksum
// over the stored bytes.
type stream struct {
	id, codec uint8
	raw       uint32 // bytes unpacked
	size      uint32 // bytes stored
	crc       uint32
	offset    int64  // in the block
	data      []byte // in a head; nil in a block
}

func (pk *packer) stream(id uint8, raw []byte) stream {
	data, codec := pk.pack(nil, raw)
	return newStream(id, codec, data, len(raw))
}

func newStream(id, codec uint8, data []byte, raw int) stream {
	if cap(data) > len(data)+len(data)/8 { // it stays in memory for an epoch
		data = append(make([]byte, 0, len(data)), data...)
	}
	return stream{id: id, codec: codec, raw: uint32(raw), size: uint32(len(data)), crc: checksum(data), data: data}
}

// group is some profiles of one section, in order of arrival. It never
// changes.
type group struct {
	rows        int
	samples     int64
	from, until int64    // first and last start, unix ns
	sets        []uint32 // label sets of profiles that rows have, ascending; nil where that is not known
	streams     []stream
	keys        []groupKey // in a head only
}

type groupKey struct {
	key  inquest.Key
	hash uint64
}

func (g *group) stream(id uint8) *stream {
	for i := range g.streams {
		if g.streams[i].id == id {
			return &g.streams[i]
		}
	}
	return nil
}

func (g *group) memory() (n int64) {
	for i := range g.streams {
		n += int64(cap(g.streams[i].data)) + 56
	}
	return n + 64 + 4*int64(cap(g.sets)) + 24*int64(len(g.keys))
}

// grouper makes groups of rows. It reuses its memory.
type grouper struct {
	pk       *packer
	samples  samples
	ends     []int // of each row's samples
	raw      []byte
	lens     []byte
	bits     bitWriter
	position []uint32 // series → where it is first in distinct
	twins    []uint32 // by series, see countTwins
	distinct []uint32
	slots    []uint32 // by sample: index in distinct
	starts   []uint32 // of each distinct series in order
	order    []uint32 // samples by series, then row
	places   []uint64 // samples of a row: series<<32 | position
	ordered  []int64

	counts          []int64 // see scale.go
	times           []int64 // by row, see followsBefore
	rest, restBytes []byte
}

// group packs rows, which must not be empty, of a section of a dictionary.
func (w *grouper) group(rows []*row, t *tables, layout uint32) (*group, error) {
	cols, limit := len(t.layouts[layout].types), len(t.leaves)
	w.samples.reset()
	w.ends = w.ends[:0]
	duplicates := false
	for _, r := range rows {
		from := len(w.samples.ids)
		if err := w.samples.unpack(r.data, r.samples, cols, r.period, limit); err != nil {
			return nil, err
		}
		duplicates = duplicates || hasTwins(w.samples.ids[from:])
		w.ends = append(w.ends, len(w.samples.ids))
	}
	return w.pack(rows, t, layout, duplicates), nil
}

// hasTwins says whether some sample has the same series as the one before.
func hasTwins(ids []uint32) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i] == ids[i-1] {
			return true
		}
	}
	return false
}

// pack packs rows whose samples are in w.samples up to w.ends, those of a row
// in any order. duplicates says that a row may have a series twice.
func (w *grouper) pack(rows []*row, t *tables, layout uint32, duplicates bool) *group {
	cols, limit := len(t.layouts[layout].types), len(t.leaves)
	g := &group{rows: len(rows), from: rows[0].start, until: rows[0].start, samples: int64(len(w.samples.ids)), sets: labelSetsOf(rows)}
	for _, r := range rows {
		g.from, g.until = min(g.from, r.start), max(g.until, r.start)
		g.keys = append(g.keys, groupKey{r.key, r.hash})
	}
	w.raw = appendRows(w.raw[:0], rows, cols)
	g.streams = append(g.streams, w.pk.stream(streamRows, w.raw))
	w.findDistinct(limit, duplicates)
	if len(w.samples.ids)*denseBits >= len(w.distinct)*len(rows) {
		w.dense(g, rows, t, layout)
	} else {
		w.sortRows(cols)
		w.sparse(g, rows, cols)
	}
	return g
}

// sortRows sorts the samples of each row by series.
func (w *grouper) sortRows(cols int) {
	from := 0
	for _, end := range w.ends {
		ids := w.samples.ids[from:end]
		if !slices.IsSorted(ids) {
			w.places = resize(w.places, len(ids))
			for i, id := range ids {
				w.places[i] = uint64(id)<<32 | uint64(i)
			}
			slices.Sort(w.places)
			for i, p := range w.places {
				ids[i] = uint32(p >> 32)
			}
			for c := range cols {
				vals := w.samples.vals[c][from:end]
				w.ordered = append(w.ordered[:0], vals...)
				for i, p := range w.places {
					vals[i] = w.ordered[uint32(p)]
				}
			}
		}
		from = end
	}
}

// labelSetsOf lists the label sets of rows, ascending.
func labelSetsOf(rows []*row) []uint32 {
	sets := make([]uint32, 0, 8)
	for _, r := range rows {
		if i, ok := slices.BinarySearch(sets, r.labels); !ok {
			sets = slices.Insert(sets, i, r.labels)
		}
	}
	return sets
}

// findDistinct lists the series that occur, ascending, and finds the place of
// each sample's in the list. A series that a row has more than once is listed as
// often.
func (w *grouper) findDistinct(limit int, duplicates bool) {
	w.position = resize(w.position, limit)
	clear(w.position)
	w.slots = resize(w.slots, len(w.samples.ids))
	if duplicates {
		w.countTwins()
	} else {
		for k, id := range w.samples.ids {
			w.position[id] = 1
			w.slots[k] = 0
		}
	}
	w.distinct = w.distinct[:0]
	for id, times := range w.position {
		if times == 0 {
			continue
		}
		w.position[id] = uint32(len(w.distinct))
		for range times {
			w.distinct = append(w.distinct, uint32(id))
		}
	}
	for k, id := range w.samples.ids {
		w.slots[k] += w.position[id]
	}
}

// countTwins sets w.position to how often a row has each series at most, and
// w.slots to how often the sample's row had its series before.
func (w *grouper) countTwins() {
	w.twins = resize(w.twins, len(w.position))
	clear(w.twins)
	from := 0
	for _, end := range w.ends {
		for k, id := range w.samples.ids[from:end] {
			w.slots[from+k] = w.twins[id]
			w.twins[id]++
			w.position[id] = max(w.position[id], w.twins[id])
		}
		for _, id := range w.samples.ids[from:end] {
			w.twins[id] = 0
		}
		from = end
	}
}

func (w *grouper) sparse(g *group, rows []*row, cols int) {
	raw := append(w.raw[:0], seriesByRow)
	from := 0
	for _, end := range w.ends {
		raw = binary.AppendUvarint(raw, uint64(end-from))
		from = end
	}
	from = 0
	for _, end := range w.ends {
		prev := uint32(0)
		for _, id := range w.samples.ids[from:end] {
			raw = binary.AppendUvarint(raw, uint64(id-prev))
			prev = id
		}
		from = end
	}
	g.streams = append(g.streams, w.pk.stream(streamSeries, raw))
	for c := range cols {
		vals := w.samples.vals[c]
		mode := valuesMode(vals)
		if mode != valuesZero && c > 0 && w.followsPeriod(rows, c) {
			mode = valuesPeriod
		}
		if mode != valuesZero && c > 0 && w.followsBefore(rows, c) {
			g.streams = append(g.streams, w.pk.stream(columnStream(c, streamValues), w.appendTimes(raw[:0])))
			continue
		}
		raw = append(raw[:0], mode)
		switch mode {
		case valuesPlain:
			for _, v := range vals {
				raw = binary.AppendUvarint(raw, uint64(v))
			}
		case valuesSigned:
			for _, v := range vals {
				raw = appendVarint(raw, v)
			}
		case valuesPeriod:
			raw = appendPeriods(raw, rows)
		}
		g.streams = append(g.streams, w.pk.stream(columnStream(c, streamValues), raw))
	}
	w.raw = raw
}

func columnStream(col, which int) uint8 {
	return uint8(streamColumn + col*streamsPerColumn + which)
}

// maxColumns is how many value columns fit the stream ids.
const maxColumns = (256 - streamColumn) / streamsPerColumn

func valuesMode(vals []int64) byte {
	var any int64
	for _, v := range vals {
		if v < 0 {
			return valuesSigned
		}
		any |= v
	}
	if any == 0 {
		return valuesZero
	}
	return valuesPlain
}

func (w *grouper) followsPeriod(rows []*row, col int) bool {
	first, vals := w.samples.vals[0], w.samples.vals[col]
	from := 0
	for i, end := range w.ends {
		for k := from; k < end; k++ {
			if vals[k] != first[k]*rows[i].period {
				return false
			}
		}
		from = end
	}
	return true
}

// followsBefore says whether, in every row of a rollup, a column is the one
// before times a number, and finds the numbers: so it is with CPU time, and
// with instants that were held equally long.
func (w *grouper) followsBefore(rows []*row, col int) bool {
	if rows[0].cell == nil {
		return false
	}
	before, vals := w.samples.vals[col-1], w.samples.vals[col]
	w.times = w.times[:0]
	from := 0
	for _, end := range w.ends {
		times, known := int64(0), false
		for k := from; k < end; k++ {
			if !known && before[k] != 0 {
				times, known = vals[k]/before[k], true
			}
			if vals[k] != before[k]*times {
				return false
			}
		}
		w.times = append(w.times, times)
		from = end
	}
	return true
}

func (w *grouper) appendTimes(dst []byte) []byte {
	dst = append(dst, valuesTimes)
	for _, n := range w.times {
		dst = appendVarint(dst, n)
	}
	return dst
}

func appendPeriods(dst []byte, rows []*row) []byte {
	for _, r := range rows {
		dst = appendVarint(dst, r.period)
	}
	return dst
}

// dense writes the samples by series: values of one stack in successive
// profiles have like magnitudes.
func (w *grouper) dense(g *group, rows []*row, t *tables, layout uint32) {
	w.sortBySeries()
	w.bitmap(g, rows)
	for c := 0; c < len(t.layouts[layout].types); c++ {
		if heapPair(t, layout, c) && w.heapColumns(g, t, rows, c) {
			c++
			continue
		}
		if c > 0 && valuesMode(w.samples.vals[c]) != valuesZero && w.followsBefore(rows, c) {
			w.raw = w.appendTimes(w.raw[:0])
			g.streams = append(g.streams, w.pk.stream(columnStream(c, streamValues), w.raw))
			continue
		}
		if c > 0 && valuesMode(w.samples.vals[c]) != valuesZero && w.followsPeriod(rows, c) {
			w.raw = appendPeriods(append(w.raw[:0], valuesPeriod), rows)
			g.streams = append(g.streams, w.pk.stream(columnStream(c, streamValues), w.raw))
			continue
		}
		w.ordered = w.ordered[:0]
		for _, k := range w.order {
			w.ordered = append(w.ordered, w.samples.vals[c][k])
		}
		w.bitColumn(g, c, w.ordered)
	}
}

// bitmap writes which series there are and which rows have each.
func (w *grouper) bitmap(g *group, rows []*row) {
	raw := append(w.raw[:0], seriesBitmap)
	raw = binary.AppendUvarint(raw, uint64(len(w.distinct)))
	prev := uint32(0)
	for _, id := range w.distinct {
		raw = binary.AppendUvarint(raw, uint64(id-prev))
		prev = id
	}
	width := (len(rows) + 7) / 8
	at := len(raw)
	raw = append(raw, make([]byte, width*len(w.distinct))...)
	from := 0
	for i, end := range w.ends {
		for _, slot := range w.slots[from:end] {
			raw[at+width*int(slot)+i/8] |= 1 << (i % 8)
		}
		from = end
	}
	g.streams = append(g.streams, w.pk.stream(streamSeries, raw))
	w.raw = raw
}

// sortBySeries fills order: positions of samples by series, then row.
func (w *grouper) sortBySeries() {
	w.starts = resize(w.starts, len(w.distinct)+1)
	clear(w.starts)
	for _, slot := range w.slots {
		w.starts[slot+1]++
	}
	for i := 1; i < len(w.starts); i++ {
		w.starts[i] += w.starts[i-1]
	}
	w.order = resize(w.order, len(w.samples.ids))
	for k, slot := range w.slots {
		at := &w.starts[slot]
		w.order[*at] = uint32(k)
		*at++
	}
}

// bitColumn writes values as bit lengths and mantissas.
func (w *grouper) bitColumn(g *group, col int, vals []int64) {
	mode := valuesMode(vals)
	if mode == valuesZero {
		g.streams = append(g.streams, w.pk.stream(columnStream(col, streamValues), []byte{valuesZero}))
		return
	}
	signed := mode == valuesSigned
	mode = valuesBits
	if signed {
		mode = valuesSBits
	}
	w.lens = append(w.lens[:0], mode)
	w.packBits(g, col, vals, signed)
}

// packBits writes bit lengths after what w.lens has, and mantissas.
func (w *grouper) packBits(g *group, col int, vals []int64, signed bool) {
	w.bits.out = w.bits.out[:0]
	for _, v := range vals {
		u := uint64(v)
		if signed {
			u = zigzag(v)
		}
		n := bitLength(u)
		w.lens = append(w.lens, n)
		if n > 1 {
			w.bits.write(u&(1<<(n-1)-1), uint(n-1))
		}
	}
	g.streams = append(g.streams, w.pk.stream(columnStream(col, streamValues), w.lens))
	mantissas := w.bits.finish()
	g.streams = append(g.streams, newStream(columnStream(col, streamBits), codecRaw, slices.Clone(mantissas), len(mantissas)))
}

func popcount(b []byte) (n int) {
	for len(b) >= 8 {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}
