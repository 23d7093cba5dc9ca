package store

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// The catalog's deletions are in a file too, which says of each which blocks it
// concerned: those are written again under other names, so a block of that name
// has what is deleted, however it comes back. So what is lost of the catalog, or
// all of it, brings back nothing, and a backup can be restored without what was
// deleted since.

// openDeletions puts into the catalog what only the file of deletions has. It
// returns the last epoch that, as that says, is in no log any more.
func (s *Store) openDeletions() (closed uint64, err error) {
	s.deletions.file = sideFile{ops: s.ops, dir: s.o.Dir, name: deletionFile}
	raw, err := s.deletions.file.read()
	if err != nil {
		return 0, fmt.Errorf("read deletions: %w", err)
	}
	lines, torn, damaged := readDeletionLines(raw, true)
	if torn {
		s.o.Logger.Warn("a deletion that was not finished is cut off", "file", deletionFile)
	}
	ds, err := s.catalog.deletions()
	if err != nil {
		return 0, fmt.Errorf("read deletions: %w", err)
	}
	known := map[uint64]*noted{}
	for i := range ds {
		known[ds[i].Number] = &ds[i]
	}
	var lost []deletionLine
	lines = slices.DeleteFunc(lines, func(l deletionLine) bool {
		d := known[l.Number]
		if d != nil && !d.At.Equal(l.At) {
			damaged = append(damaged, fmt.Errorf("number %d is another deletion in the catalog", l.Number))
			return true
		}
		if d == nil {
			lost = append(lost, l)
			closed = max(closed, l.Epoch)
		}
		return false
	})
	for _, err := range damaged {
		s.lostLog = append(s.lostLog, deletionFile+": "+err.Error())
		s.o.Logger.Error("a deletion on record cannot be read", "file", deletionFile, inquest.LogErr, err)
	}
	if err := s.findDeleted(lines, lost); err != nil {
		return 0, fmt.Errorf("note deletions again: %w", err)
	}
	aside := ""
	if len(damaged) > 0 {
		aside = brokenName(deletionFile, s.o.Now())
	}
	if err := s.writeDeletions(raw, lines, aside); err != nil {
		s.warn("write deletions again", err) // what is there is good
	}
	return closed, nil
}

// findDeleted notes deletions that are lost, and cuts of blocks that are there
// again.
func (s *Store) findDeleted(lines, lost []deletionLine) error {
	cuts, err := s.catalog.cuts()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, b := range s.blocks {
		there[b.info.id] = true
	}
	var again []string
	for i := range lines {
		for _, id := range lines[i].Blocks {
			if there[id] && !slices.Contains(cuts[id], lines[i].Number) {
				again = append(again, cutKey(id, lines[i].Number))
			}
		}
	}
	if len(again)+len(lost) == 0 {
		return nil
	}
	s.o.Logger.Warn("deletions that the catalog had lost are noted again", "deletions", len(lost), "blocks", len(again))
	if err := s.deleteCrashesAgain(lost); err != nil {
		return err
	}
	return s.catalog.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketDeletions))
		for i := range lost {
			d := lost[i].Deletion()
			if err := putDeletion(tx, &noted{d, lost[i].Known, lost[i].Epoch}); err != nil {
				return err
			}
			if err := b.SetSequence(max(b.Sequence(), d.Number)); err != nil {
				return err
			}
			prefix, all := d.states()
			if err := dropBaselines(tx, prefix, all); err != nil {
				return err
			}
		}
		for _, k := range again {
			if err := put(tx, bucketCuts, []byte(k), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func cutKey(block string, deletion uint64) string {
	return block + "/" + strconv.FormatUint(deletion, 10)
}

// writeDeletions makes the file of deletions, whose content and lines are
// given, what the catalog says, if it is not.
func (s *Store) writeDeletions(raw []byte, lines []deletionLine, aside string) error {
	ds, err := s.catalog.deletions()
	if err != nil {
		return err
	}
	cuts, err := s.catalog.cuts()
	if err != nil {
		return err
	}
	names, err := s.blobs.List()
	if err != nil {
		return err
	}
	blocks := map[uint64][]string{} // that are there
	for _, id := range names {
		for _, n := range cuts[id] {
			blocks[n] = append(blocks[n], id)
		}
	}
	for i := range lines {
		for _, id := range lines[i].Blocks {
			if n := lines[i].Number; slices.Contains(names, id) && !slices.Contains(blocks[n], id) {
				blocks[n] = append(blocks[n], id)
			}
		}
	}
	var out []byte
	for i := range ds {
		d := &ds[i]
		if s.mayForget(&d.Deletion) && len(blocks[d.Number]) == 0 {
			continue
		}
		slices.Sort(blocks[d.Number])
		line, err := sealLine(deletionLine{d.Record(), d.Known, d.Epoch, blocks[d.Number]})
		if err != nil {
			return err
		}
		out = append(out, line...)
	}
	if bytes.Equal(raw, out) {
		return nil
	}
	return s.deletions.file.replace(out, aside)
}

// mayForget says that all a deletion took would be too old by now, in backups
// too.
func (s *Store) mayForget(d *Deletion) bool {
	r, now := s.reach.Load(), s.o.Now()
	longest := time.Duration(0)
	for _, class := range r.classes() {
		for _, kind := range r.kinds() {
			for _, age := range r.Policy.ages(class, kind) {
				if age == Forever {
					return false
				}
				longest = max(longest, age)
			}
		}
	}
	return !d.Done.IsZero() && now.Sub(d.At) > longest+Day.Duration() && now.Sub(d.Done) > Day.Duration()
}

// refreshDeletions is writeDeletions of what is in the file now.
func (s *Store) refreshDeletions() error {
	raw, err := s.deletions.file.read()
	if err != nil {
		return err
	}
	lines, _, damaged := readDeletionLines(raw, true)
	aside := ""
	if len(damaged) > 0 {
		aside = brokenName(deletionFile, s.o.Now())
	}
	return s.writeDeletions(raw, lines, aside)
}
