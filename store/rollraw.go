package store

import (
	"context"
	"math"
	"math/bits"
	"slices"

	"github.com/goinquest/inquest"
)

// rawPart is a part of profiles that is rolled up.
type rawPart struct {
	*Part
	sections []rawSection
}

// rawSection is its profiles of one layout, group after group.
type rawSection struct {
	layout *rollLayout
	index  int // in the roller
	types  [][2]string
	kind   inquest.Kind
	groups []*group
	rows   []rawRow
}

// rawRow is what rollups need to know of a profile.
type rawRow struct {
	start, end, hold  int64
	set, digest, proc uint32 // labels of its cell and of its digest, process
	samples           uint32
	flags             uint8
	totals            []int64
}

// rollRaw makes the part of a service from its profiles that start in a day.
// All profiles of parts count when holds are decided.
func (w *rollWriter) rollRaw(ctx context.Context, service string, parts []*Part, day Span) error {
	r := newRoller(w, service, keepAll)
	r.derive = true
	var raw []*rawPart
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		rp, err := r.readRows(p)
		if err != nil {
			return p.damaged(err)
		}
		raw = append(raw, rp)
	}
	r.decideHolds(raw)
	for _, p := range raw {
		if !p.within(day) {
			continue
		}
		if err := r.addPart(ctx, p, day); err != nil {
			return err
		}
		p.tables, p.sections = tables{}, nil
	}
	return r.finish()
}

// readRows reads what is known of the profiles of a part.
func (r *roller) readRows(p *Part) (*rawPart, error) {
	raw, err := p.partStream(secMeta)
	if err == nil {
		err = readMeta(&p.tables, raw)
	}
	if err != nil {
		return nil, err
	}
	t := &p.tables
	out := &rawPart{Part: p}
	cells, digests := make([]uint32, len(t.metaSets)), make([]uint32, len(t.metaSets))
	for i := range t.metaSets {
		ls := t.profileLabels(uint32(i))
		cells[i], digests[i] = r.dict.setOf(ls, r.keepCell), r.dict.setOf(ls, r.keepDigest)
	}
	procs := map[[2]uint32]uint32{} // process and, where it has no name, label set
	for i := range p.sections {
		sec := &p.sections[i]
		l := newRollLayout(sec.info.Kind, sec.types)
		rs := rawSection{layout: l, index: r.layout(l), types: sec.types, kind: sec.info.Kind, groups: sec.groups}
		rs.rows = make([]rawRow, 0, sec.n)
		for _, g := range sec.groups {
			rows, err := p.groupRows(g, sec.cols)
			if err != nil {
				return nil, err
			}
			for k := range rows {
				row := &rows[k]
				who := [2]uint32{row.process, 0}
				if row.process == 0 {
					who[1] = row.labels
				}
				proc, ok := procs[who]
				if !ok {
					proc = r.dict.processOf(processName(t, row.process, row.labels))
					procs[who] = proc
				}
				rs.rows = append(rs.rows, rawRow{
					start: row.start, end: row.end, hold: row.hold, set: cells[row.labels], digest: digests[row.labels],
					proc: proc, samples: row.samples, flags: row.flags, totals: row.totals,
				})
			}
		}
		out.sections = append(out.sections, rs)
	}
	return out, nil
}

// decideHolds puts in place of the stated holds those that queries take.
func (r *roller) decideHolds(parts []*rawPart) {
	unclear := make([]bool, len(r.dict.processes))
	need := false
	each := func(f func(s *rawSection, row *rawRow, baseline bool)) {
		for _, p := range parts {
			for i := range p.sections {
				s := &p.sections[i]
				deltas := slices.ContainsFunc(s.types, func(t [2]string) bool {
					return inquest.TypeOf(s.kind, t[0], t[1]).Temporality == inquest.Delta
				})
				for k := range s.rows {
					f(s, &s.rows[k], deltas && s.rows[k].start == s.rows[k].end)
				}
			}
		}
	}
	each(func(_ *rawSection, row *rawRow, baseline bool) {
		if _, clear := StatedHold(row.hold, row.end-row.start, baseline); !clear {
			unclear[row.proc], need = true, true
		}
	})
	var rows []*rawRow
	var held []Held
	each(func(s *rawSection, row *rawRow, baseline bool) {
		if !need || !unclear[row.proc] {
			row.hold, _ = StatedHold(row.hold, row.end-row.start, baseline)
			return
		}
		rows = append(rows, row)
		held = append(held, Held{Process: row.proc, Kind: s.kind, Start: row.start, End: row.end, Stated: row.hold, Baseline: baseline})
	})
	for i, hold := range Holds(held) {
		rows[i].hold = hold
	}
}

func (p *rawPart) within(day Span) bool {
	return slices.ContainsFunc(p.sections, func(s rawSection) bool {
		return slices.ContainsFunc(s.groups, func(g *group) bool { return g.from < day.Until && g.until >= day.From })
	})
}

// addPart adds the profiles of a part that start in the day.
func (r *roller) addPart(ctx context.Context, p *rawPart, day Span) error {
	name, node, err := r.readCore(p.Part)
	if err == nil {
		err = r.learn(p.Part, name)
	}
	if err != nil {
		return p.damaged(err)
	}
	series := make([]uint32, len(p.tables.series))
	for i, n := range p.tables.series {
		series[i] = node[n]
	}
	for i := range p.sections {
		s := &p.sections[i]
		at := 0
		for _, g := range s.groups {
			if err := ctx.Err(); err != nil {
				return err
			}
			rows := s.rows[at : at+g.rows]
			at += g.rows
			if g.from >= day.Until || g.until < day.From {
				continue
			}
			if err := r.readGroup(p.Part, g, len(s.types)); err != nil {
				return p.damaged(err)
			}
			if err := r.addGroup(s, rows, series, day); err != nil {
				return err
			}
		}
	}
	return nil
}

// readCore reads a part's names and tree, past the cache, which is for
// readers, and merges them.
func (r *roller) readCore(p *Part) (name, node []uint32, err error) {
	err = p.loadStreams(func(raw [][]byte) error { return readCore(&p.tables, raw[0], raw[1], raw[2]) }, secNames, secFuncTree, secSeriesNode)
	if err != nil {
		return nil, nil, err
	}
	name, node = r.dict.merge(&p.tables)
	return name, node, nil
}

func (r *roller) learn(p *Part, name []uint32) error {
	err := p.loadStreams(func(raw [][]byte) error { return readLabels(&p.tables, raw[0], raw[1]) }, secLabelText, secLabelSets)
	if err != nil {
		return err
	}
	return r.dict.learn(p, name)
}

// readGroup unpacks the samples of a group.
func (r *roller) readGroup(p *Part, g *group, cols int) error {
	raw, err := p.groupStream(g, streamSeries)
	if err != nil {
		return err
	}
	if err := r.shape.read(raw, g.rows, len(p.tables.series)); err != nil {
		return err
	}
	for len(r.vals) < cols {
		r.vals, r.held = append(r.vals, nil), append(r.held, nil)
	}
	get := func(id uint8) ([]byte, error) { return p.groupStream(g, id) }
	for c := range cols {
		if r.vals[c], err = r.column.column(r.vals[c][:0], get, &r.shape, c); err != nil {
			return err
		}
		if len(r.vals[c]) != r.shape.n {
			return errGroup
		}
	}
	return nil
}

// addGroup adds the rows of the unpacked group that start in the day.
func (r *roller) addGroup(s *rawSection, rows []rawRow, series []uint32, day Span) error {
	r.place(series)
	for c := range s.types {
		r.holdColumn(s.layout, c, rows)
	}
	if err := r.addDigests(s, rows, day); err != nil {
		return err
	}
	for from := 0; from < len(rows); {
		until, err := r.openCells(s, rows, from, day)
		if err != nil {
			return err
		}
		for c := range s.types {
			r.addColumn(r.vals[c], s.layout.column[c])
			if s.layout.held[c] != 0 {
				r.addColumn(r.held[c], s.layout.column[c]+1)
				r.addHeldTotals(r.held[c], s.layout.column[c]+1)
			}
		}
		r.markCells()
		from = until
	}
	return nil
}

// place finds row and node of every sample of the unpacked group.
func (r *roller) place(series []uint32) {
	s := &r.shape
	r.row, r.node = resize(r.row, s.n), resize(r.node, s.n)
	if !s.dense() {
		k := uint32(0)
		for row, end := range s.ends {
			for ; k < end; k++ {
				r.row[k], r.node[k] = uint32(row), series[s.ids[k]]
			}
		}
		return
	}
	k := 0
	for i, id := range s.ids {
		node := series[id]
		for b, x := range s.bits[i*s.width : (i+1)*s.width] {
			for ; x != 0; x &= x - 1 {
				r.row[k], r.node[k] = uint32(b*8+bits.TrailingZeros8(x)), node
				k++
			}
		}
	}
}

// openCells opens the cells of rows from number from on, as far as there is
// room for them, and adds to them what is known of the rows.
func (r *roller) openCells(s *rawSection, rows []rawRow, from int, day Span) (until int, err error) {
	r.cells = resize(r.cells, len(rows))
	clear(r.cells)
	pool := r.pools[FiveMinutes]
	pool.begin()
	for i := from; i < len(rows); i++ {
		row := &rows[i]
		if !day.Contains(row.start) {
			continue
		}
		key := cellKey{s.index, row.set, floorTo(row.start, pool.length)}
		c, err := pool.get(key, len(s.layout.cols))
		if err != nil {
			return 0, err
		}
		if c == nil {
			return i, nil
		}
		r.cells[i] = c
		info := row.info()
		c.addInfo(&info, row.hold, row.flags)
		c.procs.add(row.proc)
		for k, v := range row.totals {
			c.totals[s.layout.column[k]] += v
		}
	}
	return len(rows), nil
}

// info is what a row of one profile says of it.
func (row *rawRow) info() cellInfo {
	i := cellInfo{profiles: 1, observed: row.end - row.start, samples: int64(row.samples)}
	if row.flags&FlagTruncated != 0 {
		i.truncated = 1
	}
	return i
}

// heldFactor is what the values of an instant are multiplied by.
type heldFactor struct {
	whole int64   // if it is a whole number
	max   int64   // largest value that can be multiplied by whole
	f     float64 // else
}

// maxHeld is the most a value × hold can be.
const maxHeld = 1 << 62

func newHeldFactor(hold int64, perSecond float64) heldFactor {
	per := int64(perSecond)
	if hold < 0 {
		hold = 0
	}
	if hold < maxHeld/per && hold*per%1e9 == 0 {
		w := hold * per / 1e9
		return heldFactor{whole: w, max: maxHeld / max(w, 1)}
	}
	return heldFactor{whole: -1, f: float64(hold) / 1e9 * perSecond}
}

func (h *heldFactor) times(v int64) int64 {
	if h.whole >= 0 {
		switch {
		case h.whole == 0:
			return 0
		case v > h.max:
			return maxHeld
		case v < -h.max:
			return -maxHeld
		}
		return v * h.whole
	}
	switch f := math.Round(float64(v) * h.f); {
	case f >= maxHeld:
		return maxHeld
	case f <= -maxHeld:
		return -maxHeld
	default:
		return int64(f)
	}
}

// holdColumn makes value × hold of an instant.
func (r *roller) holdColumn(l *rollLayout, c int, rows []rawRow) {
	if l.held[c] == 0 {
		return
	}
	factors := make([]heldFactor, len(rows))
	for i := range rows {
		factors[i] = newHeldFactor(rows[i].hold, l.held[c])
	}
	r.held[c] = resize(r.held[c], len(r.vals[c]))
	held, row := r.held[c], r.row
	for k, v := range r.vals[c] {
		held[k] = factors[row[k]].times(v)
	}
}

// addColumn adds values to a column of the cells of their rows. In dense
// groups the rows of a series follow each other, and most belong to one cell.
func (r *roller) addColumn(vals []int64, col int) {
	var at *cell
	last, sum := uint32(0), int64(0)
	row, cells := r.row, r.cells
	for k, node := range r.node {
		c := cells[row[k]]
		if c != at || node != last {
			if at != nil {
				at.vals[int(last)*at.cols+col] += sum
			}
			at, last, sum = c, node, 0
		}
		sum += vals[k]
	}
	if at != nil {
		at.vals[int(last)*at.cols+col] += sum
	}
}

func (r *roller) addHeldTotals(held []int64, col int) {
	totals := make([]int64, len(r.cells))
	for k, row := range r.row {
		totals[row] += held[k]
	}
	for row, c := range r.cells {
		if c != nil {
			c.totals[col] += totals[row]
		}
	}
}

// markCells marks the nodes that were added to.
func (r *roller) markCells() {
	var at *cell
	last := uint32(0)
	for k, node := range r.node {
		if c := r.cells[r.row[k]]; c != at || node != last {
			if c != nil {
				c.marks.add(node)
			}
			at, last = c, node
		}
	}
}

// byRow is the digested columns of a group, row after row.
type byRow struct {
	ends []uint32
	node []uint32
	vals [][]int64
}

// sort fills b with nodes and some columns.
func (b *byRow) sort(rows int, row, node []uint32, cols [][]int64) {
	b.ends = resize(b.ends, rows+1)
	clear(b.ends)
	for _, r := range row {
		b.ends[r+1]++
	}
	for i := range rows {
		b.ends[i+1] += b.ends[i]
	}
	b.node = resize(b.node, len(node))
	for len(b.vals) < len(cols) {
		b.vals = append(b.vals, nil)
	}
	for i := range cols {
		b.vals[i] = resize(b.vals[i], len(node))
	}
	at := b.ends[:rows] // they are starts, and become ends
	switch len(cols) {
	case 1:
		v0, c0 := b.vals[0], cols[0]
		for k, r := range row {
			i := at[r]
			at[r]++
			b.node[i], v0[i] = node[k], c0[k]
		}
	default:
		for k, r := range row {
			i := at[r]
			at[r]++
			b.node[i] = node[k]
			for c := range cols {
				b.vals[c][i] = cols[c][k]
			}
		}
	}
}

// addDigests collects the samples of the rows for their processes' digests.
func (r *roller) addDigests(s *rawSection, rows []rawRow, day Span) error {
	var cols [][]int64
	for _, t := range s.layout.digest {
		if s.layout.held[t] != 0 {
			cols = append(cols, r.held[t])
		} else {
			cols = append(cols, r.vals[t])
		}
	}
	r.byRow.sort(len(rows), r.row, r.node, cols)
	length := int64(FiveMinutes.Duration())
	from := uint32(0)
	for i := range rows {
		row := &rows[i]
		to := r.byRow.ends[i]
		if day.Contains(row.start) {
			c := r.procs.get(procKey{s.index, row.digest, row.proc, floorTo(row.start, length)}, length, len(cols))
			info := row.info()
			c.addInfo(&info, row.hold, row.flags)
			c.node = append(c.node, r.byRow.node[from:to]...)
			for col := range cols {
				vals := r.byRow.vals[col][from:to]
				c.vals[col] = append(c.vals[col], vals...)
				for _, v := range vals {
					c.totals[col] += v
				}
			}
			r.procs.fit(c, int(to-from))
		}
		from = to
	}
	return r.procs.trim()
}
