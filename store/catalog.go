package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// catalog is the one-machine catalog: what blocks there are, which epochs
// they closed, cumulative states and builds. Nothing else knows bbolt. Every
// method is one transaction and safe for concurrent use.
type catalog struct {
	ops  fileOps
	path string

	writes   sync.Mutex   // one transaction, or compact
	mu       sync.RWMutex // db is replaced under it
	db       *bbolt.DB
	unsynced bool // the name of db's file may not be durable; writes guards it
}

// Bounds on what grows with what senders name.
const (
	maxBaselines = 100_000
	maxBuilds    = 100_000
)

// openCatalog opens the catalog of a directory; fresh says that there was
// none.
func openCatalog(ops fileOps, dir string) (c *catalog, fresh bool, err error) {
	path := filepath.Join(dir, catalogFile)
	if err := ops.Remove(path + tempSuffix); err != nil && !os.IsNotExist(err) {
		return nil, false, fmt.Errorf("open catalog: %w", err)
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, false, fmt.Errorf("open catalog %s: %w", path, err)
	}
	c = &catalog{ops: ops, path: path, db: db}
	err = db.Update(func(tx *bbolt.Tx) error {
		fresh = tx.Bucket([]byte(bucketMeta)) == nil
		for _, b := range []string{bucketMeta, bucketBlocks, bucketClosed, bucketBaselines, bucketBaseAge, bucketBuilds, bucketDamaged, bucketHorizon, bucketDeletions, bucketCuts} {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte(bucketMeta))
		have := string(meta.Get([]byte(metaVersion)))
		switch {
		case fresh:
		case have == "1":
			if err := migrateRows(tx.Bucket([]byte(bucketBlocks))); err != nil {
				return err
			}
		case have == strconv.Itoa(catalogVersion):
			return nil
		default:
			return fmt.Errorf("version %q, this program reads up to %d", have, catalogVersion)
		}
		return meta.Put([]byte(metaVersion), []byte(strconv.Itoa(catalogVersion)))
	})
	if err != nil {
		_ = db.Close()
		return nil, false, fmt.Errorf("open catalog %s: %w", path, err)
	}
	return c, fresh, nil
}

func openBolt(path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
	})
}

func (c *catalog) close() error {
	c.writes.Lock()
	defer c.writes.Unlock()
	return c.db.Close()
}

// view runs a reading transaction.
func (c *catalog) view(f func(*bbolt.Tx) error) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.db.View(f)
}

// update runs a writing transaction.
func (c *catalog) update(f func(*bbolt.Tx) error) error {
	c.writes.Lock()
	defer c.writes.Unlock()
	if err := c.syncName(); err != nil {
		return err
	}
	return c.db.Update(f)
}

// size is that of the file in bytes.
func (c *catalog) size() (n int64) {
	_ = c.view(func(tx *bbolt.Tx) error { // fails only when closed
		n = tx.Size()
		return nil
	})
	return n
}

// catalogState is what the catalog says at start.
type catalogState struct {
	blocks  []*blockInfo
	broken  map[string]string // rows that cannot be read, damaged parts "block/part" → reason
	closed  map[uint64]bool
	nextLog uint64
}

func (c *catalog) load() (*catalogState, error) {
	st := &catalogState{broken: map[string]string{}, closed: map[uint64]bool{}}
	err := c.view(func(tx *bbolt.Tx) error {
		st.nextLog, _ = strconv.ParseUint(string(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaNextLog))), 10, 64)
		if err := tx.Bucket([]byte(bucketClosed)).ForEach(func(k, _ []byte) error {
			if len(k) == 16 {
				st.closed[binary.BigEndian.Uint64(k[8:])] = true
			}
			return nil
		}); err != nil {
			return err
		}
		if err := tx.Bucket([]byte(bucketDamaged)).ForEach(func(k, v []byte) error {
			st.broken[string(k)] = string(v)
			return nil
		}); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketBlocks)).ForEach(func(k, v []byte) error {
			info, err := readInfo(string(k), v)
			if err != nil {
				st.broken[string(k)] = "catalog row: " + err.Error()
				return nil
			}
			st.blocks = append(st.blocks, info)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	return st, nil
}

// migrateRows rewrites the rows of version 1: the file's size, then the
// block's listing.
func migrateRows(blocks *bbolt.Bucket) error {
	rows := map[string][]byte{}
	err := blocks.ForEach(func(k, v []byte) error {
		c := cursor{b: v}
		size := int64(c.uvarint() & (1<<62 - 1))
		l, err := readListing(c.b, 1)
		if c.bad || err != nil {
			return nil // load reports it
		}
		at := listingPlace(c.b, size-blockFooterSize-int64(len(c.b)))
		at.id = 1
		rows[string(k)] = appendInfo(nil, l.info(size, at))
		return nil
	})
	if err != nil {
		return err
	}
	for id, row := range rows {
		if err := blocks.Put([]byte(id), row); err != nil {
			return err
		}
	}
	return nil
}

// addBlock adds a block, closes its epochs and keeps their cumulative states,
// in one transaction. Log files up to number last may have records of these
// epochs; closed epochs whose files are all below lowest are forgotten.
// info may be nil: then there is no block, only epochs to close.
func (c *catalog) addBlock(info *blockInfo, epochs []uint64, states map[string][]byte, last, lowest uint64) error {
	err := c.update(func(tx *bbolt.Tx) error {
		if info != nil {
			if err := tx.Bucket([]byte(bucketBlocks)).Put([]byte(info.id), appendInfo(nil, info)); err != nil {
				return err
			}
		}
		closed := tx.Bucket([]byte(bucketClosed))
		cur := closed.Cursor()
		for k, _ := cur.First(); len(k) >= 8 && binary.BigEndian.Uint64(k) < lowest; k, _ = cur.First() {
			if err := cur.Delete(); err != nil {
				return err
			}
		}
		for _, e := range epochs {
			k := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, last), e)
			if err := closed.Put(k, nil); err != nil {
				return err
			}
		}
		return putBaselines(tx, states)
	})
	if err != nil {
		return fmt.Errorf("add block to catalog: %w", err)
	}
	return nil
}

// replace puts blocks in the place of others, and marks those as rolled whose
// profiles are in one of the new ones too, in one transaction.
func (c *catalog) replace(add, remove, rolled []*blockInfo) error {
	err := c.update(func(tx *bbolt.Tx) error {
		blocks := tx.Bucket([]byte(bucketBlocks))
		for _, b := range remove {
			if err := blocks.Delete([]byte(b.id)); err != nil {
				return err
			}
			if err := forgetCuts(tx.Bucket([]byte(bucketCuts)), b.id); err != nil {
				return err
			}
			if err := forgetDamage(tx, b.id); err != nil {
				return err
			}
		}
		for _, b := range add {
			if err := blocks.Put([]byte(b.id), appendInfo(nil, b)); err != nil {
				return err
			}
		}
		for _, b := range rolled {
			marked := *b
			marked.rolled = true
			if err := blocks.Put([]byte(b.id), appendInfo(nil, &marked)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replace blocks in catalog: %w", err)
	}
	return nil
}

// forgetCuts forgets what was to be taken out of a block that goes.
func forgetCuts(cuts *bbolt.Bucket, id string) error {
	prefix := []byte(id + "/")
	for {
		k, _ := cuts.Cursor().Seek(prefix)
		if !bytes.HasPrefix(k, prefix) {
			return nil
		}
		if err := cuts.Delete(bytes.Clone(k)); err != nil {
			return err
		}
	}
}

// putBaselines stores states, dropping the ones longest not stored beyond
// maxBaselines.
func putBaselines(tx *bbolt.Tx, states map[string][]byte) error {
	byName, byAge := tx.Bucket([]byte(bucketBaselines)), tx.Bucket([]byte(bucketBaseAge))
	for name, state := range states {
		if old := byName.Get([]byte(name)); len(old) >= 8 {
			if err := byAge.Delete(append([]byte(nil), old[:8]...)); err != nil {
				return err
			}
		}
		seq, err := byAge.NextSequence()
		if err != nil {
			return err
		}
		k := binary.BigEndian.AppendUint64(nil, seq)
		if err := byAge.Put(k, []byte(name)); err != nil {
			return err
		}
		if err := byName.Put([]byte(name), append(k, state...)); err != nil {
			return err
		}
	}
	if len(states) == 0 {
		return nil
	}
	for n := byAge.Stats().KeyN - maxBaselines; n > 0; n-- {
		k, name := byAge.Cursor().First()
		if k == nil {
			break
		}
		if err := byName.Delete(name); err != nil {
			return err
		}
		if err := byAge.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// setNextLog promises that log files and epochs of this run have numbers
// below next, so that the next run takes others.
func (c *catalog) setNextLog(next uint64) error {
	err := c.update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaNextLog), strconv.AppendUint(nil, next, 10))
	})
	if err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	return nil
}

// damage marks a part, or a whole block, as unreadable.
func (c *catalog) damage(key, reason string) error {
	return c.update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketDamaged)).Put([]byte(key), []byte(reason))
	})
}

// forgetDamage drops what is said of a block that goes.
func forgetDamage(tx *bbolt.Tx, block string) error {
	cur := tx.Bucket([]byte(bucketDamaged)).Cursor()
	for k, _ := cur.Seek([]byte(block)); k != nil; k, _ = cur.Seek([]byte(block)) {
		if id, _, _ := strings.Cut(string(k), "/"); id != block {
			return nil
		}
		if err := cur.Delete(); err != nil {
			return err
		}
	}
	return nil
}

func (c *catalog) baseline(name string) (state []byte, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		if v := tx.Bucket([]byte(bucketBaselines)).Get([]byte(name)); len(v) >= 8 {
			state = append([]byte{}, v[8:]...)
		}
		return nil
	})
	return state, err
}

func (c *catalog) build(id string) (*inquest.Build, error) {
	var raw []byte
	if err := c.view(func(tx *bbolt.Tx) error {
		raw = append(raw, tx.Bucket([]byte(bucketBuilds)).Get([]byte(id))...)
		return nil
	}); err != nil || raw == nil {
		return nil, err
	}
	b := &inquest.Build{}
	if err := json.Unmarshal(raw, b); err != nil {
		return nil, fmt.Errorf("build %s in catalog: %w", id, err)
	}
	return b, nil
}

// putBuilds stores builds that are new or changed; without any it writes
// nothing.
func (c *catalog) putBuilds(builds []inquest.Build) error {
	changed := map[string][]byte{}
	err := c.view(func(tx *bbolt.Tx) error {
		have := tx.Bucket([]byte(bucketBuilds))
		for i := range builds {
			raw, err := json.Marshal(&builds[i])
			if err != nil {
				return err
			}
			if string(have.Get([]byte(builds[i].ID))) != string(raw) {
				changed[builds[i].ID] = raw
			}
		}
		return nil
	})
	if err != nil || len(changed) == 0 {
		return err
	}
	return c.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketBuilds))
		if b.Stats().KeyN+len(changed) > maxBuilds {
			return inquest.Errorf(inquest.ErrTooLarge, "the catalog knows %d builds already, which is the most it keeps", maxBuilds)
		}
		for id, raw := range changed {
			if err := b.Put([]byte(id), raw); err != nil {
				return err
			}
		}
		return nil
	})
}

// get returns a copy of a value, nil if there is none.
func (c *catalog) get(bucket, key string) (v []byte, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		v = slices.Clone(tx.Bucket([]byte(bucket)).Get([]byte(key)))
		return nil
	})
	return v, err
}

func (c *catalog) put(bucket, key string, v []byte) error {
	err := c.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), v) })
	if err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	return nil
}
