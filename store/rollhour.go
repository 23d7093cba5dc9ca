package store

import (
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// hourPart is the part that has a service's rows of five minutes of one hour,
// with a dictionary of its own: who asks about a few minutes reads the stacks
// of an hour, not those of a day.
type hourPart struct {
	*rollPart
	start int64    // of the hour
	node  []uint32 // by node of the roller: what it is here; 0: not here yet
	name  []uint32 // by name of the roller, likewise

	// Memory to be used:
	order        []uint64
	ids, missing []uint32
}

// maxHourParts is how many of them are open. Late rows may make another one of
// an hour that was finished: parts add up.
const maxHourParts = 2

// hourOf is the hour a part of a rollup is of, false if it has more than the
// rows of five minutes of one hour.
func hourOf(p *partInfo) (start int64, ok bool) {
	for i := range p.sections {
		s := &p.sections[i]
		hour := floorTo(s.from, int64(time.Hour))
		if s.resolution != FiveMinutes || s.digest || s.fleet || hour != floorTo(s.until, int64(time.Hour)) || i > 0 && hour != start {
			return 0, false
		}
		start = hour
	}
	return start, len(p.sections) > 0
}

// hour finds or opens the part of the hour in which a step begins.
func (r *roller) hour(step int64) (*hourPart, error) {
	start := floorTo(step, int64(time.Hour))
	for _, h := range r.hours {
		if h.start == start {
			return h, nil
		}
	}
	if len(r.hours) == maxHourParts {
		if err := r.w.finishService(r.hours[0].rollPart); err != nil {
			return nil, err
		}
		r.hours = slices.Delete(r.hours, 0, 1)
	}
	h := &hourPart{rollPart: newRollPart(r.part.service), start: start}
	r.hours = append(r.hours, h)
	return h, nil
}

// addToHour writes a cell of five minutes to the part of its hour.
func (r *roller) addToHour(c *cell) error {
	h, err := r.hour(c.start)
	if err != nil {
		return err
	}
	l := r.layouts[c.layout]
	s := h.section(sectionInfo{kind: l.kind, sampleTypes: l.cols, resolution: FiveMinutes})
	return r.w.add(h.rollPart, s, h.row(r, c))
}

// row packs a cell of a roller by the dictionary of the hour.
func (h *hourPart) row(r *roller, c *cell) *row {
	h.node = append(h.node, make([]uint32, len(r.dict.funcUp)-len(h.node))...)
	h.order = h.order[:0]
	r.nodes = c.nodes(r.nodes[:0])
	for _, n := range r.nodes {
		h.order = append(h.order, uint64(h.nodeOf(r.dict, n))<<32|uint64(n))
	}
	h.dict.grow()
	slices.Sort(h.order)
	h.ids = h.ids[:0]
	for i, o := range h.order {
		h.ids, r.nodes[i] = append(h.ids, uint32(o>>32)), uint32(o)
	}
	row := c.row(h.ids, r.nodes)
	var labels inquest.Labels
	for _, p := range r.dict.metaSets[c.set] {
		labels = append(labels, inquest.Label{Name: r.dict.strings[p.name], Value: r.dict.strings[p.value]})
	}
	row.labels = h.dict.setOf(labels, func(string) bool { return true })
	for i, p := range row.cell.processes {
		row.cell.processes[i] = h.dict.processOf(r.dict.strings[r.dict.processes[p]])
	}
	slices.Sort(row.cell.processes)
	return row
}

// nodeOf finds or adds a node of the roller, with its callers.
func (h *hourPart) nodeOf(d *rollDict, n uint32) uint32 {
	if n == 0 || h.node[n] != 0 {
		return h.node[n]
	}
	h.missing = h.missing[:0]
	for ; n != 0 && h.node[n] == 0; n = uint32(d.funcUp[n]) {
		h.missing = append(h.missing, n)
	}
	here := h.node[n]
	for _, n := range slices.Backward(h.missing) {
		here = h.dict.funcNode(here, h.nameOf(d, d.funcName[n]))
		h.node[n] = here
	}
	return here
}

// nameOf finds or adds a name of the roller.
func (h *hourPart) nameOf(d *rollDict, n uint32) uint32 {
	for len(h.name) < len(d.names) {
		h.name = append(h.name, 0)
	}
	if n != 0 && h.name[n] == 0 {
		h.name[n] = h.dict.name(d.names[n], d.noSymbol[n])
		h.dict.setInfo(h.name[n], d.info[n])
	}
	return h.name[n]
}
