package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// Where binaries come from, the most trusted first.
const (
	SourceCI         = "ci"         // a person or a pipeline with a token
	SourceAgent      = "agent"      // read by an agent beside the process
	SourceDebuginfod = "debuginfod" // fetched from another server
)

var binarySources = []string{SourceCI, SourceAgent, SourceDebuginfod}

// StoredBinary is one file of the binary store, and how it got there.
type StoredBinary struct {
	inquest.Binary
	Uploaded    time.Time `json:"uploaded"`
	By          string    `json:"by,omitempty"` // name of the token, id of the agent, or the server's host
	Source      string    `json:"source"`       // one of the Source… constants
	StoredBytes int64     `json:"stored_bytes"` // of its file on the disk
	// Conflict says that another binary of the same id has other code.
	Conflict bool `json:"conflict,omitempty"`
}

// Bounds on the binary store beside bytes.
const (
	maxBinaries   = 10_000
	maxCandidates = 8 // of one id; what is beyond goes
)

// IDs are the ids a binary is found by: its GNU build id, "go-" and the hex
// SHA-256 of its Go build id, and its Build.ID, which is one of them.
func (b *StoredBinary) IDs() []string {
	var ids []string
	add := func(id string) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	add(b.ID)
	add(b.GNUBuildID)
	if b.GoBuildID != "" {
		sum := sha256.Sum256([]byte(b.GoBuildID))
		add("go-" + hex.EncodeToString(sum[:]))
	}
	return ids
}

// text is the hash of the code, "" if it is not in the file.
func (b *StoredBinary) text() string {
	for i := range b.Sections {
		if b.Sections[i].Name == ".text" {
			return b.Sections[i].SHA256
		}
	}
	return ""
}

// binaries is the binary store: files, and what is in memory of their rows.
type binaries struct {
	blobs, tables *dirBlobs
	uploads       uploads
	making        chan struct{} // bounds how many are compressed at once

	mu      sync.RWMutex
	rows    map[string]*binaryRow // by SHA-256
	ids     map[string][]*binaryRow
	bytes   int64        // on the disk
	evicted atomic.Int64 // for want of space
	files   sync.RWMutex // held for writing while files go, for reading while they come
}

// binaryRow is what is in memory of a row: not what grows with the binary.
type binaryRow struct {
	StoredBinary
	text   string
	unsure bool // the row may not be durable
}

func newBinaryRow(b *StoredBinary) *binaryRow {
	r := &binaryRow{StoredBinary: *b, text: b.text()}
	r.Settings, r.Modules, r.Sections = nil, nil, nil
	return r
}

// better orders candidates for an id: names and lines before none, a
// pipeline's before an agent's, newer before older.
func better(a, b *binaryRow) int {
	if a.DWARF != b.DWARF {
		if a.DWARF {
			return -1
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(slices.Index(binarySources, a.Source), slices.Index(binarySources, b.Source)),
		b.Uploaded.Compare(a.Uploaded), cmp.Compare(a.SHA256, b.SHA256))
}

// add takes a row into the index; x.mu is held.
func (x *binaries) add(r *binaryRow) {
	x.remove(r.SHA256)
	x.rows[r.SHA256] = r
	x.bytes += r.StoredBytes
	for _, id := range r.IDs() {
		list := append(slices.Clone(x.ids[id]), r)
		slices.SortFunc(list, better)
		x.ids[id] = list
	}
}

// remove takes a row out of the index; x.mu is held.
func (x *binaries) remove(sha string) {
	r := x.rows[sha]
	if r == nil {
		return
	}
	delete(x.rows, sha)
	x.bytes -= r.StoredBytes
	for _, id := range r.IDs() {
		list := slices.DeleteFunc(slices.Clone(x.ids[id]), func(o *binaryRow) bool { return o == r })
		if x.ids[id] = list; len(list) == 0 {
			delete(x.ids, id)
		}
	}
}

// newBinaries makes the binary store of an open one.
func (s *Store) newBinaries() *binaries {
	x := &binaries{making: make(chan struct{}, 2), rows: map[string]*binaryRow{}, ids: map[string][]*binaryRow{}}
	x.blobs, x.tables = binariesIn(s.ops, s.o.Dir)
	x.uploads.init(s)
	return x
}

// openBinaries reads the rows and makes them again where they are lost: every
// file says what it is. A file without a row is of a crash, or of a deletion.
func (s *Store) openBinaries(lost bool) error {
	x := s.newBinaries()
	s.binaries = x
	if err := x.blobs.make(); err != nil {
		return err
	}
	if err := x.blobs.sweep(); err != nil {
		return err
	}
	rows, bad, err := s.readBinaryRows()
	if err != nil {
		return err
	}
	names, err := x.blobs.List()
	if err != nil {
		return err
	}
	for _, sha := range names {
		row := rows[sha]
		switch {
		case row != nil:
			row.there = true
		case lost || bad[sha] != nil:
			if err := s.readoptBinary(sha); err != nil {
				return err
			}
		default:
			s.o.Logger.Info("unfinished binary deleted", "sha256", sha)
			if err := x.blobs.Delete(sha); err != nil {
				return err
			}
		}
		delete(bad, sha)
	}
	for sha, row := range rows {
		if !row.there {
			s.lostBinary(sha, errors.New("its file is not there"))
			continue
		}
		x.add(newBinaryRow(&row.StoredBinary))
	}
	for sha, err := range bad {
		s.lostBinary(sha, err)
	}
	if err := s.sweepTables(); err != nil {
		return err
	}
	return x.uploads.restore()
}

type catalogRow struct {
	StoredBinary
	there bool
}

// binariesIn are the binaries of a data directory, and what is derived of them.
func binariesIn(ops fileOps, data string) (blobs, tables *dirBlobs) {
	dir := filepath.Join(data, binaryDir)
	return &dirBlobs{ops, dir, binarySuffix, "binary"}, &dirBlobs{ops, dir, tableSuffix, "table"}
}

// readBinaryRows reads the catalog's rows; bad are those that cannot be read.
func (s *Store) readBinaryRows() (rows map[string]*catalogRow, bad map[string]error, err error) {
	rows, bad = map[string]*catalogRow{}, map[string]error{}
	err = s.catalog.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketBinaries)).ForEach(func(k, sealed []byte) error {
			row := &catalogRow{}
			if err := readBinaryRow(k, sealed, &row.StoredBinary); err != nil {
				bad[string(k)] = err
				return nil
			}
			rows[string(k)] = row
			return nil
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read binaries in catalog: %w", err)
	}
	return rows, bad, nil
}

func readBinaryRow(k, sealed []byte, row *StoredBinary) error {
	v, err := unseal(bucketBinaries, k, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(v, row); err != nil {
		return err
	}
	if row.SHA256 != string(k) {
		return fmt.Errorf("is that of binary %.64q", row.SHA256)
	}
	return nil
}

// readoptBinary gives a binary a row again that lost it.
func (s *Store) readoptBinary(sha string) error {
	row, err := inspectBinary(s.binaries.blobs, s.pk, sha)
	if err != nil {
		s.lostBinary(sha, err) // the file stays for a person to look at
		return nil
	}
	if err := s.putBinaryRow(row); err != nil {
		return err
	}
	s.o.Logger.Warn("the row of a binary was lost and is made again", "sha256", sha, inquest.LogBuildID, row.ID)
	s.binaries.add(newBinaryRow(row))
	return nil
}

// inspectBinary reads what the file of a binary says of itself.
func inspectBinary(blobs *dirBlobs, pk *packer, sha string) (*StoredBinary, error) {
	blob, err := blobs.Open(sha)
	if err != nil {
		return nil, err
	}
	f, err := openBinaryFile(blob, pk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	row, err := f.row()
	if err == nil && row.SHA256 != sha {
		err = fmt.Errorf("%w: is binary %.64q", errBinary, row.SHA256)
	}
	return row, err
}

// lostBinary tells of a binary that cannot be served.
func (s *Store) lostBinary(sha string, err error) {
	what := fmt.Sprintf("%s: %v", binaryFile(sha), err)
	s.mu.Lock()
	known := slices.Contains(s.lostLog, what)
	if !known {
		s.lostLog = append(s.lostLog, what)
	}
	s.mu.Unlock()
	if !known {
		s.o.Logger.Error("a binary cannot be read and counts as not there; it can be uploaded again", "sha256", sha, inquest.LogErr, err)
	}
}

func (s *Store) putBinaryRow(row *StoredBinary) error {
	raw, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return s.catalog.put(bucketBinaries, row.SHA256, raw)
}

// Binaries lists the binaries of an id, the best first: with DWARF before
// without, those of a pipeline before those of agents, newer before older.
// They come without settings, modules and sections; Binary has these.
func (s *Store) Binaries(id string) []StoredBinary {
	x := s.binaries
	x.mu.RLock()
	defer x.mu.RUnlock()
	list := x.ids[id]
	out := make([]StoredBinary, 0, len(list))
	for _, r := range list[:min(len(list), maxCandidates)] {
		b := r.StoredBinary
		b.Conflict = slices.ContainsFunc(list, func(o *binaryRow) bool { return o.text != "" && r.text != "" && o.text != r.text })
		out = append(out, b)
	}
	return out
}

// Binary returns a binary by its SHA-256 in hex. ErrNotFound if there is none.
func (s *Store) Binary(sha string) (*StoredBinary, error) {
	if !s.hasBinary(sha) {
		return nil, errNoBinary(sha)
	}
	v, err := s.catalog.get(bucketBinaries, sha)
	if err != nil || v == nil {
		if errors.Is(err, errSeal) {
			s.quarantineEntry(err)
		}
		return nil, errNoBinary(sha)
	}
	row := &StoredBinary{}
	if err := json.Unmarshal(v, row); err != nil {
		return nil, fmt.Errorf("binary %s in catalog: %w", sha, err)
	}
	return row, nil
}

func errNoBinary(sha string) error {
	return inquest.Errorf(inquest.ErrNotFound, "there is no binary with the SHA-256 %.64q", sha)
}

// StoredIDs are the Build.IDs of all stored binaries.
func (s *Store) StoredIDs() map[string]bool {
	x := s.binaries
	x.mu.RLock()
	defer x.mu.RUnlock()
	ids := make(map[string]bool, len(x.rows))
	for _, r := range x.rows {
		ids[r.ID] = true
	}
	return ids
}

func (s *Store) hasBinary(sha string) bool {
	s.binaries.mu.RLock()
	defer s.binaries.mu.RUnlock()
	return s.binaries.rows[sha] != nil
}

// OpenBinary opens a binary for reading ranges. ErrNotFound if there is none.
func (s *Store) OpenBinary(sha string) (*BinaryFile, error) {
	if !s.hasBinary(sha) {
		return nil, errNoBinary(sha)
	}
	blob, err := s.binaries.blobs.Open(sha)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoBinary(sha) // it has just gone
	}
	if err != nil {
		return nil, fmt.Errorf("open binary %s: %w", sha, err)
	}
	f, err := openBinaryFile(blob, s.pk)
	if err != nil {
		return nil, fmt.Errorf("open binary %s: %w", sha, err)
	}
	return f, nil
}

// tableName is the name of what is derived of a binary.
func tableName(sha string, version int) string { return sha + "-" + strconv.Itoa(version) }

// PutTable keeps what is derived of a binary: what write writes, under a
// version of how that is done. It replaces those of other versions and goes
// with the binary. ErrNotFound if there is no such binary, ErrDiskFull.
func (s *Store) PutTable(sha string, version int, write func(io.Writer) error) error {
	x := s.binaries
	if !s.hasBinary(sha) {
		return errNoBinary(sha)
	}
	if err := s.checkSpace(0); err != nil {
		return err
	}
	x.files.RLock()
	defer x.files.RUnlock()
	name := tableName(sha, version)
	_ = x.tables.ops.Remove(x.tables.path(name) + tempSuffix) // of a write whose disk failed
	if err := x.tables.Put(name, write); err != nil {
		return s.writeError(err)
	}
	return s.dropTables(func(of string, v int) bool {
		return of == sha && (v != version || !s.hasBinary(sha)) // it may have gone before
	})
}

// OpenTable opens what is derived of a binary. ErrNotFound if it was not put.
func (s *Store) OpenTable(sha string, version int) (Blob, error) {
	if !s.hasBinary(sha) {
		return nil, errNoBinary(sha)
	}
	b, err := s.binaries.tables.Open(tableName(sha, version))
	if errors.Is(err, os.ErrNotExist) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "there is no table of version %d of binary %s", version, sha)
	}
	return b, err
}

// sweepTables removes tables whose binaries are gone.
func (s *Store) sweepTables() error {
	return s.dropTables(func(sha string, _ int) bool { return !s.hasBinary(sha) })
}

// dropTables removes tables.
func (s *Store) dropTables(drop func(sha string, version int) bool) error {
	names, err := s.binaries.tables.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		sha, v, _ := strings.Cut(name, "-")
		version, err := strconv.Atoi(v)
		if err == nil && !drop(sha, version) {
			continue
		}
		if err := s.binaries.tables.Delete(name); err != nil {
			return err
		}
	}
	return nil
}

// dropBinaries deletes binaries: first their rows, so that no row is without
// its file. It does nothing while one is being stored.
func (s *Store) dropBinaries(shas []string) (did bool, err error) {
	x := s.binaries
	if !x.files.TryLock() {
		return false, nil
	}
	defer x.files.Unlock()
	err = s.catalog.update(func(tx *bbolt.Tx) error {
		for _, sha := range shas {
			if err := tx.Bucket([]byte(bucketBinaries)).Delete([]byte(sha)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, s.writeError(err) // in force or not, the files stay; the next start clears up
	}
	x.mu.Lock()
	for _, sha := range shas {
		x.remove(sha)
	}
	x.mu.Unlock()
	for _, sha := range shas {
		if err := x.blobs.Delete(sha); err != nil {
			return true, err
		}
	}
	return true, s.sweepTables()
}
