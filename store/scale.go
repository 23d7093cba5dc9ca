package store

import (
	"encoding/binary"
	"math"
	"strings"
)

// Go's runtime samples allocations of a size with a probability that follows
// from the size and the rate, and multiplies what it counted by 1/(1 -
// exp(-size/rate)) before it writes a heap profile (scaleHeapSample in
// runtime/pprof/protomem.go). Objects and bytes of one sample thus follow
// from one small integer, the count, and the size, which is the sample's
// "bytes" label. Groups store the count, and by how much each value differs
// from what follows: nothing for a profile as Go wrote it, at most one for the
// difference of two.

// sizeLabel is the sample label that has the size of an allocation.
const sizeLabel = "bytes"

// heapPair says whether columns col and col+1 of a section are objects and
// bytes of the same allocations.
func heapPair(t *tables, layout uint32, col int) bool {
	types := t.layouts[layout].types
	if col+1 >= len(types) {
		return false
	}
	what, ok := strings.CutSuffix(t.strings[types[col].name], "_objects")
	return ok && t.strings[types[col+1].name] == what+"_space"
}

// allocationSize is the size of a series' allocations, 0 if it has none.
func allocationSize(t *tables, series uint32) int64 {
	for _, l := range t.setLabels(t.labelSet[series]) {
		if l.str == 0 && t.strings[l.key] == sizeLabel {
			return max(l.num, 0)
		}
	}
	return 0
}

// heapScale is 1/(1-exp(-size/rate)). It must give the same bits on every
// machine and for ever, so nothing is left to the library or to fused
// multiplication: every product is rounded by an explicit conversion.
func heapScale(size, rate int64) float64 {
	if size <= 0 || rate <= 1 {
		return 1
	}
	// Not above 0 where the rate is beyond reason.
	if sampled := 1 - expNegative(float64(size)/float64(rate)); sampled > 0 {
		return 1 / sampled
	}
	return 1
}

// expNegative is exp(-x) for x >= 0, by reduction to |r| <= ln(2)/2 and a
// Taylor series, to about one unit in the last place.
func expNegative(x float64) float64 {
	const (
		log2e = 1.44269504088896338700
		ln2hi = 6.93147180369123816490e-01
		ln2lo = 1.90821492927058770002e-10
	)
	if x > 745 {
		return 0
	}
	n := math.Floor(float64(x*log2e) + 0.5)
	r := x - float64(n*ln2hi) - float64(n*ln2lo)
	p := 1.0
	for i := 14; i > 0; i-- {
		p = 1 + float64(float64(-r/float64(i))*p)
	}
	return math.Ldexp(p, -int(n))
}

// scaled is what Go makes of a count; products that do not fit saturate.
func scaled(count int64, scale float64) int64 {
	v := float64(float64(count) * scale)
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	if v <= math.MinInt64 {
		return math.MinInt64
	}
	return int64(v)
}

// scaledBytes is the same for the bytes of count allocations of a size.
func scaledBytes(count, size int64, scale float64) int64 { return scaled(count*size, scale) }

// countOf finds the count behind objects and bytes, or the nearest to it.
func countOf(objects, bytes, size int64, scale float64) int64 {
	if size == 0 {
		return 0
	}
	n := int64(math.Round(float64(objects) / scale))
	for _, c := range [...]int64{n, n + 1, n - 1} {
		if scaled(c, scale) == objects && scaledBytes(c, size, scale) == bytes {
			return c
		}
	}
	return n
}

// heapColumns writes columns col and col+1 of a dense group as counts, if
// that is what they come from. The samples are ordered by series.
func (w *grouper) heapColumns(g *group, t *tables, rows []*row, col int) bool {
	rate := rows[0].period
	for _, r := range rows {
		if r.period != rate {
			return false
		}
	}
	if !w.looksCounted(t, rate, col) {
		return false
	}
	objects, bytes := w.samples.vals[col], w.samples.vals[col+1]
	w.counts, w.rest, w.restBytes = w.counts[:0], w.rest[:0], w.restBytes[:0]
	near := 0
	size, scale, of := int64(0), 1.0, ^uint32(0)
	for _, k := range w.order {
		if id := w.samples.ids[k]; id != of {
			of, size = id, allocationSize(t, id)
			scale = heapScale(size, rate)
		}
		n := countOf(objects[k], bytes[k], size, scale)
		a, b := objects[k]-scaled(n, scale), bytes[k]-scaledBytes(n, size, scale)
		if a >= -1 && a <= 1 && b >= -1 && b <= 1 {
			near++
		}
		w.counts = append(w.counts, n)
		w.rest = appendVarint(w.rest, a)
		w.restBytes = appendVarint(w.restBytes, b)
	}
	if near*4 < len(w.order)*3 {
		return false
	}
	mode := byte(valuesCount)
	if valuesMode(w.counts) == valuesSigned {
		mode = valuesSCount
	}
	if g.stream(streamSizes) == nil {
		w.raw = w.raw[:0]
		for _, id := range w.distinct {
			w.raw = binary.AppendUvarint(w.raw, uint64(allocationSize(t, id)))
		}
		g.streams = append(g.streams, w.pk.stream(streamSizes, w.raw))
	}
	w.lens = appendVarint(append(w.lens[:0], mode), rate)
	w.packBits(g, col, w.counts, mode == valuesSCount)
	g.streams = append(g.streams, w.pk.stream(columnStream(col, streamRest), w.rest))
	w.raw = append(append(w.raw[:0], valuesCountBytes), w.restBytes...)
	g.streams = append(g.streams, w.pk.stream(columnStream(col+1, streamValues), w.raw))
	return true
}

// looksCounted tries some of the pairs, since trying all costs more than
// packing them the other way.
func (w *grouper) looksCounted(t *tables, rate int64, col int) bool {
	const probes = 128
	near, tried := 0, 0
	for i := 0; i < len(w.order); i += max(1, len(w.order)/probes) {
		k := w.order[i]
		objects, bytes := w.samples.vals[col][k], w.samples.vals[col+1][k]
		if objects == 0 && bytes == 0 {
			continue
		}
		size := allocationSize(t, w.samples.ids[k])
		scale := heapScale(size, rate)
		n := countOf(objects, bytes, size, scale)
		a, b := objects-scaled(n, scale), bytes-scaledBytes(n, size, scale)
		tried++
		if a >= -1 && a <= 1 && b >= -1 && b <= 1 {
			near++
		}
	}
	return near*4 >= tried*3
}

// scales reads the size of each series of a group and its scale.
func (r *columnReader) scales(get fetch, s *shape, rate int64) error {
	raw, err := get(streamSizes)
	if err != nil {
		return err
	}
	c := cursor{b: raw}
	r.sizes, r.scale = resize(r.sizes, len(s.ids)), resize(r.scale, len(s.ids))
	for i := range r.sizes {
		r.sizes[i] = int64(c.uvarint())
		r.scale[i] = heapScale(r.sizes[i], rate)
	}
	if c.bad {
		return errGroup
	}
	return nil
}

// counts reads the counts of a column of mode valuesCount or valuesSCount,
// whose stream after the mode is body, and the scales.
func (r *columnReader) countColumn(vals []int64, get fetch, s *shape, col int, mode byte, body []byte) ([]int64, error) {
	if !s.dense() {
		return vals, errGroup
	}
	c := cursor{b: body}
	rate := c.varint()
	if c.bad {
		return vals, errGroup
	}
	if err := r.scales(get, s, rate); err != nil {
		return vals, err
	}
	mantissas, err := get(columnStream(col, streamBits))
	if err != nil {
		return vals, err
	}
	return readBits(vals, c.b, mantissas, s.n, mode == valuesSCount)
}

// objects reads a column of counts as objects.
func (r *columnReader) objects(vals []int64, get fetch, s *shape, col int, mode byte, body []byte) ([]int64, error) {
	vals, err := r.countColumn(vals, get, s, col, mode, body)
	if err != nil {
		return vals, err
	}
	raw, err := get(columnStream(col, streamRest))
	if err != nil {
		return vals, err
	}
	return vals, r.follow(vals, s, raw, false)
}

// bytes reads the column after a column of counts as bytes.
func (r *columnReader) bytes(vals []int64, get fetch, s *shape, col int, rest []byte) ([]int64, error) {
	if col == 0 {
		return vals, errGroup
	}
	raw, err := get(columnStream(col-1, streamValues))
	if err != nil {
		return vals, err
	}
	if len(raw) == 0 || raw[0] != valuesCount && raw[0] != valuesSCount {
		return vals, errGroup
	}
	if vals, err = r.countColumn(vals, get, s, col-1, raw[0], raw[1:]); err != nil {
		return vals, err
	}
	return vals, r.follow(vals, s, rest, true)
}

// follow makes values of counts: what follows from the count, and the stored
// difference.
func (r *columnReader) follow(vals []int64, s *shape, rest []byte, bytes bool) error {
	if len(rest) < len(vals) {
		return errGroup
	}
	c := cursor{b: rest}
	for i := range s.ids {
		n := popcount(s.bits[i*s.width : (i+1)*s.width])
		scale, size := r.scale[i], int64(1)
		if bytes {
			size = r.sizes[i]
		}
		for k, count := range vals[:n] {
			vals[k] = scaled(count*size, scale) + c.varint()
		}
		vals = vals[n:]
	}
	if c.bad {
		return errGroup
	}
	return nil
}
