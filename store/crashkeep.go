package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// forgetCrashes deletes texts and records that are too old, some at a time.
func (s *Store) forgetCrashes(now int64) (did bool, err error) {
	r := s.Retention()
	texts, records := before(now, cmp.Or(r.CrashTexts, defaultTexts)), before(now, cmp.Or(r.Crashes, defaultCrashes))
	var old []*crashRow
	pinned := map[string]bool{}
	s.cores.mu.RLock()
	for _, c := range s.cores.rows {
		pinned[c.ID] = c.Pinned
	}
	s.cores.mu.RUnlock()
	s.crashes.mu.RLock()
	for _, row := range s.crashes.byTime {
		if row.At >= max(texts, records) || len(old) == crashesDroppedAll {
			break
		}
		if !pinned[row.Core] && (row.At < records || row.At < texts && row.Text != "") {
			old = append(old, row)
		}
	}
	s.crashes.mu.RUnlock()
	if len(old) == 0 {
		return false, nil
	}
	err = s.changeCrashes(func(t *crashTx) error {
		for _, row := range old {
			if err := t.age(row, records); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil, err
}

// age drops a record that is too old, or its text.
func (t *crashTx) age(row *crashRow, records int64) error {
	r := t.row(row.ID)
	if r == nil {
		return nil
	}
	if r.At < records && r.Core == "" {
		if err := t.drop(r); err != nil {
			return err
		}
		return t.ageGroup(r.Group, records)
	}
	c, err := t.get(r.ID)
	if err != nil || c == nil || c.TextBlob == "" {
		return err
	}
	next := *c
	next.TextBlob, next.TextBytes = "", 0
	if next.Tier == inquest.TierText {
		next.Tier = inquest.TierNone
	}
	return t.put(c, &next)
}

// ageGroup drops counts of hours that are too old, and a group of which there
// is nothing else. Its total stays as long as it does.
func (t *crashTx) ageGroup(id string, oldest int64) error {
	g := t.group(id)
	if g == nil {
		return nil
	}
	if g.Last.UnixNano() < oldest && t.records(id) == 0 {
		return t.dropGroup(id)
	}
	hour := int64(time.Hour)
	return dropHours(t.tx, id, func(h int64) bool { return (h+1)*hour <= oldest })
}

// records is how many records of a group there are.
func (t *crashTx) records(group string) (n int) {
	for _, row := range t.x.ofGroup[group] {
		if r := t.row(row.ID); r != nil && r.Group == group {
			n++
		}
	}
	for id, r := range t.set {
		if before := t.x.rows[id]; r.Group == group && (before == nil || before.Group != group) {
			n++
		}
	}
	return n
}

// delete drops everything of crashes that a deletion concerns, in its
// transaction.
func (t *crashTx) delete(d *Deletion) (cores []string, err error) {
	from, until := windowNanos(d.Window)
	whole := d.Service != "" && from == minTime && until == maxTime
	for _, row := range slices.Clone(t.x.byTime) {
		if d.Service != "" && row.Service != d.Service || row.At < from || row.At >= until || !d.At.IsZero() && row.Received > d.At.UnixNano() {
			continue
		}
		if row.Core != "" {
			cores = append(cores, row.Core)
		}
		if hour := floorTo(row.At, int64(time.Hour)); !whole && (hour < from || hour+int64(time.Hour) > until) {
			if c, err := t.get(row.ID); err != nil {
				return nil, err
			} else if c != nil {
				if err := t.add(c, -c.Deaths()); err != nil {
					return nil, err
				}
			}
		}
		if err := t.drop(row); err != nil {
			return nil, err
		}
	}
	for id, g := range t.x.groups {
		if d.Service != "" && g.Service != d.Service || g.Last.UnixNano() < from || g.First.UnixNano() >= until {
			continue
		}
		if whole {
			err = t.emptyGroup(id)
		} else {
			err = t.cutGroup(id, from, until)
		}
		if err != nil {
			return nil, err
		}
	}
	return cores, deleteCoreRows(t.tx, cores)
}

// emptyGroup takes everything out of a group but what its records stand for.
func (t *crashTx) emptyGroup(id string) error {
	if err := t.dropGroup(id); err != nil {
		return err
	}
	for _, row := range t.x.ofGroup[id] {
		if t.row(row.ID) == nil {
			continue
		}
		if c, err := t.get(row.ID); err != nil {
			return err
		} else if c != nil {
			if err := t.add(c, c.Deaths()); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutGroup takes the counts of the hours within a window out of a group.
func (t *crashTx) cutGroup(id string, from, until int64) error {
	g := t.group(id)
	if g == nil {
		return nil
	}
	hour := int64(time.Hour)
	gone := func(h int64) bool { return h*hour >= from && (h+1)*hour <= until }
	var n int64
	for _, h := range hours(t.tx, g.ID, inquest.Window{}) {
		if gone(h.At.Unix() / 3600) {
			n += h.Count
		}
	}
	if err := dropHours(t.tx, g.ID, gone); err != nil {
		return err
	}
	next := *g
	next.Message, next.Frames = "", nil // of one that may be gone; the next crash says it again
	if next.Count -= n; next.Count <= 0 {
		return t.dropGroup(g.ID)
	}
	return t.putGroup(&next)
}

// deleteCrashes does what a deletion, which is in force now, left to do of
// crashes; s.crashes.writes is held.
func (s *Store) deleteCrashes(d *Deletion, t *crashTx, cores []string) {
	_ = s.crashesChanged(t, nil) // no error comes of none
	s.cores.forget(cores)
	from, until := windowNanos(d.Window)
	s.cores.mu.RLock()
	var open []*coreUpload
	for _, u := range s.cores.open {
		c := &u.offer.Crash
		if at := c.At.UnixNano(); (d.Service == "" || c.Service == d.Service) && at >= from && at < until {
			open = append(open, u)
		}
	}
	s.cores.mu.RUnlock()
	for _, u := range open {
		s.cores.mu.Lock()
		delete(s.cores.open, u.id) // whoever is at it finds it gone
		s.cores.mu.Unlock()
		s.cores.removeFiles(u.id)
	}
}

// deleteCrashesAgain does what deletions that the catalog had lost did to
// crashes.
func (s *Store) deleteCrashesAgain(lost []deletionLine) error {
	for i := range lost {
		var cores []string
		d := lost[i].Deletion()
		err := s.changeCrashes(func(t *crashTx) (err error) {
			cores, err = t.delete(&d)
			return err
		})
		if err != nil {
			return err
		}
		s.cores.forget(cores)
	}
	return nil
}
