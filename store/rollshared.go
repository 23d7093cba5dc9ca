package store

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Bounds of shared parts where there is memory for it, see Options.MergeBytes:
// nodes of the tree, beyond which the next service begins another one, and
// bytes of rows that wait for each other.
const (
	sharedNodes     = 200_000
	sharedBytes     = 16 << 20
	sharedNodeBytes = 160 // of MergeBytes for a node
)

// sharedPart collects the rows of many services over one dictionary. Services
// come in order; rows wait until there are enough of them to be sorted by time,
// so that a group has the same steps of several services.
type sharedPart struct {
	table *tableMaker // of parts that have tables of functions
	part  *rollPart
	bytes int // of rows that wait

	// Where names, nodes, label sets and processes of the service at hand are.
	of                     *rollPart
	name, node, sets, proc []uint32

	samples samples
	order   []uint64
	spare   []uint64
}

func newSharedPart(table *tableMaker) *sharedPart {
	x := &sharedPart{table: table}
	x.begin()
	return x
}

func (x *sharedPart) begin() {
	x.part, x.of = newRollPart(""), nil
	x.part.several = true
}

// add takes rows of a section of a service.
func (x *sharedPart) add(w *rollWriter, p *rollPart, s *rollSection, rows []*row) error {
	if x.of != p {
		if int64(len(x.part.dict.funcUp)) >= min(sharedNodes, w.s.o.MergeBytes/sharedNodeBytes) {
			if err := x.finish(w); err != nil {
				return err
			}
		}
		x.of = p
		x.name, x.node, x.sets, x.proc = x.name[:0], x.node[:0], x.sets[:0], x.proc[:0]
		if x.table != nil {
			x.table.of(p.dict)
		}
	}
	x.follow(p.dict)
	cols := s.sampleTypes
	if x.table != nil {
		cols = tableColumns(cols)
	}
	to := x.part.section(s.kind, cols, s.resolution, false)
	to.table = x.table != nil
	for _, r := range rows {
		moved, err := x.move(r, len(s.sampleTypes), len(p.dict.funcUp))
		if err != nil {
			return err
		}
		to.rows = append(to.rows, moved)
		x.bytes += len(moved.data) + rowBytes + 4*len(moved.cell.processes)
	}
	if int64(x.bytes) < min(sharedBytes, w.s.o.MergeBytes/4) {
		return nil
	}
	return x.flush(w)
}

// follow finds the place of what the service's dictionary gained.
func (x *sharedPart) follow(from *rollDict) {
	d := x.part.dict
	for i := len(x.name); i < len(from.names); i++ {
		n := uint32(0)
		if i > 0 {
			n = d.name(from.names[i], from.noSymbol[i])
		}
		x.name = append(x.name, n)
	}
	for i, n := range x.name {
		d.setInfo(n, from.info[i])
	}
	if x.table == nil {
		at := len(x.node)
		x.node = append(x.node, make([]uint32, len(from.funcUp)-at)...)
		d.graft(&from.tables, x.name, x.node, max(at, 1))
	} else {
		for i := len(x.node); i < len(x.name); i++ {
			n := uint32(0)
			if i > 0 {
				n = d.funcNode(0, x.name[i])
			}
			x.node = append(x.node, n)
		}
		d.grow()
	}
	for i := len(x.sets); i < len(from.metaSets); i++ {
		t := from.tables
		t.metaText = t.strings
		x.sets = append(x.sets, d.setOf(t.profileLabels(uint32(i)), func(string) bool { return true }))
	}
	for i := len(x.proc); i < len(from.processes); i++ {
		x.proc = append(x.proc, d.processOf(from.strings[from.processes[i]]))
	}
}

// move writes a row anew with the ids of the shared dictionary, or makes its
// table.
func (x *sharedPart) move(r *row, cols, nodes int) (*row, error) {
	x.samples.reset()
	if err := x.samples.unpack(r.data, r.samples, cols, 0, nodes); err != nil {
		return nil, err
	}
	out := *r
	if x.table != nil {
		cols *= 2
		x.table.make(&x.samples, cols)
		out.samples, out.totals = uint32(len(x.samples.ids)), make([]int64, cols)
		for c, vals := range x.samples.vals[:cols] {
			for _, v := range vals {
				out.totals[c] += v
			}
		}
	}
	x.order = x.order[:0]
	for k, id := range x.samples.ids {
		x.order = append(x.order, uint64(x.node[id])<<32|uint64(k))
	}
	x.order, x.spare = sortHigh(x.order, x.spare)
	out.labels = x.sets[r.labels]
	info := *r.cell
	info.processes = make([]uint32, len(r.cell.processes))
	for i, p := range r.cell.processes {
		info.processes[i] = x.proc[p]
	}
	slices.Sort(info.processes)
	out.cell = &info
	prev := uint64(0)
	at := make([]uint32, len(x.order))
	data := make([]byte, 0, len(r.data)+len(r.data)/4)
	for i, v := range x.order {
		data = binary.AppendUvarint(data, v>>32-prev)
		prev = v >> 32
		at[i] = uint32(v)
	}
	for c := range cols {
		vals := x.samples.vals[c]
		data = appendColumn(data, at, func(k uint32) int64 { return vals[k] })
	}
	out.data = data
	return &out, nil
}

// flush writes the rows that wait, by time and then in the order of services.
func (x *sharedPart) flush(w *rollWriter) error {
	for _, s := range x.part.sections {
		rows := s.rows
		s.rows = nil
		slices.SortStableFunc(rows, func(a, b *row) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.labels, b.labels))
		})
		for _, r := range rows {
			if err := w.add(x.part, s, r); err != nil {
				return err
			}
		}
		if err := w.pack(x.part, s); err != nil {
			return err
		}
	}
	x.bytes = 0
	return nil
}

// finish writes the part, if it has any rows, and begins another one.
func (x *sharedPart) finish(w *rollWriter) error {
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
