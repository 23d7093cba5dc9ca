package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// Deleted rows leave free pages in the catalog's file, which bbolt uses again
// and never gives back. Beyond this size, and half of it free, the file is
// written anew.
const (
	compactBytes   = 16 << 20
	compactTxBytes = 1 << 20
)

// compactCatalog gives free pages of the catalog back: a job of the keeper.
func (s *Store) compactCatalog(context.Context) (did bool, err error) {
	size, free := s.catalog.size(), s.catalog.freeBytes()
	if size <= compactBytes || free <= size/2 {
		return false, nil
	}
	if err := s.checkSpace(size); err != nil {
		return false, err
	}
	if err := s.catalog.compact(); err != nil {
		return false, fmt.Errorf("compact catalog: %w", err)
	}
	s.o.Logger.Info("catalog compacted", inquest.LogBytes, s.catalog.size(), "before", size)
	return false, nil
}

// freeBytes is what is free in the file.
func (c *catalog) freeBytes() (n int64) {
	_ = c.view(func(tx *bbolt.Tx) error { // fails only when closed; outside of it the mapping may change
		st := tx.DB().Stats()
		n = int64(st.FreePageN+st.PendingPageN) * int64(tx.DB().Info().PageSize)
		return nil
	})
	return n
}

// compact copies the catalog to a new file, which takes the old one's name when
// it is durable. Writers wait meanwhile, readers hardly.
func (c *catalog) compact() (err error) {
	c.writes.Lock()
	defer c.writes.Unlock()
	if err := c.syncName(); err != nil {
		return err
	}
	temp := c.path + tempSuffix
	if err := c.ops.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	db, err := openBolt(c.ops, temp)
	if err != nil {
		return err
	}
	if err = bbolt.Compact(db, c.db, compactTxBytes); err == nil {
		if err = db.Sync(); err == nil {
			err = c.ops.Rename(temp, c.path)
		}
	}
	if err != nil {
		return errors.Join(err, db.Close(), c.ops.Remove(temp))
	}
	// From here on the old file has no name: what is written goes to the new one,
	// once it is sure to be found after a power cut.
	c.unsynced = true
	c.mu.Lock()
	old := c.db
	c.db = db
	c.mu.Unlock()
	return errors.Join(c.syncName(), old.Close())
}

// syncName makes the name of the file durable after compact; c.writes is held.
func (c *catalog) syncName() error {
	if !c.unsynced {
		return nil
	}
	if err := c.ops.SyncDir(filepath.Dir(c.path)); err != nil {
		return fmt.Errorf("sync data directory: %w", err)
	}
	c.unsynced = false
	return nil
}
