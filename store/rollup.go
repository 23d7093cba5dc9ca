package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of one step of rolling up.
const (
	rollupBytes  = 64 << 20 // of block files
	rollupBlocks = 256
)

// rollUp makes rollups of the profiles in some blocks that have none yet, the
// oldest first: one block for every UTC day in which profiles start.
func (s *Store) rollUp(ctx context.Context) (did bool, err error) {
	batch := s.rollupBatch()
	if len(batch) == 0 {
		return false, nil
	}
	defer releaseAll(batch)
	var add []*blockInfo
	err = s.withoutDamaged(ctx, func() error {
		if s.anyFailing(batch...) {
			return errFailing
		}
		add, err = s.rollBlocks(ctx, batch)
		return err
	})
	if errors.Is(err, errFailing) {
		return true, nil // the others come next
	}
	if err != nil {
		return false, fmt.Errorf("roll up %d blocks: %w", len(batch), err)
	}
	if err := s.markLeftOut(batch); err != nil {
		return false, errors.Join(err, s.discardAll(add))
	}
	return true, s.swap(add, nil, batch)
}

// rollupBatch holds the blocks that are rolled up next, if it is time.
func (s *Store) rollupBatch() []*block {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []*block
	for _, b := range s.blocks {
		if b.info.level != levelRollup && !b.info.rolled && s.damaged[b.info.id] == "" && !s.isFailing(b) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *block) int { return compareBlocks(a.info, b.info) })
	n, bytes := 0, int64(0)
	for n < len(all) && n < rollupBlocks && (n == 0 || bytes+all[n].info.size <= rollupBytes) {
		bytes += all[n].info.size
		n++
	}
	full := n < len(all) || n == rollupBlocks
	if n == 0 || !full && !s.keeper.hurried() && !ripe(all[0].info.created, s.o.Now(), s.o.RollupDelay) {
		return nil
	}
	batch := all[:n]
	for _, b := range batch {
		b.acquire()
	}
	return batch
}

// compareBlocks orders blocks by when they were written.
func compareBlocks(a, b *blockInfo) int {
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.id, b.id))
}

func releaseAll(blocks []*block) {
	for _, b := range blocks {
		b.release()
	}
}

// withoutDamaged does something with parts of blocks, and again without the
// ones that turn out to be damaged.
func (s *Store) withoutDamaged(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, ErrDamaged) || ctx.Err() != nil {
			return err
		}
	}
}

// markLeftOut makes sure that parts which could not be read, and so are in no
// rollup, are read by nobody later either: views would count the rest twice or
// them not at all.
func (s *Store) markLeftOut(batch []*block) error {
	left := map[string]string{}
	s.mu.RLock()
	for key, reason := range s.damaged {
		id, _, _ := strings.Cut(key, "/")
		if slices.ContainsFunc(batch, func(b *block) bool { return b.info.id == id }) {
			left[key] = reason
		}
	}
	s.mu.RUnlock()
	for key, reason := range left {
		if err := s.catalog.damage(key, reason); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) discardAll(infos []*blockInfo) (err error) {
	for _, i := range infos {
		err = errors.Join(err, s.discard(i))
	}
	return err
}

// rollBlocks writes the rollup blocks of a batch.
func (s *Store) rollBlocks(ctx context.Context, batch []*block) (add []*blockInfo, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discardAll(add))
			add = nil
		}
	}()
	parts, err := s.partsOf(batch)
	if err != nil {
		return nil, err
	}
	days, err := s.daysOf(ctx, parts)
	if err != nil {
		return nil, err
	}
	beside := blockIDs(batch)
	for _, day := range days {
		info, err := s.writeRollup(ctx, nil, beside, parts, func(ctx context.Context, w *rollWriter, service string, ps []*Part) error {
			return w.rollRaw(ctx, service, ps, day)
		})
		if err != nil {
			return add, err
		}
		add = append(add, info)
	}
	return add, nil
}

// partRef is one part of one block.
type partRef struct {
	block *block
	index int
	*partInfo
}

// partsOf lists the parts of blocks by service, see comparePartRef, and then in
// the order of time.
// Damaged ones and those of several services are left out.
func (s *Store) partsOf(blocks []*block) ([]partRef, error) {
	blocks = slices.Clone(blocks)
	slices.SortStableFunc(blocks, func(a, b *block) int { return cmp.Compare(a.info.from, b.info.from) })
	var parts []partRef
	for _, b := range blocks {
		if s.isDamaged(b, wholeBlock) {
			continue
		}
		list, err := s.listing(b)
		if err != nil {
			return nil, s.quarantine(b, wholeBlock, "", err)
		}
		for i := range list.parts {
			if p := &list.parts[i]; (b.info.level != levelRollup || p.service != "") && !s.isDamaged(b, i) {
				parts = append(parts, partRef{b, i, p})
			}
		}
	}
	slices.SortStableFunc(parts, comparePartRef)
	return parts, nil
}

// comparePartRef orders parts by service; of those of one the parts of single
// hours come first. Parts that are equal are rolled up together.
func comparePartRef(a, b partRef) int {
	hour := func(p *partInfo) int64 {
		if start, ok := hourOf(p); ok {
			return start
		}
		return maxTime
	}
	return cmp.Or(strings.Compare(a.service, b.service), cmp.Compare(hour(a.partInfo), hour(b.partInfo)))
}

// open opens a part with all of its sections.
func (s *Store) open(ref partRef) (*Part, error) {
	p, err := s.blockPart(ref.block, ref.index, ref.partInfo, func(*sectionInfo) []Span { return always })
	if err != nil {
		return nil, s.quarantine(ref.block, ref.index, ref.service, err)
	}
	return p, nil
}

// daysOf lists the UTC days in which profiles of parts start.
func (s *Store) daysOf(ctx context.Context, parts []partRef) ([]Span, error) {
	length := int64(Day.Duration())
	days := map[int64]bool{}
	for _, ref := range parts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		same := true
		for _, sec := range ref.sections {
			days[floorTo(sec.from, length)] = true
			same = same && floorTo(sec.from, length) == floorTo(sec.until, length)
		}
		if same {
			continue
		}
		p, err := s.open(ref)
		if err != nil {
			return nil, err
		}
		if err := p.starts(func(start int64) { days[floorTo(start, length)] = true }); err != nil {
			return nil, p.damaged(err)
		}
	}
	var out []Span
	for _, from := range slices.Sorted(maps.Keys(days)) {
		until := from + length
		if until < from {
			until = maxTime
		}
		out = append(out, Span{from, until})
	}
	return out, nil
}

// starts calls f with the start of every profile of the part.
func (p *Part) starts(f func(start int64)) error {
	if err := p.load(loadedMeta); err != nil {
		return err
	}
	for i := range p.sections {
		for _, g := range p.sections[i].groups {
			rows, err := p.groupRows(g, p.sections[i].cols)
			if err != nil {
				return err
			}
			for k := range rows {
				f(rows[k].start)
			}
		}
	}
	return nil
}

// writeRollup writes a rollup block. It calls service with the parts of each, and
// with those of each hour apart from the others.
func (s *Store) writeRollup(ctx context.Context, sources, beside []string, parts []partRef,
	service func(ctx context.Context, w *rollWriter, service string, ps []*Part) error) (*blockInfo, error) {
	return s.putBlock(ctx, func(out io.Writer, id string, created int64) (*blockInfo, error) {
		b, err := newBlockWriter(out, s.pk, id, created, levelRollup)
		if err != nil {
			return nil, err
		}
		b.sources, b.beside = sources, beside
		w := &rollWriter{s: s, b: b, w: grouper{pk: s.pk}, fleet: newFleetParts()}
		for left := parts; len(left) > 0; {
			n := 1
			for n < len(left) && comparePartRef(left[n], left[0]) == 0 {
				n++
			}
			ps := make([]*Part, n)
			for i, ref := range left[:n] {
				if ps[i], err = s.open(ref); err != nil {
					return nil, err
				}
			}
			_, w.oneHour = hourOf(left[0].partInfo)
			if err := service(ctx, w, left[0].service, ps); err != nil {
				return nil, err
			}
			left = left[n:]
		}
		return w.end()
	})
}

// When rollup blocks of one day are merged.
const (
	mergeRollups    = 8 // as many of them, or
	mergeRollupsAge = time.Hour
)

// compactRollups merges rollup blocks of one UTC day: many of them, or what
// there is of a day that ended a while ago.
func (s *Store) compactRollups(ctx context.Context) (did bool, err error) {
	day := s.rollupsToMerge()
	if len(day) == 0 {
		return false, nil
	}
	defer releaseAll(day)
	if err := s.rewriteRollups(ctx, day, keepAll); err != nil && !errors.Is(err, ErrDamaged) {
		return false, err
	}
	return true, nil // of blocks that turned out to be damaged the others come next
}

// rollupsToMerge holds the blocks that are to be merged next.
func (s *Store) rollupsToMerge() []*block {
	s.mu.RLock()
	defer s.mu.RUnlock()
	days := map[int64][]*block{}
	for _, b := range s.blocks {
		if b.info.level == levelRollup && !s.anyDamaged(b) {
			day := floorTo(b.info.from, int64(Day.Duration()))
			days[day] = append(days[day], b)
		}
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		if list := mergeable(days[day], unixTime(day).Add(Day.Duration()), s.o.Now()); list != nil {
			for _, b := range list {
				b.acquire()
			}
			return list
		}
	}
	return nil
}

// anyDamaged says whether anything of a block is damaged; s.mu is held. Rollups
// of which a part cannot be read stay as they are, so that nothing gets lost
// that could be made again.
func (s *Store) anyDamaged(b *block) bool {
	for key := range s.damaged {
		if id, _, _ := strings.Cut(key, "/"); id == b.info.id {
			return true
		}
	}
	return false
}

// mergeable chooses which blocks of a day that ends at end are merged, nil if
// none. As long as the day lasts, one that is larger than twice all the smaller
// ones together stays: the same rows are not rewritten again and again.
func mergeable(blocks []*block, end, now time.Time) []*block {
	young := slices.ContainsFunc(blocks, func(b *block) bool { return !ripe(b.info.created, now, mergeRollupsAge) })
	if len(blocks) >= 2 && now.Sub(end) > mergeRollupsAge && !young {
		return blocks
	}
	bySize := slices.Clone(blocks)
	slices.SortFunc(bySize, func(a, b *block) int { return cmp.Compare(a.info.size, b.info.size) })
	sum := int64(0)
	for _, b := range bySize {
		sum += b.info.size
	}
	for n := len(bySize); n >= mergeRollups; n-- {
		largest := bySize[n-1].info.size
		if sum -= largest; largest <= 2*sum {
			return bySize[:n]
		}
	}
	return nil
}

// rewriteRollups puts one block, with what is to be kept, in the place of
// rollup blocks of one day, which are held. If one of them turns out to be
// damaged all stay.
func (s *Store) rewriteRollups(ctx context.Context, blocks []*block, keep rollKeep) error {
	parts, err := s.partsOf(blocks)
	if err != nil {
		return err
	}
	beside, err := s.besideOf(blocks)
	if err != nil {
		return err
	}
	info, err := s.writeRollup(ctx, blockIDs(blocks), beside, parts, func(ctx context.Context, w *rollWriter, service string, ps []*Part) error {
		return w.rollRolled(ctx, service, ps, keep, nil)
	})
	if err != nil {
		return fmt.Errorf("merge %d rollup blocks: %w", len(blocks), err)
	}
	return s.swap([]*blockInfo{info}, blocks, nil)
}

// besideOf lists the blocks with profiles that rollups stand beside, as far as
// they are still there.
func (s *Store) besideOf(blocks []*block) ([]string, error) {
	all := map[string]bool{}
	for _, b := range blocks {
		l, err := s.listing(b)
		if err != nil {
			return nil, s.quarantine(b, wholeBlock, "", err)
		}
		for _, id := range l.beside {
			all[id] = true
		}
	}
	var out []string
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.blocks {
		if all[b.info.id] {
			out = append(out, b.info.id)
		}
	}
	return out, nil
}
