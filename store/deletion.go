package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// Deletion is a request to delete what was stored before it of a service, of a
// range of time of a service, or of a range of time of all services. What is
// stored afterwards is not concerned, whenever it began.
type Deletion struct {
	Service string         // "": of every service; then Window has both ends
	Window  inquest.Window // of Start; a zero end is open
	Reason  string
	By      string // who asked for it

	// Set by Delete and Preview:
	Number   uint64
	At       time.Time                 // when it was asked for
	Done     time.Time                 // when nothing of it was left on the disk; zero: that is still to be done
	Profiles int64                     // hidden by it
	Bytes    int64                     // of them, about
	Rollups  map[string]inquest.Window // by resolution: what goes of rollups, if more than Window since profiles are not there to add them up again
}

// deletions keeps deletions and changes of blocks apart.
type deletions struct {
	mu   sync.Mutex
	file sideFile
	open bool // some may not be noted as done
	n    int  // blocks with cuts; Store.mu guards it
}

// cut is what a deletion takes from a block. It waits until the block is
// written again; views leave it out at once.
type cut struct {
	deletion uint64
	service  string // "": of every one
	window   Span
	// again is where rollups cannot leave out single profiles: they leave out all,
	// and those that stay are rolled up again. wide, by resolution, is what goes of
	// rollups: again, or whole steps where there are no profiles to add up.
	again Span
	wide  [Day + 1]Span
	goes  [Day + 1]Span // by resolution: what is lost
}

func (c *cut) of(service string) bool {
	return c.service == "" || service == "" || c.service == service
}

// cut makes the cut of a deletion; from on there are profiles of all it
// concerns.
func (d *Deletion) cut(known int64) cut {
	from, until := windowNanos(d.Window)
	day := int64(Day.Duration())
	c := cut{deletion: d.Number, service: d.Service, window: Span{from, until}, again: Span{from, until}}
	left, right := floorTo(from, day) >= known, until >= known
	if left {
		c.again.From = floorTo(from, day)
	}
	if right {
		c.again.Until = max(until, ceilTo(until, day))
	}
	c.goes[Raw] = c.window
	for r := FiveMinutes; r <= Day; r++ {
		first, last := floorTo(from, int64(r.Duration())), max(until, ceilTo(until, int64(r.Duration())))
		c.wide[r] = Span{min(c.again.From, first), max(c.again.Until, last)}
		if c.goes[r] = c.window; !left {
			c.goes[r].From = first
		}
		if !right {
			c.goes[r].Until = last
		}
	}
	return c
}

// Delete hides what a deletion concerns, durably, and has it taken off the
// disk in the background. It returns the deletion as it is noted. Errors are of
// kind ErrInvalid, or ErrUnavailable where it may succeed later.
func (s *Store) Delete(ctx context.Context, d Deletion) (Deletion, error) {
	if err := d.check(); err != nil {
		return d, err
	}
	if err := s.Ready(); err != nil {
		return d, err
	}
	d.At, d.Done = time.Time{}, time.Time{}
	return s.delete(ctx, d)
}

// Preview says what Delete would delete.
func (s *Store) Preview(ctx context.Context, d Deletion) (Deletion, error) {
	if err := d.check(); err != nil {
		return d, err
	}
	if err := s.Ready(); err != nil {
		return d, err
	}
	// So that what is in memory counts.
	if err := s.Flush(ctx); err != nil {
		return d, err
	}
	d.At = s.o.Now().UTC()
	_, err := s.concerned(ctx, &d, s.rawKnown())
	return d, err
}

// Reapply does again the deletions that are not known and were asked for at
// since or later, in a store brought back from a backup made then: everything in
// it was stored before them. Of earlier ones that are not known nobody can tell
// what was stored after them; they are returned as old.
func (s *Store) Reapply(ctx context.Context, ds []Deletion, since time.Time) (done, old []Deletion, err error) {
	if err := s.Ready(); err != nil {
		return nil, nil, err
	}
	known, err := s.Deletions()
	if err != nil {
		return nil, nil, err
	}
	for _, d := range ds {
		if err := d.check(); err != nil {
			return done, old, err
		}
		if slices.ContainsFunc(known, func(k Deletion) bool {
			return k.Service == d.Service && k.At.Equal(d.At) && k.Window.From.Equal(d.Window.From) && k.Window.Until.Equal(d.Window.Until)
		}) {
			continue
		}
		if d.At.Before(since) {
			old = append(old, d)
			continue
		}
		d.Done = time.Time{}
		if d, err = s.delete(ctx, d); err != nil {
			return done, old, err
		}
		done, known = append(done, d), append(known, d)
	}
	return done, old, nil
}

func (d *Deletion) check() error {
	if d.Service == "" && (d.Window.From.IsZero() || d.Window.Until.IsZero()) {
		return inquest.Errorf(inquest.ErrInvalid, "a deletion needs a service, or both ends of a range of time")
	}
	if from, until := windowNanos(d.Window); from >= until {
		return inquest.Errorf(inquest.ErrInvalid, "the range of time to delete ends before it begins")
	}
	return nil
}

// delete does a deletion, of now if it does not say when it was asked for.
func (s *Store) delete(ctx context.Context, d Deletion) (Deletion, error) {
	s.mu.RLock()
	epoch := s.run<<runEpochBit | s.epochs.Load()
	s.mu.RUnlock()
	// What is in memory becomes blocks, so that only those are concerned.
	if err := s.Flush(ctx); err != nil {
		return d, err
	}
	s.deletions.mu.Lock()
	defer s.deletions.mu.Unlock()
	if d.At.IsZero() {
		d.At = s.o.Now().UTC()
	}
	n := noted{d, s.rawKnown(), epoch}
	blocks, err := s.concerned(ctx, &n.Deletion, n.Known)
	if err != nil {
		return d, err
	}
	if err := s.noteDeletion(&n, blocks); err != nil {
		return d, fmt.Errorf("nothing was deleted: %w", s.writeError(err))
	}
	s.deletions.open = true
	d = n.Deletion
	c := d.cut(n.Known)
	s.mu.Lock()
	for _, b := range blocks {
		if len(b.cuts) == 0 {
			s.deletions.n++
		}
		b.cuts = append(slices.Clone(b.cuts), c)
	}
	s.mu.Unlock()
	s.o.Logger.Info("data deleted", "number", d.Number, inquest.LogService, d.Service, "from", d.Window.From, "until", d.Window.Until,
		"by", d.By, "reason", d.Reason, "profiles", d.Profiles, "blocks", len(blocks))
	if d.Service != "" && d.Window.From.IsZero() && d.Window.Until.IsZero() {
		if err := s.forgetSeen(func(k seenKey, _ *seenTimes) bool { return k.service == d.Service }); err != nil {
			s.warn("forget the builds of a deleted service", err) // their names are shown a while longer
		}
	}
	// The log's newest file goes when the next one begins.
	s.commit.fresh.Store(true)
	s.commit.poke()
	s.keeper.poke()
	return d, nil
}

// states says which cumulative states go: those of the service if the present
// is deleted too. "" is none; every name begins with its service.
func (d *Deletion) states() (prefix string, all bool) {
	from, until := windowNanos(d.Window)
	if now := d.At.UnixNano(); now < from || now >= until && !d.Window.Until.IsZero() {
		return "", false
	}
	if d.Service == "" {
		return "", true
	}
	return d.Service + BaselineBorder, false
}

// BaselineBorder follows the service in the name of a cumulative state.
const BaselineBorder = "\x00"

// rawKnown is from when on there are profiles of all services and kinds.
func (s *Store) rawKnown() int64 {
	_, last := s.reach.Load().bounds(s.o.Now().UnixNano())
	return last[Raw]
}

// concerned lists the blocks with something a deletion takes, and counts what
// that is.
func (s *Store) concerned(ctx context.Context, d *Deletion, known int64) (out []*block, err error) {
	c := d.cut(known)
	d.Profiles, d.Bytes, d.Rollups = 0, 0, map[string]inquest.Window{}
	s.mu.RLock()
	all := slices.Clone(s.blocks)
	for _, b := range all {
		b.acquire()
	}
	s.mu.RUnlock()
	defer func() {
		for _, b := range all {
			b.release()
		}
	}()
	for _, b := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		some, err := s.concerns(b, &c, d)
		if err != nil {
			// Not to know is no reason to keep it: its job finds out.
			s.warn("look for what is deleted", err)
			some = true
		}
		if some {
			out = append(out, b)
		}
	}
	return out, nil
}

// concerns says whether a cut takes something from a block, and adds it to d.
func (s *Store) concerns(b *block, c *cut, d *Deletion) (some bool, err error) {
	if c.service != "" && b.info.level != levelRollup && !b.info.mayHave(c.service) {
		return false, nil
	}
	list, err := s.listing(b)
	if err != nil {
		return false, err
	}
	for i := range list.parts {
		pi := &list.parts[i]
		if !c.of(pi.service) {
			continue
		}
		for j := range pi.sections {
			si := &pi.sections[j]
			if !touch([]Span{c.spanOf(b, si.resolution)}, si.from, si.until) {
				continue
			}
			some = true
			if goes := c.goes[si.resolution]; goes != c.window {
				d.Rollups[si.resolution.String()] = spanWindow(goes)
			}
		}
		if b.info.level != levelRollup {
			if err := s.countCut(b, i, pi, c, d); err != nil {
				return false, err
			}
		}
	}
	return some, nil
}

// spanOf is where a block with a section of a resolution is concerned.
func (c *cut) spanOf(b *block, r Resolution) Span {
	switch {
	case b.info.level == levelRollup:
		return c.wide[r]
	case b.info.rolled:
		return c.again
	}
	return c.window
}

func spanWindow(s Span) (w inquest.Window) {
	if s.From != minTime {
		w.From = unixTime(s.From)
	}
	if s.Until != maxTime {
		w.Until = unixTime(s.Until)
	}
	return w
}

// countCut counts the profiles that a cut takes from a part; the bytes are
// those of the row groups, by the share of their rows.
func (s *Store) countCut(b *block, index int, pi *partInfo, c *cut, d *Deletion) error {
	p, err := s.blockPart(b, index, pi, func(*sectionInfo) []Span { return []Span{c.window} })
	if err != nil || len(p.sections) == 0 {
		return err
	}
	for i := range p.sections {
		sec := &p.sections[i]
		for _, g := range sec.groups {
			n := g.rows
			if g.from < c.window.From || g.until >= c.window.Until {
				raw, err := p.groupStream(g, streamRows)
				if err != nil {
					return err
				}
				starts, err := readStarts(raw, g.rows)
				if err != nil {
					return err
				}
				n = 0
				for _, at := range starts {
					if c.window.Contains(at) {
						n++
					}
				}
			}
			d.Profiles += int64(n)
			d.Bytes += int64(streamBytes(g.streams)) * int64(n) / int64(max(g.rows, 1))
		}
	}
	return nil
}

// readStarts reads the starts of n rows.
func readStarts(raw []byte, n int) ([]int64, error) {
	c := cursor{b: raw}
	if n > len(raw) {
		return nil, errRows
	}
	starts, at := make([]int64, n), int64(0)
	for i := range starts {
		at += c.varint()
		starts[i] = at
	}
	if c.bad {
		return nil, errRows
	}
	return starts, nil
}

// Deletions lists what was ever deleted on request, the oldest first.
func (s *Store) Deletions() ([]Deletion, error) {
	noted, err := s.catalog.deletions()
	if err != nil {
		return nil, fmt.Errorf("read deletions: %w", err)
	}
	out := make([]Deletion, len(noted))
	for i := range noted {
		out[i] = noted[i].Deletion
	}
	return out, nil
}

// openCuts puts what was deleted and is still there on its blocks.
func (s *Store) openCuts() error {
	ds, err := s.catalog.deletions()
	if err != nil {
		return fmt.Errorf("read deletions: %w", err)
	}
	cuts, err := s.catalog.cuts()
	if err != nil {
		return fmt.Errorf("read deletions: %w", err)
	}
	byNumber := map[uint64]cut{}
	for i := range ds {
		s.deletions.open = s.deletions.open || ds[i].Done.IsZero()
		byNumber[ds[i].Number] = ds[i].cut(ds[i].Known)
	}
	for _, b := range s.blocks {
		for _, n := range cuts[b.info.id] {
			if c, ok := byNumber[n]; ok {
				b.cuts = append(b.cuts, c)
			}
		}
		if len(b.cuts) > 0 {
			s.deletions.n++
		}
	}
	return nil
}

// mayShareCut says whether no deletion waits that concerns a window: then rows
// of several services together may still have what is deleted. s.mu is held.
func (s *Store) mayShareCut(w Span) bool {
	if s.deletions.n == 0 {
		return true
	}
	return !slices.ContainsFunc(s.blocks, func(b *block) bool {
		return slices.ContainsFunc(b.cuts, func(c cut) bool { return c.wide[Day].From < w.Until && c.wide[Day].Until > w.From })
	})
}

// visible is spans without what is too old or deleted. Where a deletion takes
// a stretch from rollups, profiles that stay count instead.
func (x *hiding) visible(p *plan, spans []Span, b viewBlock, pi *partInfo, si *sectionInfo) []Span {
	waiting := b.info.level != levelRollup && !b.rolled
	for i := range b.cuts {
		if c := &b.cuts[i]; c.of(pi.service) {
			switch {
			case b.info.level == levelRollup:
				spans = without(spans, c.wide[si.resolution])
			case b.rolled && x.rollups:
				spans = with(spans, Span{max(c.again.From, p.whole.From), min(c.again.Until, p.whole.Until)})
			}
		}
	}
	for i := range b.cuts {
		if c := &b.cuts[i]; c.of(pi.service) && b.info.level != levelRollup {
			spans = without(spans, c.window)
		}
	}
	if len(spans) == 0 {
		return nil
	}
	return after(spans, x.since(pi.service, si.kind, si.resolution, waiting))
}

// without returns spans less what lies in one. The spans given stay as they
// are.
func without(spans []Span, less Span) (out []Span) {
	for _, s := range spans {
		if left := (Span{s.From, min(s.Until, less.From)}); !left.empty() {
			out = append(out, left)
		}
		if right := (Span{max(s.From, less.Until), s.Until}); !right.empty() {
			out = append(out, right)
		}
	}
	return out
}

// with returns spans and another one, which may overlap them.
func with(spans []Span, more Span) []Span {
	if more.empty() {
		return spans
	}
	return append(without(spans, more), more)
}

// noted is a deletion as the catalog has it.
type noted struct {
	Deletion
	Known int64  // see Deletion.cut
	Epoch uint64 `json:",omitempty"` // when it was asked for, epochs up to this one were in blocks
}

// noteDeletion notes a deletion, which gets its number, in its file and in the
// catalog. After an error it is in neither.
func (s *Store) noteDeletion(d *noted, blocks []*block) error {
	var line []byte
	s.crashes.writes.Lock()
	defer s.crashes.writes.Unlock()
	var crashes *crashTx
	var cores []string
	err := s.catalog.addDeletion(d, blocks, func(tx *bbolt.Tx) (err error) {
		crashes = s.newCrashTx(tx)
		if cores, err = crashes.delete(&d.Deletion); err != nil {
			return err
		}
		l := deletionLine{d.Record(), d.Known, d.Epoch, blockIDs(blocks)}
		if line, err = sealLine(l); err != nil {
			return err
		}
		if err := s.deletions.file.append(line); err != nil {
			line = nil
			return fmt.Errorf("write %s: %w", deletionFile, err)
		}
		return nil
	})
	if err != nil && line != nil {
		s.deletions.file.takeBack(line)
	}
	if err != nil {
		return errors.Join(err, s.readCrashes())
	}
	s.deleteCrashes(&d.Deletion, crashes, cores)
	return nil
}

// addDeletion notes a deletion, which gets its number, and which blocks it
// concerns, and drops cumulative states, in one transaction, before the end of
// which it calls before.
func (c *catalog) addDeletion(d *noted, blocks []*block, before func(*bbolt.Tx) error) error {
	err := c.update(func(tx *bbolt.Tx) error {
		var err error
		if d.Number, err = tx.Bucket([]byte(bucketDeletions)).NextSequence(); err != nil {
			return err
		}
		if err := putDeletion(tx, d); err != nil {
			return err
		}
		for _, b := range blocks {
			if err := put(tx, bucketCuts, []byte(cutKey(b.info.id, d.Number)), nil); err != nil {
				return err
			}
		}
		prefix, all := d.states()
		if err := dropBaselines(tx, prefix, all); err != nil {
			return err
		}
		return before(tx)
	})
	if err != nil {
		return fmt.Errorf("note deletion: %w", err)
	}
	return nil
}

func putDeletion(tx *bbolt.Tx, d *noted) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return put(tx, bucketDeletions, binary.BigEndian.AppendUint64(nil, d.Number), raw)
}

// dropBaselines drops the states whose names begin with prefix, or all.
func dropBaselines(tx *bbolt.Tx, prefix string, all bool) error {
	if prefix == "" && !all {
		return nil
	}
	byName, byAge := tx.Bucket([]byte(bucketBaselines)), tx.Bucket([]byte(bucketBaseAge))
	var names, ages [][]byte
	cur := byName.Cursor()
	for k, v := cur.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = cur.Next() {
		names = append(names, slices.Clone(k))
		if len(v) >= 8 {
			ages = append(ages, slices.Clone(v[:8]))
		}
	}
	for _, k := range names {
		if err := byName.Delete(k); err != nil {
			return err
		}
	}
	for _, k := range ages {
		if err := byAge.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (c *catalog) deletions() (out []noted, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketDeletions)).ForEach(func(k, v []byte) error {
			v, err := unseal(bucketDeletions, k, v)
			if err != nil {
				return err
			}
			var d noted
			if err := json.Unmarshal(v, &d); err != nil {
				return err
			}
			out = append(out, d)
			return nil
		})
	})
	return out, err
}

// cuts lists, by block, the deletions that wait for it.
func (c *catalog) cuts() (map[string][]uint64, error) {
	out := map[string][]uint64{}
	err := c.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketCuts)).ForEach(func(k, v []byte) error {
			if _, err := unseal(bucketCuts, k, v); err != nil {
				return fmt.Errorf("key %q: %w", k, err)
			}
			id, number, _ := strings.Cut(string(k), "/")
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return fmt.Errorf("key %q: %w", k, err)
			}
			out[id] = append(out[id], n)
			return nil
		})
	})
	return out, err
}

// deletionDone notes that nothing is left of a deletion.
func (c *catalog) deletionDone(number uint64, at time.Time) error {
	return c.update(func(tx *bbolt.Tx) error {
		raw, err := get(tx, bucketDeletions, binary.BigEndian.AppendUint64(nil, number))
		if err != nil {
			return err
		}
		var d noted
		if err := json.Unmarshal(raw, &d); err != nil {
			return err
		}
		d.Done = at
		return putDeletion(tx, &d)
	})
}
