package store

import "fmt"

// memory is about what the listing takes.
func (l *blockListing) memory() int64 {
	n := int64(256 + 8*len(l.epochs) + 48*len(l.sources) + 48*len(l.beside))
	for i := range l.parts {
		n += 96 + int64(len(l.parts[i].service))
		for j := range l.parts[i].sections {
			n += 112 + 64*int64(len(l.parts[i].sections[j].sampleTypes))
		}
	}
	return n
}

// listing returns the listing of a block, which must be held. It is shared:
// nobody may change it.
func (s *Store) listing(b *block) (*blockListing, error) {
	if l, ok := s.listings.get(b.info.id); ok {
		return l, nil
	}
	raw, err := b.read(s.pk, &b.info.listing)
	if err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	l, err := readListing(raw, uint32(b.info.listing.id))
	if err != nil {
		return nil, err
	}
	s.listings.put(b.info.id, l, l.memory())
	return l, nil
}

// partKey names a part: the block and its number in it.
type partKey struct {
	block string
	index int
}

// directory returns the directory of a part of a block, which must be held. It
// is shared: nobody may change it.
func (s *Store) directory(b *block, i int, pi *partInfo) (*partDirectory, error) {
	key := partKey{b.info.id, i}
	if d, ok := s.directories.get(key); ok {
		return d, nil
	}
	raw, err := b.read(s.pk, &pi.directory)
	if err != nil {
		return nil, err
	}
	d, err := readPartDirectory(raw)
	if err != nil {
		return nil, err
	}
	if len(d.sections) != len(pi.sections) {
		return nil, errDirectory
	}
	s.directories.put(key, d, d.memory())
	return d, nil
}

// memory is about what the directory takes.
func (d *partDirectory) memory() int64 {
	n := int64(128 + 56*len(d.streams))
	for _, groups := range d.sections {
		for _, g := range groups {
			n += 120 + 56*int64(len(g.streams)) + 4*int64(len(g.sets))
		}
	}
	return n
}
