package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// A backup is the store's blocks and binaries, texts of crashes and whole cores, its catalog, and
// a manifest that is written last. It has no log: epochs are ended first, so that everything that was
// acknowledged before the backup began is in blocks.
//
// The catalog is copied in one transaction, in which its blocks are held. So a
// block that is merged, rolled up or deleted meanwhile stays until it is
// copied, and what it became is not in this catalog: every profile is in the
// backup once.

// manifestVersion is raised when a backup could be misread.
const manifestVersion = 1

// manifestFile is the name of the manifest in a backup.
const manifestFile = "manifest.json"

// maxManifestBytes bounds what is read of one.
const maxManifestBytes = 1 << 28

// Manifest says what a backup is.
type Manifest struct {
	Version  int       `json:"version"`
	Created  time.Time `json:"created"` // what was acknowledged before is in the backup
	Catalog  string    `json:"catalog"` // name of the file that becomes catalog.db
	Blocks   int       `json:"blocks"`  // files of blocks
	Binaries int       `json:"binaries,omitempty"`
	Texts    int       `json:"texts,omitempty"` // of crashes
	Cores    int       `json:"cores,omitempty"` // whole ones
	Profiles int64     `json:"profiles"`        // in blocks
	Bytes    int64     `json:"bytes"`           // of all files
	// Missing names blocks and binaries that the catalog lists and that had no file.
	Missing []string       `json:"missing,omitempty"`
	Files   []ManifestFile `json:"files"`
}

// ManifestFile is one file of a backup.
type ManifestFile struct {
	Name   string `json:"name"` // blocks/ID.blk, binaries/SHA256.bin, texts/CRASH-SHA256.txt, cores/ID.core, cores/ID.offer, catalog-TIME.db
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
}

// backupTarget takes the files of a backup.
type backupTarget interface {
	// has says whether an earlier backup left a block there, and its checksum,
	// which may be "" if whoever reads the manifest knows it.
	has(name string, size int64) (sum string, ok bool)
	// link makes the file at path part of the backup without copying it, if that
	// is possible.
	link(name, path string) bool
	// put takes a file of exactly that size.
	put(name string, size int64, r io.Reader) error
	// finish takes the manifest, whose files have all been put.
	finish(m *Manifest) error
}

// BackupProgress says how far a backup or a restore is.
type BackupProgress struct {
	What        string
	Done, Total int64 // bytes
}

// backup copies the store to a target. One runs at a time; ErrBusy says that
// there is one.
func (s *Store) backup(ctx context.Context, to backupTarget, progress func(BackupProgress)) (*Manifest, error) {
	if !s.backingUp.TryLock() {
		return nil, inquest.Errorf(inquest.ErrBusy, "another backup is under way")
	}
	defer s.backingUp.Unlock()
	if err := s.Ready(); err != nil {
		return nil, err
	}
	m := &Manifest{Version: manifestVersion}
	s.deletions.mu.Lock() // so that deletions asked for before are in the catalog
	m.Created = s.o.Now().UTC()
	s.deletions.mu.Unlock()
	m.Catalog = "catalog-" + m.Created.Format("20060102T150405.000000000Z") + ".db"
	if err := s.Flush(ctx); err != nil {
		return nil, fmt.Errorf("back up: end epochs: %w", err)
	}
	snap, err := s.freeze(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	defer snap.close()
	b := &backupRun{s: s, ctx: ctx, to: to, m: m, progress: progress, total: snap.size}
	for _, held := range snap.blocks {
		b.total += held.info.size
	}
	for i, held := range snap.blocks {
		if err := b.block(held.info.id); err != nil {
			return nil, fmt.Errorf("back up %s: %w", blockFile(held.info.id), err)
		}
		m.Profiles += held.info.profiles
		snap.release(i)
	}
	for _, sha := range snap.binaries {
		if err := b.binary(sha); err != nil {
			return nil, fmt.Errorf("back up %s: %w", binaryFile(sha), err)
		}
	}
	for _, name := range snap.texts {
		if err := b.blob(s.crashes.texts, name, textFile(name), &m.Texts); err != nil {
			return nil, fmt.Errorf("back up %s: %w", textFile(name), err)
		}
	}
	for _, id := range snap.cores {
		if err := b.core(id); err != nil {
			return nil, fmt.Errorf("back up core %s: %w", id, err)
		}
	}
	for _, id := range snap.unread {
		if err := b.block(id); err != nil {
			return nil, fmt.Errorf("back up %s: %w", blockFile(id), err)
		}
	}
	if err := b.file(m.Catalog, snap.size, io.NewSectionReader(snap.catalog, 0, snap.size)); err != nil {
		return nil, fmt.Errorf("back up catalog: %w", err)
	}
	if err := to.finish(m); err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	return m, nil
}

// backupRun is one backup under way.
type backupRun struct {
	s        *Store
	ctx      context.Context
	to       backupTarget
	m        *Manifest
	progress func(BackupProgress)
	total    int64
}

// block adds the file of a block.
func (b *backupRun) block(id string) error {
	return b.blob(b.s.blobs, id, blockFile(id), &b.m.Blocks)
}

// binary adds the file of a binary. What is derived of it is not in a backup.
func (b *backupRun) binary(sha string) error {
	return b.blob(b.s.binaries.blobs, sha, binaryFile(sha), &b.m.Binaries)
}

// core adds the two files of a core.
func (b *backupRun) core(id string) error {
	offers := 0
	if err := b.blob(coresIn(b.s.ops, b.s.o.Dir, coreSuffix), id, coreFile(id), &b.m.Cores); err != nil {
		return err
	}
	return b.blob(coresIn(b.s.ops, b.s.o.Dir, offerSuffix), id, offerFile(id), &offers)
}

// blob adds a file and counts it in n.
func (b *backupRun) blob(blobs *dirBlobs, id, name string, n *int) error {
	blob, err := blobs.Open(id)
	if errors.Is(err, os.ErrNotExist) {
		b.m.Missing = append(b.m.Missing, id)
		return nil
	}
	if err != nil {
		return err
	}
	defer blob.Close()
	size, err := blob.Size()
	if err != nil {
		return err
	}
	*n++
	if sum, ok := b.to.has(name, size); ok {
		b.add(name, size, sum)
		return nil
	}
	r := io.NewSectionReader(blob, 0, size)
	if !b.to.link(name, blobs.path(id)) {
		return b.file(name, size, r)
	}
	sum, err := hashOf(&stoppableReader{b.ctx, r})
	if err == nil {
		b.add(name, size, sum)
	}
	return err
}

// file adds a file of a size.
func (b *backupRun) file(name string, size int64, r io.Reader) error {
	sum := sha256.New()
	if err := b.to.put(name, size, io.TeeReader(&stoppableReader{b.ctx, r}, sum)); err != nil {
		return err
	}
	b.add(name, size, hex.EncodeToString(sum.Sum(nil)))
	return nil
}

func (b *backupRun) add(name string, size int64, sum string) {
	b.m.Files = append(b.m.Files, ManifestFile{name, size, sum})
	b.m.Bytes += size
	if b.progress != nil {
		b.progress(BackupProgress{What: name, Done: b.m.Bytes, Total: max(b.total, b.m.Bytes)})
	}
}

// stoppableReader is a reader that fails once ctx has ended.
type stoppableReader struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppableReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

func hashOf(r io.Reader) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// errBackup is what reading a backup fails with that cannot be used.
func errBackup(format string, args ...any) error {
	return inquest.Errorf(inquest.ErrInvalid, "the backup cannot be used: "+format, args...)
}

// backupName is what files of a backup are called.
var backupName = regexp.MustCompile(`^(blocks/[0-9a-f]{1,16}-[0-9a-f]{12}\.blk|binaries/[0-9a-f]{64}\.bin|texts/[0-9a-f]{32}-[0-9a-f]{64}\.txt|cores/[0-9a-f]{32}\.(?:core|offer)|catalog-[0-9TZ.]{1,40}\.db)$`)

// readManifest reads a manifest and checks that it can be believed. Checksums
// it does not have are those of known.
func readManifest(raw []byte, known map[string]ManifestFile) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, errBackup("%s: %w", manifestFile, err)
	}
	if m.Version != manifestVersion {
		return nil, errBackup("%s: %w %d, this one reads %d", manifestFile, errVersion, m.Version, manifestVersion)
	}
	seen := map[string]bool{}
	for i := range m.Files {
		f := &m.Files[i]
		if f.SHA256 == "" && known[f.Name].Bytes == f.Bytes {
			f.SHA256 = known[f.Name].SHA256
		}
		sum, err := hex.DecodeString(f.SHA256)
		if !backupName.MatchString(f.Name) || seen[f.Name] || f.Bytes < 0 || err != nil || len(sum) != sha256.Size {
			return nil, errBackup("%s: entry %d, of %.80q, is wrong", manifestFile, i, f.Name)
		}
		seen[f.Name] = true
	}
	if !seen[m.Catalog] || strings.Contains(m.Catalog, "/") {
		return nil, errBackup("%s: it names no catalog", manifestFile)
	}
	return m, nil
}

func (m *Manifest) write() ([]byte, error) {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(raw, '\n'), nil
}
