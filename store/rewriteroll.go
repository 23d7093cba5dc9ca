package store

import (
	"context"
	"errors"
)

// cutRollup writes what is left of a block of rollups, nil if that is nothing.
// Rows of several services together are made again of those of each.
func (s *Store) cutRollup(ctx context.Context, b *block, cuts []cut) (*blockInfo, error) {
	b.acquire()
	defer b.release()
	var info *blockInfo
	err := s.withoutDamaged(ctx, func() error {
		parts, err := s.partsOf([]*block{b})
		if err != nil {
			return err
		}
		sources, err := s.sourcesOf([]*block{b})
		if err != nil {
			return err
		}
		info, err = s.writeRollup(ctx, sources, parts, func(ctx context.Context, w *rollWriter, service string, ps []*Part) error {
			return w.rollRolled(ctx, service, ps, keepAll, func(r Resolution, start int64) bool {
				return cutFromRollup(cuts, service, r, start)
			})
		})
		return err
	})
	if err != nil || info.first == "" && info.last == "" && info.from == 0 && info.to == 0 {
		return nil, errors.Join(err, s.discard(info))
	}
	return info, nil
}

// cutFromRollup says whether a row of a rollup is deleted.
func cutFromRollup(cuts []cut, service string, r Resolution, start int64) bool {
	for i := range cuts {
		if c := &cuts[i]; c.of(service) && c.wide[r].Contains(start) {
			return true
		}
	}
	return false
}

// rollUse is what rows that stay use of the dictionary of a part.
type rollUse struct{ nodes, names, sets, procs []bool }

// uses finds what rows use that drop does not take.
func (m *rollMerger) uses(p *Part, drop func(Resolution, int64) bool) (*rollUse, error) {
	if err := p.loadStreams(func(raw [][]byte) error { return readCore(&p.tables, raw[0], raw[1], raw[2]) }, secNames, secFuncTree, secSeriesNode); err != nil {
		return nil, err
	}
	if err := p.loadStreams(func(raw [][]byte) error { return readMeta(&p.tables, raw[0]) }, secMeta); err != nil {
		return nil, err
	}
	t := &p.tables
	u := &rollUse{make([]bool, len(t.funcUp)), make([]bool, len(t.names)), make([]bool, len(t.metaSets)), make([]bool, len(t.processes))}
	for i := range p.sections {
		sec := &p.sections[i]
		for _, g := range sec.groups {
			if err := u.group(m, p, sec, g, drop); err != nil {
				return nil, err
			}
		}
	}
	for i := len(u.nodes) - 1; i > 0; i-- { // callers come first
		if u.nodes[i] {
			u.names[t.funcName[i]] = true
			u.nodes[t.funcUp[i]] = true
		}
	}
	return u, nil
}

func (u *rollUse) group(m *rollMerger, p *Part, sec *partSection, g *group, drop func(Resolution, int64) bool) error {
	rows, err := p.groupRows(g, sec.cols)
	if err == nil {
		err = p.groupCells(g, rows)
	}
	if err != nil {
		return err
	}
	raw, err := p.groupStream(g, streamSeries)
	if err != nil {
		return err
	}
	limit := len(p.tables.series)
	if sec.digest {
		limit = len(p.tables.names)
	}
	if err := m.shape.read(raw, g.rows, limit); err != nil {
		return err
	}
	stays := make([]bool, len(rows))
	for i := range rows {
		if stays[i] = !drop(sec.info.Resolution, rows[i].start); !stays[i] {
			continue
		}
		u.sets[rows[i].labels] = true
		if sec.digest {
			u.procs[rows[i].process] = true
		}
		for _, proc := range rows[i].cell.processes {
			u.procs[proc] = true
		}
	}
	m.shape.each(func(_, row int, id uint32) {
		switch {
		case !stays[row]:
		case sec.digest:
			u.names[id] = true
		default:
			u.nodes[p.tables.series[id]] = true
		}
	})
	return nil
}

// mergeUsed is merge for what is used; what is not is 0.
func (d *rollDict) mergeUsed(t *tables, u *rollUse) (name, node []uint32) {
	name, node = make([]uint32, len(t.names)), make([]uint32, len(t.funcUp))
	for i := 1; i < len(name); i++ {
		if u.names[i] {
			name[i] = d.name(t.names[i], t.noSymbol[i])
		}
	}
	for i := 1; i < len(node); i++ {
		if u.nodes[i] {
			node[i] = d.funcNode(node[t.funcUp[i]], name[t.funcName[i]])
		}
	}
	d.grow()
	return name, node
}
