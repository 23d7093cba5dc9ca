package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// What Retention keeps of crashes if it does not say.
const (
	defaultCores      = 30 * 24 * time.Hour
	defaultTexts      = 90 * 24 * time.Hour
	defaultCrashes    = 365 * 24 * time.Hour
	defaultCoresMost  = 20 << 30 // or a fifth of the disk, if that is less
	coresDiskPart     = 5
	defaultCoresMore  = 3
	crashPause        = time.Minute // between two looks at what is kept of crashes
	crashesDroppedAll = 500         // records in one step
)

// keptCore is a core as the policy looks at it.
type keptCore struct {
	id, group string
	at        int64 // of the crash, unix ns
	bytes     int64
	pinned    bool
}

// corePolicy is what is kept of cores.
type corePolicy struct {
	oldest int64 // cores of earlier crashes go
	more   int   // of a group beside the first, the last and the largest
	most   int64 // bytes of all
}

// coreDrop is a core that goes, and why.
type coreDrop struct {
	id, why string
	space   bool // for want of it
}

const (
	whyAge   = "it was too old"
	whyGroup = "the group has enough cores"
	whyQuota = "cores took more than their bound"
	whyGone  = "it was deleted"
)

// plan says which cores go. Pinned ones stay. Of a group the first, the last
// and the largest stay, and the newest of the others. If all of it is still too
// much, it is taken from the group with the most cores, the least telling one
// first: so no group loses its only core while another has two that may go.
func (p *corePolicy) plan(cores []keptCore) (out []coreDrop) {
	groups := map[string][]keptCore{}
	var total int64
	for _, c := range cores {
		if c.at < p.oldest && !c.pinned {
			out = append(out, coreDrop{c.id, whyAge, false})
			continue
		}
		groups[c.group] = append(groups[c.group], c)
		total += c.bytes
	}
	for name, group := range groups {
		ranked := rank(group)
		for n := len(ranked) - 1; n >= 3+p.more; n-- {
			if !ranked[n].pinned {
				out = append(out, coreDrop{ranked[n].id, whyGroup, false})
				total -= ranked[n].bytes
				ranked = slices.Delete(ranked, n, n+1)
			}
		}
		groups[name] = ranked
	}
	for total > p.most {
		name := p.thickest(groups)
		if name == "" {
			return out // all that is left is pinned
		}
		group := groups[name]
		for n := len(group) - 1; n >= 0; n-- {
			if !group[n].pinned {
				out = append(out, coreDrop{group[n].id, whyQuota, true})
				total -= group[n].bytes
				groups[name] = slices.Delete(group, n, n+1)
				break
			}
		}
	}
	return out
}

// rank orders the cores of a group, the one to keep longest first: the first,
// the last, the largest, then the newest.
func rank(group []keptCore) []keptCore {
	rest := slices.Clone(group)
	slices.SortFunc(rest, func(a, b keptCore) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	var out []keptCore
	take := func(i int) {
		out = append(out, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	take(0)
	if len(rest) > 0 {
		take(len(rest) - 1)
	}
	if len(rest) > 0 {
		largest := 0
		for i := range rest {
			if rest[i].bytes >= rest[largest].bytes {
				largest = i
			}
		}
		take(largest)
	}
	slices.Reverse(rest)
	return append(out, rest...)
}

// thickest is the group with the most cores of those that may lose one; of
// several the one whose newest is oldest.
func (p *corePolicy) thickest(groups map[string][]keptCore) (name string) {
	newest := func(group []keptCore) (at int64) {
		at = minTime
		for i := range group {
			at = max(at, group[i].at)
		}
		return at
	}
	for id, group := range groups {
		if !slices.ContainsFunc(group, func(c keptCore) bool { return !c.pinned }) {
			continue
		}
		best := groups[name]
		if name == "" || cmp.Or(cmp.Compare(len(group), len(best)), cmp.Compare(newest(best), newest(group)), cmp.Compare(name, id)) > 0 {
			name = id
		}
	}
	return name
}

// coreQuota is how many bytes cores may take.
func (s *Store) coreQuota() int64 {
	if most := s.Retention().CoresMaxBytes; most > 0 {
		return most
	}
	total, err := s.ops.Total(s.o.Dir)
	if err != nil || total <= 0 {
		return defaultCoresMost
	}
	return min(defaultCoresMost, total/coresDiskPart)
}

// CoreQuota is how many bytes cores may take, and how many of them are pinned,
// so that no other core can take their place.
func (s *Store) CoreQuota() (most, pinned int64) {
	d := &s.cores
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, c := range d.rows {
		if c.Pinned {
			pinned += c.StoredBytes
		}
	}
	return s.coreQuota(), pinned
}

// corePolicy is the policy at a time.
func (s *Store) corePolicy(now int64) *corePolicy {
	r := s.Retention()
	p := &corePolicy{oldest: before(now, cmp.Or(r.Cores, defaultCores)), more: r.CoresMore, most: s.coreQuota()}
	if p.more == 0 {
		p.more = defaultCoresMore
	}
	p.more = max(p.more, 0)
	return p
}

// crashKeeper is the keeper's job that deletes what is too old or too much of
// crashes.
type crashKeeper struct {
	s    *Store
	last time.Time
}

func (k *crashKeeper) step(ctx context.Context) (did bool, err error) {
	s := k.s
	if !s.keeper.hurried() && time.Since(k.last) < crashPause {
		return false, nil
	}
	// A backup copies the catalog first and the files then.
	if !s.backingUp.TryLock() {
		return false, nil
	}
	defer s.backingUp.Unlock()
	if err := s.cores.settle(ctx); err != nil {
		return false, err
	}
	now := s.o.Now().UnixNano()
	if err := s.thinCores(now); err != nil {
		return false, err
	}
	if did, err = s.forgetCrashes(now); !did {
		k.last = time.Now()
	}
	return did, err
}

// thinCores deletes the cores that the policy does not keep.
func (s *Store) thinCores(now int64) error {
	var cores []keptCore
	d := &s.cores
	d.mu.RLock()
	for _, c := range d.rows {
		cores = append(cores, keptCore{c.ID, c.Group, c.At.UnixNano(), c.StoredBytes, c.Pinned})
	}
	d.mu.RUnlock()
	drops := s.corePolicy(now).plan(cores)
	for _, c := range drops {
		if c.space {
			d.evicted.Add(1)
		}
	}
	return s.dropCores(drops)
}

// dropCores deletes cores: first their rows. Their crashes say why.
func (s *Store) dropCores(drops []coreDrop) error {
	if len(drops) == 0 {
		return nil
	}
	var ids []string
	err := s.changeCrashes(func(t *crashTx) error {
		ids = ids[:0]
		for _, c := range drops {
			ids = append(ids, c.id)
			if err := t.coreGone(c.id, c.why); err != nil {
				return err
			}
		}
		return deleteCoreRows(t.tx, ids)
	})
	if err != nil {
		return err // in force or not, the files stay; the next start clears up
	}
	for _, c := range drops {
		s.o.Logger.Info("core deleted", "core", c.id, "why", c.why)
	}
	s.cores.forget(ids)
	return nil
}

// forget takes cores out of the index and deletes their files.
func (d *coreDepot) forget(ids []string) {
	d.mu.Lock()
	for _, id := range ids {
		if c := d.rows[id]; c != nil {
			d.bytes -= c.StoredBytes
			delete(d.rows, id)
			delete(d.reports, id)
		}
	}
	d.mu.Unlock()
	for _, id := range ids {
		d.removeFiles(id)
	}
}

// coreGone has crashes say that a core is not here any more.
func (t *crashTx) coreGone(id, why string) error {
	for _, row := range t.x.byTime {
		if r := t.row(row.ID); r == nil || r.Core != id {
			continue
		}
		c, err := t.get(row.ID)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		next := *c
		next.Core, next.CoreGone, next.Tier = nil, why, inquest.TierNone
		if next.TextBlob != "" {
			next.Tier = inquest.TierText
		}
		if err := t.put(c, &next); err != nil {
			return err
		}
	}
	return nil
}

// DeleteCore deletes a core, or gives up its upload. ErrNotFound if there is
// none.
func (s *Store) DeleteCore(id string) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	defer s.writers.Done()
	d := &s.cores
	d.mu.RLock()
	row, u := d.rows[id], d.open[id]
	d.mu.RUnlock()
	switch {
	case row != nil:
		return s.dropCores([]coreDrop{{id, whyGone, false}})
	case u == nil:
		return errNoCore(id)
	case !d.drop(u):
		return inquest.Errorf(inquest.ErrBusy, "core %s is being sent at this moment", id)
	}
	return nil
}
