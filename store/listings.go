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
