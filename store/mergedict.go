package store

import (
	"encoding/binary"
	"strings"
)

// mergeDict is a dictionary that takes in those of parts of blocks. Unlike an
// interner it compares whole entries, spelled in its own ids: there is one look-up
// per entry of a source, not per sample.
type mergeDict struct {
	*dict
	text   map[string]uint32
	known  [numTables]map[string]uint32 // spelled entry → id, of the tables that have no other way
	nodes  idTable                      // parent<<32 | location → stack node
	leafOf idTable                      // stack node<<32 | sample-label set → series
	key    []byte                       // the entry looked for
}

// knownBytes is about what an entry of text or known takes beside its content.
const knownBytes = 56

func newMergeDict() *mergeDict {
	d := &mergeDict{dict: newDict(), text: map[string]uint32{"": 0}}
	for i := range d.known {
		d.known[i] = map[string]uint32{}
	}
	return d
}

// remap says what became of the ids of a source.
type remap struct {
	series, labels, processes, forms []uint32
	twins                            bool // two series became one
}

// add takes in a dictionary that is completely loaded.
func (d *mergeDict) add(t *tables) *remap {
	text, labelText, metaText := d.texts(t.strings), d.texts(t.labelText), d.texts(t.metaText)
	functions, mappings := d.addFunctions(t, text), d.addMappings(t, text)
	stacks := d.addStacks(t, d.addLocations(t, functions, mappings))
	sets := d.addLabelSets(t, labelText)
	r := &remap{series: make([]uint32, len(t.leaves))}
	for i, leaf := range t.leaves {
		key := uint64(stacks[leaf])<<32 | uint64(sets[t.labelSet[i]])
		id, ok := d.leafOf.get(key)
		if !ok {
			id = d.addSeries(stacks[leaf], sets[t.labelSet[i]])
			d.leafOf.put(key, id)
		}
		r.series[i] = id
	}
	r.twins = repeats(r.series, len(d.leaves))
	r.labels = d.addMetaSets(t, metaText)
	r.processes = d.addProcesses(t, metaText)
	r.forms = d.addForms(t, metaText, mappings)
	return r
}

// repeats says whether an id, all of which are below limit, occurs twice.
func repeats(ids []uint32, limit int) bool {
	seen := make([]bool, limit)
	for _, id := range ids {
		if seen[id] {
			return true
		}
		seen[id] = true
	}
	return false
}

// addText finds or adds a string. Of a new one it keeps a copy, since those of a
// source share the memory of all of its strings.
func (d *mergeDict) addText(s string) uint32 {
	id, ok := d.text[s]
	if !ok {
		s = strings.Clone(s)
		id = d.addString(s)
		d.text[s] = id
		d.bytes += knownBytes
	}
	return id
}

func (d *mergeDict) texts(list []string) []uint32 {
	ids := make([]uint32, len(list))
	for i, s := range list {
		ids[i] = d.addText(s)
	}
	return ids
}

// find looks for the entry spelled in d.key.
func (d *mergeDict) find(table int) (uint32, bool) {
	id, ok := d.known[table][string(d.key)]
	return id, ok
}

// keep makes a new entry, spelled in d.key, known.
func (d *mergeDict) keep(table int, id uint32) uint32 {
	d.known[table][string(d.key)] = id
	d.bytes += int64(len(d.key)) + knownBytes
	return id
}

func (d *mergeDict) addFunctions(t *tables, text []uint32) []uint32 {
	ids := make([]uint32, len(t.functions))
	for i, f := range t.functions {
		one := [1]function{{text[f.name], text[f.system], text[f.file], f.start}}
		d.key = appendFunctions(d.key[:0], one[:])
		id, ok := d.find(tabFunctions)
		if !ok {
			id = d.keep(tabFunctions, d.addFunction(one[0]))
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addMappings(t *tables, text []uint32) []uint32 {
	ids := make([]uint32, len(t.mappings))
	for i, m := range t.mappings {
		m.file, m.buildID = text[m.file], text[m.buildID]
		one := [1]mapping{m}
		d.key = appendMappings(d.key[:0], one[:])
		id, ok := d.find(tabMappings)
		if !ok {
			id = d.keep(tabMappings, d.addMapping(m))
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addLocations(t *tables, functions, mappings []uint32) []uint32 {
	ids := make([]uint32, len(t.locations))
	for i, l := range t.locations {
		if l.mapping != 0 {
			l.mapping = mappings[l.mapping-1] + 1
		}
		folded := byte(0)
		if l.folded {
			folded = 1
		}
		d.key = binary.AppendUvarint(append(d.key[:0], folded), uint64(l.mapping))
		d.key = binary.AppendUvarint(d.key, l.address)
		for _, ln := range t.lines[l.from:l.to] {
			d.key = binary.AppendUvarint(d.key, uint64(functions[ln.function]))
			d.key = appendVarint(appendVarint(d.key, ln.line), ln.col)
		}
		id, ok := d.find(tabLocations)
		if !ok {
			lines := t.lines[l.from:l.to]
			l.from = uint32(len(d.lines))
			for _, ln := range lines {
				d.lines = append(d.lines, line{functions[ln.function], ln.line, ln.col})
			}
			l.to = uint32(len(d.lines))
			id = d.keep(tabLocations, d.addLocation(l))
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addStacks(t *tables, locations []uint32) []uint32 {
	ids := make([]uint32, len(t.stackUp)) // that of the root is 0
	for i := 1; i < len(ids); i++ {
		up, loc := ids[t.stackUp[i]], locations[t.stackLoc[i]]
		key := uint64(up)<<32 | uint64(loc)
		id, ok := d.nodes.get(key)
		if !ok {
			id = d.addStack(up, loc)
			d.nodes.put(key, id)
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addLabelSets(t *tables, text []uint32) []uint32 {
	ids := make([]uint32, len(t.labelEnds)) // that of the empty set is 0
	for i := 1; i < len(ids); i++ {
		labels := t.setLabels(uint32(i))
		d.key = d.key[:0]
		for _, l := range labels {
			d.key = appendIDs(d.key, []uint32{text[l.key], text[l.str], text[l.unit]})
			d.key = appendVarint(d.key, l.num)
		}
		if len(labels) == 0 {
			continue
		}
		id, ok := d.find(tabLabelSets)
		if !ok {
			for _, l := range labels {
				d.labels = append(d.labels, sampleLabel{text[l.key], text[l.str], text[l.unit], l.num})
			}
			id = d.keep(tabLabelSets, d.addLabelSet())
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addMetaSets(t *tables, text []uint32) []uint32 {
	ids := make([]uint32, len(t.metaSets))
	for i, from := range t.metaSets {
		set := make([]pair, len(from))
		for j, p := range from {
			set[j] = pair{text[p.name], text[p.value]}
		}
		d.key = appendPairs(d.key[:0], set)
		id, ok := d.find(tabMetaSets)
		if !ok {
			id = d.keep(tabMetaSets, d.addMetaSet(set))
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addProcesses(t *tables, text []uint32) []uint32 {
	ids := make([]uint32, len(t.processes))
	for i, p := range t.processes {
		if text[p] == 0 {
			continue
		}
		d.key = binary.AppendUvarint(d.key[:0], uint64(text[p]))
		id, ok := d.find(tabProcesses)
		if !ok {
			id = d.keep(tabProcesses, d.addProcess(text[p]))
		}
		ids[i] = id
	}
	return ids
}

func (d *mergeDict) addForms(t *tables, text, mappings []uint32) []uint32 {
	ids := make([]uint32, len(t.forms))
	for i, f := range t.forms {
		for _, id := range [...]*uint32{&f.periodType, &f.periodUnit, &f.defaultType, &f.drop, &f.keep, &f.doc} {
			*id = text[*id]
		}
		f.comments, f.mappings = mapped(f.comments, text), mapped(f.mappings, mappings)
		d.key = appendForm(d.key[:0], &f)
		id, ok := d.find(tabForms)
		if !ok {
			id = d.keep(tabForms, d.addForm(f))
		}
		ids[i] = id
	}
	return ids
}

func mapped(list, ids []uint32) []uint32 {
	if len(list) == 0 {
		return nil
	}
	out := make([]uint32, len(list))
	for i, id := range list {
		out[i] = ids[id]
	}
	return out
}

// layoutOf finds or adds the layout of a section.
func (d *mergeDict) layoutOf(s *sectionInfo) uint32 {
	l := layout{kind: d.addText(string(s.kind))}
	for _, t := range s.sampleTypes {
		l.types = append(l.types, pair{d.addText(t[0]), d.addText(t[1])})
	}
	d.key = appendPairs(binary.AppendUvarint(d.key[:0], uint64(l.kind)), l.types)
	id, ok := d.find(tabSections)
	if !ok {
		id = d.keep(tabSections, d.addLayout(l))
	}
	return id
}

// slotBytes is about what one entry of an idTable takes.
const slotBytes = 18

// mergedBytes is about the most that taking in t would add to a mergeDict.
func (t *tables) mergedBytes() (n int64) {
	for _, list := range [...][]string{t.strings, t.labelText, t.metaText} {
		for _, s := range list {
			n += int64(len(s)) + 16 + slotBytes + knownBytes
		}
	}
	for _, set := range t.metaSets {
		n += 16 * int64(len(set))
	}
	for i := range t.forms {
		n += 8 * int64(len(t.forms[i].comments)+len(t.forms[i].mappings))
	}
	const entry = 64 + slotBytes + knownBytes
	n += entry * int64(len(t.functions)+len(t.mappings)+len(t.locations)+len(t.labelEnds)+len(t.metaSets)+len(t.processes)+len(t.forms))
	n += 40*int64(len(t.lines)+len(t.labels)) + (12+slotBytes)*int64(len(t.stackUp)+len(t.leaves))
	return n + (8+slotBytes)*int64(len(t.funcUp))
}
