package store

import (
	"slices"

	"github.com/goinquest/inquest"
)

// rollKeep says what a rollup block is to have: by resolution, its rows; at
// Raw, digests.
type rollKeep [Day + 1]bool

var keepAll = rollKeep{true, true, true, true}

// roller makes the part of one service in a rollup block.
type roller struct {
	w       *rollWriter
	part    *rollPart
	dict    *rollDict
	keep    rollKeep
	kept    map[string]bool // labels that cells keep
	layouts []*rollLayout
	pools   [Day + 1]*cellPool
	procs   *procCells
	maker   digester
	derive  bool // coarser cells are made of finer ones
	hours   []*hourPart
	nodes   []uint32

	// Of the group of rows at hand:
	shape  shape
	column columnReader
	vals   [][]int64 // [column][sample]
	held   [][]int64 // [column][sample]: value × hold of instants
	row    []uint32  // by sample
	node   []uint32  // by sample
	cells  []*cell   // by row; nil: nowhere
	byRow  byRow
}

func newRoller(w *rollWriter, service string, keep rollKeep) *roller {
	p := newRollPart(service)
	r := &roller{w: w, part: p, dict: p.dict, keep: keep, kept: map[string]bool{
		inquest.LabelService: true, inquest.LabelBuild: true, inquest.LabelRelease: true,
	}}
	for _, name := range w.s.o.RollupLabels {
		r.kept[name] = true
	}
	for res := FiveMinutes; res <= Day; res++ {
		r.pools[res] = &cellPool{
			length: int64(res.Duration()), max: w.s.o.rollBytes, d: p.dict, open: map[cellKey]*cell{},
			flush: func(c *cell) error { return r.flush(res, c) },
		}
	}
	r.procs = &procCells{max: w.s.o.rollBytes, d: p.dict, open: map[procKey]*procCell{}, flush: r.flushDigest}
	r.maker.d = p.dict
	r.takeMemory(w.before)
	w.before = r
	return r
}

// takeMemory takes over the memory of another roller, which has finished.
func (r *roller) takeMemory(old *roller) {
	if old == nil {
		return
	}
	for res := FiveMinutes; res <= Day; res++ {
		r.pools[res].free = old.pools[res].free
	}
	r.procs.free, r.procs.sums, r.procs.marks = old.procs.free, old.procs.sums, old.procs.marks
	r.maker.sums, r.maker.names, r.maker.nodes = old.maker.sums, old.maker.names, old.maker.nodes[:0]
	r.nodes, r.column, r.vals, r.held = old.nodes, old.column, old.vals, old.held
	r.row, r.node, r.cells, r.byRow = old.row, old.node, old.cells, old.byRow
}

// keepCell says which labels a cell's rows have.
func (r *roller) keepCell(name string) bool { return r.kept[name] }

// keepDigest says which labels a digest's rows have.
func (r *roller) keepDigest(name string) bool { return r.kept[name] || name == inquest.LabelInstance }

// layout finds or adds a layout.
func (r *roller) layout(l *rollLayout) int {
	i := slices.IndexFunc(r.layouts, func(have *rollLayout) bool {
		return have.kind == l.kind && slices.Equal(have.cols, l.cols)
	})
	if i < 0 {
		i = len(r.layouts)
		r.layouts = append(r.layouts, l)
	}
	return i
}

// flush writes a cell, and adds it to the next coarser one.
func (r *roller) flush(res Resolution, c *cell) error {
	if r.keep[res] {
		if err := r.write(res, c); err != nil {
			return err
		}
	}
	if !r.derive || res == Day {
		return nil
	}
	to := r.pools[res+1]
	to.begin()
	up, err := to.get(cellKey{c.layout, c.set, floorTo(c.start, to.length)}, c.cols)
	if err != nil {
		return err
	}
	up.addCell(c)
	return nil
}

// write writes a cell to the part that is to have it.
func (r *roller) write(res Resolution, c *cell) error {
	if res == FiveMinutes && !r.w.oneHour {
		return r.addToHour(c)
	}
	l := r.layouts[c.layout]
	r.nodes = c.nodes(r.nodes[:0])
	return r.w.add(r.part, r.part.section(sectionInfo{kind: l.kind, sampleTypes: l.cols, resolution: res}), c.row(r.nodes, r.nodes))
}

func (r *roller) flushDigest(c *procCell) error {
	l := r.layouts[c.layout]
	return r.addDigest(l.kind, l.digestColumns(), c, r.maker.digest(r.procs, c))
}

// addDigest writes a digest.
func (r *roller) addDigest(kind inquest.Kind, cols [][2]string, c *procCell, d *digest) error {
	s := r.part.section(sectionInfo{kind: kind, sampleTypes: cols, resolution: FiveMinutes, digest: true})
	s.digests = append(s.digests, d)
	return r.w.add(r.part, s, c.row(d))
}

// finish flushes everything and writes the parts.
func (r *roller) finish() error {
	for res := FiveMinutes; res <= Day; res++ {
		if err := r.pools[res].closeAll(); err != nil {
			return err
		}
	}
	if err := r.procs.close(len(r.procs.open)); err != nil {
		return err
	}
	for _, h := range r.hours {
		if err := r.w.finishService(h.rollPart); err != nil {
			return err
		}
	}
	return r.w.finishService(r.part)
}
