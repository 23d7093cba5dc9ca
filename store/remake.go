package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// remakeRollups makes the rollups of a day again, if something of them is
// damaged and all profiles of that day are still there: else profiles that are
// marked as rolled up would be missing where rollups answer.
func (s *Store) remakeRollups(ctx context.Context) (did bool, err error) {
	day, old, raw := s.rollupsToRemake()
	if len(old) == 0 {
		return false, nil
	}
	defer releaseAll(old)
	defer releaseAll(raw)
	add, err := s.rollDay(ctx, day, old, raw)
	if errors.Is(err, ErrDamaged) || err == nil && len(add) == 0 {
		s.keeper.unmade[day.From] = true
		return true, nil // what is damaged is reported
	}
	if err == nil {
		err = s.swap(add, old, raw)
	}
	if err != nil {
		return false, fmt.Errorf("make rollups again: %w", err)
	}
	s.o.Logger.Info("damaged rollups made again", "day", unixTime(day.From), "blocks", len(old))
	return true, nil
}

// rollupsToRemake chooses a day and holds its rollups, and the blocks with
// profiles that are in them.
func (s *Store) rollupsToRemake() (day Span, old, raw []*block) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	length := int64(Day.Duration())
	for _, b := range s.blocks {
		from := floorTo(b.info.from, length)
		if b.info.level == levelRollup && s.anyDamaged(b) && !s.isFailing(b) && !s.keeper.unmade[from] {
			day = Span{from, from + length}
			if old, raw = s.blocksOfDay(day); old != nil {
				break
			}
			s.keeper.unmade[from] = true
		}
	}
	for _, list := range [...][]*block{old, raw} {
		for _, b := range list {
			b.acquire()
		}
	}
	return day, old, raw
}

// blocksOfDay lists the rollups of a day and the blocks with profiles that are
// in them, nothing if not all of these can be read; s.mu is held.
func (s *Store) blocksOfDay(day Span) (rollups, raw []*block) {
	if s.rawKnown() > day.From {
		return nil, nil
	}
	for _, b := range s.index.overlapping(day.From, day.Until-1) {
		switch {
		case b.info.level == levelRollup:
			rollups = append(rollups, b)
		case !b.info.rolled:
		case s.anyDamaged(b):
			return nil, nil
		default:
			raw = append(raw, b)
		}
	}
	return rollups, raw
}

// rollDay writes rollup blocks that take the place of those of a day.
func (s *Store) rollDay(ctx context.Context, day Span, old, raw []*block) (add []*blockInfo, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discardAll(add))
			add = nil
		}
	}()
	sources := blockIDs(old)
	for len(raw) > 0 {
		n, bytes := 1, raw[0].info.size
		for n < len(raw) && bytes+raw[n].info.size <= rollupBytes {
			bytes += raw[n].info.size
			n++
		}
		parts, err := s.partsOf(raw[:n])
		if err != nil {
			return add, err
		}
		days, err := s.daysOf(ctx, parts)
		if err != nil {
			return add, err
		}
		if slices.Contains(days, day) {
			info, err := s.writeRollup(ctx, sources, blockIDs(raw[:n]), parts, func(ctx context.Context, w *rollWriter, service string, ps []*Part) error {
				return w.rollRaw(ctx, service, ps, day)
			})
			if err != nil {
				return add, err
			}
			add = append(add, info)
		}
		raw = raw[n:]
	}
	return add, nil
}

func blockIDs(blocks []*block) []string {
	var ids []string
	for _, b := range blocks {
		ids = append(ids, b.info.id)
	}
	return ids
}
