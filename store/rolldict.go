package store

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// rollDict is the dictionary of a part of a rollup while it is made: names,
// function-level tree and what rows refer to, merged from those of other
// parts. Its series are the nodes of the tree.
type rollDict struct {
	dict
	text  map[string]uint32 // strings
	sets  map[string]uint32 // metaSets, by their labels
	procs map[uint32]uint32 // string → process
	info  []FuncInfo        // by name
	asked []bool            // by name: its file and line were looked for
}

func newRollDict() *rollDict {
	d := &rollDict{
		dict: *newDict(), text: map[string]uint32{"": 0}, sets: map[string]uint32{},
		procs: map[uint32]uint32{0: 0}, info: make([]FuncInfo, 1), asked: []bool{true},
	}
	d.forms = []form{{}} // rows name one
	d.grow()
	return d
}

// grow makes a series of every node.
func (d *rollDict) grow() {
	for n := len(d.series); n < len(d.funcUp); n++ {
		d.series, d.labelSet, d.leaves = append(d.series, uint32(n)), append(d.labelSet, 0), append(d.leaves, 0)
	}
}

func (d *rollDict) name(s string, address bool) uint32 {
	ids := d.nameID
	if address {
		ids = d.addrID
	}
	if id, ok := ids[s]; ok {
		return id
	}
	d.info, d.asked = append(d.info, FuncInfo{}), append(d.asked, address)
	return d.internName(strings.Clone(s), address) // s shares the memory of a whole stream
}

// merge adds names and tree of t, and returns which name and node each of
// them is here.
func (d *rollDict) merge(t *tables) (name, node []uint32) {
	name, node = make([]uint32, len(t.names)), make([]uint32, len(t.funcUp))
	for i := 1; i < len(name); i++ {
		name[i] = d.name(t.names[i], t.noSymbol[i])
	}
	d.graft(t, name, node, 1)
	return name, node
}

// graft adds the nodes of t from number from on; where its other nodes are here
// is in node.
func (d *rollDict) graft(t *tables, name, node []uint32, from int) {
	for i := from; i < len(node); i++ {
		node[i] = d.funcNode(node[t.funcUp[i]], name[t.funcName[i]])
	}
	d.grow()
}

func (d *rollDict) textOf(s string) uint32 {
	id, ok := d.text[s]
	if !ok {
		s = strings.Clone(s)
		id = d.addString(s)
		d.text[s] = id
	}
	return id
}

// setOf finds or adds a label set, of those of ls that keep takes.
func (d *rollDict) setOf(ls inquest.Labels, keep func(name string) bool) uint32 {
	var key []byte
	for _, l := range ls {
		if keep(l.Name) {
			key = appendString(appendString(key, l.Name), l.Value)
		}
	}
	if id, ok := d.sets[string(key)]; ok {
		return id
	}
	var set []pair
	for _, l := range ls {
		if keep(l.Name) {
			set = append(set, pair{d.textOf(l.Name), d.textOf(l.Value)})
		}
	}
	id := d.addMetaSet(set)
	d.sets[string(key)] = id
	return id
}

func (d *rollDict) processOf(name string) uint32 {
	s := d.textOf(name)
	id, ok := d.procs[s]
	if !ok {
		id = d.addProcess(s)
		d.procs[s] = id
	}
	return id
}

// setInfo keeps what is known of a name that nothing was known of.
func (d *rollDict) setInfo(name uint32, info FuncInfo) {
	if d.info[name].File == "" && info.File != "" {
		d.info[name] = FuncInfo{strings.Clone(info.File), info.Line}
	}
}

// streams packs the dictionary.
func (d *rollDict) streams(pk *packer) []stream {
	var out []stream
	add := func(id uint8, b []byte) { out = append(out, pk.stream(id, b)) }
	t := &d.tables
	labels, meta := subset{of: t.strings}, subset{of: t.strings}
	sets, rows := labels.labelSets(t), meta.meta(nil, t)
	add(secNames, appendNames(nil, t))
	add(secFuncTree, appendFuncTree(nil, t))
	add(secSeriesNode, appendSeriesNodes(nil, t))
	add(secLabelText, appendStrings(nil, labels.text))
	add(secLabelSets, sets)
	add(secMeta, append(appendStrings(nil, meta.text), rows...))
	add(secFuncInfo, appendFuncInfo(nil, d.info))
	return out
}

// appendFuncInfo writes the files there are, and of each name from 1 on which
// it is in, 0 for none, and the line where it starts.
func appendFuncInfo(dst []byte, info []FuncInfo) []byte {
	files, at := []string{""}, map[string]uint32{"": 0}
	for _, f := range info {
		if _, ok := at[f.File]; !ok {
			at[f.File] = uint32(len(files))
			files = append(files, f.File)
		}
	}
	dst = appendStrings(dst, files)
	for _, f := range info[1:] {
		dst = binary.AppendUvarint(dst, uint64(at[f.File]))
	}
	for _, f := range info[1:] {
		dst = appendVarint(dst, f.Line)
	}
	return dst
}

// readFuncInfo reads what appendFuncInfo wrote for n names, the first of which
// has none.
func readFuncInfo(raw []byte, n int) ([]FuncInfo, error) {
	c := cursor{b: raw}
	files := c.strings()
	if n > len(raw)+1 || n == 0 {
		return nil, errDict
	}
	info := make([]FuncInfo, n)
	for i := 1; i < n; i++ {
		if f := c.id(len(files)); !c.bad {
			info[i].File = files[f]
		}
	}
	for i := 1; i < n; i++ {
		info[i].Line = c.varint()
	}
	if c.bad || len(c.b) > 0 {
		return nil, errDict
	}
	return info, nil
}

// rolled says whether the part is of a rollup block.
func (p *Part) rolled() bool { return p.block != nil && p.block.info.level == levelRollup }

// nameInfo reads what a part of a rollup knows of its names.
func (p *Part) nameInfo() ([]FuncInfo, error) {
	raw, err := p.partStream(secFuncInfo)
	if err != nil {
		return nil, err
	}
	return readFuncInfo(raw, len(p.tables.names)-p.tables.added)
}

// rolledFuncInfo is FuncInfo for parts of rollups.
func (p *Part) rolledFuncInfo(names map[string]FuncInfo) error {
	if err := p.load(loadedCore); err != nil {
		return err
	}
	info, err := p.nameInfo()
	if err != nil {
		return p.damaged(err)
	}
	for i, f := range info {
		if f.File == "" {
			continue
		}
		name := p.tables.names[i]
		if _, ok := names[name]; !ok {
			names[name] = f
		}
	}
	return nil
}

// learn takes files and lines from the detail of a part of profiles, if it
// has names that were not looked for yet. name is what its names are here.
func (d *rollDict) learn(p *Part, name []uint32) error {
	if !slices.ContainsFunc(name, func(n uint32) bool { return !d.asked[n] }) {
		return nil
	}
	raw, err := p.partStream(secStrings)
	if err != nil {
		return err
	}
	t := p.tables // the strings are only needed here
	if err := readRest(&t, raw); err != nil {
		return err
	}
	if raw, err = p.partStream(secFunctions); err != nil {
		return err
	}
	c := cursor{b: raw}
	t.functions = nil
	readTable(&c, &t, tabFunctions)
	if c.bad {
		return errDict
	}
	for i := range t.functions {
		f := &t.functions[i]
		s := f.name
		if s == 0 {
			s = f.system
		}
		if n, ok := d.nameID[t.strings[s]]; ok && n != 0 && !d.asked[n] {
			d.setInfo(n, FuncInfo{t.strings[f.file], f.start})
		}
	}
	for _, n := range name {
		d.asked[n] = true
	}
	return nil
}
