package store

import (
	"context"
	"slices"

	"github.com/goinquest/inquest"
)

// LabelSets lists the distinct label sets of the section's rows that count,
// and returns the last start of one in unix ns. Rows are only read where the
// seam of a span goes through their group; the sets may be shared by other
// calls and belong to nobody.
func (p *Part) LabelSets(ctx context.Context, section int) (sets []inquest.Labels, last int64, err error) {
	sec, err := p.section(section)
	if err != nil {
		return nil, 0, err
	}
	if err := p.reserveLabelSets(ctx); err != nil {
		return nil, 0, err
	}
	if err := p.load(loadedMeta); err != nil {
		return nil, 0, err
	}
	used := make([]bool, len(p.tables.metaSets))
	last = minTime
	add := func(r *row) {
		if within(sec.info.Spans, r.start) {
			used[r.labels], last = true, max(last, r.start)
		}
	}
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		whole := slices.ContainsFunc(sec.info.Spans, func(s Span) bool { return s.Contains(g.from) && s.Contains(g.until) })
		if whole && len(g.sets) > 0 {
			for _, set := range g.sets {
				if int(set) >= len(used) {
					return nil, 0, p.damaged(errGroup)
				}
				used[set] = true
			}
			last = max(last, g.until)
			continue
		}
		rows, err := p.groupRows(g, sec.cols)
		if err != nil {
			return nil, 0, p.damaged(err)
		}
		for i := range rows {
			add(&rows[i])
		}
	}
	for _, r := range sec.rows {
		add(r)
	}
	for set, there := range used {
		if there {
			sets = append(sets, p.tables.profileLabels(uint32(set)))
		}
	}
	return sets, last, nil
}
