package store

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"go.etcd.io/bbolt"
)

// rowName is a block's row as reports name it.
func rowName(id string) string { return fmt.Sprintf("%s %s %q", catalogFile, bucketBlocks, id) }

// blockFile is a block's file as reports name it.
func blockFile(id string) string { return path.Join(blockDir, id+blockSuffix) }

// binaryFile is a binary's file as reports name it.
func binaryFile(sha string) string { return path.Join(binaryDir, sha+binarySuffix) }

// coreFile is a core's file as reports name it.
func coreFile(id string) string { return path.Join(coreDir, id+coreSuffix) }

// offerFile is the file that says what a core is.
func offerFile(id string) string { return path.Join(coreDir, id+offerSuffix) }

// textFile is the file of a crash's text as reports name it.
func textFile(name string) string { return path.Join(textDir, name+textSuffix) }

// listFiles compares the files of blocks with the catalog's rows: the same
// rules as when a store is opened.
func (c *checker) listFiles() error {
	entries, err := os.ReadDir(c.blobs.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list blocks: %w", err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tempSuffix) {
			c.note("%s: a block that was being written when the process ended; the next start deletes it", path.Join(blockDir, e.Name()))
		}
		if name, ok := strings.CutSuffix(e.Name(), blockSuffix); ok {
			there[name] = true
		}
	}
	var unlisted []string
	for _, name := range sortedKeys(there) {
		if c.content.rows[name] == nil {
			unlisted = append(unlisted, name)
		}
	}
	if c.content.lost {
		c.adopt(sortedKeys(there))
	} else {
		c.leftovers(unlisted)
	}
	for _, id := range sortedKeys(c.content.badRows) {
		if !there[id] {
			n := c.problem(CheckProblem{
				Where: rowName(id), Repair: "the row goes",
				What: fmt.Sprintf("the row cannot be read (%v), and there is no file of that name", c.content.badRows[id]),
			})
			c.fixEntry(n, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketBlocks)).Delete([]byte(id)) })
		}
	}
	return nil
}

// sideFiles reads what only the catalog has once more. The next start writes
// damaged ones anew, so there is nothing to repair.
func (c *checker) sideFiles() error {
	deletions := sideFile{ops: osFiles{}, dir: c.dir, name: deletionFile}
	raw, err := deletions.read()
	if err != nil {
		return err
	}
	_, torn, damaged := readDeletionLines(raw, true)
	if torn {
		c.note("%s: a deletion that was being written when the process ended; the next start cuts it off", deletionFile)
	}
	for _, err := range damaged {
		c.problem(CheckProblem{Where: deletionFile, What: err.Error() + "; the next start writes the file anew, of what the catalog has"})
	}
	horizon := sideFile{ops: osFiles{}, dir: c.dir, name: horizonFile}
	if raw, err = horizon.read(); err != nil || len(raw) == 0 {
		return err
	}
	if _, err := openLine(raw); err != nil {
		c.problem(CheckProblem{Where: horizonFile, What: err.Error() + "; it is written anew when more is too old"})
	}
	return nil
}

// leftovers are files that no row of a whole catalog names: those of a crash
// between file and row, whose profiles are in the log, or between row and
// deletion. A marked one is kept: it was there when the catalog was lost.
func (c *checker) leftovers(names []string) {
	for _, name := range names {
		if reason, ok := c.content.marks[name]; ok {
			c.problem(CheckProblem{Where: blockFile(name), What: reason, Lost: &CheckLoss{}, Known: true})
			continue
		}
		c.note("%s: no row names it; a crash left it, and its profiles are elsewhere; the next start deletes it", blockFile(name))
		c.remove = append(c.remove, fix{problem: -1, files: func() error { return c.blobs.Delete(name) }})
	}
}

// adopt adds the blocks that a catalog misses which may have lost some.
func (c *checker) adopt(names []string) {
	var found []*foundBlock
	unreadable := map[string]error{}
	for _, name := range names {
		b, err := inspectBlock(c.blobs, name)
		if err == nil {
			found = append(found, b)
			continue
		}
		unreadable[name] = err
		if c.content.rows[name] == nil {
			c.wholeBlock(name, nil, err)
		}
	}
	found = resolveSources(found, unreadable)
	for _, b := range found {
		for _, e := range b.list.epochs {
			c.content.closed[e] = true
		}
		if c.content.rows[b.info.id] != nil {
			continue
		}
		c.content.rows[b.info.id] = b.info
		p := CheckProblem{Where: blockFile(b.info.id), What: "no row names it, and rows may be lost", Repair: "a row is made"}
		if err := c.content.badRows[b.info.id]; err != nil {
			p.Where, p.What = rowName(b.info.id), "the row cannot be read: "+err.Error()
		}
		n := c.problem(p)
		c.fixEntry(n, func(*bbolt.Tx) error { return nil }) // all are added below
	}
	c.fixEntry(-1, func(tx *bbolt.Tx) error { return addFound(tx, found, func(*foundBlock) {}) })
}

// wholeBlock reports a block of which nothing can be read. list is what its
// row says, if there is one.
func (c *checker) wholeBlock(id string, row *blockInfo, why error) {
	p := CheckProblem{Where: blockFile(id), What: why.Error(), Lost: &CheckLoss{}, Repair: "it is left out of answers; the file stays"}
	if row != nil && row.profiles+int64(row.keys) > 0 {
		p.Lost = &CheckLoss{
			Services: []string{row.first, row.last}, Many: row.first != row.last,
			Profiles: row.profiles, From: unixTime(row.from), Until: unixTime(row.to),
		}
	}
	if row != nil && row.level == levelRollup {
		p.Lost.Rollups = true
	}
	if _, p.Known = c.content.marks[id]; p.Known {
		p.Repair = ""
		c.problem(p)
		return
	}
	c.mark(c.problem(p), id, why)
}

// mark has Repair mark a block or part as damaged.
func (c *checker) mark(problem int, key string, why error) {
	c.fixEntry(problem, func(tx *bbolt.Tx) error { return put(tx, bucketDamaged, []byte(key), []byte(why.Error())) })
}
