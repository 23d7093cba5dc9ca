package store

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/goinquest/inquest/profile"
)

// seeds key every content hash of one process, so that nobody outside can
// craft two stacks that collide. They never reach the disk.
type seeds struct {
	text maphash.Seed
	a, b uint64
}

func newSeeds() *seeds {
	return &seeds{maphash.MakeSeed(), rand.Uint64(), rand.Uint64()}
}

// mix combines two hashes to one; the order matters.
func (s *seeds) mix(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x^s.a, y^s.b)
	return hi ^ lo
}

// body holds the content hashes of one profile and, while it is interned,
// the dictionary's ids of what it uses. It is reused; once it has grown to the
// size of the profiles nothing is allocated.
type body struct {
	seeds *seeds
	p     *profile.Profile

	strings, functions, mappings, locations []uint64 // hashes, by index in the profile
	samples                                 []uint64 // hash of each sample's stack and labels

	// Ids + 1 in the dictionary, 0 = not looked up yet.
	stringID, functionID, mappingID, locationID []uint32

	ids   []uint64 // of the samples: series<<32 | position
	spare []uint64
	nodes []uint32 // scratch
	out   []byte   // scratch
}

// hash computes all hashes of p, which must stay as it is until the body is
// used for the next one.
func (b *body) hash(p *profile.Profile) {
	b.p = p
	s := b.seeds
	b.strings = resize(b.strings, len(p.Strings))
	for i, str := range p.Strings {
		b.strings[i] = maphash.Bytes(s.text, str)
	}
	b.functions = resize(b.functions, len(p.Functions))
	for i := range p.Functions {
		f := &p.Functions[i]
		h := s.mix(b.strings[f.Name], b.strings[f.SystemName])
		b.functions[i] = s.mix(s.mix(h, b.strings[f.Filename]), uint64(f.StartLine))
	}
	b.mappings = resize(b.mappings, len(p.Mappings))
	for i := range p.Mappings {
		m := &p.Mappings[i]
		h := s.mix(s.mix(m.Start, m.Limit), s.mix(m.Offset, uint64(mappingFlags(m))))
		b.mappings[i] = s.mix(h, s.mix(b.strings[m.File], b.strings[m.BuildID]))
	}
	b.locations = resize(b.locations, len(p.Locations))
	for i := range p.Locations {
		b.locations[i] = b.hashLocation(&p.Locations[i])
	}
	b.samples = resize(b.samples, p.NumSamples())
	for i := range b.samples {
		b.samples[i] = b.hashSample(i)
	}
	clear32(&b.stringID, len(p.Strings))
	clear32(&b.functionID, len(p.Functions))
	clear32(&b.mappingID, len(p.Mappings))
	clear32(&b.locationID, len(p.Locations))
}

func (b *body) hashLocation(l *profile.Location) uint64 {
	s := b.seeds
	h := l.Address
	if l.IsFolded {
		h = s.mix(h, 1)
	}
	if l.Mapping >= 0 {
		h = s.mix(h, b.mappings[l.Mapping])
	}
	for _, ln := range b.p.Lines[l.LineStart:l.LineEnd] {
		h = s.mix(h, s.mix(b.functions[ln.Function], uint64(ln.Line)^uint64(ln.Column)<<40))
	}
	return s.mix(h, uint64(l.LineEnd-l.LineStart))
}

func (b *body) hashSample(i int) uint64 {
	s := b.seeds
	stack := b.p.Stack(i)
	h := uint64(len(stack))
	for _, l := range stack {
		h = s.mix(h, b.locations[l])
	}
	for _, l := range b.p.SampleLabels(i) {
		h = s.mix(h, s.mix(b.strings[l.Key], b.strings[l.Str]))
		h = s.mix(h, s.mix(uint64(l.Num), b.strings[l.NumUnit]))
	}
	return h
}

func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

func clear32(s *[]uint32, n int) {
	*s = resize(*s, n)
	clear(*s)
}

func mappingFlags(m *profile.Mapping) (f uint8) {
	if m.HasFunctions {
		f |= mapFunctions
	}
	if m.HasFilenames {
		f |= mapFilenames
	}
	if m.HasLineNumbers {
		f |= mapLineNumbers
	}
	if m.HasInlineFrames {
		f |= mapInlineFrames
	}
	return f
}
