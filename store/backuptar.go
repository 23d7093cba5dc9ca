package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// tarBackup is a backup as a tar stream: what dirBackup has as files, the
// manifest last.
type tarBackup struct {
	w    *tar.Writer
	skip map[string]int64 // names and sizes that the other end has
}

// BackupTar writes the store as a tar stream. Files in skip, name and size, are
// left out: the other end has them. progress may be nil.
func (s *Store) BackupTar(ctx context.Context, w io.Writer, skip map[string]int64, progress func(BackupProgress)) (*Manifest, error) {
	return s.backup(ctx, &tarBackup{tar.NewWriter(w), skip}, progress)
}

func (t *tarBackup) has(name string, size int64) (string, bool) {
	n, ok := t.skip[name]
	return "", ok && n == size
}

func (t *tarBackup) link(string, string) bool { return false }

func (t *tarBackup) put(name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatPAX}
	if err := t.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t.w, r)
	if err == nil && n != size {
		err = fmt.Errorf("got %d bytes, want %d", n, size)
	}
	return err
}

func (t *tarBackup) finish(m *Manifest) error {
	raw, err := m.write()
	if err != nil {
		return err
	}
	if err := t.put(manifestFile, int64(len(raw)), strings.NewReader(string(raw))); err != nil {
		return err
	}
	return t.w.Close()
}

// readTar reads a backup from a tar stream: file is called for each file, and
// must read all of it. It returns the manifest as it came. The error is of kind
// ErrInvalid for what is no backup.
func readTar(ctx context.Context, r io.Reader, file func(name string, size int64, r io.Reader) error) ([]byte, error) {
	t := tar.NewReader(&stoppableReader{ctx, r})
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, errBackup("it has no %s: it is none, or was not finished", manifestFile)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, errBackup("%w", err)
		}
		switch {
		case h.Typeflag == tar.TypeReg && h.Name == manifestFile:
			if h.Size > maxManifestBytes {
				return nil, errBackup("%s has %d bytes", manifestFile, h.Size)
			}
			raw, err := io.ReadAll(t)
			if err != nil {
				return nil, errBackup("%s: %w", manifestFile, err)
			}
			if _, err := t.Next(); !errors.Is(err, io.EOF) {
				return nil, errBackup("it does not end after %s", manifestFile)
			}
			return raw, nil
		case h.Typeflag != tar.TypeReg || !backupName.MatchString(h.Name):
			return nil, errBackup("%.80q does not belong there", h.Name)
		}
		if err := file(h.Name, h.Size, t); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}
