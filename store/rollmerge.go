package store

import (
	"context"
	"slices"
)

// rollRolled makes the part of a service from parts of it in other rollups:
// rows of one cell are added up. Rows that drop takes are left out, if it is not
// nil.
func (w *rollWriter) rollRolled(ctx context.Context, service string, parts []*Part, keep rollKeep, drop func(Resolution, int64) bool) error {
	r := newRoller(w, service, keep)
	m := rollMerger{roller: r, drop: drop, open: map[procKey]*openDigest{}}
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.part(ctx, p); err != nil {
			return err
		}
		p.tables = tables{}
	}
	if err := m.close(0); err != nil {
		return err
	}
	return r.finish()
}

// rollMerger adds parts of rollups to a roller.
type rollMerger struct {
	*roller
	drop                      func(Resolution, int64) bool
	name, series, sets, procs []uint32 // of the part at hand: what its own are in the roller
	digests                   digestReader
	open                      map[procKey]*openDigest
	entries                   int
}

// openDigest is a digest to which other pieces of the same step may come.
type openDigest struct {
	*procCell
	*digest
}

// maxOpenEntries bounds the entries of open digests.
const maxOpenEntries = 1 << 19

func (m *rollMerger) part(ctx context.Context, p *Part) error {
	name, node, err := m.readCore(p)
	if err == nil {
		err = m.readMeta(p, name)
	}
	if err != nil {
		return p.damaged(err)
	}
	m.name = name
	m.series = resize(m.series, len(p.tables.series))
	for i, n := range p.tables.series {
		m.series[i] = node[n]
	}
	for i := range p.sections {
		sec := &p.sections[i]
		if sec.digest && !m.keep[Raw] || !sec.digest && !m.keep[sec.info.Resolution] || sec.info.Resolution == Raw {
			continue
		}
		l := &rollLayout{kind: sec.info.Kind, types: sec.types, cols: sec.types}
		for _, g := range sec.groups {
			if err := ctx.Err(); err != nil {
				return err
			}
			rows, err := p.groupRows(g, sec.cols)
			if err == nil {
				err = p.groupCells(g, rows)
			}
			if err != nil {
				return p.damaged(err)
			}
			if sec.digest {
				err = m.addDigests(p, g, l, rows)
			} else {
				err = m.addCells(p, sec, g, m.layout(l), rows)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// readMeta reads labels, processes, and where functions are.
func (m *rollMerger) readMeta(p *Part, name []uint32) error {
	raw, err := p.partStream(secMeta)
	if err == nil {
		err = readMeta(&p.tables, raw)
	}
	if err != nil {
		return err
	}
	info, err := p.nameInfo()
	if err != nil {
		return err
	}
	for i, n := range name {
		m.dict.setInfo(n, info[i])
	}
	t := &p.tables
	m.sets, m.procs = resize(m.sets, len(t.metaSets)), resize(m.procs, len(t.processes))
	for i := range t.metaSets {
		m.sets[i] = m.dict.setOf(t.profileLabels(uint32(i)), func(string) bool { return true })
	}
	for i, s := range t.processes {
		m.procs[i] = m.dict.processOf(t.metaText[s])
	}
	return nil
}

// addCells adds the rows of a group of cells.
func (m *rollMerger) addCells(p *Part, sec *partSection, g *group, layout int, rows []row) error {
	if err := m.readGroup(p, g, sec.cols); err != nil {
		return p.damaged(err)
	}
	m.place(m.series)
	pool := m.pools[sec.info.Resolution]
	for from := 0; from < len(rows); {
		m.cells = resize(m.cells, len(rows))
		clear(m.cells)
		pool.begin()
		i := from
		for ; i < len(rows); i++ {
			row := &rows[i]
			if m.drop != nil && m.drop(sec.info.Resolution, row.start) {
				continue
			}
			key := cellKey{layout, m.sets[row.labels], floorTo(row.start, pool.length)}
			c, err := pool.get(key, sec.cols)
			if err != nil {
				return err
			}
			if c == nil {
				break
			}
			m.cells[i] = c
			c.addInfo(row.cell, row.hold, row.flags)
			for _, proc := range row.cell.processes {
				c.procs.add(m.procs[proc])
			}
			for k, v := range row.totals {
				c.totals[k] += v
			}
		}
		for c := range sec.cols {
			m.addColumn(m.vals[c], c)
		}
		m.markCells()
		from = i
	}
	return nil
}

// addDigests takes the rows of a group of digests.
func (m *rollMerger) addDigests(p *Part, g *group, l *rollLayout, rows []row) error {
	cols := len(l.cols)
	if err := m.digests.read(func(id uint8) ([]byte, error) { return p.groupStream(g, id) }, rows, cols, len(m.name)); err != nil {
		return p.damaged(err)
	}
	layout := m.layout(l)
	for i := range rows {
		row := &rows[i]
		if m.drop != nil && m.drop(FiveMinutes, row.start) {
			continue
		}
		d := m.move(m.digests.row(i, row.totals))
		key := procKey{layout, m.sets[row.labels], m.procs[row.process], row.start}
		have, ok := m.open[key]
		if !ok {
			have = &openDigest{&procCell{procKey: key, end: row.end, totals: make([]int64, cols)}, d}
			m.open[key] = have
			m.entries += len(d.name)
		} else {
			m.entries -= len(have.name)
			have.digest = addDigest(have.digest, d)
			m.entries += len(have.name)
		}
		have.addInfo(row.cell, row.hold, row.flags)
		for k, v := range row.totals {
			have.totals[k] += v
		}
	}
	if m.entries > maxOpenEntries {
		return m.close(len(m.open) / 2)
	}
	return nil
}

// move copies a digest, but for its rest, with the roller's names in order.
func (m *rollMerger) move(d *Digest) *digest {
	n := len(d.Name) - 1
	order := make([]uint64, n)
	for i := range order {
		order[i] = uint64(m.name[d.Name[i+1]])<<32 | uint64(i+1)
	}
	slices.Sort(order)
	out := &digest{name: make([]uint32, n)}
	for i, v := range order {
		out.name[i] = uint32(v >> 32)
	}
	pick := func(vals []int64) []int64 {
		to := make([]int64, n)
		for i, v := range order {
			to[i] = vals[uint32(v)]
		}
		return to
	}
	for col := range d.Self {
		out.self, out.cum = append(out.self, pick(d.Self[col])), append(out.cum, pick(d.Cum[col]))
	}
	return out
}

// addDigest adds up two digests.
func addDigest(a, b *digest) *digest {
	out := &digest{self: make([][]int64, len(a.self)), cum: make([][]int64, len(a.cum))}
	take := func(d *digest, at, k int) {
		for col := range d.self {
			out.self[col][at] += d.self[col][k]
			out.cum[col][at] += d.cum[col][k]
		}
	}
	for i, k := 0, 0; i < len(a.name) || k < len(b.name); {
		at := len(out.name)
		for col := range out.self {
			out.self[col], out.cum[col] = append(out.self[col], 0), append(out.cum[col], 0)
		}
		inA := i < len(a.name) && (k == len(b.name) || a.name[i] <= b.name[k])
		inB := k < len(b.name) && (i == len(a.name) || b.name[k] <= a.name[i])
		if inA {
			out.name = append(out.name, a.name[i])
			take(a, at, i)
			i++
		}
		if inB {
			if !inA {
				out.name = append(out.name, b.name[k])
			}
			take(b, at, k)
			k++
		}
	}
	return out
}

// close writes open digests, the oldest first, until left are open.
func (m *rollMerger) close(left int) error {
	all := make([]*openDigest, 0, len(m.open))
	for _, d := range m.open {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *openDigest) int { return a.procKey.compare(&b.procKey) })
	for _, d := range all[:len(all)-left] {
		delete(m.open, d.procKey)
		m.entries -= len(d.name)
		l := m.layouts[d.layout]
		if err := m.addDigest(l.kind, l.cols, d.procCell, d.digest); err != nil {
			return err
		}
	}
	return nil
}
