package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/goinquest/inquest"
)

// takeOut writes one block again without what is deleted: a job of the keeper.
// The oldest deletion comes first. Profiles of rollups from which a stretch is
// taken, and which stay, become a block of their own that is rolled up again.
func (s *Store) takeOut(ctx context.Context) (did bool, err error) {
	var errs []error
	for _, b := range s.cutBlocks() {
		if err := s.keeper.contain(func() error { return s.takeOutOf(ctx, b) }); err != nil {
			if ctx.Err() != nil {
				return false, err
			}
			errs = append(errs, err) // one that cannot be read must not keep the others
			continue
		}
		return true, nil
	}
	if len(errs) > 0 {
		return false, errors.Join(errs...)
	}
	return false, s.endDeletions()
}

// cutBlocks lists the blocks with something that is deleted.
func (s *Store) cutBlocks() (out []*block) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.deletions.n == 0 {
		return nil
	}
	for _, b := range s.blocks {
		if len(b.cuts) > 0 {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b *block) int { return int(a.cuts[0].deletion) - int(b.cuts[0].deletion) })
	return out
}

func (s *Store) takeOutOf(ctx context.Context, b *block) error {
	s.mu.RLock()
	cuts := b.cuts
	s.mu.RUnlock()
	add, err := s.withoutCuts(ctx, b, cuts)
	if err != nil {
		return fmt.Errorf("take out of block %s what is deleted: %w", b.info.id, err)
	}
	s.deletions.mu.Lock()
	defer s.deletions.mu.Unlock()
	if len(b.cuts) != len(cuts) { // more was deleted: once again
		for _, info := range add {
			err = errors.Join(err, s.discard(info))
		}
		return err
	}
	if err := s.exchange(add, []*block{b}, nil); err != nil {
		return err
	}
	s.o.Logger.Debug("deleted data taken off the disk", inquest.LogBlock, b.info.id)
	return nil
}

// withoutCuts writes what is left of a block.
func (s *Store) withoutCuts(ctx context.Context, b *block, cuts []cut) (add []*blockInfo, err error) {
	if b.info.level == levelRollup {
		info, err := s.rewriteRollup(ctx, b, func(service string, r Resolution, start int64) bool {
			return cutFromRollup(cuts, service, r, start)
		})
		if info != nil {
			add = append(add, info)
		}
		return add, err
	}
	stays, again := cutSpans(cuts, b.info.rolled)
	info, err := s.rewrite(ctx, b, false, stays)
	if err != nil {
		return nil, err
	}
	if info != nil {
		add = append(add, info)
	}
	if !b.info.rolled {
		return add, nil
	}
	info, err = s.rewrite(ctx, b, true, again)
	if err != nil {
		for _, info := range add {
			err = errors.Join(err, s.discard(info))
		}
		return nil, err
	}
	if info != nil {
		add = append(add, info)
	}
	return add, nil
}

// cutSpans divides what is left of a block: what stays as it is, and, of one
// that is in rollups, what is to be rolled up again.
func cutSpans(cuts []cut, rolled bool) (stays, again keep) {
	stays = func(pi *partInfo, _ *sectionInfo) []Span {
		spans := always
		for i := range cuts {
			if c := &cuts[i]; c.of(pi.service) && rolled {
				spans = without(spans, c.again)
			} else if c.of(pi.service) {
				spans = without(spans, c.window)
			}
		}
		return spans
	}
	again = func(pi *partInfo, _ *sectionInfo) (spans []Span) {
		for i := range cuts {
			if c := &cuts[i]; c.of(pi.service) {
				spans = with(spans, c.again)
			}
		}
		for i := range cuts {
			if c := &cuts[i]; c.of(pi.service) {
				spans = without(spans, c.window)
			}
		}
		return spans
	}
	return stays, again
}

// endDeletions notes the deletions of which nothing is left.
func (s *Store) endDeletions() error {
	s.deletions.mu.Lock()
	defer s.deletions.mu.Unlock()
	if !s.deletions.open {
		return nil
	}
	ds, err := s.catalog.deletions()
	if err != nil {
		return fmt.Errorf("read deletions: %w", err)
	}
	// Pages of the catalog that are free still hold what was in them.
	if err := s.catalog.compact(); err != nil {
		return fmt.Errorf("compact catalog: %w", err)
	}
	for i := range ds {
		if !ds[i].Done.IsZero() {
			continue
		}
		if err := s.catalog.deletionDone(ds[i].Number, s.o.Now().UTC()); err != nil {
			return fmt.Errorf("note end of deletion: %w", err)
		}
		s.o.Logger.Info("deletion done", "number", ds[i].Number, inquest.LogService, ds[i].Service)
	}
	if err := s.refreshDeletions(); err != nil {
		return fmt.Errorf("write deletions again: %w", err)
	}
	s.deletions.open = false
	return nil
}
