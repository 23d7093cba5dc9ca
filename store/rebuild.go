package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// setCatalogAside renames a catalog that cannot be used, so that a new one can
// be made, and returns the name under which it is kept.
func setCatalogAside(ops fileOps, dir string, now time.Time) (string, error) {
	name := brokenName(catalogFile, now)
	if err := ops.Rename(filepath.Join(dir, catalogFile), filepath.Join(dir, name)); err != nil {
		return "", fmt.Errorf("set catalog aside: %w", err)
	}
	return name, ops.SyncDir(dir)
}

// rebuildRows gives the catalog the rows of all blocks that are there and that
// it does not have, so that losing it, or its last transaction, loses no
// profiles. Blocks that others were made of and replace get none; those whose
// profiles are in a rollup are marked so. It returns how many rows were added.
func rebuildRows(c *catalog, blobs *dirBlobs) (int, error) {
	names, err := blobs.List()
	if err != nil {
		return 0, err
	}
	var found []*foundBlock
	unreadable := map[string]error{}
	for _, name := range names {
		b, err := inspectBlock(blobs, name)
		if err != nil {
			unreadable[name] = err
			continue
		}
		found = append(found, b)
	}
	found = resolveSources(found, unreadable)
	added := 0
	err = c.db.Update(func(tx *bbolt.Tx) error {
		added = 0
		for name, err := range unreadable {
			if err := put(tx, bucketDamaged, []byte(name), []byte(err.Error())); err != nil {
				return err
			}
		}
		return addFound(tx, found, func(*foundBlock) { added++ })
	})
	if err != nil {
		return 0, fmt.Errorf("make rows of blocks: %w", err)
	}
	return added, nil
}

func inspectBlock(blobs *dirBlobs, name string) (*foundBlock, error) {
	b, err := blobs.Open(name)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	size, err := b.Size()
	if err != nil {
		return nil, err
	}
	l, at, err := openListing(b, size)
	if err != nil {
		return nil, err
	}
	if l.id != name {
		return nil, fmt.Errorf("is block %s", l.id)
	}
	return &foundBlock{l.info(size, at), l}, nil
}

// addFound puts rows of blocks into the catalog, closes their epochs, and
// sees to it that epochs to come are not taken for one of them.
func addFound(tx *bbolt.Tx, found []*foundBlock, added func(*foundBlock)) error {
	blocks := tx.Bucket([]byte(bucketBlocks))
	next := uint64(0)
	for _, b := range found {
		row, err := readInfo(b.info.id, blocks.Get([]byte(b.info.id)))
		if err != nil || b.info.rolled && !row.rolled {
			if err := blocks.Put([]byte(b.info.id), appendInfo(nil, b.info)); err != nil {
				return err
			}
			added(b)
		}
		for _, e := range b.list.epochs {
			next = max(next, e>>runEpochBit+1)
			if err := put(tx, bucketClosed, closedKey(maxLogNumber, e), nil); err != nil {
				return err
			}
		}
		for _, s := range b.list.sources {
			if err := blocks.Delete([]byte(s)); err != nil {
				return err
			}
		}
	}
	have, err := nextLog(tx)
	if err != nil && !errors.Is(err, ErrCatalog) {
		return err
	}
	return setNextLog(tx, max(have, next))
}
