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

// openCatalog opens the catalog of a directory. lost says that blocks may be
// missing in it: there was none, or its newest state cannot be read. The error
// is ErrCatalog if it cannot be used at all.
func openCatalog(ops fileOps, dir string) (c *catalog, lost bool, err error) {
	path := filepath.Join(dir, catalogFile)
	if err := ops.Remove(path + tempSuffix); err != nil && !os.IsNotExist(err) {
		return nil, false, fmt.Errorf("open catalog: %w", err)
	}
	stale, err := checkPages(ops, path)
	if err != nil {
		return nil, false, fmt.Errorf("open catalog %s: %w", path, err)
	}
	db, err := openBolt(ops, path)
	if err != nil {
		return nil, false, fmt.Errorf("open catalog %s: %w", path, err)
	}
	c = &catalog{ops: ops, path: path, db: db}
	fresh := false
	err = db.Update(func(tx *bbolt.Tx) error {
		if fresh, err = emptyCatalog(tx); err != nil {
			return err
		}
		for _, b := range catalogBuckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		return upgrade(tx, fresh)
	})
	if err != nil {
		_ = db.Close()
		return nil, false, fmt.Errorf("open catalog %s: %w", path, err)
	}
	return c, fresh || stale, nil
}

// firstBuckets are the buckets that every catalog has from its first
// transaction on.
var firstBuckets = []string{bucketMeta, bucketBlocks, bucketClosed, bucketBaselines, bucketBaseAge, bucketBuilds, bucketDamaged}

// catalogBuckets are all buckets. Their entries are sealed.
var catalogBuckets = append(slices.Clone(firstBuckets), bucketHorizon, bucketDeletions, bucketCuts, bucketBinaries, bucketSeen,
	bucketCrashes, bucketTimes, bucketGroups, bucketHours, bucketCores)

// emptyCatalog says that a catalog was never written to. One that lacks a
// bucket is damaged: what is missing would be taken for empty.
func emptyCatalog(tx *bbolt.Tx) (bool, error) {
	have := []string{}
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		have = append(have, string(name))
		return nil
	})
	if err != nil || len(have) == 0 {
		return true, err
	}
	return false, missingBucket(have)
}

// missingBucket is an ErrCatalog if one of the buckets is missing that every
// catalog has.
func missingBucket(have []string) error {
	for _, b := range firstBuckets {
		if !slices.Contains(have, b) {
			return fmt.Errorf("%w: it has no bucket %s", ErrCatalog, b)
		}
	}
	return nil
}

// upgrade brings a catalog to the present version.
func upgrade(tx *bbolt.Tx, fresh bool) error {
	have := tx.Bucket([]byte(bucketMeta)).Get([]byte(metaVersion))
	v, err := readCatalogVersion(have)
	switch {
	case fresh:
	case err != nil:
		return err
	case v == 1:
		if err := sealEntries(tx); err != nil {
			return err
		}
	default:
		return nil
	}
	return put(tx, bucketMeta, []byte(metaVersion), strconv.AppendInt(nil, catalogVersion, 10))
}

// readCatalogVersion reads the meta bucket's entry of that name, which in
// version 1 is not sealed.
func readCatalogVersion(v []byte) (int, error) {
	if string(v) == "1" {
		return 1, nil
	}
	text, err := unseal(bucketMeta, []byte(metaVersion), v)
	if err != nil {
		return 0, fmt.Errorf("version: %w: %w", ErrCatalog, err)
	}
	if string(text) != strconv.Itoa(catalogVersion) {
		return 0, fmt.Errorf("%w %s, this one reads up to %d", errVersion, text, catalogVersion)
	}
	return catalogVersion, nil
}

// put stores a sealed entry.
func put(tx *bbolt.Tx, bucket string, key, value []byte) error {
	return tx.Bucket([]byte(bucket)).Put(key, seal(bucket, key, value))
}

// get returns the value of a sealed entry, nil if there is none. It is valid
// until the transaction ends.
func get(tx *bbolt.Tx, bucket string, key []byte) ([]byte, error) {
	v := tx.Bucket([]byte(bucket)).Get(key)
	if v == nil {
		return nil, nil
	}
	v, err := unseal(bucket, key, v)
	if err != nil {
		return nil, fmt.Errorf("entry %q of %s: %w", key, bucket, err)
	}
	return v, nil
}

func openBolt(ops fileOps, path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, OpenFile: ops.OpenMapped,
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

// update runs a writing transaction. An error may come when it is in the file
// already, but not sure to stay there: see has.
func (c *catalog) update(f func(*bbolt.Tx) error) error {
	c.writes.Lock()
	defer c.writes.Unlock()
	if err := c.syncName(); err != nil {
		return err
	}
	return c.ops.Commit(c.path, func() error { return c.db.Update(f) })
}

// has says whether a block has a row. After an error of a transaction that
// is whether it is in force all the same: what follows builds on it, but a power
// cut may take it back. So the files of both states must stay.
func (c *catalog) has(id string) (there bool) {
	_ = c.view(func(tx *bbolt.Tx) error { // fails only when closed
		there = tx.Bucket([]byte(bucketBlocks)).Get([]byte(id)) != nil
		return nil
	})
	return there
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
	badRows int // of blocks, in broken too
}

func (c *catalog) load() (*catalogState, error) {
	st := &catalogState{broken: map[string]string{}, closed: map[uint64]bool{}}
	err := c.view(func(tx *bbolt.Tx) error {
		var err error
		if st.nextLog, err = nextLog(tx); err != nil {
			return err
		}
		if err := tx.Bucket([]byte(bucketClosed)).ForEach(func(k, v []byte) error {
			if _, err := unseal(bucketClosed, k, v); err == nil && len(k) == 16 {
				st.closed[binary.BigEndian.Uint64(k[8:])] = true
			}
			return nil
		}); err != nil {
			return err
		}
		if err := tx.Bucket([]byte(bucketDamaged)).ForEach(func(k, v []byte) error {
			reason, err := unseal(bucketDamaged, k, v)
			if err != nil {
				reason = []byte(err.Error())
			}
			st.broken[string(k)] = string(reason)
			return nil
		}); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketBlocks)).ForEach(func(k, v []byte) error {
			info, err := readInfo(string(k), v)
			if err != nil {
				st.broken[string(k)] = "catalog row: " + err.Error()
				st.badRows++
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

// sealEntries rewrites the entries of version 1, which had no checksums and
// whose rows of blocks were the file's size and the block's listing.
func sealEntries(tx *bbolt.Tx) error {
	for _, name := range catalogBuckets {
		sealed := map[string][]byte{}
		err := tx.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
			if name != bucketBlocks {
				sealed[string(k)] = seal(name, k, slices.Clone(v))
			} else if info, err := readInfoV1(v); err == nil {
				sealed[string(k)] = appendInfo(nil, info)
			} // else load reports it
			return nil
		})
		if err != nil {
			return err
		}
		for k, v := range sealed {
			if err := tx.Bucket([]byte(name)).Put([]byte(k), v); err != nil {
				return err
			}
		}
	}
	return nil
}

// readInfoV1 reads a row of version 1; v is not kept.
func readInfoV1(v []byte) (*blockInfo, error) {
	c := cursor{b: v}
	size := int64(c.uvarint() & (1<<62 - 1))
	l, err := readListing(c.b, 1)
	if err != nil {
		return nil, err
	}
	at := listingPlace(c.b, size-blockFooterSize-int64(len(c.b)))
	at.id = 1
	return l.info(size, at), nil
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
			if err := put(tx, bucketClosed, closedKey(last, e), nil); err != nil {
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
		if old, err := get(tx, bucketBaselines, []byte(name)); err == nil && len(old) >= 8 {
			if err := byAge.Delete(slices.Clone(old[:8])); err != nil {
				return err
			}
		}
		seq, err := byAge.NextSequence()
		if err != nil {
			return err
		}
		k := binary.BigEndian.AppendUint64(nil, seq)
		if err := put(tx, bucketBaseAge, k, []byte(name)); err != nil {
			return err
		}
		if err := put(tx, bucketBaselines, []byte(name), append(k, state...)); err != nil {
			return err
		}
	}
	if len(states) == 0 {
		return nil
	}
	for n := byAge.Stats().KeyN - maxBaselines; n > 0; n-- {
		k, v := byAge.Cursor().First()
		if k == nil {
			break
		}
		if name, err := unseal(bucketBaseAge, k, v); err == nil {
			if err := byName.Delete(name); err != nil {
				return err
			}
		}
		if err := byAge.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// closedKey is the key of a closed epoch.
func closedKey(last, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, last), epoch)
}

// setNextLog promises that log files and epochs of this run have numbers
// below next, so that the next run takes others.
func (c *catalog) setNextLog(next uint64) error {
	err := c.update(func(tx *bbolt.Tx) error { return setNextLog(tx, next) })
	if err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	return nil
}

func setNextLog(tx *bbolt.Tx, next uint64) error {
	return put(tx, bucketMeta, []byte(metaNextLog), strconv.AppendUint(nil, next, 10))
}

// nextLog is the number promised last, 0 if none was. Guessing it could make
// epochs look closed that are not, so damage is an ErrCatalog.
func nextLog(tx *bbolt.Tx) (uint64, error) {
	v, err := get(tx, bucketMeta, []byte(metaNextLog))
	if err != nil || v == nil {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrCatalog, err)
		}
		return 0, err
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCatalog, err)
	}
	return n, nil
}

// damage marks a part, or a whole block, as unreadable.
func (c *catalog) damage(key, reason string) error {
	return c.update(func(tx *bbolt.Tx) error {
		return put(tx, bucketDamaged, []byte(key), []byte(reason))
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
		v, err := get(tx, bucketBaselines, []byte(name))
		if len(v) >= 8 {
			state = append([]byte{}, v[8:]...)
		}
		return err
	})
	return state, err
}

func (c *catalog) build(id string) (*inquest.Build, error) {
	var raw []byte
	if err := c.view(func(tx *bbolt.Tx) error {
		v, err := get(tx, bucketBuilds, []byte(id))
		raw = append(raw, v...)
		return err
	}); err != nil || raw == nil {
		return nil, err
	}
	b := &inquest.Build{}
	if err := json.Unmarshal(raw, b); err != nil {
		return nil, fmt.Errorf("build %s in catalog: %w", id, err)
	}
	return b, nil
}

// builds visits all builds whose entries can be read.
func (c *catalog) builds(each func(*inquest.Build)) error {
	err := c.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketBuilds)).ForEach(func(k, sealed []byte) error {
			v, err := unseal(bucketBuilds, k, sealed)
			b := &inquest.Build{}
			if err == nil && json.Unmarshal(v, b) == nil {
				each(b)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read builds in catalog: %w", err)
	}
	return nil
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
			raw = seal(bucketBuilds, []byte(builds[i].ID), raw)
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
		raw, err := get(tx, bucket, []byte(key))
		v = slices.Clone(raw)
		return err
	})
	return v, err
}

func (c *catalog) put(bucket, key string, v []byte) error {
	err := c.update(func(tx *bbolt.Tx) error { return put(tx, bucket, []byte(key), v) })
	if err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	return nil
}
