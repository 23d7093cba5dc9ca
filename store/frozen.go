package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// frozen is the catalog as it was at one moment, and the blocks it names,
// held so that their files stay until close.
type frozen struct {
	catalog file // a copy without a name; it goes when it is closed
	size    int64
	blocks  []*block // by id
	unread  []string // ids of rows that cannot be read
	// binaries are its binaries by SHA-256. Their files stay while a backup is made.
	binaries []string
	texts    []string // names of the texts of crashes
	cores    []string // ids
}

// freeze copies the catalog and holds its blocks. The copy is made at once
// and without a long transaction: one would keep the catalog from growing.
func (s *Store) freeze(ctx context.Context) (*frozen, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		snap := &frozen{}
		missing := false
		err := s.catalog.view(func(tx *bbolt.Tx) error {
			var err error
			if missing, err = s.holdBlocks(tx, snap); err != nil || missing {
				return err
			}
			if err := snap.listBinaries(tx); err != nil {
				return err
			}
			if err := snap.listCrashes(tx); err != nil {
				return err
			}
			return s.copyCatalog(tx, snap)
		})
		if err == nil && !missing {
			return snap, nil
		}
		snap.close()
		if err != nil {
			return nil, err
		}
		// Between the transaction's beginning and now a block has left the
		// catalog, or has just come into it: the next one has the rest.
		time.Sleep(time.Millisecond)
	}
}

// holdBlocks holds the blocks that a transaction sees. One that is missing has
// left the catalog since.
func (s *Store) holdBlocks(tx *bbolt.Tx, snap *frozen) (missing bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false, errClosed()
	}
	open := make(map[string]*block, len(s.blocks))
	for _, b := range s.blocks {
		open[b.info.id] = b
	}
	err = tx.Bucket([]byte(bucketBlocks)).ForEach(func(k, v []byte) error {
		b := open[string(k)]
		if b == nil {
			if _, err := readInfo(string(k), v); err != nil {
				snap.unread = append(snap.unread, string(k))
				return nil
			}
			missing = true
			return nil
		}
		b.acquire()
		snap.blocks = append(snap.blocks, b)
		return nil
	})
	return missing, err
}

func (s *frozen) listBinaries(tx *bbolt.Tx) error {
	return tx.Bucket([]byte(bucketBinaries)).ForEach(func(k, _ []byte) error {
		s.binaries = append(s.binaries, string(k))
		return nil
	})
}

func (s *frozen) listCrashes(tx *bbolt.Tx) error {
	rows, _, err := readCrashRows(tx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Text != "" {
			s.texts = append(s.texts, r.Text)
		}
	}
	return tx.Bucket([]byte(bucketCores)).ForEach(func(k, _ []byte) error {
		s.cores = append(s.cores, string(k))
		return nil
	})
}

// copyCatalog writes what a transaction sees to a file that has no name any
// more, so that nothing is left of it whatever happens.
func (s *Store) copyCatalog(tx *bbolt.Tx, snap *frozen) error {
	var r [8]byte
	_, _ = rand.Read(r[:]) // never fails
	// Here it is swept at the next start, if it comes to that.
	path := filepath.Join(s.blobs.dir, hex.EncodeToString(r[:])+tempSuffix)
	f, err := s.ops.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("copy catalog: %w", err)
	}
	snap.catalog, snap.size = f, tx.Size()
	if err := s.ops.Remove(path); err != nil {
		return fmt.Errorf("copy catalog: %w", err)
	}
	if _, err := tx.WriteTo(f); err != nil {
		return fmt.Errorf("copy catalog: %w", err)
	}
	return nil
}

// release lets one of its blocks go before the others.
func (s *frozen) release(i int) {
	s.blocks[i].release()
	s.blocks[i] = nil
}

func (s *frozen) close() {
	for _, b := range s.blocks {
		if b != nil {
			b.release()
		}
	}
	s.blocks = nil
	if s.catalog != nil {
		_ = s.catalog.Close() // it was a copy
		s.catalog = nil
	}
}
