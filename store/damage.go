package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goinquest/inquest"
)

// ErrDamaged is what reading a part fails with when the part turns out to be
// damaged. Views made afterwards leave it out, so asking again with a new one
// succeeds without it. The error is of kind ErrUnavailable too.
var ErrDamaged = errors.New("block is damaged")

// wholeBlock, in place of the number of a part, means all of a block.
const wholeBlock = -1

func damageKey(b *block, part int) string {
	if part == wholeBlock {
		return b.info.id
	}
	return b.info.id + "/" + strconv.Itoa(part)
}

func (s *Store) isDamaged(b *block, part int) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, one := s.damaged[damageKey(b, part)]
	_, all := s.damaged[b.info.id]
	return one || all
}

// quarantine leaves a part that cannot be read, of a service, out of all later views and
// returns the error for the reader at hand. What the operating system could
// not do for want of resources is no damage.
func (s *Store) quarantine(b *block, part int, service string, cause error) error {
	key := damageKey(b, part)
	if outOfResources(cause) {
		return inquest.Errorf(inquest.ErrUnavailable, "read block %s: %w", key, cause)
	}
	s.mu.Lock()
	_, known := s.damaged[key]
	if known = known || !slices.Contains(s.blocks, b); !known { // else it was replaced since the reader got it
		s.damaged[key] = cause.Error()
	}
	if !known && diskFailed(cause) {
		s.failing[key] = time.Now()
	}
	s.mu.Unlock()
	if !known {
		s.stats.quarantined.Add(1)
		s.o.Logger.Error("block is damaged, its part is left out", inquest.LogBlock, key,
			inquest.LogService, service, inquest.LogErr, cause)
		if !diskFailed(cause) { // what the disk does may pass; content that does not fit will not
			if err := s.catalog.damage(key, cause.Error()); err != nil {
				s.warn("mark damaged block", err)
			}
		}
	}
	return inquest.Errorf(inquest.ErrUnavailable, "%w and left out from now on, ask again: %s: %w", ErrDamaged, key, cause)
}

// failingAge is how long what the disk failed to read is left out before it is
// tried again.
const failingAge = 5 * time.Minute

// readAgain has what the disk failed to read tried again: a job of the keeper.
func (s *Store) readAgain(context.Context) (did bool, err error) {
	hurried := s.keeper.hurried()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, since := range s.failing {
		if hurried || time.Since(since) >= failingAge {
			delete(s.failing, key)
			delete(s.damaged, key)
		}
	}
	return false, nil
}

// isFailing says whether anything of a block could not be read because the
// disk failed; s.mu is held.
func (s *Store) isFailing(b *block) bool {
	for key := range s.failing {
		if id, _, _ := strings.Cut(key, "/"); id == b.info.id {
			return true
		}
	}
	return false
}

func (s *Store) anyFailing(blocks ...*block) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(blocks, s.isFailing)
}

// errFailing puts off what would lose what the disk can perhaps give later.
var errFailing = inquest.Errorf(inquest.ErrUnavailable, "the disk failed to read some of it")

// outOfResources says whether an error of reading is the operating system's
// want of something, not damage.
func outOfResources(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// quarantineLog reports what of the log could not be read.
func (s *Store) quarantineLog(what string) {
	s.mu.Lock()
	s.lostLog = append(s.lostLog, "log/"+what)
	s.mu.Unlock()
	s.stats.quarantined.Add(1)
	s.o.Logger.Error("log is damaged", "what", what)
}

// storedKey looks for a key in blocks. The block that has it is held: the
// caller releases it.
func (s *Store) storedKey(key inquest.Key, candidates []*block) (*block, *storedKey, error) {
	for i := 0; i < len(candidates); i++ {
		b := candidates[i]
		if !b.hold() {
			// It was replaced since, and so was what the index says.
			_, candidates = s.keys.lookup(key)
			i = -1
			continue
		}
		k, err := b.findKey(s.pk, key)
		if err == nil && k != nil {
			return b, k, nil
		}
		b.release()
		if diskFailed(err) {
			return nil, nil, fmt.Errorf("look for key in block %s: %w", b.info.id, err)
		}
		if err != nil {
			s.quarantineKeys(b, err)
		}
	}
	return nil, nil, nil
}

// lostPart is the part of a key that a block has, though it cannot be read
// where and with which body.
const lostPart = math.MaxUint32

// findKey looks for a key in the block, which is held; nil if it is not there.
func (b *block) findKey(pk *packer, key inquest.Key) (*storedKey, error) {
	raw, err := b.read(pk, &b.info.keyList)
	if err != nil {
		return nil, err
	}
	who, seq := keyHalves(key)
	at := -1
	c := cursor{b: raw}
	readKeyList(&c, func(i int, w, n uint64) {
		if w == who && n == seq {
			at = i
		}
	})
	if c.bad {
		return nil, errKeys
	}
	if at < 0 {
		return nil, nil
	}
	k := storedKey{part: lostPart}
	if raw, err = b.read(pk, &b.info.keyInfo); err == nil {
		k, err = readKeyInfo(raw, b.info.keys, at)
	}
	if diskFailed(err) {
		return nil, err
	}
	if k.key = key; err != nil {
		k.part = lostPart
	}
	return &k, nil
}

// rowOf reads what is known of the profile a block's key list points to.
func (s *Store) rowOf(b *block, k *storedKey) (*row, error) {
	list, err := s.listing(b)
	if err != nil {
		return nil, err
	}
	if int(k.part) >= len(list.parts) {
		return nil, errKeys
	}
	p, err := s.blockPart(b, int(k.part), &list.parts[k.part], func(*sectionInfo) []Span { return always })
	if err != nil {
		return nil, err
	}
	if int(k.section) >= len(p.sections) {
		return nil, errKeys
	}
	if err := p.load(loadedMeta); err != nil {
		return nil, err
	}
	at := int(k.row)
	for _, g := range p.sections[k.section].groups {
		if at >= g.rows {
			at -= g.rows
			continue
		}
		rows, err := p.groupRows(g, p.sections[k.section].cols)
		if err != nil {
			return nil, err
		}
		if rows[at].key != k.key {
			return nil, errKeys
		}
		return &rows[at], nil
	}
	return nil, errKeys
}

// quarantineList spells everything that could not be read.
func (s *Store) quarantineList() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := slices.Clone(s.lostLog)
	for key, reason := range s.damaged {
		out = append(out, "block "+key+": "+strings.TrimSpace(reason))
	}
	slices.Sort(out)
	return out
}

// quarantineEntry reports an entry of the catalog that is damaged: it counts
// as not there.
func (s *Store) quarantineEntry(err error) {
	what := "catalog: " + err.Error()
	s.mu.Lock()
	known := slices.Contains(s.lostLog, what)
	if !known {
		s.lostLog = append(s.lostLog, what)
	}
	s.mu.Unlock()
	if !known {
		s.stats.quarantined.Add(1)
		s.o.Logger.Error("an entry of the catalog is damaged and counts as not there", inquest.LogErr, err)
	}
}
