package store

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// catalogContent is what a catalog's file says, as far as it can be read.
type catalogContent struct {
	rows    map[string]*blockInfo
	badRows map[string]error
	closed  map[uint64]bool
	// binaries are rows by SHA-256; badBinaries those that cannot be read.
	binaries    map[string]*StoredBinary
	badBinaries map[string]error
	texts       map[string]string // names of texts → crash
	cores       map[string]*StoredCore
	marks       map[string]string // damaged blocks and parts → reason
	nextLog     uint64
	lost        bool // it may not have all blocks
}

func newCatalogContent() *catalogContent {
	return &catalogContent{
		rows: map[string]*blockInfo{}, badRows: map[string]error{},
		closed: map[uint64]bool{}, marks: map[string]string{},
		binaries: map[string]*StoredBinary{}, badBinaries: map[string]error{},
		texts: map[string]string{}, cores: map[string]*StoredCore{},
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// offlineCatalog reads the catalog of a directory. One that cannot be used is
// made again first, or, without Repair, the blocks speak for themselves.
func (c *checker) offlineCatalog() error {
	path := filepath.Join(c.dir, catalogFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return c.lostCatalog(errors.New("it is not there"), false)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() == 0 {
		return c.lostCatalog(errors.New("it is empty"), true)
	}
	err = c.readCatalog(f, st.Size())
	if errors.Is(err, errVersion) {
		return fmt.Errorf("catalog: %w", err)
	}
	if err != nil {
		return c.lostCatalog(err, true)
	}
	return nil
}

// readCatalog reads a catalog's file. The error says why it cannot be used at
// all; entries that are damaged are in the report.
func (c *checker) readCatalog(r io.ReaderAt, size int64) error {
	version := 0
	var verr error
	p := &catalogPages{r: r, entry: func(bucket string, k, v []byte) error {
		if bucket == bucketMeta && string(k) == metaVersion {
			version, verr = readCatalogVersion(v)
		}
		return nil
	}}
	if err := p.read(size); err != nil {
		return err
	}
	if verr != nil {
		return verr
	}
	if err := missingBucket(p.names); err != nil {
		return err
	}
	if version == 0 {
		return errors.New("it has no version")
	}
	c.content = newCatalogContent()
	c.content.lost = p.stale
	e := &catalogEntries{c: c, version: version, seqs: map[uint64]string{}}
	p = &catalogPages{r: r, entry: e.entry}
	problems, fixes := len(c.report.Problems), len(c.update)
	err := p.read(size)
	if err == nil && c.content.nextLog == 0 {
		err = errors.New("it does not say which log file is next")
	}
	if err != nil { // what was found in it is of no interest then
		c.report.Problems, c.update = c.report.Problems[:problems], c.update[:fixes]
		return err
	}
	if p.stale {
		n := c.problem(CheckProblem{
			Where: catalogFile, What: "one of its two first pages cannot be read: its last change may be missing",
			Repair: "blocks it misses are added",
		})
		c.fixEntry(n, func(*bbolt.Tx) error { return nil }) // any transaction writes that page anew
	}
	e.finish()
	c.content.lost = c.content.lost || len(c.content.badRows) > 0
	c.advance(catalogFile, size)
	return nil
}

// catalogEntries takes the entries of a catalog one by one.
type catalogEntries struct {
	c       *checker
	version int
	seqs    map[uint64]string // of baseage, whose states have not been met
}

func (e *catalogEntries) entry(bucket string, k, sealed []byte) error {
	if !slices.Contains(catalogBuckets, bucket) {
		return nil
	}
	v, err := sealed, error(nil)
	if e.version > 1 {
		v, err = unseal(bucket, k, sealed)
	}
	if bucket == bucketBlocks {
		e.row(string(k), sealed)
		return nil
	}
	if err == nil {
		err = e.value(bucket, k, v)
	}
	if err != nil && bucket == bucketBinaries {
		e.c.content.badBinaries[string(k)] = err // what becomes of it is decided when the files are known
		return nil
	}
	if err != nil && bucket == bucketMeta {
		return fmt.Errorf("entry %.40q: %w", k, err)
	}
	if err != nil {
		e.damaged(bucket, slices.Clone(k), err)
	}
	return nil
}

// row takes a block's row; what becomes of one that cannot be read is decided
// when the files are known.
func (e *catalogEntries) row(id string, v []byte) {
	var info *blockInfo
	var err error
	if e.version == 1 {
		if info, err = readInfoV1(v); err == nil && info.id != id {
			err = fmt.Errorf("is that of block %s", info.id)
		}
	} else {
		info, err = readInfo(id, v)
	}
	if err != nil {
		e.c.content.badRows[id] = err
		return
	}
	e.c.content.rows[id] = info
}

var errEntry = errors.New("entry cannot be read")

func (e *catalogEntries) value(bucket string, k, v []byte) error {
	content := e.c.content
	switch bucket {
	case bucketMeta:
		if string(k) == metaNextLog {
			n, err := strconv.ParseUint(string(v), 10, 64)
			content.nextLog = n
			return err
		}
	case bucketClosed:
		if len(k) != 16 || len(v) != 0 {
			return errEntry
		}
		content.closed[binary.BigEndian.Uint64(k[8:])] = true
	case bucketDamaged:
		content.marks[string(k)] = string(v)
	case bucketBuilds:
		e.c.report.Builds++
		var b inquest.Build
		if err := json.Unmarshal(v, &b); err != nil {
			return err
		}
		if b.ID != string(k) {
			return fmt.Errorf("is that of build %.40q", b.ID)
		}
	case bucketBaseAge:
		if len(k) != 8 {
			return errEntry
		}
		e.seqs[binary.BigEndian.Uint64(k)] = string(v)
	case bucketBaselines:
		e.c.report.Baselines++
		if len(v) < 8 {
			return errEntry
		}
		// baseage comes first: buckets are in the order of their names.
		seq := binary.BigEndian.Uint64(v)
		if e.seqs[seq] != string(k) {
			return errors.New("its age is not known")
		}
		delete(e.seqs, seq)
	case bucketDeletions:
		return json.Unmarshal(v, new(noted))
	case bucketHorizon:
		return json.Unmarshal(v, newReach())
	case bucketBinaries:
		row := &StoredBinary{}
		if err := json.Unmarshal(v, row); err != nil {
			return err
		}
		if row.SHA256 != string(k) {
			return fmt.Errorf("is that of binary %.64q", row.SHA256)
		}
		content.binaries[row.SHA256] = row
	case bucketCrashes, bucketTimes, bucketGroups, bucketHours, bucketCores:
		return e.c.crashEntry(bucket, k, v)
	case bucketSeen:
		if _, _, _, ok := parseSeen(k, v); !ok {
			return errEntry
		}
	case bucketCuts:
		if _, number, ok := strings.Cut(string(k), "/"); !ok || len(v) != 0 {
			return errEntry
		} else if _, err := strconv.ParseUint(number, 10, 64); err != nil {
			return errEntry
		}
	}
	return nil
}

// entryCost says what the loss of an entry costs.
var entryCost = map[string]string{
	bucketBaselines: "the entry goes; the next cumulative profile of it is taken as a first one",
	bucketBaseAge:   "the entry goes",
	bucketBuilds:    "the entry goes; agents report the build again",
	bucketClosed:    "the entry goes; what it stood for is made again from the blocks",
	bucketDamaged:   "the entry goes; damage is marked again where it is",
	bucketDeletions: "the entry goes; the next start has it again of " + deletionFile,
	bucketCuts:      "the entry goes; the next start has it again of " + deletionFile,
	bucketSeen:      "the entry goes; the next profile of the build makes it again",
	bucketHorizon:   "the entry goes; the next start has it again of " + horizonFile,
	bucketCrashes:   "the entry goes; the crash is counted still",
	bucketTimes:     "the entry goes; the next start makes it again",
	bucketGroups:    "the entry goes; the next crash of the group makes it again, and counts anew",
	bucketHours:     "the entry goes; the deaths of that hour are not counted any more",
	bucketCores:     "the entry goes; the next start has it again of the core's own file",
}

// damaged reports an entry that cannot be read, which Repair removes.
func (e *catalogEntries) damaged(bucket string, k []byte, err error) {
	n := e.c.problem(CheckProblem{
		Where: fmt.Sprintf("%s %s %.60q", catalogFile, bucket, k), What: err.Error(), Repair: entryCost[bucket],
	})
	e.c.fixEntry(n, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete(k) })
}

// finish reports what entries lack.
func (e *catalogEntries) finish() {
	for _, seq := range sortedKeys(e.seqs) {
		e.damaged(bucketBaseAge, binary.BigEndian.AppendUint64(nil, seq), fmt.Errorf("there is no state named %.40q", e.seqs[seq]))
	}
}

// lostCatalog makes a catalog again that cannot be used.
func (c *checker) lostCatalog(why error, there bool) error {
	names, err := c.blobs.List()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(names) == 0 && !there {
		c.content = newCatalogContent()
		c.content.nextLog = 1
		return nil // a new directory
	}
	p := CheckProblem{Where: catalogFile, What: "it cannot be used: " + why.Error(), Repair: "it is made again from the blocks, with what can be read of the old one"}
	if c.o.Repair {
		kept, err := c.makeCatalog(there)
		if err != nil {
			return err
		}
		if p.Repaired = true; kept != "" {
			p.Repair += ", which is kept as " + kept
		}
	}
	c.problem(p)
	if !c.o.Repair {
		return c.withoutCatalog(names)
	}
	f, err := os.Open(filepath.Join(c.dir, catalogFile))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return c.readCatalog(f, st.Size())
}

// withoutCatalog takes the blocks for what the catalog would say.
func (c *checker) withoutCatalog(names []string) error {
	c.content = newCatalogContent()
	c.content.nextLog = math.MaxUint64
	var found []*foundBlock
	unreadable := map[string]error{}
	for _, name := range names {
		b, err := inspectBlock(c.blobs, name)
		if err != nil {
			unreadable[name] = err
			st, _ := os.Stat(c.blobs.path(name))
			row := &blockInfo{id: name}
			if st != nil {
				row.size = st.Size()
			}
			c.content.rows[name] = row
			continue
		}
		found = append(found, b)
	}
	for _, b := range resolveSources(found, unreadable) {
		c.content.rows[b.info.id] = b.info
		for _, e := range b.list.epochs {
			c.content.closed[e] = true
		}
	}
	return c.binariesWithoutCatalog()
}

// makeCatalog makes a new catalog of the blocks that are there, and of the
// entries of the old one that can be read.
func (c *checker) makeCatalog(there bool) (kept string, err error) {
	saved := map[string]map[string][]byte{}
	if there {
		if saved, err = salvage(filepath.Join(c.dir, catalogFile)); err != nil {
			return "", err
		}
		if kept, err = setCatalogAside(osFiles{}, c.dir, c.o.Now()); err != nil {
			return "", err
		}
	}
	if err := c.blobs.make(); err != nil {
		return kept, err
	}
	cat, _, err := openCatalog(osFiles{}, c.dir)
	if err != nil {
		return kept, err
	}
	defer cat.close()
	err = cat.db.Update(func(tx *bbolt.Tx) error {
		for bucket, entries := range saved {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			for k, v := range entries {
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
		}
		return restoreAges(tx)
	})
	if err != nil {
		return kept, fmt.Errorf("take over the old catalog: %w", err)
	}
	if _, err = rebuildRows(cat, c.blobs); err != nil {
		return kept, err
	}
	return kept, c.rebuildBinaries(cat)
}

// restoreAges makes the ages of cumulative states anew, in the old order.
func restoreAges(tx *bbolt.Tx) error {
	states := tx.Bucket([]byte(bucketBaselines))
	type state struct {
		name string
		seq  uint64
		v    []byte
	}
	var all []state
	err := states.ForEach(func(k, sealed []byte) error {
		v, err := unseal(bucketBaselines, k, sealed)
		if err == nil && len(v) >= 8 {
			all = append(all, state{string(k), binary.BigEndian.Uint64(v), slices.Clone(v[8:])})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b state) int { return cmp.Compare(a.seq, b.seq) })
	if err := tx.DeleteBucket([]byte(bucketBaseAge)); err != nil {
		return err
	}
	ages, err := tx.CreateBucket([]byte(bucketBaseAge))
	if err != nil {
		return err
	}
	for _, s := range all {
		seq, err := ages.NextSequence()
		if err != nil {
			return err
		}
		k := binary.BigEndian.AppendUint64(nil, seq)
		if err := put(tx, bucketBaseAge, k, []byte(s.name)); err != nil {
			return err
		}
		if err := put(tx, bucketBaselines, []byte(s.name), append(k, s.v...)); err != nil {
			return err
		}
	}
	return nil
}

// salvage reads what can be read of a catalog that cannot be used: entries
// whose checksums are right, by bucket and key.
func salvage(path string) (map[string]map[string][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	out := map[string]map[string][]byte{}
	p := &catalogPages{r: f, broken: func(error) {}, entry: func(bucket string, k, v []byte) error {
		if _, err := unseal(bucket, k, v); err != nil || bucket == bucketBaseAge || bucket == bucketMeta && string(k) == metaVersion {
			return nil
		}
		if out[bucket] == nil {
			out[bucket] = map[string][]byte{}
		}
		out[bucket][string(k)] = slices.Clone(v)
		return nil
	}}
	_ = p.read(st.Size()) // what could not be read is what this is about
	return out, nil
}
