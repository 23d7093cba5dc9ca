package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// Blocks of ended epochs are merged into larger ones, once: a dictionary that
// serves several epochs is most of what is saved, and a long window reads fewer
// of them.

// mergeDepth is how many blocks may have the same service before they do not
// wait for more.
const mergeDepth = 8

// mergeSizes say how much is merged and into what, in bytes.
type mergeSizes struct {
	source int64 // of a block from which on it stays as it is
	due    int64 // of the blocks of one service, which then do not wait for more
	step   int64 // of all blocks merged at once, which is what a crash costs
	own    int64 // of the sources of a part from which on it has a file of its own
	file   int64 // of the sources of a file
}

// Files are so large that a store of 100 GB has two to four thousand.
var defaultMergeSizes = mergeSizes{source: 32 << 20, due: 32 << 20, step: 256 << 20, own: 32 << 20, file: 64 << 20}

// mergeBlocks merges one batch of blocks, if one is due. Blocks whose profiles
// are not in rollups yet wait, so that rollups are made of blocks of ended
// epochs alone.
func (s *Store) mergeBlocks(ctx context.Context) (did bool, err error) {
	batch := s.mergeBatch()
	if len(batch) == 0 {
		return false, nil
	}
	defer func() {
		for _, b := range batch {
			b.release()
		}
	}()
	began := time.Now()
	made, err := s.merge(ctx, batch)
	if errors.Is(err, ErrDamaged) {
		return true, nil // it is reported; the block stays, and the others are merged without it
	}
	if err != nil {
		return false, fmt.Errorf("merge %d blocks: %w", len(batch), err)
	}
	if err := s.swap(made, batch, nil); err != nil {
		return false, fmt.Errorf("merge %d blocks: %w", len(batch), err)
	}
	s.o.Logger.Info("blocks merged", "sources", len(batch), "blocks", len(made), inquest.LogBytes, totalBytes(made), inquest.LogDur, time.Since(began))
	return true, nil
}

func totalBytes(list []*blockInfo) (n int64) {
	for _, b := range list {
		n += b.size
	}
	return n
}

// mergeBatch chooses blocks that are due and holds them.
func (s *Store) mergeBatch() []*block {
	s.mu.RLock()
	defer s.mu.RUnlock()
	damaged := map[string]bool{}
	for key := range s.damaged {
		id, _, _ := strings.Cut(key, "/")
		damaged[id] = true
	}
	own := map[string][]*block{}
	var shared []*block
	for _, b := range s.blocks {
		switch {
		case b.info.level != levelHead || !b.info.rolled || b.info.size >= s.o.merge.source || damaged[b.info.id] || s.keeper.unmerged[b.info.id] || len(b.cuts) > 0:
		case b.info.first == b.info.last:
			own[b.info.first] = append(own[b.info.first], b)
		default:
			shared = append(shared, b)
		}
	}
	batch := s.dueShared(shared)
	for _, list := range own {
		if list = s.dueOwn(list); len(list) > 0 && (batch == nil || olderBlock(list[0], batch[0]) < 0) {
			batch = list
		}
	}
	for _, b := range batch {
		b.acquire()
	}
	return batch
}

func olderBlock(a, b *block) int {
	if a.info.created != b.info.created {
		return int(min(1, max(-1, a.info.created-b.info.created)))
	}
	return strings.Compare(a.info.id, b.info.id)
}

// mergeOld says whether the oldest of blocks has waited long enough for
// others.
func (s *Store) mergeOld(list []*block) bool {
	return len(list) >= 2 && ripe(list[0].info.created, s.o.Now(), s.o.MergeAge)
}

// dueOwn returns those of the blocks of one service that are to be merged.
func (s *Store) dueOwn(list []*block) []*block {
	slices.SortFunc(list, olderBlock)
	bytes := int64(0)
	for _, b := range list {
		bytes += b.info.size
	}
	if len(list) < mergeDepth && (bytes < s.o.merge.due || len(list) < 2) && !s.mergeOld(list) {
		return nil
	}
	return s.firstBytes(list)
}

// firstBytes is as many of the blocks as one step takes.
func (s *Store) firstBytes(list []*block) []*block {
	bytes := int64(0)
	for i, b := range list {
		if bytes += b.info.size; bytes > s.o.merge.step && i > 1 {
			return list[:i]
		}
	}
	return list
}

// dueShared is dueOwn for blocks of several services. Those of one epoch have
// different services, and merging them would save nothing, so what counts is
// how many may have the same one. If they are too many for one step, those that
// have the most frequent one come first, then those of the services after it.
func (s *Store) dueShared(list []*block) []*block {
	slices.SortFunc(list, olderBlock)
	depth, service := deepest(list)
	if depth < mergeDepth && !s.mergeOld(list) {
		return nil
	}
	rank := func(b *block) int {
		switch {
		case b.info.mayHave(service):
			return 0
		case b.info.first > service:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(list, func(a, b *block) int {
		if c := rank(a) - rank(b); c != 0 || rank(a) == 0 {
			return c
		}
		return strings.Compare(a.info.first, b.info.first)
	})
	list = s.firstBytes(list)
	slices.SortFunc(list, olderBlock)
	return list
}

// deepest is how many blocks may have the service that most of them may have,
// and the first such one.
func deepest(list []*block) (depth int, service string) {
	var first, last []string
	for _, b := range list {
		first, last = append(first, b.info.first), append(last, b.info.last)
	}
	slices.Sort(first)
	slices.Sort(last)
	gone := 0 // blocks whose services are all before the one at hand
	for i, s := range first {
		for last[gone] < s {
			gone++
		}
		if n := i + 1 - gone; n > depth {
			depth, service = n, s
		}
	}
	return depth, service
}

// merge writes the files of merged blocks. After an error none of them is left.
func (s *Store) merge(ctx context.Context, batch []*block) (made []*blockInfo, err error) {
	defer func() {
		if err != nil {
			for _, info := range made {
				err = errors.Join(err, s.discard(info))
			}
		}
	}()
	bytes := int64(0)
	for _, b := range batch {
		bytes += b.info.size
	}
	if err := s.checkSpace(bytes); err != nil {
		return nil, err
	}
	sources, epochs, err := s.mergeSources(batch)
	if err != nil {
		return nil, err
	}
	m := newMerger(s)
	for _, file := range mergeFiles(sources, &s.o.merge) {
		info, err := s.putBlock(ctx, func(w io.Writer, id string, created int64) (*blockInfo, error) {
			b, err := newBlockWriter(w, s.pk, id, created, levelMerged)
			if err != nil {
				return nil, err
			}
			b.epochs = epochs
			for _, src := range batch {
				b.sources = append(b.sources, src.info.id)
			}
			for _, list := range file {
				if err := m.parts(ctx, b, list[0].info.service, list); err != nil {
					return nil, err
				}
			}
			return b.finish()
		})
		if err != nil {
			return made, err
		}
		info.rolled = true // as all of its sources are
		made = append(made, info)
	}
	return made, nil
}

// mergeSources lists the parts of blocks by service, older ones first, and the
// epochs that the blocks closed.
func (s *Store) mergeSources(batch []*block) (out map[string][]*mergeSource, epochs []uint64, err error) {
	out = map[string][]*mergeSource{}
	for _, b := range batch {
		list, err := s.listing(b)
		if err != nil {
			return nil, nil, s.quarantine(b, wholeBlock, "", err)
		}
		epochs = append(epochs, list.epochs...)
		hash, err := s.bodyHashes(b, list)
		if err != nil {
			return nil, nil, err
		}
		for i := range list.parts {
			src := &mergeSource{block: b, index: i, info: &list.parts[i], hash: hash[i]}
			p, err := src.openPart(s)
			if err != nil {
				return nil, nil, err
			}
			src.size = p.dir.bytes()
			out[src.info.service] = append(out[src.info.service], src)
		}
	}
	slices.Sort(epochs)
	return out, slices.Compact(epochs), nil
}

// bytes is the size of a part's streams.
func (d *partDirectory) bytes() int64 {
	n := streamBytes(d.streams)
	for _, groups := range d.sections {
		for _, g := range groups {
			n += streamBytes(g.streams)
		}
	}
	return int64(n)
}

// mergeFiles divides parts into files: each a list of parts to be, which are
// lists of their sources.
func mergeFiles(sources map[string][]*mergeSource, sizes *mergeSizes) (files [][][]*mergeSource) {
	var shared [][]*mergeSource
	bytes := int64(0)
	services := make([]string, 0, len(sources))
	for service := range sources {
		services = append(services, service)
	}
	slices.Sort(services)
	for _, service := range services {
		for list := sources[service]; len(list) > 0; {
			n, size := 1, list[0].size
			for n < len(list) && size+list[n].size <= sizes.file {
				size += list[n].size
				n++
			}
			if size >= sizes.own {
				files = append(files, [][]*mergeSource{list[:n]})
			} else {
				if bytes+size > sizes.file && len(shared) > 0 {
					files = append(files, shared)
					shared, bytes = nil, 0
				}
				shared = append(shared, list[:n])
				bytes += size
			}
			list = list[n:]
		}
	}
	if len(shared) > 0 {
		files = append(files, shared)
	}
	return files
}

// bodyHashes reads the hashes of the bodies of a block's profiles, by part,
// section and row. A block that has lost them stays as it is.
func (s *Store) bodyHashes(b *block, list *blockListing) ([][][]uint64, error) {
	raw, err := b.read(s.pk, &list.keyInfo)
	if outOfResources(err) {
		return nil, err
	}
	var out [][][]uint64
	if err == nil {
		out, err = readBodyHashes(raw, list)
	}
	if err != nil {
		s.keeper.unmerged[b.info.id] = true
		s.quarantineKeys(b, err)
		return nil, fmt.Errorf("%w: keys of %s: %w", ErrDamaged, b.info.id, err)
	}
	return out, nil
}

// readBodyHashes reads what appendKeyInfo wrote.
func readBodyHashes(raw []byte, list *blockListing) ([][][]uint64, error) {
	out := make([][][]uint64, len(list.parts))
	rows := 0
	for i := range out {
		for j := range list.parts[i].sections {
			n := list.parts[i].sections[j].profiles
			if rows += n; rows > list.keys {
				return nil, errKeys
			}
			out[i] = append(out[i], make([]uint64, n))
		}
	}
	n := list.keys
	if rows != n || n > len(raw)/8 {
		return nil, errKeys
	}
	c := cursor{b: raw}
	hash := c.bytes(8 * n)
	parts, sections := c, c
	for range n {
		sections.uvarint()
	}
	at := sections
	for range n {
		at.uvarint()
	}
	for i := range n {
		part, section, row := parts.uvarint(), sections.uvarint(), at.uvarint()
		if at.bad || part >= uint64(len(out)) || section >= uint64(len(out[part])) || row >= uint64(len(out[part][section])) {
			return nil, errKeys
		}
		out[part][section][row] = binary.LittleEndian.Uint64(hash[8*i:])
	}
	return out, nil
}
