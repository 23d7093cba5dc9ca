package store

import (
	"testing"

	"github.com/goinquest/inquest"
)

// SmallMerges makes a store merge whatever there is, into many small files.
func SmallMerges(o *Options) {
	o.MergeAge, o.CommitDelay = 1, 1
	o.merge = mergeSizes{source: 1 << 30, due: 1 << 30, step: 1 << 20, own: 20_000, file: 30_000}
}

// MarkRolled has the store believe that all profiles in blocks are in rollups
// too.
func (s *Store) MarkRolled() error {
	s.mu.RLock()
	var list []*block
	for _, b := range s.blocks {
		if b.info.level != levelRollup && !b.info.rolled {
			list = append(list, b)
		}
	}
	s.mu.RUnlock()
	return s.swap(nil, nil, list)
}

// Levels counts blocks by level.
func (s *Store) Levels() (n [levelRollup + 1]int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.blocks {
		n[b.info.level]++
	}
	return n
}

// DropDamaged takes the damaged blocks out of the store.
func (s *Store) DropDamaged() (n int, err error) {
	var list []*block
	for _, b := range s.blocks {
		for i := range 100 {
			if s.isDamaged(b, i) {
				list = append(list, b)
				break
			}
		}
	}
	return len(list), s.swap(nil, list, nil)
}

// CatalogDamage lists the entries for damaged blocks.
func (s *Store) CatalogDamage() map[string]string {
	st, err := s.catalog.load()
	if err != nil {
		panic(err)
	}
	return st.broken
}

// BodyHash is the hash of the body that a key in a block names.
func (s *Store) BodyHash(key inquest.Key) uint64 {
	for {
		_, candidates := s.keys.lookup(key)
		b, k, err := s.storedKey(key, candidates)
		if err != nil {
			panic(err)
		}
		if b != nil {
			b.release()
			return k.hash
		}
	}
}

// PartService is one part of a block.
type PartService struct {
	Service string // "": several
	Rollup  bool
}

// PartServices lists the parts of all blocks, by block.
func PartServices(tb testing.TB, s *Store) map[string][]PartService {
	tb.Helper()
	out := map[string][]PartService{}
	s.mu.RLock()
	blocks := s.blocks
	s.mu.RUnlock()
	for _, b := range blocks {
		b.acquire()
		list, err := s.listing(b)
		b.release()
		if err != nil {
			tb.Fatal(err)
		}
		for i := range list.parts {
			out[b.info.id] = append(out[b.info.id], PartService{list.parts[i].service, b.info.level == levelRollup})
		}
	}
	return out
}
