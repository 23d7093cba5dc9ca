package store

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest/coredump"
)

// crashEntry takes an entry of one of the buckets of crashes and cores.
func (c *checker) crashEntry(bucket string, k, v []byte) error {
	switch bucket {
	case bucketCrashes:
		crash, err := readCrash(c.pk, string(k), v)
		if err != nil {
			return err
		}
		c.report.Crashes++
		if crash.TextBlob != "" {
			c.content.texts[crash.TextBlob] = crash.ID
		}
	case bucketTimes:
		return json.Unmarshal(v, new(crashRow))
	case bucketGroups:
		return json.Unmarshal(v, new(CrashGroup))
	case bucketHours:
		if _, err := strconv.ParseUint(string(v), 10, 63); err != nil {
			return errEntry
		}
	case bucketCores:
		row := &StoredCore{}
		if err := json.Unmarshal(v, row); err != nil {
			return err
		}
		if row.ID != string(k) {
			return errEntry
		}
		c.content.cores[row.ID] = row
	}
	return nil
}

// hasPostmortem says whether the store names a text, or has a core.
func (s *Store) hasPostmortem(name string) bool {
	s.cores.mu.RLock()
	core := s.cores.rows[name] != nil
	s.cores.mu.RUnlock()
	if core {
		return true
	}
	s.crashes.mu.RLock()
	defer s.crashes.mu.RUnlock()
	for _, r := range s.crashes.rows {
		if r.Text == name {
			return true
		}
	}
	return false
}

// postmortem reads the texts of crashes and the cores that the catalog names.
func (c *checker) postmortem() error {
	texts := textsIn(c.blobs.ops, c.dir)
	for _, name := range sortedKeys(c.content.texts) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		_, err := readText(texts, c.pk, name)
		switch {
		case err == nil:
			c.report.Texts++
		case errors.Is(err, os.ErrNotExist) && c.online && !c.named(name): // it went since the check began
		default:
			c.lostText(name, err)
		}
	}
	for _, id := range sortedKeys(c.content.cores) {
		err := c.core(id)
		if err := c.ctx.Err(); err != nil {
			return err
		}
		switch {
		case err == nil:
			c.report.Cores++
		case errors.Is(err, os.ErrNotExist) && c.online && !c.named(id):
		default:
			c.setCoreAside(id, err)
		}
	}
	return nil
}

// lostText has Repair forget a text that cannot be read.
func (c *checker) lostText(name string, why error) {
	id := c.content.texts[name]
	n := c.problem(CheckProblem{Where: textFile(name), What: why.Error(), Lost: &CheckLoss{}, Repair: "the crash is left without it"})
	c.fixEntry(n, func(tx *bbolt.Tx) error {
		return changeCrash(tx, c.pk, id, func(crash *StoredCrash) { crash.TextBlob, crash.TextBytes = "", 0 })
	})
}

// setCoreAside has Repair forget a core that is damaged, and keep its files
// under another name.
func (c *checker) setCoreAside(id string, why error) {
	row := c.content.cores[id]
	n := c.problem(CheckProblem{Where: coreFile(id), What: why.Error(), Lost: &CheckLoss{Services: []string{row.Service}}, Repair: "its files are kept under another name, the crash is left without it"})
	c.fixEntry(n, func(tx *bbolt.Tx) error {
		if err := deleteCoreRows(tx, []string{id}); err != nil {
			return err
		}
		return changeCrash(tx, c.pk, row.Crash, func(crash *StoredCrash) { crash.Core, crash.CoreGone = nil, "it was damaged on the disk" })
	})
	c.remove = append(c.remove, fix{problem: n, files: func() error {
		for _, file := range []string{coreFile(id), offerFile(id)} {
			name := filepath.Join(c.dir, file)
			err := (osFiles{}).Rename(name, brokenName(name, c.o.Now()))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	}})
}

// changeCrash changes a record, if there is one.
func changeCrash(tx *bbolt.Tx, pk *packer, id string, change func(*StoredCrash)) error {
	v, err := get(tx, bucketCrashes, []byte(id))
	if err != nil || v == nil {
		return err
	}
	crash, err := readCrash(pk, id, v)
	if err != nil {
		return err
	}
	change(crash)
	doc, err := json.Marshal(crash)
	if err != nil {
		return err
	}
	if err := put(tx, bucketCrashes, []byte(id), appendPacked(nil, pk, doc)); err != nil {
		return err
	}
	return newCrashRow(crash).put(tx)
}

// core verifies every block of a core.
func (c *checker) core(id string) error {
	row := c.content.cores[id]
	o, err := readOffer(c.blobs.ops, filepath.Join(c.dir, offerFile(id)), id)
	if err != nil {
		return err
	}
	f, err := c.blobs.ops.OpenFile(filepath.Join(c.dir, coreFile(id)), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	blocks := o.ledger.Blocks()
	if row.Blocks > len(blocks) {
		return fmt.Errorf("%d blocks are said to be here, the core has %d", row.Blocks, len(blocks))
	}
	buf := make([]byte, 0, coredump.BlockBytes)
	for n := range row.Blocks {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if blocks[n].Stored == 0 {
			continue
		}
		buf = resize(buf, int(blocks[n].Stored))
		if err := readFull(f, buf, blocks[n].Offset); err != nil {
			return fmt.Errorf("read block %d: %w", n, err)
		}
		if sha256.Sum256(buf) != blocks[n].Sum {
			return fmt.Errorf("block %d is damaged", n)
		}
		c.advance(coreFile(id), int64(len(buf)))
	}
	return nil
}
