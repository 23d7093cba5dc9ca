package store

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest"
)

// Pace and measure of retention.
const (
	retainPause  = time.Minute      // between two looks for what is too old
	recheckPause = time.Hour        // before a block is looked at again of which nothing could go
	notePause    = 5 * time.Minute  // between two notes of what the policy hides
	staleAfter   = 24 * time.Hour   // what is too old for so long goes, however little it is of its block
	worthPart    = 4                // a block of which one part in so many bytes is too old is rewritten
	dropAtOnce   = 64               // blocks dropped in one step
	waitForRoll  = 24 * time.Hour   // profiles not in rollups by then wait no longer
	youngest     = 24 * time.Hour   // of profiles that stay although the disk is short
	slackPart    = 20               // one part in so many is freed beyond a bound, so that it is not met at once again
	rollupsGoBy  = 7 * 24 * 60 * 60 // seconds of rollups that go at once for want of space
)

// retainer drops what is too old or too much: a job of the keeper.
type retainer struct {
	s *Store

	mu      sync.Mutex // SetRetention's and the job's
	last    time.Time  // when it last looked
	lastCut time.Time  // when it last freed disk: what readers hold is freed later
	noted   int64      // when the horizon was last stored, unix ns
	shrink  bool       // a bound was met: go on until there is some slack
	recheck map[string]int64

	blocks, bytes, early atomic.Int64
}

func newRetainer(s *Store) *retainer { return &retainer{s: s, recheck: map[string]int64{}} }

// SetRetention puts another policy in force. What the old one has hidden
// stays hidden. An error is of kind ErrInvalid, or says that the policy could
// not be noted; then the old one stays.
func (s *Store) SetRetention(r Retention) error {
	if err := r.Validate(); err != nil {
		return err
	}
	t := s.retainer
	t.mu.Lock()
	defer t.mu.Unlock()
	old := s.reach.Load()
	if samePolicy(&old.Policy, &r) {
		s.reach.Store(old.with(r))
		return nil
	}
	noted := t.noting(old, s.o.Now().UnixNano())
	next := noted.with(r)
	if err := s.putReach(next); err != nil {
		return s.writeError(err)
	}
	s.reach.Store(next)
	t.last, t.noted = time.Time{}, 0
	clear(t.recheck)
	s.keeper.poke()
	return nil
}

// Retention is the policy in force.
func (s *Store) Retention() Retention { return s.reach.Load().Policy }

func (r *reach) with(p Retention) *reach {
	out := *r
	out.Policy = p
	return &out
}

// samePolicy says whether two policies keep the same by age.
func samePolicy(a, b *Retention) bool {
	return a.Raw == b.Raw && a.FiveMinutes == b.FiveMinutes && a.Hour == b.Hour && a.Day == b.Day &&
		slices.Equal(a.Services, b.Services) && (len(a.Kinds) == 0 && len(b.Kinds) == 0 || reflect.DeepEqual(a.Kinds, b.Kinds))
}

// openReach reads what earlier runs hid, and puts the configured policy in
// force. lost says that the catalog may not have its last state.
func (s *Store) openReach(lost bool) error {
	r, err := s.readReach(lost)
	if err != nil {
		return err
	}
	if s.o.Idle {
		s.reach.Store(r)
		return nil
	}
	if !samePolicy(&r.Policy, &s.o.Retention) {
		r = r.with(s.o.Retention)
		if err := s.putReach(r); err != nil {
			return err
		}
	}
	s.reach.Store(r.with(s.o.Retention))
	return nil
}

// noting is r with what its policy hides now, if there is anything to hide.
func (t *retainer) noting(r *reach, now int64) *reach {
	oldest, newest := maxTime, minTime
	t.s.mu.RLock()
	for _, b := range t.s.blocks {
		oldest, newest = min(oldest, b.info.from), max(newest, b.info.to)
	}
	t.s.mu.RUnlock()
	if _, last := r.bounds(now); oldest >= slices.Max(last[:]) {
		return r
	}
	out := *r
	out.Past = slices.Clone(r.Past)
	p := pastPolicy{Policy: r.Policy, At: now, Newest: newest}
	if n := len(out.Past) - 1; n >= 0 && samePolicy(&out.Past[n].Policy, &r.Policy) && out.Past[n].At <= now {
		out.Past[n] = p
	} else {
		out.Past = append(out.Past, p)
	}
	out.Past = out.Past[max(0, len(out.Past)-maxPast):]
	return &out
}

// note stores what is hidden, unless that was done just before.
func (t *retainer) note(now int64, always bool) error {
	if d := now - t.noted; !always && d >= 0 && d < int64(notePause) {
		return nil
	}
	old := t.s.reach.Load()
	r := t.noting(old, now)
	if r == old {
		return nil
	}
	if err := t.s.putReach(r); err != nil {
		return err
	}
	t.s.reach.Store(r)
	t.noted = now
	return nil
}

// step drops or rewrites some blocks.
func (t *retainer) step(ctx context.Context) (did bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	hurried := t.s.keeper.hurried()
	if !hurried && time.Since(t.last) < retainPause {
		return false, nil
	}
	if did, err = t.retain(ctx, hurried); !did {
		t.last = time.Now()
	}
	return did, err
}

func (t *retainer) retain(ctx context.Context, hurried bool) (bool, error) {
	s, now := t.s, t.s.o.Now().UnixNano()
	if err := t.note(now, false); err != nil {
		return false, err
	}
	hide := s.hiding(true)
	first, last := hide.reach.bounds(now)
	var drop []*block
	var errs []error
	for _, b := range s.candidates(slices.Max(last[:])) {
		if again, ok := t.recheck[b.info.id]; ok && !hurried && now < again && now > again-int64(recheckPause) {
			continue
		}
		a, err := t.look(b, hide, &first)
		if err == nil && a.worth() {
			err = s.keeper.contain(func() error { return t.trim(ctx, b, hide, &first) })
			if err == nil || ctx.Err() != nil {
				return true, err
			}
		}
		if err != nil {
			// One that cannot be read must not keep the others.
			errs = append(errs, err)
		}
		if !a.all {
			t.recheck[b.info.id] = now + int64(recheckPause)
			continue
		}
		if drop = append(drop, b); len(drop) == dropAtOnce {
			break
		}
	}
	if len(drop) > 0 {
		return true, t.drop(drop, now)
	}
	if len(errs) > 0 {
		return false, errors.Join(errs...)
	}
	return t.fit(now)
}

// candidates are the blocks with rows before a time, the oldest first. What
// waits for a deletion is its job's.
func (s *Store) candidates(before int64) (out []*block) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.blocks {
		if b.info.from < before && len(b.cuts) == 0 {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b *block) int { return cmp.Compare(a.info.to, b.info.to) })
	return out
}

// aged says how much of a block is too old.
type aged struct {
	all   bool
	bytes int64 // of groups and of dictionaries of parts that are too old as a whole
	size  int64 // of all groups and dictionaries
	stale bool  // some of it for long
}

func (a *aged) worth() bool { return a.bytes > 0 && (a.stale || a.bytes >= a.size/worthPart) }

// sinceIn is from when on rows of a section are kept.
func (x *hiding) sinceIn(b *block, pi *partInfo, si *sectionInfo, first *horizon) int64 {
	if b.info.level == levelRollup && pi.service == "" {
		return first[si.resolution] // of the service that is kept longest
	}
	return x.since(pi.service, si.kind, si.resolution, x.waits(b))
}

// waits says whether profiles of a block stay because rollups are not made of
// them yet.
func (x *hiding) waits(b *block) bool {
	return b.info.level != levelRollup && !b.info.rolled && x.now-b.info.created < int64(waitForRoll)
}

// look finds out how much of a block is too old.
func (t *retainer) look(b *block, hide *hiding, first *horizon) (a aged, err error) {
	kept := first[Raw]
	if b.info.level == levelRollup {
		kept = slices.Min(first[FiveMinutes:])
	} else if hide.waits(b) {
		kept = first.earliest()
	}
	if b.info.to < kept { // of all services; then it need not be read
		return aged{all: true}, nil
	}
	b.acquire()
	defer b.release()
	list, err := t.s.listing(b)
	if err != nil {
		return a, err
	}
	a.all = true
	some := false
	for i := range list.parts {
		for j := range list.parts[i].sections {
			si := &list.parts[i].sections[j]
			since := hide.sinceIn(b, &list.parts[i], si, first)
			a.all = a.all && si.until < since
			some = some || si.from < since
			a.stale = a.stale || since > minTime+int64(staleAfter) && si.from < since-int64(staleAfter)
		}
	}
	if a.all || !some {
		return a, nil
	}
	r := &rewriting{s: t.s, b: b}
	for i := range list.parts {
		pi := &list.parts[i]
		dir, err := r.directory(pi)
		if err != nil {
			return a, err
		}
		dict, gone, left := int64(streamBytes(dir.streams)), int64(0), int64(0)
		for j, groups := range dir.sections {
			since := hide.sinceIn(b, pi, &pi.sections[j], first)
			for _, g := range groups {
				if g.until < since {
					gone += int64(streamBytes(g.streams))
				} else {
					left += int64(streamBytes(g.streams))
				}
			}
		}
		if left == 0 {
			gone += dict
		} else {
			left += dict
		}
		a.bytes += gone
		a.size += gone + left
	}
	return a, nil
}

// drop deletes whole blocks.
func (t *retainer) drop(blocks []*block, now int64) error {
	if err := t.note(now, true); err != nil {
		return err
	}
	if err := t.s.swap(nil, blocks, nil); err != nil {
		return err
	}
	bytes := int64(0)
	for _, b := range blocks {
		bytes += b.info.size
		delete(t.recheck, b.info.id)
	}
	t.blocks.Add(int64(len(blocks)))
	t.bytes.Add(bytes)
	t.s.o.Logger.Info("old blocks deleted", "blocks", len(blocks), inquest.LogBytes, bytes)
	return nil
}

// trim writes a block again without what is too old.
func (t *retainer) trim(ctx context.Context, b *block, hide *hiding, first *horizon) error {
	if err := t.note(hide.now, true); err != nil {
		return err
	}
	var info *blockInfo
	var err error
	if b.info.level == levelRollup {
		info, err = t.s.rewriteRollup(ctx, b, func(service string, r Resolution, start int64) bool {
			return start < hide.since(service, "", r, false)
		})
	} else {
		info, err = t.s.rewrite(ctx, b, false, func(pi *partInfo, si *sectionInfo) []Span {
			return []Span{{hide.sinceIn(b, pi, si, first), maxTime}}
		})
	}
	if err != nil {
		return err
	}
	if info == nil {
		return t.drop([]*block{b}, hide.now)
	}
	if err := t.s.swap([]*blockInfo{info}, []*block{b}, nil); err != nil {
		return err
	}
	delete(t.recheck, b.info.id)
	t.bytes.Add(max(0, b.info.size-info.size))
	return nil
}

// fit raises the floor under what is kept while blocks take more than they
// may, or the disk is short; what is below it is then too old.
func (t *retainer) fit(now int64) (bool, error) {
	s, p := t.s, &t.s.reach.Load().Policy
	var raw, all int64
	s.mu.RLock()
	for _, b := range s.blocks {
		all += b.info.size
		if b.info.level != levelRollup {
			raw += b.info.size
		}
	}
	s.mu.RUnlock()
	over := t.excess(all, p.MaxBytes)
	overRaw := max(over, t.excess(raw, p.RawMaxBytes))
	t.shrink = overRaw > 0
	if overRaw > 0 {
		if did, err := t.raise(overRaw, maxTime, now); did || err != nil {
			return did, err
		}
		if over > 0 && raw == 0 {
			return t.raiseRollups(now)
		}
	}
	short, err := t.short(p)
	if err != nil || short == 0 || time.Since(t.lastCut) < retainPause {
		return false, err
	}
	until := maxTime
	if !p.KeepFreeAll {
		until = now - int64(youngest)
	}
	did, err := t.raise(short, until, now)
	if did {
		t.lastCut = time.Now()
		t.early.Add(1)
		s.o.Logger.Warn("disk is short of space, the oldest profiles are deleted early", "wanted", short,
			"until", unixTime(s.reach.Load().Floor[Raw]))
	}
	return did, err
}

// excess is by how much bytes are beyond a bound, 0 = none, and what is to be
// freed besides so that it is not met at once again.
func (t *retainer) excess(bytes, bound int64) int64 {
	if bound == 0 || bytes <= bound-bound/slackPart || bytes <= bound && !t.shrink {
		return 0
	}
	return bytes - (bound - bound/slackPart)
}

// short is how many bytes of disk are missing.
func (t *retainer) short(p *Retention) (int64, error) {
	keep := p.KeepFree
	if p.KeepFreePercent > 0 {
		total, err := t.s.ops.Total(t.s.o.Dir)
		if err != nil {
			return 0, err
		}
		keep = max(keep, int64(float64(total)*p.KeepFreePercent/100))
	}
	if keep == 0 {
		return 0, nil
	}
	keep = max(keep, 2*t.s.o.MinFreeBytes)
	free, err := t.s.ops.Free(t.s.o.Dir)
	if err != nil || free >= keep {
		return 0, err
	}
	return keep + keep/slackPart - free, nil
}

// raise raises the floor of profiles so far that blocks of about need bytes
// fall below it: of those that start before until, the oldest, as far as
// rollups have them.
func (t *retainer) raise(need, until, now int64) (bool, error) {
	hide := t.s.hiding(true)
	floor := minTime
	for _, b := range t.s.candidates(maxTime) {
		if b.info.level == levelRollup {
			continue
		}
		if hide.waits(b) || b.info.to >= until {
			break
		}
		if need <= 0 && b.info.to > floor {
			break
		}
		floor = b.info.to
		need -= b.info.size
	}
	if floor == minTime {
		return false, nil
	}
	return true, t.setFloor(Raw, floor+1, now)
}

// raiseRollups raises the floor of the finest rollups there are by some time.
func (t *retainer) raiseRollups(now int64) (bool, error) {
	oldest := horizon{maxTime, maxTime, maxTime, maxTime}
	for _, b := range t.s.candidates(maxTime) {
		if b.info.level != levelRollup {
			continue
		}
		b.acquire()
		list, err := t.s.listing(b)
		b.release()
		if err != nil {
			return false, err
		}
		for i := range list.parts {
			for j := range list.parts[i].sections {
				si := &list.parts[i].sections[j]
				oldest[si.resolution] = min(oldest[si.resolution], si.from)
			}
		}
	}
	for r := FiveMinutes; r <= Day; r++ {
		if oldest[r] != maxTime {
			return true, t.setFloor(r, max(oldest[r], t.s.reach.Load().Floor[r])+rollupsGoBy*1e9, now)
		}
	}
	return false, nil
}

func (t *retainer) setFloor(r Resolution, from, now int64) error {
	next := *t.s.reach.Load()
	next.Floor[r] = max(next.Floor[r], from)
	if r > Raw {
		next.Floor.align()
	}
	if err := t.s.putReach(&next); err != nil {
		return err
	}
	t.s.reach.Store(&next)
	clear(t.recheck)
	t.s.o.Logger.Info("oldest rows go for want of space", "resolution", r.String(), "until", unixTime(next.Floor[r]))
	return nil
}
