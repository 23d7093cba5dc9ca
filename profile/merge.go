package profile

import (
	"bytes"
	"math"
	"slices"

	"github.com/goinquest/inquest"
)

// Merger adds profiles with the same sample types and period type to one.
// Samples of equal stacks and labels are added up, as google/pprof's Merge
// does: equality goes by content, addresses count relative to the start of
// their mapping, and a mapping is known by its build id or else its file, its
// size and its offset. It is not safe for concurrent use.
type Merger struct {
	p     Profile
	begun bool // p has the sample types of a first profile
	key   hashKey

	strings   contentIndex
	functions contentIndex
	mappings  map[mappingKey]uint32
	locations contentIndex
	samples   contentIndex
	comments  map[uint32]bool
	chunk     []byte // room for strings
	textBytes int64  // of strings
	emptyText uint32 // a string "" that is not Strings[0], for a label's text; 0 if not needed yet

	src translation

	last   []uint32 // stack of the sample before, in src
	stack  []uint32 // the same in p
	hashes []uint64 // of what of it is next to the root, by number of frames
	spare  []uint32
	labels []Label
	lines  []Line
}

// translation maps the indexes of the profile being added to those of the
// result, plus one; 0 if not done yet.
type translation struct {
	p                                       *Profile
	strings, functions, mappings, locations []uint32
}

func (t *translation) reset(p *Profile) {
	t.p = p
	t.strings = zeroed(t.strings, len(p.Strings))
	t.functions = zeroed(t.functions, len(p.Functions))
	t.mappings = zeroed(t.mappings, len(p.Mappings))
	t.locations = zeroed(t.locations, len(p.Locations))
}

func zeroed(s []uint32, n int) []uint32 {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// mappingKey is what google/pprof knows a mapping by.
type mappingKey struct {
	size, offset  uint64
	buildIDOrFile uint32
}

// NewMerger returns a Merger without any profile.
func NewMerger() *Merger {
	m := &Merger{key: newHashKey(), mappings: map[mappingKey]uint32{}, comments: map[uint32]bool{}}
	m.hashes = []uint64{m.key[0]}
	m.p.Strings = [][]byte{{}}
	m.strings.add(m.key.bytes(nil), 0)
	return m
}

// Add adds p, of which nothing is kept. Samples whose values are all zero
// count for nothing. The error is of kind ErrInvalid if p's sample types or
// period type differ from those of the first profile, ErrTooLarge if the
// result would have 2^32 frames or labels; the profile is then not added.
func (m *Merger) Add(p *Profile) error {
	if uint64(max(len(m.p.Stacks)+len(p.Stacks), len(m.p.Labels)+len(p.Labels))) > math.MaxUint32 {
		return inquest.Errorf(inquest.ErrTooLarge, "merged profile would have more than %d frames or labels; ask for less time or fewer services", uint32(math.MaxUint32))
	}
	if m.begun {
		if err := m.compatible(p); err != nil {
			return err
		}
	}
	m.src.reset(p)
	m.header(p)
	if len(m.p.Mappings) == 0 && len(p.Mappings) > 0 {
		m.mapping(0) // the first mapping is the main binary by convention
	}
	if m.p.NumSamples() == 0 {
		m.grow(p)
	}
	for i := range p.NumSamples() {
		if values := p.SampleValues(i); !allZero(values) {
			m.sample(i, values)
		}
	}
	m.src.p, m.last = nil, nil
	return nil
}

// grow makes room for the samples of p, which are new.
func (m *Merger) grow(p *Profile) {
	out := &m.p
	out.Stacks, out.StackEnds = slices.Grow(out.Stacks, len(p.Stacks)), slices.Grow(out.StackEnds, len(p.StackEnds))
	out.Labels, out.LabelEnds = slices.Grow(out.Labels, len(p.Labels)), slices.Grow(out.LabelEnds, len(p.LabelEnds))
	out.Values = slices.Grow(out.Values, len(p.Values))
	m.samples.grow(p.NumSamples())
}

// Bytes is about how much memory the Merger and its result take.
func (m *Merger) Bytes() int64 {
	p := &m.p
	columns := 24*len(p.Strings) + 24*len(p.Functions) + 48*len(p.Mappings) + 32*len(p.Locations) + 24*len(p.Lines) +
		4*len(p.Stacks) + 8*len(p.StackEnds) + 8*len(p.Values) + 24*len(p.Labels)
	indexes := 16*(len(m.strings.slots)+len(m.functions.slots)+len(m.locations.slots)+len(m.samples.slots)) + 64*len(m.mappings)
	return m.textBytes + int64(columns+columns/4+indexes) // slices have room to grow
}

// SetDefaultSampleType names the sample type that the result shows unless
// asked for another.
func (m *Merger) SetDefaultSampleType(name string) {
	m.p.DefaultSampleType = m.intern([]byte(name))
}

// Profile returns the merged columns, which belong to the caller; the Merger
// is empty afterwards. Of profiles that were not there, everything is empty.
func (m *Merger) Profile() *Profile {
	p := m.p
	*m = *NewMerger()
	cols := len(p.SampleTypes)
	for i := range p.NumSamples() {
		if allZero(p.Values[i*cols : i*cols+cols]) {
			// Negative values cancelled others: merge once more without them.
			if err := m.Add(&p); err == nil {
				p = m.p
				*m = *NewMerger()
			}
			break
		}
	}
	return &p
}

// compatible checks p against the first profile.
func (m *Merger) compatible(p *Profile) error {
	if !m.sameType(p, p.PeriodType, m.p.PeriodType) {
		return inquest.Errorf(inquest.ErrInvalid, "profiles of different period types cannot be merged: %s and %s",
			valueTypeName(&m.p, m.p.PeriodType), valueTypeName(p, p.PeriodType))
	}
	same := len(p.SampleTypes) == len(m.p.SampleTypes)
	for i := 0; same && i < len(p.SampleTypes); i++ {
		same = m.sameType(p, p.SampleTypes[i], m.p.SampleTypes[i])
	}
	if !same {
		return inquest.Errorf(inquest.ErrInvalid, "profiles of different sample types cannot be merged: %s and %s", sampleTypes(&m.p), sampleTypes(p))
	}
	return nil
}

func (m *Merger) sameType(p *Profile, a, b ValueType) bool {
	return bytes.Equal(p.Strings[a.Type], m.p.Strings[b.Type]) && bytes.Equal(p.Strings[a.Unit], m.p.Strings[b.Unit])
}

func valueTypeName(p *Profile, vt ValueType) string {
	return clip(p.String(vt.Type)) + "/" + clip(p.String(vt.Unit))
}

// header merges what a profile has once.
func (m *Merger) header(p *Profile) {
	out := &m.p
	if !m.begun {
		m.begun = true
		for _, vt := range p.SampleTypes {
			out.SampleTypes = append(out.SampleTypes, ValueType{m.str(vt.Type), m.str(vt.Unit)})
		}
		out.PeriodType = ValueType{m.str(p.PeriodType.Type), m.str(p.PeriodType.Unit)}
		out.DropFrames, out.KeepFrames = m.str(p.DropFrames), m.str(p.KeepFrames)
	}
	if out.TimeNanos == 0 || p.TimeNanos != 0 && p.TimeNanos < out.TimeNanos {
		out.TimeNanos = p.TimeNanos
	}
	out.DurationNanos += p.DurationNanos
	if out.Period == 0 || out.Period < p.Period {
		out.Period = p.Period
	}
	for _, c := range p.Comments {
		if c := m.str(c); !m.comments[c] {
			m.comments[c] = true
			out.Comments = append(out.Comments, c)
		}
	}
	if out.DefaultSampleType == 0 {
		out.DefaultSampleType = m.str(p.DefaultSampleType)
	}
	if out.DocURL == 0 {
		out.DocURL = m.str(p.DocURL)
	}
}

// hashStack translates the stack of sample i into m.stack. What it has in
// common, from the root, with the one before is done already.
func (m *Merger) hashStack(i int) uint64 {
	src := m.src.p.Stack(i)
	same := 0
	for n := min(len(src), len(m.last)); same < n && src[len(src)-1-same] == m.last[len(m.last)-1-same]; {
		same++
	}
	stack := m.spare[:0]
	for _, l := range src[:len(src)-same] {
		stack = append(stack, m.location(l))
	}
	stack = append(stack, m.stack[len(m.stack)-same:]...)
	m.hashes = m.hashes[:same+1]
	for d := same; d < len(stack); d++ {
		m.hashes = append(m.hashes, m.key.word(m.hashes[d], uint64(stack[len(stack)-1-d])))
	}
	m.last, m.stack, m.spare = src, stack, m.stack
	return m.hashes[len(stack)]
}

// sample adds sample i with its values.
func (m *Merger) sample(i int, values []int64) {
	out := &m.p
	h := m.hashStack(i)
	m.sampleLabels(m.src.p.SampleLabels(i))
	for _, l := range m.labels {
		h = m.key.word(h, uint64(l.Key)<<32|uint64(l.Str))
		h = m.key.word(h, uint64(l.Num))
		h = m.key.word(h, uint64(l.NumUnit))
	}
	index, found := m.samples.find(h, func(s uint32) bool {
		return slices.Equal(out.Stack(int(s)), m.stack) && slices.Equal(out.SampleLabels(int(s)), m.labels)
	})
	if found {
		for c, sum := 0, out.SampleValues(int(index)); c < len(sum); c++ {
			sum[c] += values[c]
		}
		return
	}
	m.samples.add(h, uint32(out.NumSamples()))
	out.Stacks = append(out.Stacks, m.stack...)
	out.StackEnds = append(out.StackEnds, uint32(len(out.Stacks)))
	out.Labels = append(out.Labels, m.labels...)
	out.LabelEnds = append(out.LabelEnds, uint32(len(out.Labels)))
	out.Values = append(out.Values, values...)
}

// sampleLabels fills m.labels with the labels in the one order that makes
// equal ones equal: text before numbers, by key, values of a key as they came.
func (m *Merger) sampleLabels(labels []Label) {
	m.labels = m.labels[:0]
	for _, l := range labels {
		n := Label{Key: m.str(l.Key), Num: l.Num, NumUnit: m.str(l.NumUnit)}
		if l.Str != 0 {
			n = Label{Key: n.Key, Str: m.text(l.Str)}
		}
		m.labels = append(m.labels, n)
	}
	if len(m.labels) < 2 {
		return
	}
	slices.SortStableFunc(m.labels, func(a, b Label) int {
		if (a.Str == 0) != (b.Str == 0) {
			if a.Str != 0 {
				return -1
			}
			return 1
		}
		if a.Key == b.Key {
			return 0
		}
		return bytes.Compare(m.p.Strings[a.Key], m.p.Strings[b.Key])
	})
}

// text is str for a label's text, which must not become 0 even if it is empty.
func (m *Merger) text(i uint32) uint32 {
	if s := m.str(i); s != 0 {
		return s
	}
	if m.emptyText == 0 {
		m.emptyText = uint32(len(m.p.Strings))
		m.p.Strings = append(m.p.Strings, []byte{})
	}
	return m.emptyText
}

func (m *Merger) str(i uint32) uint32 {
	if s := m.src.strings[i]; s != 0 {
		return s - 1
	}
	s := m.intern(m.src.p.Strings[i])
	m.src.strings[i] = s + 1
	return s
}

func (m *Merger) intern(s []byte) uint32 {
	h := m.key.bytes(s)
	index, found := m.strings.find(h, func(i uint32) bool { return bytes.Equal(m.p.Strings[i], s) })
	if !found {
		index = uint32(len(m.p.Strings))
		m.p.Strings = append(m.p.Strings, m.clone(s))
		m.strings.add(h, index)
		m.textBytes += int64(len(s))
	}
	return index
}

// clone copies s to where other strings are: most are short, and there are many.
func (m *Merger) clone(s []byte) []byte {
	const size = 16 << 10
	if len(s) > size/4 {
		return bytes.Clone(s)
	}
	if len(s) > cap(m.chunk)-len(m.chunk) {
		m.chunk = make([]byte, 0, size)
	}
	from := len(m.chunk)
	m.chunk = append(m.chunk, s...)
	return m.chunk[from:len(m.chunk):len(m.chunk)]
}

func (m *Merger) function(i uint32) uint32 {
	if f := m.src.functions[i]; f != 0 {
		return f - 1
	}
	f := m.src.p.Functions[i]
	f.Name, f.SystemName, f.Filename = m.str(f.Name), m.str(f.SystemName), m.str(f.Filename)
	h := m.key.word(m.key.word(m.key[0], uint64(f.Name)<<32|uint64(f.SystemName)), uint64(f.Filename))
	h = m.key.word(h, uint64(f.StartLine))
	index, found := m.functions.find(h, func(i uint32) bool { return m.p.Functions[i] == f })
	if !found {
		index = uint32(len(m.p.Functions))
		m.p.Functions = append(m.p.Functions, f)
		m.functions.add(h, index)
	}
	m.src.functions[i] = index + 1
	return index
}

func (m *Merger) mapping(i uint32) uint32 {
	if t := m.src.mappings[i]; t != 0 {
		return t - 1
	}
	src := m.src.p.Mappings[i]
	src.File, src.BuildID = m.str(src.File), m.str(src.BuildID)
	const page = 0x1000 // sizes count in pages, as google/pprof has it
	key := mappingKey{size: (src.Limit - src.Start + page - 1) &^ (page - 1), offset: src.Offset, buildIDOrFile: src.BuildID}
	if key.buildIDOrFile == 0 {
		key.buildIDOrFile = src.File
	}
	index, found := m.mappings[key]
	if !found {
		index = uint32(len(m.p.Mappings))
		m.p.Mappings = append(m.p.Mappings, src)
		m.mappings[key] = index
	}
	m.src.mappings[i] = index + 1
	return index
}

func (m *Merger) location(i uint32) uint32 {
	if t := m.src.locations[i]; t != 0 {
		return t - 1
	}
	out := &m.p
	src := m.src.p.Locations[i]
	l := Location{Mapping: -1, Address: src.Address, IsFolded: src.IsFolded}
	relative := src.Address
	if src.Mapping >= 0 {
		mapping := m.mapping(uint32(src.Mapping))
		relative -= m.src.p.Mappings[src.Mapping].Start
		l.Mapping, l.Address = int32(mapping), out.Mappings[mapping].Start+relative
	}
	h := m.key.word(uint64(uint32(l.Mapping)), relative)
	m.lines = m.lines[:0]
	for _, line := range m.src.p.Lines[src.LineStart:src.LineEnd] {
		line.Function = m.function(line.Function)
		m.lines = append(m.lines, line)
		h = m.key.word(h, uint64(line.Function))
		h = m.key.word(h, uint64(line.Line))
		h = m.key.word(h, uint64(line.Column))
	}
	index, found := m.locations.find(h, func(i uint32) bool {
		o := &out.Locations[i]
		return o.Mapping == l.Mapping && o.Address == l.Address && o.IsFolded == l.IsFolded &&
			slices.Equal(out.Lines[o.LineStart:o.LineEnd], m.lines)
	})
	if !found {
		index = uint32(len(out.Locations))
		l.LineStart = uint32(len(out.Lines))
		out.Lines = append(out.Lines, m.lines...)
		l.LineEnd = uint32(len(out.Lines))
		out.Locations = append(out.Locations, l)
		m.locations.add(h, index)
	}
	m.src.locations[i] = index + 1
	return index
}
