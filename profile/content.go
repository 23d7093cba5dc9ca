package profile

import (
	"cmp"
	"slices"
)

// contents hashes what samples of one profile mean: hashes depend on names,
// addresses and labels, never on indexes, so they compare across profiles.
type contents struct {
	p         *Profile
	key       *hashKey
	strings   []uint64
	locations []uint64 // 0 = not hashed yet
	labels    []Label  // scratch
}

// newContents hashes all strings of p.
func newContents(p *Profile, key *hashKey) *contents {
	c := &contents{p: p, key: key, strings: make([]uint64, len(p.Strings)), locations: make([]uint64, len(p.Locations))}
	for i, s := range p.Strings {
		c.strings[i] = key.bytes(s)
	}
	return c
}

// sample hashes the stack and labels of sample i. The order of labels counts
// among those of one key only.
func (c *contents) sample(i int) uint64 {
	h := c.key[0]
	for _, l := range c.p.Stack(i) {
		h = c.key.word(h, c.location(l))
	}
	labels := c.p.SampleLabels(i)
	if len(labels) > 1 {
		c.labels = append(c.labels[:0], labels...)
		labels = c.labels
		slices.SortStableFunc(labels, func(a, b Label) int { return cmp.Compare(c.label(a), c.label(b)) })
	}
	for _, l := range labels {
		h = c.key.word(h, c.label(l))
		if l.Str != 0 {
			h = c.key.word(h, c.strings[l.Str])
			continue
		}
		h = c.key.word(h, uint64(l.Num))
		h = c.key.word(h, c.strings[l.NumUnit])
	}
	return h
}

// label hashes what orders labels: the key, and whether it is of a text.
func (c *contents) label(l Label) uint64 {
	if l.Str != 0 {
		return c.strings[l.Key]
	}
	return ^c.strings[l.Key]
}

// location hashes location l: its mapping's file, address and lines.
func (c *contents) location(l uint32) uint64 {
	if h := c.locations[l]; h != 0 {
		return h
	}
	loc := &c.p.Locations[l]
	h := c.key.word(c.key[1], loc.Address)
	if loc.Mapping >= 0 {
		m := &c.p.Mappings[loc.Mapping]
		h = c.key.word(h, c.strings[m.File])
		h = c.key.word(h, c.strings[m.BuildID])
		h = c.key.word(h, m.Offset)
	}
	for _, line := range c.p.Lines[loc.LineStart:loc.LineEnd] {
		f := &c.p.Functions[line.Function]
		h = c.key.word(h, c.strings[f.Name])
		h = c.key.word(h, c.strings[f.SystemName])
		h = c.key.word(h, c.strings[f.Filename])
		h = c.key.word(h, uint64(f.StartLine))
		h = c.key.word(h, uint64(line.Line))
		h = c.key.word(h, uint64(line.Column))
	}
	if loc.IsFolded {
		h = c.key.word(h, 1)
	}
	if h == 0 {
		h = 1
	}
	c.locations[l] = h
	return h
}
