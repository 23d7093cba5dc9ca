package store

import (
	"context"
	"errors"
)

// rewriteRollup writes what is left of a block of rollups without the rows that
// drop takes, nil if that is nothing. Rows of several services together are made
// again of those of each. What is damaged goes: the rollups of that day are made
// again.
func (s *Store) rewriteRollup(ctx context.Context, b *block, drop func(service string, r Resolution, start int64) bool) (*blockInfo, error) {
	b.acquire()
	defer b.release()
	var info *blockInfo
	err := s.withoutDamaged(ctx, func() error {
		if s.anyFailing(b) {
			return errFailing
		}
		parts, err := s.partsOf([]*block{b})
		if err != nil {
			return err
		}
		beside, err := s.besideOf([]*block{b})
		if err != nil {
			return err
		}
		info, err = s.writeRollup(ctx, []string{b.info.id}, beside, parts, func(ctx context.Context, w *rollWriter, service string, ps []*Part) error {
			return w.rollRolled(ctx, service, ps, keepAll, func(r Resolution, start int64) bool {
				return drop(service, r, start)
			})
		})
		return err
	})
	s.mu.RLock()
	if s.anyDamaged(b) {
		s.keeper.lacking[floorTo(b.info.from, int64(Day.Duration()))] = true
	}
	s.mu.RUnlock()
	if err != nil || info.first == "" && info.last == "" && info.from == 0 && info.to == 0 {
		return nil, errors.Join(err, s.discard(info))
	}
	return info, nil
}

// cutFromRollup says whether a row of a rollup is deleted.
func cutFromRollup(cuts []cut, service string, r Resolution, start int64) bool {
	for i := range cuts {
		if c := &cuts[i]; c.of(service) && c.wide[r].Contains(start) {
			return true
		}
	}
	return false
}
