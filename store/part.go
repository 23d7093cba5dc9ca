package store

import (
	"context"
	"fmt"
	"time"

	"github.com/goinquest/inquest"
)

// Part is one service's profiles in one block or head, as far as the view's
// window touches them, or its rows, or those of several services, in one
// rollup: all kinds over one dictionary. Methods read what they
// need and keep what they decoded of the dictionary until the view is closed.
// Different parts may be used by different goroutines at once, one part by
// one at a time.
type Part struct {
	Service string // "": of several, see Rows.LabelSets

	s        *Store
	sections []partSection
	tables   tables
	loaded   uint8
	scratch  *scratch
	held     int64 // bytes reserved for what Release forgets
	charged  uint8 // the pieces these are for

	// Of a part of a block:
	block *block
	index int
	dir   *partDirectory

	symbols  Symbols // nil: addresses stay as they are
	resolved bool    // what symbols know is in the tree
}

type partSection struct {
	info   Section
	types  [][2]string // sample types and units as in the body
	groups []*group
	rows   []*row // after the groups; in a head
	cols   int
	digest bool
	n      int // rows in all
}

// Section is the profiles of one kind and set of sample types in a part, or
// rows of one resolution of a rollup of them.
type Section struct {
	Kind  inquest.Kind
	Types []inquest.Type // in order
	// Column is, by type, the value column with its sums, and Held that with the
	// sums of value × hold, see HeldPerSecond: -1 if there is none.
	Column, Held []int
	Resolution   Resolution
	// Fleet says that rows are of all services together, without labels, and hold
	// what each function cost instead of stacks: the nodes of the part's tree are
	// functions, all below the root. Values are what functions cost themselves; each
	// column is followed by one of what their calls cost, where a stack counts once
	// for a function however often it recurs. Processes are spelled as FleetProcess
	// does.
	Fleet       bool
	Profiles    int       // rows
	From, Until time.Time // first and last Start, both inclusive; of rollups, starts of steps
	Spans       []Span    // rows that start in none of them do not count
}

// Sections lists the sections of the part; their positions are the section
// numbers of the other methods.
func (p *Part) Sections() []Section {
	out := make([]Section, len(p.sections))
	for i := range p.sections {
		out[i] = p.sections[i].info
	}
	return out
}

// section checks a section number.
func (p *Part) section(i int) (*partSection, error) {
	if i < 0 || i >= len(p.sections) {
		return nil, fmt.Errorf("part of service %q has %d sections, no number %d", p.Service, len(p.sections), i)
	}
	return &p.sections[i], nil
}

// stream unpacks a stream of a group or of the part.
func (p *Part) stream(s *stream) ([]byte, error) {
	if p.block != nil {
		return p.block.read(p.s.pk, s)
	}
	return unpackStream(p.s.pk, s, s.data)
}

func (p *Part) groupStream(g *group, id uint8) ([]byte, error) {
	s := g.stream(id)
	if s == nil {
		return nil, fmt.Errorf("stream %d is missing", id)
	}
	return p.stream(s)
}

func (p *Part) partStream(id uint8) ([]byte, error) {
	s := p.dir.stream(id)
	if s == nil {
		return nil, fmt.Errorf("section %d is missing", id)
	}
	return p.stream(s)
}

// load reads the asked pieces of the dictionary.
func (p *Part) load(want uint8) error {
	if want&loadedDetail != 0 {
		if err := p.hasDetail(); err != nil {
			return err
		}
		want |= loadedCore | loadedLabels | loadedMeta
	}
	if want&loadedLabels != 0 {
		want |= loadedCore
	}
	want &^= p.loaded
	for _, l := range [...]struct {
		bit  uint8
		read func() error
	}{
		{loadedCore, p.loadCore},
		{loadedLabels, func() error {
			return p.loadStreams(func(raw [][]byte) error { return readLabels(&p.tables, raw[0], raw[1]) }, secLabelText, secLabelSets)
		}},
		{loadedMeta, func() error {
			return p.loadStreams(func(raw [][]byte) error { return readMeta(&p.tables, raw[0]) }, secMeta)
		}},
		{loadedDetail, func() error { return readDetail(&p.tables, p.partStream) }},
	} {
		if want&l.bit == 0 {
			continue
		}
		if err := l.read(); err != nil {
			return p.damaged(err)
		}
		p.loaded |= l.bit
	}
	return nil
}

func (p *Part) hasDetail() error {
	if p.rolled() {
		return inquest.Errorf(inquest.ErrInvalid, "rollups have no files, lines and addresses of samples")
	}
	return nil
}

func (p *Part) loadStreams(read func(raw [][]byte) error, ids ...uint8) error {
	raw := make([][]byte, len(ids))
	for i, id := range ids {
		var err error
		if raw[i], err = p.partStream(id); err != nil {
			return err
		}
	}
	return read(raw)
}

func (p *Part) loadCore() error {
	if t := p.s.trees.get(p.block, p.index, 0); t != nil {
		p.takeCore(t)
		return nil
	}
	err := p.loadStreams(func(raw [][]byte) error {
		return readCore(&p.tables, raw[0], raw[1], raw[2])
	}, secNames, secFuncTree, secSeriesNode)
	if err == nil {
		p.s.trees.put(p.block, p.index, 0, &p.tables)
	}
	return err
}

// takeCore takes over a tree of the cache.
func (p *Part) takeCore(t *tables) {
	p.tables.names, p.tables.noSymbol = t.names, t.noSymbol
	p.tables.funcUp, p.tables.funcName = t.funcUp, t.funcName
	p.tables.series, p.tables.labelSet = t.series, t.labelSet
	p.tables.resolved, p.tables.added = t.resolved, t.added
}

// loadTree reads the tree, of functions as far as they are known.
func (p *Part) loadTree(ctx context.Context, want uint8) error {
	if err := p.load(want); err != nil {
		return err
	}
	return p.resolve(ctx)
}

// damaged reports that the part cannot be read: it is left out of views from
// now on.
func (p *Part) damaged(err error) error {
	if p.block == nil {
		return fmt.Errorf("read head of service %q: %w", p.Service, err)
	}
	return p.s.quarantine(p.block, p.index, p.Service, err)
}

// Rows are the profiles of one section, columns of equal length.
type Rows struct {
	LabelSets  []inquest.Labels // distinct label sets
	Processes  []string         // distinct ProcessKey()s
	LabelSet   []uint32         // index into LabelSets
	Process    []uint32         // index into Processes
	Key        []inquest.Key
	Start, End []int64 // unix ns
	Hold       []int64 // ns, 0 unknown
	Samples    []uint32
	Flags      []uint8   // FlagTruncated, FlagShifted
	Totals     [][]int64 // [column][row]

	// Of rollups and digests, where a row stands for many profiles; nil for
	// sections of profiles. Start and End are those of the step, Hold is the sum.
	Profiles    []uint32 // how many
	Observed    []int64  // sum of End−Start, ns
	SampleSum   []int64  // sum of Samples
	Truncated   []uint32 // profiles with FlagTruncated
	ProcessIDs  []uint32 // of row i from ProcessEnds[i-1] to ProcessEnds[i]: distinct indexes into Processes
	ProcessEnds []uint32
}

// ID is the id of the profile in a row, for the API and Store.Find.
func (r *Rows) ID(row int) string { return newID(r.Key[row], r.Start[row]) }

// Rows reads what is known of the section's profiles beside their samples. It
// touches no samples. The result belongs to the caller.
func (p *Part) Rows(ctx context.Context, section int) (*Rows, error) {
	sec, err := p.section(section)
	if err != nil {
		return nil, err
	}
	if err := p.reserveRows(ctx, sec); err != nil {
		return nil, err
	}
	if err := p.load(loadedMeta); err != nil {
		return nil, err
	}
	out := newRows(p, sec)
	for _, g := range sec.groups {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := out.addGroup(p, g); err != nil {
			return nil, p.damaged(err)
		}
	}
	for _, r := range sec.rows {
		out.add(r)
	}
	return out.rows, nil
}

func (p *Part) groupRows(g *group, cols int) ([]row, error) {
	raw, err := p.groupStream(g, streamRows)
	if err != nil {
		return nil, err
	}
	return readRows(raw, g.rows, cols, p.rowLimits())
}

func (p *Part) rowLimits() rowLimits {
	return rowLimits{len(p.tables.metaSets), len(p.tables.processes), len(p.tables.forms)}
}

// groupCells adds to the rows of a rollup what they say of profiles.
func (p *Part) groupCells(g *group, rows []row) error {
	raw, err := p.groupStream(g, streamCells)
	if err != nil {
		return err
	}
	return readCells(raw, rows, len(p.tables.processes))
}

// rowsBuilder collects rows, giving every label set and process that occurs
// one number.
type rowsBuilder struct {
	t       *tables
	rows    *Rows
	sets    []uint32          // label set of the dictionary → LabelSets, + 1
	procs   []uint32          // process of the dictionary → Processes, + 1
	unnamed map[uint32]uint32 // for processes without a name: LabelSets → Processes
	process map[string]uint32
	ids     []uint32 // scratch
}

func newRows(p *Part, sec *partSection) *rowsBuilder {
	n := sec.n
	b := &rowsBuilder{
		t: &p.tables, sets: make([]uint32, len(p.tables.metaSets)), procs: make([]uint32, len(p.tables.processes)),
		unnamed: map[uint32]uint32{}, process: map[string]uint32{},
		rows: &Rows{
			LabelSet: make([]uint32, 0, n), Process: make([]uint32, 0, n), Key: make([]inquest.Key, 0, n),
			Start: make([]int64, 0, n), End: make([]int64, 0, n), Hold: make([]int64, 0, n),
			Samples: make([]uint32, 0, n), Flags: make([]uint8, 0, n), Totals: make([][]int64, sec.cols),
		},
	}
	for c := range b.rows.Totals {
		b.rows.Totals[c] = make([]int64, 0, n)
	}
	return b
}

// addGroup adds the rows of a group.
func (b *rowsBuilder) addGroup(p *Part, g *group) error {
	if p.rolled() {
		rows, err := p.groupRows(g, len(b.rows.Totals))
		if err == nil {
			err = p.groupCells(g, rows)
		}
		if err != nil {
			return err
		}
		for i := range rows {
			b.add(&rows[i])
		}
		return nil
	}
	raw, err := p.groupStream(g, streamRows)
	if err != nil {
		return err
	}
	return b.read(raw, g.rows, p.rowLimits())
}

// who finds or adds a label set and a process of the dictionary.
func (b *rowsBuilder) who(labels, process uint32) (set, proc uint32) {
	out := b.rows
	if b.sets[labels] == 0 {
		out.LabelSets = append(out.LabelSets, b.t.profileLabels(labels))
		b.sets[labels] = uint32(len(out.LabelSets))
	}
	set = b.sets[labels] - 1
	if process != 0 {
		if b.procs[process] == 0 {
			b.procs[process] = b.processOf(b.processName(process, set)) + 1
		}
		return set, b.procs[process] - 1
	}
	proc, ok := b.unnamed[set]
	if !ok {
		proc = b.processOf(b.processName(0, set))
		b.unnamed[set] = proc
	}
	return set, proc
}

// processName is what a process is called: without a name it is its instance,
// which is in the label set.
func (b *rowsBuilder) processName(process, set uint32) string {
	if name := b.t.metaText[b.t.processes[process]]; name != "" {
		return name
	}
	return b.rows.LabelSets[set].Get(inquest.LabelInstance)
}

func (b *rowsBuilder) add(r *row) {
	out := b.rows
	set, proc := b.who(r.labels, r.process)
	out.LabelSet, out.Process = append(out.LabelSet, set), append(out.Process, proc)
	out.Key, out.Samples, out.Flags = append(out.Key, r.key), append(out.Samples, r.samples), append(out.Flags, r.flags)
	out.Start, out.End, out.Hold = append(out.Start, r.start), append(out.End, r.end), append(out.Hold, r.hold)
	for c := range out.Totals {
		out.Totals[c] = append(out.Totals[c], r.totals[c])
	}
	if r.cell != nil {
		b.addCell(r.cell)
	}
}

func (b *rowsBuilder) addCell(c *cellInfo) {
	out := b.rows
	out.Profiles, out.Truncated = append(out.Profiles, c.profiles), append(out.Truncated, c.truncated)
	out.Observed, out.SampleSum = append(out.Observed, c.observed), append(out.SampleSum, c.samples)
	for _, id := range c.processes {
		out.ProcessIDs = append(out.ProcessIDs, b.processOf(b.t.metaText[b.t.processes[id]]))
	}
	out.ProcessEnds = append(out.ProcessEnds, uint32(len(out.ProcessIDs)))
}

// processOf gives a process a number by its name.
func (b *rowsBuilder) processOf(name string) uint32 {
	n, ok := b.process[name]
	if !ok {
		n = uint32(len(b.rows.Processes))
		b.rows.Processes = append(b.rows.Processes, name)
		b.process[name] = n
	}
	return n
}

// FuncTree is the function-level call tree of all stacks of a part: node 0 is
// the root, parents come first. It is shared: nobody may change it.
type FuncTree struct {
	Names        []string // distinct names; 0 is "", the root's. Frames of which only the address is known are spelled binary+0xaddr
	Unsymbolized []bool   // by name: it is such an address
	Name         []uint32 // by node: index into Names
	Parent       []int32  // by node; -1 for the root
}

// FuncTree reads the function-level tree. It touches no files, lines or
// addresses.
func (p *Part) FuncTree(ctx context.Context) (*FuncTree, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.reserveLoad(ctx, loadedCore); err != nil {
		return nil, err
	}
	if err := p.loadTree(ctx, loadedCore); err != nil {
		return nil, err
	}
	t := &p.tables
	return &FuncTree{Names: t.names, Unsymbolized: t.noSymbol, Name: t.funcName, Parent: t.funcUp}, nil
}

// FuncInfo is where a function is.
type FuncInfo struct {
	File string
	Line int64 // where it starts; 0 if unknown
}

// FuncInfo adds file and start line of the part's functions to names, by the
// name FuncTree has. Names that are there already stay.
func (p *Part) FuncInfo(ctx context.Context, names map[string]FuncInfo) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for name, info := range p.tables.resolved {
		if _, ok := names[name]; !ok {
			names[name] = info
		}
	}
	if p.rolled() {
		return p.rolledFuncInfo(names)
	}
	if err := p.reserveLoad(ctx, loadedDetail); err != nil {
		return err
	}
	if err := p.load(loadedDetail); err != nil {
		return err
	}
	t := &p.tables
	for i := range t.functions {
		f := &t.functions[i]
		name := t.strings[f.name]
		if name == "" {
			name = t.strings[f.system]
		}
		if name == "" || f.file == 0 {
			continue
		}
		if _, ok := names[name]; !ok {
			names[name] = FuncInfo{t.strings[f.file], f.start}
		}
	}
	return nil
}
