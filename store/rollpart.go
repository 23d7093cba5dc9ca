package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// rollLayout is a kind and set of sample types of a service, and which columns
// rollups have for them.
type rollLayout struct {
	kind   inquest.Kind
	types  [][2]string // of the profiles
	cols   [][2]string // of rollups
	column []int       // by type: its column
	held   []float64   // by type: HeldPerSecond, 0 if it has no held column, which would be the next one
	digest []int       // types that digests have
}

func newRollLayout(kind inquest.Kind, types [][2]string) *rollLayout {
	l := &rollLayout{kind: kind, types: types, column: make([]int, len(types)), held: make([]float64, len(types))}
	for i, t := range types {
		l.column[i] = len(l.cols)
		l.cols = append(l.cols, t)
		typ := inquest.TypeOf(kind, t[0], t[1])
		// Columns beyond what streams have numbers for are left out; no kind of ours
		// comes near.
		if typ.Temporality == inquest.Instant && len(l.cols)+len(types)-i <= maxColumns {
			l.held[i] = HeldPerSecond(typ)
			l.cols = append(l.cols, [2]string{heldPrefix + t[0], t[1]})
		}
	}
	l.digest = digestTypes(kind, types)
	return l
}

// digestTypes chooses the types of a kind that functions are compared by: of
// kinds with several those that say something of cost, else the last.
func digestTypes(kind inquest.Kind, types [][2]string) (out []int) {
	want := comparedTypes(kind)
	for i, t := range types {
		if slices.Contains(want, inquest.TypeOf(kind, t[0], t[1]).Name) && len(out) < len(want) {
			out = append(out, i)
		}
	}
	if len(out) == 0 && len(types) > 0 {
		out = []int{len(types) - 1}
	}
	return out
}

// comparedTypes names the types that say most of what a kind costs.
func comparedTypes(kind inquest.Kind) []string {
	if kind == inquest.KindHeap {
		return []string{"alloc_space", "inuse_space"}
	}
	return []string{inquest.DefaultType(kind)}
}

// digestColumns are the columns of the layout's digests.
func (l *rollLayout) digestColumns() [][2]string {
	cols := make([][2]string, len(l.digest))
	for i, t := range l.digest {
		cols[i] = l.types[t]
	}
	return cols
}

// rollPart is a part of a rollup block that is being written: its row groups
// are in the file already, its dictionary still grows.
type rollPart struct {
	service  string
	dict     *rollDict
	sections []*rollSection
	used     rollUse
	fleet    bool // it is of all services
}

type rollSection struct {
	sectionInfo
	groups  []*group
	rows    []*row // not in a group yet
	digests []*digest
	samples int
	bytes   int
}

func newRollPart(service string) *rollPart { return &rollPart{service: service, dict: newRollDict()} }

// section finds or adds a section.
func (p *rollPart) section(want sectionInfo) *rollSection {
	for _, s := range p.sections {
		if s.kind == want.kind && s.resolution == want.resolution && s.digest == want.digest && slices.Equal(s.sampleTypes, want.sampleTypes) {
			return s
		}
	}
	s := &rollSection{sectionInfo: want}
	p.sections = append(p.sections, s)
	return s
}

// rollWriter writes the parts of a rollup block.
type rollWriter struct {
	s      *Store
	b      *blockWriter
	w      grouper
	fleet  *fleetParts
	done   []partInfo // parts of all services, which come first in the listing
	raw    []byte
	digest digestWriter
	before *roller // of the service before

	oneHour bool // what is made are rows of five minutes of one hour, of parts that have no others
}

// add adds a row to a section, and writes a group when there are enough.
func (w *rollWriter) add(p *rollPart, s *rollSection, r *row) error {
	s.rows = append(s.rows, r)
	s.samples += int(r.samples)
	s.bytes += len(r.data)
	if len(s.rows) < groupRows && s.samples < groupSamples {
		return nil
	}
	return w.pack(p, s)
}

// pack writes the rows of a section as a group.
func (w *rollWriter) pack(p *rollPart, s *rollSection) error {
	if len(s.rows) == 0 {
		return nil
	}
	var g *group
	var err error
	if s.digest {
		g = w.digest.group(w.b.pk, s.rows, s.digests, len(s.sampleTypes))
	} else {
		t := p.dict.tables
		t.layouts = []layout{{types: make([]pair, len(s.sampleTypes))}}
		if g, err = w.w.group(s.rows, &t, 0); err != nil {
			return err
		}
	}
	p.used.add(p.dict, s, w.w.samples.ids)
	w.raw = appendCells(w.raw[:0], s.rows)
	g.streams = append(g.streams, w.b.pk.stream(streamCells, w.raw))
	placed := &group{rows: g.rows, samples: g.samples, from: g.from, until: g.until}
	for i := range g.streams {
		st, err := w.b.place(g.streams[i])
		if err != nil {
			return err
		}
		placed.streams = append(placed.streams, st)
	}
	if len(s.groups) == 0 {
		s.from, s.until = g.from, g.until
	}
	s.groups = append(s.groups, placed)
	s.from, s.until = min(s.from, g.from), max(s.until, g.until)
	s.profiles += g.rows
	if !p.fleet && !s.digest && inFleet(&s.sectionInfo) {
		if err := w.fleet.add(w, p, s, s.rows); err != nil {
			return err
		}
	}
	clear(s.rows)
	clear(s.digests)
	s.rows, s.digests, s.samples, s.bytes = s.rows[:0], s.digests[:0], 0, 0
	return nil
}

// finish writes what is left of a part, its dictionary and its directory.
func (w *rollWriter) finish(p *rollPart) (partInfo, error) {
	info := partInfo{service: p.service}
	dir := &partDirectory{}
	slices.SortStableFunc(p.sections, func(a, b *rollSection) int {
		if a.digest != b.digest {
			return cmp.Compare(btoi(a.digest), btoi(b.digest))
		}
		return cmp.Or(cmp.Compare(a.resolution, b.resolution), cmp.Compare(a.kind, b.kind))
	})
	for _, s := range p.sections {
		if err := w.pack(p, s); err != nil {
			return info, err
		}
		if len(s.groups) > 0 {
			dir.sections = append(dir.sections, s.groups)
			info.sections = append(info.sections, s.sectionInfo)
		}
	}
	if len(info.sections) == 0 {
		return info, nil
	}
	p.used.blank(p.dict)
	for _, st := range p.dict.streams(w.b.pk) {
		placed, err := w.b.place(st)
		if err != nil {
			return info, err
		}
		dir.streams = append(dir.streams, placed)
	}
	var err error
	w.raw = appendPartDirectory(w.raw[:0], dir)
	info.directory, err = w.b.place(w.b.pk.stream(0, w.raw))
	return info, err
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// finishService writes what is left of the part of a service.
func (w *rollWriter) finishService(p *rollPart) error {
	info, err := w.finish(p)
	if err == nil && len(info.sections) > 0 {
		w.b.parts = append(w.b.parts, info)
	}
	return err
}

// end writes what is left of tables of all services, and the end of the block.
func (w *rollWriter) end() (*blockInfo, error) {
	if err := w.fleet.finish(w); err != nil {
		return nil, err
	}
	w.b.parts = append(w.done, w.b.parts...)
	slices.SortStableFunc(w.b.parts, comparePart)
	return w.b.finish()
}

// appendCells writes, column by column, what rows of rollups say of the
// profiles behind them.
func appendCells(dst []byte, rows []*row) []byte {
	for _, r := range rows {
		dst = binary.AppendUvarint(dst, uint64(r.cell.profiles))
	}
	for _, r := range rows {
		dst = appendVarint(dst, r.cell.observed)
	}
	for _, r := range rows {
		dst = appendVarint(dst, r.cell.samples)
	}
	for _, r := range rows {
		dst = binary.AppendUvarint(dst, uint64(r.cell.truncated))
	}
	for _, r := range rows {
		dst = binary.AppendUvarint(dst, uint64(len(r.cell.processes)))
	}
	for _, r := range rows {
		prev := uint32(0)
		for _, p := range r.cell.processes {
			dst = binary.AppendUvarint(dst, uint64(p-prev))
			prev = p
		}
	}
	return dst
}

var errCells = errors.New("cells are damaged")

// readCells reads what appendCells wrote for rows, whose processes must be
// below limit.
func readCells(raw []byte, rows []row, limit int) error {
	c := cursor{b: raw}
	if 5*len(rows) > len(raw) {
		return errCells
	}
	cells := make([]cellInfo, len(rows))
	for i := range rows {
		rows[i].cell = &cells[i]
		cells[i].profiles = uint32(c.bounded(1<<32 - 1))
	}
	for i := range cells {
		cells[i].observed = c.varint()
	}
	for i := range cells {
		cells[i].samples = c.varint()
	}
	for i := range cells {
		cells[i].truncated = uint32(c.bounded(1<<32 - 1))
	}
	for i := range cells {
		cells[i].processes = make([]uint32, c.count())
	}
	for i := range cells {
		prev := uint64(0)
		for k := range cells[i].processes {
			prev += c.uvarint()
			if prev >= uint64(limit) {
				return errCells
			}
			cells[i].processes[k] = uint32(prev)
		}
	}
	if c.bad || len(c.b) > 0 {
		return errCells
	}
	return nil
}

// processName is how readers spell a process of a row: without a name it is
// its instance.
func processName(t *tables, process, set uint32) string {
	if name := t.metaText[t.processes[process]]; name != "" {
		return name
	}
	for _, p := range t.metaSets[set] {
		if t.metaText[p.name] == inquest.LabelInstance {
			return strings.Clone(t.metaText[p.value])
		}
	}
	return ""
}

// rollUse is what the rows of a part use of its dictionary. The profiles it is
// made of had more: of other days, or what is deleted.
type rollUse struct{ nodes, names, sets, procs bitset }

// add marks what the rows use that wait in a section, and the samples of their
// group, unless they are digests.
func (u *rollUse) add(d *rollDict, s *rollSection, ids []uint32) {
	u.nodes.fit(len(d.funcUp))
	u.names.fit(len(d.names))
	u.sets.fit(len(d.metaSets))
	u.procs.fit(len(d.processes))
	if !s.digest {
		for _, id := range ids {
			u.nodes.add(id)
		}
	}
	for _, x := range s.digests {
		for _, n := range x.name {
			u.names.add(n)
		}
	}
	for _, r := range s.rows {
		u.sets.add(r.labels)
		u.procs.add(r.process)
		for _, proc := range r.cell.processes {
			u.procs.add(proc)
		}
	}
}

func (b bitset) has(n int) bool { return b[n>>6]>>(n&63)&1 != 0 }

// blank empties what is not used. Ids stay.
func (u *rollUse) blank(d *rollDict) {
	u.nodes.fit(len(d.funcUp))
	u.names.fit(len(d.names))
	u.sets.fit(len(d.metaSets))
	u.procs.fit(len(d.processes))
	for i := len(d.funcUp) - 1; i > 0; i-- { // callers come first
		if u.nodes.has(i) {
			u.nodes.add(uint32(d.funcUp[i]))
			u.names.add(d.funcName[i])
		}
	}
	for i := range d.names {
		if !u.names.has(i) {
			d.names[i], d.info[i] = "", FuncInfo{}
		}
	}
	for i := range d.metaSets {
		if !u.sets.has(i) {
			d.metaSets[i] = nil
		}
	}
	for i := range d.processes {
		if !u.procs.has(i) {
			d.processes[i] = 0
		}
	}
}
