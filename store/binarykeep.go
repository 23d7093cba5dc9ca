package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// defaultUnused is Retention.BinariesUnused if it is not said.
const defaultUnused = 30 * 24 * time.Hour

// binaryPause is the time between two looks at binaries.
const binaryPause = 10 * time.Minute

// binaryKeeper is the keeper's job that deletes binaries nobody needs, and
// uploads nobody goes on with.
type binaryKeeper struct {
	s    *Store
	last time.Time
}

func (k *binaryKeeper) step(context.Context) (did bool, err error) {
	if !k.s.keeper.hurried() && time.Since(k.last) < binaryPause {
		return false, nil
	}
	// A backup copies the catalog first and the files then.
	if !k.s.backingUp.TryLock() {
		return false, nil
	}
	defer k.s.backingUp.Unlock()
	// Until it is known what data came of which build, nothing goes.
	if done, err := k.s.catalog.get(bucketMeta, metaSeen); done == nil {
		return false, err
	}
	k.last = time.Now()
	u := &k.s.binaries.uploads
	u.mu.Lock()
	u.expire(uploadAge)
	u.mu.Unlock()
	if err := k.s.forgetOldSeen(); err != nil {
		return false, err
	}
	return k.s.dropUnneeded()
}

// need is how much a binary is needed.
type need struct {
	*binaryRow
	last     int64 // newest data of one of its ids, unix ns; minTime = none
	needed   bool  // data that may still be there came of it
	surplus  bool  // others of its id are better, and are enough
	unneeded bool  // and was for long
}

// keptOf is how long anything of a service is kept at most.
func (p *Retention) keptOf(service string) time.Duration {
	ages := p.ages(service, "")
	return slices.Max(ages[:])
}

// before is a time so long before another, minTime if there is none.
func before(now int64, age time.Duration) int64 {
	if int64(age) > now-minTime/2 {
		return minTime
	}
	return now - int64(age)
}

// needs says how much each binary is needed.
func (s *Store) needs() []need {
	now := s.o.Now().UnixNano()
	policy := s.Retention()
	last, kept := map[string]int64{}, map[string]bool{}
	s.seen.each(func(k seenKey, t *seenTimes) {
		at := t.last.Load()
		if old, ok := last[k.build]; !ok || at > old {
			last[k.build] = at
		}
		if at >= before(now, policy.keptOf(k.service)) {
			kept[k.build] = true
		}
	})
	unused := before(now, cmp.Or(policy.BinariesUnused, defaultUnused))
	x := s.binaries
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]need, 0, len(x.rows))
	for _, r := range x.rows {
		n := need{binaryRow: r, last: minTime, surplus: true}
		for _, id := range r.IDs() {
			if at, ok := last[id]; ok {
				n.last = max(n.last, at)
			}
			n.needed = n.needed || kept[id]
			n.surplus = n.surplus && slices.Index(x.ids[id], r) >= maxCandidates
		}
		n.unneeded = !n.needed && max(n.last, r.Uploaded.UnixNano()) < unused
		out = append(out, n)
	}
	// What is needed least comes first.
	slices.SortFunc(out, func(a, b need) int {
		if a.needed != b.needed {
			if b.needed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(max(a.last, a.Uploaded.UnixNano()), max(b.last, b.Uploaded.UnixNano())), cmp.Compare(a.SHA256, b.SHA256))
	})
	return out
}

// dropUnneeded deletes binaries that no stored data needs, and, beyond the
// bound in bytes, those that are needed least.
func (s *Store) dropUnneeded() (did bool, err error) {
	most := s.Retention().BinariesMaxBytes
	var gone []string
	left := s.BinaryStats().Bytes
	for _, n := range s.needs() {
		why := ""
		switch {
		case n.surplus:
			why = "there are better ones of the same build"
		case n.unneeded:
			why = "no stored data needs it"
		case most > 0 && left > most:
			why = "binaries take more than their bound"
			s.binaries.evicted.Add(1)
		default:
			continue
		}
		left -= n.StoredBytes
		gone = append(gone, n.SHA256)
		s.o.Logger.Info("binary deleted", "why", why, inquest.LogBuildID, n.ID, "sha256", n.SHA256, inquest.LogBytes, n.StoredBytes,
			"needed", n.needed, "last_data", unixTime(n.last))
	}
	if len(gone) == 0 {
		return false, nil
	}
	_, err = s.dropBinaries(gone)
	return false, err
}

// forgetOldSeen forgets builds of which everything is too old.
func (s *Store) forgetOldSeen() error {
	now := s.o.Now().UnixNano()
	policy := s.Retention()
	unused := before(now, cmp.Or(policy.BinariesUnused, defaultUnused))
	return s.forgetSeen(func(k seenKey, t *seenTimes) bool {
		at := t.last.Load()
		return at < unused && at < before(now, policy.keptOf(k.service))
	})
}

// BinaryStats is what the binary store takes.
type BinaryStats struct {
	Files   int
	Bytes   int64 // on the disk, without what is derived
	Uploads int   // unfinished
	Evicted int64 // for want of space since the start
}

// BinaryStats returns what the binary store takes.
func (s *Store) BinaryStats() BinaryStats {
	x := s.binaries
	x.uploads.mu.Lock()
	uploads := len(x.uploads.open)
	x.uploads.mu.Unlock()
	x.mu.RLock()
	defer x.mu.RUnlock()
	return BinaryStats{Files: len(x.rows), Bytes: x.bytes, Uploads: uploads, Evicted: x.evicted.Load()}
}
