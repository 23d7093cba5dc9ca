package store

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// Bounds of parts with tables where there is memory for it, see
// Options.MergeBytes: functions, beyond which the next service begins another
// part, and bytes of rows that wait for each other.
const (
	fleetFunctions     = 200_000
	fleetBytes         = 16 << 20
	fleetFunctionBytes = 160 // of MergeBytes for a function
)

// fleetParts makes the parts of a rollup block that have tables of functions of
// all services together: what each function cost itself and with all it calls,
// exactly, in hours and days. Questions about functions of the fleet need no call
// trees then, which are much larger and which services do not have in common.
//
// Services come in order and share one dictionary. The tables of their rows wait
// until there are many of them, then those that begin at the same time are added
// up: what is of all services is a row for some of them at least.
type fleetParts struct {
	part  *rollPart
	wait  []waiting
	bytes int // of rows that wait

	// Where names and processes of the service at hand are. A name is a node below
	// the root.
	of         *rollPart
	node, proc []uint32

	maker   tableMaker
	sum     cell     // of all services at a time
	nodes   []uint32 // scratch
	samples samples
	order   []uint64
	spare   []uint64
}

func newFleetParts() *fleetParts {
	x := &fleetParts{}
	x.begin()
	return x
}

func (x *fleetParts) begin() {
	x.part, x.of, x.wait = newRollPart(""), nil, nil
	x.part.fleet = true
}

// add takes rows of a section of a service.
func (x *fleetParts) add(w *rollWriter, p *rollPart, s *rollSection, rows []*row) error {
	if x.of != p {
		if int64(len(x.part.dict.funcUp)) >= min(fleetFunctions, w.s.o.MergeBytes/fleetFunctionBytes) {
			if err := x.finish(w); err != nil {
				return err
			}
		}
		x.of = p
		x.node, x.proc = x.node[:0], x.proc[:0]
		x.maker.use(p.dict)
	}
	x.follow(p.dict)
	take := fleetColumns(s.kind, s.sampleTypes)
	to := x.waiting(s, take)
	for _, r := range rows {
		table, err := x.make(r, len(s.sampleTypes), take, len(p.dict.funcUp))
		if err != nil {
			return err
		}
		to.rows = append(to.rows, table)
		x.bytes += len(table.data) + rowBytes + 4*len(table.cell.processes)
	}
	if int64(x.bytes) < min(fleetBytes, w.s.o.MergeBytes/4) {
		return nil
	}
	return x.flush(w)
}

// waiting are the tables of a section of the part.
type waiting struct {
	section *rollSection
	rows    []*row
}

// waiting finds or adds where tables of rows of a section wait.
func (x *fleetParts) waiting(s *rollSection, take []int) *waiting {
	to := x.part.section(sectionInfo{kind: s.kind, sampleTypes: tableColumns(s.sampleTypes, take), resolution: s.resolution, fleet: true})
	for i := range x.wait {
		if x.wait[i].section == to {
			return &x.wait[i]
		}
	}
	x.wait = append(x.wait, waiting{section: to})
	return &x.wait[len(x.wait)-1]
}

// fleetFrom is the finest resolution of tables of all services.
const fleetFrom = Hour

// InFleet says whether tables of all services have a type of a kind.
func InFleet(kind inquest.Kind, name string) bool {
	return kind != inquest.KindOther && slices.Contains(comparedTypes(kind), name)
}

// fleetColumns lists which columns of rows tables of all services have.
func fleetColumns(kind inquest.Kind, cols [][2]string) (out []int) {
	for i, t := range cols {
		if InFleet(kind, inquest.TypeOf(kind, strings.TrimPrefix(t[0], heldPrefix), t[1]).Name) {
			out = append(out, i)
		}
	}
	return out
}

// tableColumns are the columns of tables of rows, of which some are taken.
func tableColumns(cols [][2]string, take []int) [][2]string {
	out := make([][2]string, 0, 2*len(take))
	for _, i := range take {
		t := cols[i]
		out = append(out, t, [2]string{cumPrefix + t[0], t[1]})
	}
	return out
}

// follow finds the place of what the service's dictionary gained.
func (x *fleetParts) follow(from *rollDict) {
	d := x.part.dict
	for i := len(x.node); i < len(from.names); i++ {
		n := uint32(0)
		if i > 0 {
			n = d.funcNode(0, d.name(from.names[i], from.noSymbol[i]))
		}
		x.node = append(x.node, n)
	}
	for i, n := range x.node {
		d.setInfo(d.funcName[n], from.info[i])
	}
	d.grow()
	for i := len(x.proc); i < len(from.processes); i++ {
		x.proc = append(x.proc, d.processOf(FleetProcess(x.of.service, from.strings[from.processes[i]])))
	}
}

// make makes the table of a row with cols columns, of those in take.
func (x *fleetParts) make(r *row, cols int, take []int, nodes int) (*row, error) {
	x.samples.reset()
	if err := x.samples.unpack(r.data, r.samples, cols, 0, nodes); err != nil {
		return nil, err
	}
	for i, c := range take { // ascending
		x.samples.vals[i], x.samples.vals[c] = x.samples.vals[c], x.samples.vals[i]
	}
	x.maker.make(&x.samples, len(take))
	out := *r
	out.samples, out.totals = uint32(len(x.samples.ids)), make([]int64, 2*len(take))
	x.order = x.order[:0]
	for k, name := range x.samples.ids {
		x.order = append(x.order, uint64(x.node[name])<<32|uint64(k))
	}
	x.order, x.spare = sortHigh(x.order, x.spare)
	out.labels, out.process = 0, 0
	prev := uint64(0)
	at := make([]uint32, len(x.order))
	out.data = make([]byte, 0, len(r.data))
	for i, v := range x.order {
		out.data = binary.AppendUvarint(out.data, v>>32-prev)
		prev = v >> 32
		at[i] = uint32(v)
	}
	for c := range out.totals {
		vals := x.samples.vals[c]
		for _, v := range vals {
			out.totals[c] += v
		}
		out.data = appendColumn(out.data, at, func(k uint32) int64 { return vals[k] })
	}
	info := *r.cell
	info.processes = make([]uint32, len(r.cell.processes))
	for i, p := range r.cell.processes {
		info.processes[i] = x.proc[p]
	}
	out.cell = &info
	return &out, nil
}

// flush writes what the tables that wait add up to.
func (x *fleetParts) flush(w *rollWriter) error {
	for i := range x.wait {
		wait := &x.wait[i]
		slices.SortStableFunc(wait.rows, func(a, b *row) int { return cmp.Compare(a.start, b.start) })
		if err := x.sumUp(w, wait.section, wait.rows); err != nil {
			return err
		}
		clear(wait.rows)
		wait.rows = wait.rows[:0]
	}
	x.bytes = 0
	return nil
}

// sumUp writes the sums of tables that begin at the same time.
func (x *fleetParts) sumUp(w *rollWriter, to *rollSection, rows []*row) error {
	cols := len(to.sampleTypes)
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].start == rows[0].start {
			n++
		}
		c := &x.sum
		c.reset()
		c.cellKey, c.cols, c.end = cellKey{set: x.part.dict.setOf(nil, nil), start: rows[0].start}, cols, rows[0].end
		c.totals = resize(c.totals, cols)
		clear(c.totals)
		c.fit(x.part.dict)
		for _, r := range rows[:n] {
			if err := x.addTable(c, r); err != nil {
				return err
			}
		}
		x.nodes = c.nodes(x.nodes[:0])
		if err := w.add(x.part, to, c.row(x.nodes, x.nodes)); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// addTable adds a table to a sum.
func (x *fleetParts) addTable(c *cell, r *row) error {
	x.samples.reset()
	if err := x.samples.unpack(r.data, r.samples, c.cols, 0, len(x.part.dict.funcUp)); err != nil {
		return err
	}
	for k, node := range x.samples.ids {
		c.marks.add(node)
		at := c.vals[int(node)*c.cols:][:c.cols]
		for col := range at {
			at[col] += x.samples.vals[col][k]
		}
	}
	for col, v := range r.totals {
		c.totals[col] += v
	}
	c.addInfo(r.cell, r.hold, r.flags)
	for _, p := range r.cell.processes {
		c.procs.add(p)
	}
	return nil
}

// FleetProcess is how rows of all services together spell a process.
func FleetProcess(service, process string) string { return service + "\x00" + process }

// CutFleetProcess is the inverse of FleetProcess.
func CutFleetProcess(s string) (service, process string) {
	service, process, _ = strings.Cut(s, "\x00")
	return service, process
}

// finish writes the part, if it has any rows, and begins another one.
func (x *fleetParts) finish(w *rollWriter) error {
	if err := x.flush(w); err != nil {
		return err
	}
	info, err := w.finish(x.part)
	if err != nil {
		return err
	}
	if len(info.sections) > 0 {
		w.done = append(w.done, info)
	}
	x.begin()
	return nil
}

// tableMaker makes tables of rows. Its memory is reused; all of it is zero
// between two uses.
type tableMaker struct {
	digester
	marks bitset
	at    []int64 // [node*columns + column]
}

// use says which dictionary the next rows have.
func (x *tableMaker) use(d *rollDict) { x.d, x.nodes = d, x.nodes[:0] }

// make puts the table of the samples of a row, which have cols columns, in
// their place: ids are names of the dictionary, and columns come in pairs.
func (x *tableMaker) make(s *samples, cols int) {
	x.marks.fit(len(x.d.funcUp))
	x.at = grown(x.at, cols*len(x.d.funcUp))
	for k, n := range s.ids {
		x.marks.add(n)
		for c, vals := range s.vals[:cols] {
			x.at[int(n)*cols+c] += vals[k]
		}
	}
	x.climb(x.marks, x.at, cols)
	for len(s.vals) < 2*cols {
		s.vals = append(s.vals, nil)
	}
	s.reset()
	x.names.each(func(n uint32) {
		sums, any := x.sums[2*cols*int(n):][:2*cols], int64(0)
		for _, v := range sums {
			any |= v
		}
		if any == 0 {
			return
		}
		s.ids = append(s.ids, n)
		for c, v := range sums {
			s.vals[c] = append(s.vals[c], v)
			sums[c] = 0
		}
	})
	clear(x.names)
}
