package store

import (
	"hash/maphash"
	"slices"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

// interner is a dictionary that finds its entries by content. Samples and
// locations are found by a 64-bit hash keyed per process, taken as their
// identity: with a million of them in a dictionary two differ and collide with
// a probability of 3e-8. Everything else is compared.
type interner struct {
	dict
	seeds      *seeds
	bySample   idTable // hash of stack and labels → series
	byLocation idTable // hashes of content:
	byText     idTable
	byFunction idTable
	byMapping  idTable
	byLabels   idTable
	byMeta     idTable
	stacks     childIndex        // of stack nodes by location
	byProcess  idTable           // string → process
	byForm     map[string]uint32 // encoded form → id
	scratch    []byte
	pairs      []pair
}

func newInterner(s *seeds) *interner {
	return &interner{dict: *newDict(), seeds: s, byForm: map[string]uint32{}}
}

// samples looks up every sample of b, leaving series<<32|position in b.ids in
// ascending order.
func (in *interner) samples(b *body) {
	b.ids = resize(b.ids, len(b.samples))
	sorted := true
	prev := uint64(0)
	for i, h := range b.samples {
		id, ok := in.bySample.get(h)
		if !ok {
			id = in.newSeries(b, i)
			in.bySample.put(h, id)
		}
		v := uint64(id)<<32 | uint64(i)
		sorted = sorted && v >= prev
		prev = v
		b.ids[i] = v
	}
	if !sorted {
		b.ids, b.spare = sortHigh(b.ids, b.spare)
	}
}

// sortHigh sorts by the upper 32 bits, keeping the order of equal ones, and
// returns the sorted slice and the other one.
func sortHigh(v, spare []uint64) (sorted, other []uint64) {
	if len(v) < 64 {
		slices.Sort(v)
		return v, spare
	}
	spare = resize(spare, len(v))
	var top uint64
	for _, x := range v {
		top |= x
	}
	for shift := uint(32); shift < 64 && top>>shift != 0; shift += 11 {
		var at [1 << 11]uint32
		for _, x := range v {
			at[x>>shift&(1<<11-1)]++
		}
		sum := uint32(0)
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, x := range v {
			d := x >> shift & (1<<11 - 1)
			spare[at[d]] = x
			at[d]++
		}
		v, spare = spare, v
	}
	return v, spare
}

// newSeries adds the series of sample i, walking the tree from the root.
func (in *interner) newSeries(b *body, i int) uint32 {
	stack := b.p.Stack(i)
	node := uint32(0)
	for j := len(stack) - 1; j >= 0; j-- {
		loc := in.locationOf(b, stack[j])
		child, ok := in.stacks.find(node, loc, in.stackLoc)
		if !ok {
			child = in.addStack(node, loc)
			in.stacks.add(node, loc, child)
		}
		node = child
	}
	return in.addSeries(node, in.labelSetOf(b, b.p.SampleLabels(i)))
}

func (in *interner) stringOf(b *body, i uint32) uint32 {
	if id := b.stringID[i]; id != 0 {
		return id - 1
	}
	id := in.text(b.strings[i], b.p.Strings[i])
	b.stringID[i] = id + 1
	return id
}

// text finds or adds a string of which the hash is known.
func (in *interner) text(h uint64, s []byte) uint32 {
	if len(s) == 0 {
		return 0
	}
	for ; ; h = in.seeds.mix(h, h) {
		id, ok := in.byText.get(h)
		if !ok {
			id = in.addString(string(s))
			in.byText.put(h, id)
			return id
		}
		if in.strings[id] == string(s) {
			return id
		}
	}
}

func (in *interner) plainText(s string) uint32 {
	return in.text(maphash.String(in.seeds.text, s), []byte(s))
}

func (in *interner) functionOf(b *body, i uint32) uint32 {
	if id := b.functionID[i]; id != 0 {
		return id - 1
	}
	f := &b.p.Functions[i]
	want := function{in.stringOf(b, f.Name), in.stringOf(b, f.SystemName), in.stringOf(b, f.Filename), f.StartLine}
	for h := b.functions[i]; ; h = in.seeds.mix(h, h) {
		id, ok := in.byFunction.get(h)
		if !ok {
			id = in.addFunction(want)
			in.byFunction.put(h, id)
		} else if in.functions[id] != want {
			continue
		}
		b.functionID[i] = id + 1
		return id
	}
}

func (in *interner) mappingOf(b *body, i uint32) uint32 {
	if id := b.mappingID[i]; id != 0 {
		return id - 1
	}
	m := &b.p.Mappings[i]
	want := mapping{m.Start, m.Limit, m.Offset, in.stringOf(b, m.File), in.stringOf(b, m.BuildID), mappingFlags(m)}
	for h := b.mappings[i]; ; h = in.seeds.mix(h, h) {
		id, ok := in.byMapping.get(h)
		if !ok {
			id = in.addMapping(want)
			in.byMapping.put(h, id)
		} else if in.mappings[id] != want {
			continue
		}
		b.mappingID[i] = id + 1
		return id
	}
}

func (in *interner) locationOf(b *body, i uint32) uint32 {
	if id := b.locationID[i]; id != 0 {
		return id - 1
	}
	id, ok := in.byLocation.get(b.locations[i])
	if !ok {
		id = in.newLocation(b, &b.p.Locations[i])
		in.byLocation.put(b.locations[i], id)
	}
	b.locationID[i] = id + 1
	return id
}

func (in *interner) newLocation(b *body, l *profile.Location) uint32 {
	added := location{folded: l.IsFolded, address: l.Address}
	if l.Mapping >= 0 {
		added.mapping = in.mappingOf(b, uint32(l.Mapping)) + 1
	}
	added.from = uint32(len(in.lines))
	for _, ln := range b.p.Lines[l.LineStart:l.LineEnd] {
		in.lines = append(in.lines, line{in.functionOf(b, ln.Function), ln.Line, ln.Column})
	}
	added.to = uint32(len(in.lines))
	return in.addLocation(added)
}

func (in *interner) labelSetOf(b *body, labels []profile.Label) uint32 {
	if len(labels) == 0 {
		return 0
	}
	s := in.seeds
	h := uint64(len(labels))
	for _, l := range labels {
		h = s.mix(h, s.mix(b.strings[l.Key], b.strings[l.Str]))
		h = s.mix(h, s.mix(uint64(l.Num), b.strings[l.NumUnit]))
	}
	for ; ; h = s.mix(h, h) {
		id, ok := in.byLabels.get(h)
		if !ok {
			for _, l := range labels {
				in.labels = append(in.labels, in.labelOf(b, l))
			}
			id = in.addLabelSet()
			in.byLabels.put(h, id)
			return id
		}
		if in.sameLabels(b, in.setLabels(id), labels) {
			return id
		}
	}
}

func (in *interner) labelOf(b *body, l profile.Label) sampleLabel {
	return sampleLabel{in.stringOf(b, l.Key), in.stringOf(b, l.Str), in.stringOf(b, l.NumUnit), l.Num}
}

func (in *interner) sameLabels(b *body, have []sampleLabel, labels []profile.Label) bool {
	if len(have) != len(labels) {
		return false
	}
	for i, l := range labels {
		if have[i] != in.labelOf(b, l) {
			return false
		}
	}
	return true
}

// metaSetOf finds or adds the label set of a profile.
func (in *interner) metaSetOf(ls inquest.Labels) uint32 {
	s := in.seeds
	h := uint64(len(ls))
	for i := range ls {
		h = s.mix(h, s.mix(maphash.String(s.text, ls[i].Name), maphash.String(s.text, ls[i].Value)))
	}
next:
	for ; ; h = s.mix(h, h) {
		id, ok := in.byMeta.get(h)
		if !ok {
			set := make([]pair, len(ls))
			for i := range ls {
				set[i] = pair{in.plainText(ls[i].Name), in.plainText(ls[i].Value)}
			}
			id = in.addMetaSet(set)
			in.byMeta.put(h, id)
			return id
		}
		set := in.metaSets[id]
		if len(set) != len(ls) {
			continue
		}
		for i := range ls {
			if in.strings[set[i].name] != ls[i].Name || in.strings[set[i].value] != ls[i].Value {
				continue next
			}
		}
		return id
	}
}

func (in *interner) processOf(process string) uint32 {
	if process == "" {
		return 0
	}
	s := in.plainText(process)
	id, ok := in.byProcess.get(uint64(s))
	if !ok {
		id = in.addProcess(s)
		in.byProcess.put(uint64(s), id)
	}
	return id
}

// formOf finds or adds what b's profile has beside samples.
func (in *interner) formOf(b *body) uint32 {
	p := b.p
	f := form{
		periodType:  in.stringOf(b, p.PeriodType.Type),
		periodUnit:  in.stringOf(b, p.PeriodType.Unit),
		defaultType: in.stringOf(b, p.DefaultSampleType),
		drop:        in.stringOf(b, p.DropFrames),
		keep:        in.stringOf(b, p.KeepFrames),
		doc:         in.stringOf(b, p.DocURL),
	}
	b.nodes = b.nodes[:0]
	for _, c := range p.Comments {
		b.nodes = append(b.nodes, in.stringOf(b, c))
	}
	for i := range p.Mappings {
		b.nodes = append(b.nodes, in.mappingOf(b, uint32(i)))
	}
	f.comments, f.mappings = b.nodes[:len(p.Comments)], b.nodes[len(p.Comments):]
	in.scratch = appendForm(in.scratch[:0], &f)
	if id, ok := in.byForm[string(in.scratch)]; ok {
		return id
	}
	f.comments, f.mappings = slices.Clone(f.comments), slices.Clone(f.mappings)
	id := in.addForm(f)
	in.byForm[string(in.scratch)] = id
	return id
}

// layoutOf finds or adds the section of a kind with the sample types of b.
func (in *interner) layoutOf(b *body, kind inquest.Kind) uint32 {
	k := in.plainText(string(kind))
	in.pairs = in.pairs[:0]
	for _, t := range b.p.SampleTypes {
		in.pairs = append(in.pairs, pair{in.stringOf(b, t.Type), in.stringOf(b, t.Unit)})
	}
	for i := range in.layouts {
		if in.layouts[i].kind == k && slices.Equal(in.layouts[i].types, in.pairs) {
			return uint32(i)
		}
	}
	return in.addLayout(layout{k, slices.Clone(in.pairs)})
}
