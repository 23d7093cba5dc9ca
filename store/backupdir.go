package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dirBackup is a backup in a directory. A second one into the same directory
// copies what is new and removes what is gone. Until its manifest is in place,
// the one before is whole and counts: files are only added, and every catalog
// has a name of its own.
type dirBackup struct {
	dir   string
	lock  *os.File
	files map[string]ManifestFile // of the backup before
}

// backupDirs are the directories in one.
var backupDirs = []string{blockDir, binaryDir, textDir, coreDir}

// BackupDir copies the store to a directory, which is made if need be. Blocks
// are not copied but linked where that can be done. progress may be nil.
func (s *Store) BackupDir(ctx context.Context, dir string, progress func(BackupProgress)) (*Manifest, error) {
	t, err := openDirBackup(dir)
	if err != nil {
		return nil, err
	}
	defer t.lock.Close()
	return s.backup(ctx, t, progress)
}

// FetchBackup makes a backup in a directory of what another process writes with
// BackupTar: fetch asks for it, but for files that are here already, name and
// size. progress may be nil.
func FetchBackup(ctx context.Context, dir string, fetch func(have map[string]int64) (io.ReadCloser, error), progress func(BackupProgress)) (*Manifest, error) {
	t, err := openDirBackup(dir)
	if err != nil {
		return nil, err
	}
	defer t.lock.Close()
	have := map[string]int64{}
	for name, f := range t.files {
		if _, ok := t.has(name, f.Bytes); ok && strings.Contains(name, "/") {
			have[name] = f.Bytes
		}
	}
	r, err := fetch(have)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	u := &unpacked{files: map[string]ManifestFile{}, put: t.put, progress: progress}
	raw, err := readTar(ctx, r, u.file)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(raw, t.files)
	if err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if _, ok := u.files[f.Name]; !ok && have[f.Name] == f.Bytes {
			u.files[f.Name] = t.files[f.Name]
		}
	}
	if err := u.compare(m); err != nil {
		return nil, err
	}
	return m, t.finish(m)
}

// openDirBackup takes a directory for a backup. It must be empty or have one,
// finished or not.
func openDirBackup(dir string) (*dirBackup, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), tempSuffix)
		if !slices.Contains(backupDirs, name) && name != lockFile && name != manifestFile && !backupName.MatchString(name) {
			return nil, fmt.Errorf("open backup: %s has %s in it, which is no part of a backup; choose another directory", dir, e.Name())
		}
	}
	for _, sub := range backupDirs {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open backup: %w", err)
		}
	}
	t := &dirBackup{dir: dir, files: map[string]ManifestFile{}}
	if t.lock, err = lockDir(dir); err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	// A manifest that cannot be read makes this the first backup.
	if m, err := readManifestFile(dir); err == nil {
		for _, f := range m.Files {
			t.files[f.Name] = f
		}
	}
	return t, nil
}

func readManifestFile(dir string) (*Manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errBackup("%s has no %s: it is none, or was not finished", dir, manifestFile)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifestBytes))
	if err != nil {
		return nil, err
	}
	return readManifest(raw, nil)
}

func (t *dirBackup) path(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

func (t *dirBackup) has(name string, size int64) (string, bool) {
	f, ok := t.files[name]
	if !ok || f.Bytes != size {
		return "", false
	}
	st, err := os.Stat(t.path(name))
	return f.SHA256, err == nil && st.Size() == size
}

func (t *dirBackup) link(name, path string) bool {
	to := t.path(name)
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) { // of a backup that was not finished
		return false
	}
	return os.Link(path, to) == nil
}

func (t *dirBackup) put(name string, size int64, r io.Reader) error {
	return writeFile(t.path(name), size, r)
}

// writeFile writes a file of exactly that size, which is durable but for its
// directory's entry.
func writeFile(path string, size int64, r io.Reader) (err error) {
	f, err := os.OpenFile(path+tempSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path + tempSuffix) // else the next backup removes it
		}
	}()
	n, err := io.Copy(f, r)
	if err == nil && n != size {
		err = fmt.Errorf("got %d bytes, want %d", n, size)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	return err
}

// finish puts the manifest in place and removes what is not in it.
func (t *dirBackup) finish(m *Manifest) error {
	raw, err := m.write()
	if err != nil {
		return err
	}
	for _, sub := range append(backupDirs, ".") {
		if err := (osFiles{}).SyncDir(filepath.Join(t.dir, sub)); err != nil {
			return err
		}
	}
	if err := writeFile(t.path(manifestFile), int64(len(raw)), strings.NewReader(string(raw))); err != nil {
		return err
	}
	if err := (osFiles{}).SyncDir(t.dir); err != nil {
		return err
	}
	return t.prune(m)
}

// prune removes files of earlier backups.
func (t *dirBackup) prune(m *Manifest) error {
	var keep []string
	for _, f := range m.Files {
		keep = append(keep, f.Name)
	}
	slices.Sort(keep)
	for _, sub := range append(backupDirs, ".") {
		entries, err := os.ReadDir(filepath.Join(t.dir, sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := filepath.ToSlash(filepath.Join(sub, e.Name()))
			if _, ok := slices.BinarySearch(keep, name); ok || slices.Contains(backupDirs, name) || name == lockFile || name == manifestFile {
				continue
			}
			if err := os.Remove(t.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}
