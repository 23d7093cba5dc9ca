package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// RestoreOptions say where a backup becomes a store. Only Dir has no default.
type RestoreOptions struct {
	Dir string // must be empty, or not be there
	// Deletions are what was deleted on request in the store the backup is of: what
	// is newer than the backup is deleted again.
	Deletions []Deletion
	Logger    *slog.Logger
	Now       func() time.Time
	Progress  func(BackupProgress)
}

// Restoration says what was restored.
type Restoration struct {
	*Manifest
	Deleted []Deletion // again: it is hidden, and taken off the disk when the store is opened
	// Old are deletions of RestoreOptions that the backup does not know although
	// they are older: they are of another store, and were not done.
	Old []Deletion
}

// restoringSuffix marks a directory that a restore is under way in. It gets its
// name when everything in it has been verified, so a restore that was ended
// leaves no half of a store.
const restoringSuffix = ".restoring"

// RestoreDir makes a store of a backup in a directory. Every file is compared
// with the manifest: with an error of kind ErrInvalid, which names the file,
// there is no store.
func RestoreDir(ctx context.Context, from string, o RestoreOptions) (*Restoration, error) {
	m, err := readManifestFile(from)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return restore(ctx, o, func(u *unpacked) (*Manifest, error) {
		u.total = m.Bytes
		for _, f := range m.Files {
			if err := u.copy(ctx, filepath.Join(from, filepath.FromSlash(f.Name)), &f); err != nil {
				return nil, err
			}
		}
		return m, nil
	})
}

// RestoreTar makes a store of a backup that is a tar stream; see RestoreDir.
func RestoreTar(ctx context.Context, r io.Reader, o RestoreOptions) (*Restoration, error) {
	return restore(ctx, o, func(u *unpacked) (*Manifest, error) {
		raw, err := readTar(ctx, r, u.file)
		if err != nil {
			return nil, err
		}
		return readManifest(raw, nil)
	})
}

// restore makes a store of what unpack puts into a directory.
func restore(ctx context.Context, o RestoreOptions, unpack func(*unpacked) (*Manifest, error)) (out *Restoration, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("restore: %s is not empty", o.Dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("restore: %w", err)
	}
	temp := o.Dir + restoringSuffix
	if err := os.RemoveAll(temp); err != nil { // of a restore that was ended
		return nil, fmt.Errorf("restore: %w", err)
	}
	for _, sub := range backupDirs {
		if err := os.MkdirAll(filepath.Join(temp, sub), 0o700); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	u := &unpacked{files: map[string]ManifestFile{}, progress: o.Progress, put: func(name string, size int64, r io.Reader) error {
		return writeFile(filepath.Join(temp, filepath.FromSlash(name)), size, r)
	}}
	out = &Restoration{}
	if out.Manifest, err = unpack(u); err == nil {
		err = u.compare(out.Manifest)
	}
	if err == nil {
		err = settle(ctx, temp, out, o)
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return out, nil
}

// settle opens a store once that was unpacked, deletes again what was deleted,
// and gives it its name.
func settle(ctx context.Context, temp string, m *Restoration, o RestoreOptions) error {
	if err := os.Rename(filepath.Join(temp, m.Catalog), filepath.Join(temp, catalogFile)); err != nil {
		return err
	}
	for _, sub := range backupDirs {
		if err := (osFiles{}).SyncDir(filepath.Join(temp, sub)); err != nil {
			return err
		}
	}
	s, err := Open(ctx, Options{Dir: temp, Logger: o.Logger, Now: o.Now, Idle: true})
	if err != nil {
		return err
	}
	err = s.catalog.update(func(tx *bbolt.Tx) error {
		if err := put(tx, bucketMeta, []byte(metaBackup), []byte(m.Created.Format(time.RFC3339Nano))); err != nil {
			return err
		}
		return put(tx, bucketMeta, []byte(metaRestored), []byte(o.Now().UTC().Format(time.RFC3339Nano)))
	})
	if err == nil {
		m.Deleted, m.Old, err = s.Reapply(ctx, o.Deletions, m.Created)
	}
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if err := os.Remove(o.Dir); err != nil && !errors.Is(err, os.ErrNotExist) { // it is empty
		return err
	}
	if err := os.Rename(temp, o.Dir); err != nil {
		return err
	}
	return (osFiles{}).SyncDir(filepath.Dir(o.Dir))
}

// unpacked are the files of a backup that have been read.
type unpacked struct {
	put      func(name string, size int64, r io.Reader) error
	files    map[string]ManifestFile
	progress func(BackupProgress)
	done     int64
	total    int64 // 0 if it is not known
}

// file takes one file.
func (u *unpacked) file(name string, size int64, r io.Reader) error {
	if _, ok := u.files[name]; ok {
		return errBackup("it is there twice")
	}
	sum := sha256.New()
	if err := u.put(name, size, io.TeeReader(r, sum)); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errBackup("it ends too early")
		}
		return err
	}
	u.files[name] = ManifestFile{name, size, hex.EncodeToString(sum.Sum(nil))}
	u.done += size
	if u.progress != nil {
		u.progress(BackupProgress{What: name, Done: u.done, Total: max(u.total, u.done)})
	}
	return nil
}

// copy takes a file of a directory.
func (u *unpacked) copy(ctx context.Context, path string, want *ManifestFile) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return errBackup("%s is missing", want.Name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != want.Bytes {
		return errBackup("%s has %d bytes, want %d", want.Name, st.Size(), want.Bytes)
	}
	if err := u.file(want.Name, want.Bytes, &stoppableReader{ctx, f}); err != nil {
		return fmt.Errorf("%s: %w", want.Name, err)
	}
	return u.same(want)
}

func (u *unpacked) same(want *ManifestFile) error {
	got, ok := u.files[want.Name]
	switch {
	case !ok:
		return errBackup("%s is missing", want.Name)
	case got.Bytes != want.Bytes:
		return errBackup("%s has %d bytes, want %d", want.Name, got.Bytes, want.Bytes)
	case got.SHA256 != want.SHA256:
		return errBackup("%s is damaged: its SHA-256 is %s, want %s", want.Name, got.SHA256, want.SHA256)
	}
	return nil
}

// compare compares the files with the manifest.
func (u *unpacked) compare(m *Manifest) error {
	names := map[string]bool{}
	for i := range m.Files {
		if err := u.same(&m.Files[i]); err != nil {
			return err
		}
		names[m.Files[i].Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(u.files)) {
		if !names[name] {
			return errBackup("%s is not in %s", name, manifestFile)
		}
	}
	return nil
}

// Restored says when the store was made of a backup, and when that was made:
// deletions asked for after it must be done again. Both are zero for a store
// that was not.
func (s *Store) Restored() (restored, backup time.Time, err error) {
	err = s.catalog.view(func(tx *bbolt.Tx) error {
		for key, to := range map[string]*time.Time{metaRestored: &restored, metaBackup: &backup} {
			v, err := get(tx, bucketMeta, []byte(key))
			if err != nil || v == nil {
				return err
			}
			if *to, err = time.Parse(time.RFC3339Nano, string(v)); err != nil {
				return err
			}
		}
		return nil
	})
	return restored, backup, err
}
