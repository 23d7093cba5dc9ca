package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

// seen knows which builds data came of, per service, and when. It is in memory
// and written to the catalog now and then: what a crash loses comes again with
// the next profile of the build. Builds of libraries, whose frames have no
// names yet, count as well as main programs.
type seen struct {
	seed   maphash.Seed
	shards [seenShards]seenShard
	n      atomic.Int64 // pairs
	full   atomic.Int64 // notes that found no room
}

type seenShard struct {
	mu sync.RWMutex
	at map[seenKey]*seenTimes
}

type seenKey struct{ build, service string }

// seenTimes are unix ns of the first and last start of data.
type seenTimes struct {
	first, last atomic.Int64
	changed     atomic.Bool // since it was written
}

const (
	seenShards = 32
	maxSeen    = 50_000 // pairs of build and service; then the longest unseen go
	seenSlack  = maxSeen / 10
	seenPause  = time.Minute // between two times of writing
)

func newSeen() *seen {
	x := &seen{seed: maphash.MakeSeed()}
	for i := range x.shards {
		x.shards[i].at = map[seenKey]*seenTimes{}
	}
	return x
}

func (x *seen) shard(k seenKey) *seenShard {
	return &x.shards[maphash.String(x.seed, k.build)%seenShards]
}

// note says that there is data of a build and service that starts between two
// times, unix ns. Of pairs that are known it writes nothing to memory, but for
// a newer time.
func (x *seen) note(build, service string, first, last int64) {
	if build == "" || len(build) > maxBuildID {
		return
	}
	k := seenKey{build, service}
	sh := x.shard(k)
	sh.mu.RLock()
	t := sh.at[k]
	sh.mu.RUnlock()
	if t == nil {
		if t = x.add(sh, k, first, last); t == nil {
			return
		}
	}
	for old := t.first.Load(); first < old; old = t.first.Load() {
		if t.first.CompareAndSwap(old, first) {
			t.changed.Store(true)
		}
	}
	for old := t.last.Load(); last > old; old = t.last.Load() {
		if t.last.CompareAndSwap(old, last) {
			t.changed.Store(true)
		}
	}
}

func (x *seen) knows(k seenKey) bool {
	sh := x.shard(k)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.at[k] != nil
}

// add makes a pair, nil if there is no room.
func (x *seen) add(sh *seenShard, k seenKey, first, last int64) *seenTimes {
	if x.n.Load() >= maxSeen+seenSlack {
		x.full.Add(1)
		return nil
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if t := sh.at[k]; t != nil {
		return t
	}
	t := &seenTimes{}
	t.first.Store(first)
	t.last.Store(last)
	t.changed.Store(true)
	sh.at[seenKey{string([]byte(k.build)), string([]byte(k.service))}] = t // not what belongs to the profile
	x.n.Add(1)
	return t
}

// each visits all pairs.
func (x *seen) each(f func(seenKey, *seenTimes)) {
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.RLock()
		pairs := maps.Clone(sh.at)
		sh.mu.RUnlock()
		for k, t := range pairs {
			f(k, t)
		}
	}
}

// noteSeen notes the builds of a profile: that of its label, and those of
// mapped files in which it has addresses without names.
func (s *Store) noteSeen(m *inquest.ProfileMeta, p *profile.Profile) {
	service, start := m.Service(), m.Start.UnixNano()
	s.seen.note(m.Labels.Get(inquest.LabelBuild), service, start, start)
	for i := range p.Mappings {
		if mp := &p.Mappings[i]; mp.BuildID != 0 && !mp.HasFunctions && unnamed(p, int32(i)) {
			s.seen.note(p.String(mp.BuildID), service, start, start)
		}
	}
}

// seenEntry spells a pair for the catalog.
func (k seenKey) entry() []byte { return []byte(k.build + "\x00" + k.service) }

func parseSeen(k, v []byte) (key seenKey, first, last int64, ok bool) {
	build, service, ok := bytes.Cut(k, []byte{0})
	if !ok || len(v) != 16 || len(build) == 0 {
		return key, 0, 0, false
	}
	return seenKey{string(build), string(service)}, int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:])), true
}

// openSeen reads what earlier runs saw.
func (s *Store) openSeen() error {
	s.seen = newSeen()
	err := s.catalog.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketSeen)).ForEach(func(k, sealed []byte) error {
			v, err := unseal(bucketSeen, k, sealed)
			if err != nil {
				return nil // it comes again, or the check tells
			}
			if key, first, last, ok := parseSeen(k, v); ok {
				if t := s.seen.add(s.seen.shard(key), key, first, last); t != nil {
					t.changed.Store(false)
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read builds in catalog: %w", err)
	}
	if len(s.blocks) > 0 {
		return nil
	}
	return s.catalog.put(bucketMeta, metaSeen, []byte("1")) // there is nothing to look through
}

// seenWriter is the keeper's job that writes what was seen.
type seenWriter struct {
	s    *Store
	last time.Time // when it did
	back bool      // what blocks of before hold is noted
}

// step writes what is new, once a minute, and once what blocks have whose
// builds nobody noted: those of an older version, or all if the catalog was lost.
func (w *seenWriter) step(ctx context.Context) (did bool, err error) {
	if !w.back {
		if err := w.s.seeBlocks(ctx); err != nil {
			return false, err
		}
		w.back = true
	}
	if !w.s.keeper.hurried() && time.Since(w.last) < seenPause {
		return false, nil
	}
	w.last = time.Now()
	return false, w.s.flushSeen()
}

// flushSeen writes what is new in one transaction.
func (s *Store) flushSeen() error {
	s.trimSeen()
	entries := map[seenKey][]byte{}
	s.seen.each(func(k seenKey, t *seenTimes) {
		if t.changed.Swap(false) {
			v := binary.BigEndian.AppendUint64(nil, uint64(t.first.Load()))
			entries[k] = binary.BigEndian.AppendUint64(v, uint64(t.last.Load()))
		}
	})
	if len(entries) == 0 {
		return nil
	}
	err := s.catalog.update(func(tx *bbolt.Tx) error {
		for k, v := range entries {
			if err := put(tx, bucketSeen, k.entry(), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.seen.each(func(k seenKey, t *seenTimes) {
			if entries[k] != nil {
				t.changed.Store(true)
			}
		})
		return s.writeError(err)
	}
	return nil
}

// trimSeen forgets the pairs longest unseen beyond the bound.
func (s *Store) trimSeen() {
	if s.seen.n.Load() <= maxSeen {
		return
	}
	type aged struct {
		k    seenKey
		last int64
	}
	var all []aged
	s.seen.each(func(k seenKey, t *seenTimes) { all = append(all, aged{k, t.last.Load()}) })
	slices.SortFunc(all, func(a, b aged) int { return cmp.Compare(a.last, b.last) })
	gone := map[seenKey]bool{}
	for _, a := range all[:min(len(all), len(all)-maxSeen+seenSlack)] {
		gone[a.k] = true
	}
	s.o.Logger.Warn("too many builds were seen, those of the longest ago are forgotten", "builds", len(gone), "most", maxSeen)
	if err := s.forgetSeen(func(k seenKey, _ *seenTimes) bool { return gone[k] }); err != nil {
		s.warn("forget builds", err)
	}
}

// forgetSeen forgets pairs.
func (s *Store) forgetSeen(which func(seenKey, *seenTimes) bool) error {
	var gone []seenKey
	s.seen.each(func(k seenKey, t *seenTimes) {
		if which(k, t) {
			gone = append(gone, k)
		}
	})
	if len(gone) == 0 {
		return nil
	}
	err := s.catalog.update(func(tx *bbolt.Tx) error {
		for _, k := range gone {
			if err := tx.Bucket([]byte(bucketSeen)).Delete(k.entry()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s.writeError(err)
	}
	for _, k := range gone {
		sh := s.seen.shard(k)
		sh.mu.Lock()
		if _, ok := sh.at[k]; ok {
			delete(sh.at, k)
			s.seen.n.Add(-1)
		}
		sh.mu.Unlock()
	}
	return nil
}

// seeBlocks notes the builds of all that is stored, unless that was done.
func (s *Store) seeBlocks(ctx context.Context) error {
	done, err := s.catalog.get(bucketMeta, metaSeen)
	if done != nil || err != nil {
		return err
	}
	// Profiles tell exact times; rollups tell of builds of which there are no
	// profiles any more.
	for _, sel := range []Selection{{}, {Rollups: true}} {
		if err := s.seeView(ctx, sel); err != nil {
			return err
		}
	}
	if err := s.flushSeen(); err != nil {
		return err
	}
	return s.catalog.put(bucketMeta, metaSeen, []byte("1"))
}

// seeView notes the builds of what a selection finds, those of rollups if they
// are not known.
func (s *Store) seeView(ctx context.Context, sel Selection) error {
	view, err := s.View(ctx, sel)
	if err != nil {
		return err
	}
	defer view.Close()
	for _, p := range view.Parts {
		for i := range p.Sections() {
			sets, last, err := p.LabelSets(ctx, i)
			if errors.Is(err, ErrDamaged) {
				continue // what is damaged needs no names
			}
			if err != nil {
				return err
			}
			first := p.firstStart(i, last)
			for _, set := range sets {
				k := seenKey{set.Get(inquest.LabelBuild), cmp.Or(set.Get(inquest.LabelService), p.Service)}
				if !sel.Rollups || !s.seen.knows(k) {
					s.seen.note(k.build, k.service, first, last)
				}
			}
		}
		if err := s.keeper.pace(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// firstStart is that of the first row of a section, at most last.
func (p *Part) firstStart(section int, last int64) int64 {
	for _, g := range p.sections[section].groups {
		last = min(last, g.from)
	}
	for _, r := range p.sections[section].rows {
		last = min(last, r.start)
	}
	return last
}

// SeenBuild is when data of a build was stored.
type SeenBuild struct {
	Service string    `json:"service"`
	First   time.Time `json:"first"` // start of the oldest data
	Last    time.Time `json:"last"`  // start of the newest
}

// SeenBuilds lists the services of every build that data came of, by name.
func (s *Store) SeenBuilds() map[string][]SeenBuild {
	out := map[string][]SeenBuild{}
	s.seen.each(func(k seenKey, t *seenTimes) {
		out[k.build] = append(out[k.build], SeenBuild{k.service, unixTime(t.first.Load()), unixTime(t.last.Load())})
	})
	for _, list := range out {
		slices.SortFunc(list, func(a, b SeenBuild) int { return cmp.Compare(a.Service, b.Service) })
	}
	return out
}

// unnamed says whether a profile has addresses without names in a mapping that
// is of a file: those of the kernel, as [vdso], are of none.
func unnamed(p *profile.Profile, mapping int32) bool {
	if name := p.Strings[p.Mappings[mapping].File]; len(name) > 0 && name[0] == '[' {
		return false
	}
	return slices.ContainsFunc(p.Locations, func(l profile.Location) bool {
		return l.Mapping == mapping && l.LineStart == l.LineEnd
	})
}
