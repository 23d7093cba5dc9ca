package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Blobs keeps immutable named pieces of data: blocks, binaries and what is
// derived of them. A name stands for the same content for ever.
type Blobs interface {
	// Put stores what write writes. When it returns without error the blob is
	// durable and whole; with an error there is none.
	Put(name string, write func(io.Writer) error) error
	// Open opens a blob for reading ranges.
	Open(name string) (Blob, error)
	// Delete removes a blob; one that is not there is no error.
	Delete(name string) error
	// List returns the names of all blobs.
	List() ([]string, error)
}

// Blob is an open blob.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// dirBlobs keeps blobs as files of a directory.
type dirBlobs struct {
	ops    fileOps
	dir    string
	suffix string // of their names
	what   string // they are, for messages
}

// blocksIn are the blocks of a data directory.
func blocksIn(ops fileOps, data string) *dirBlobs {
	return &dirBlobs{ops, filepath.Join(data, blockDir), blockSuffix, "block"}
}

// make makes the directory.
func (d *dirBlobs) make() error {
	if err := d.ops.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("create %s directory: %w", d.what, err)
	}
	return nil
}

func (d *dirBlobs) path(name string) string { return filepath.Join(d.dir, name+d.suffix) }

// Put writes a temporary file, syncs it, renames it and syncs the directory.
func (d *dirBlobs) Put(name string, write func(io.Writer) error) (err error) {
	temp := d.path(name) + tempSuffix
	f, err := d.ops.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create %s file: %w", d.what, err)
	}
	whole := false
	defer func() {
		if !whole { // an error, or a panic of write
			_ = f.Close()
			_ = d.ops.Remove(temp) // swept at the next start if this fails too
		}
	}()
	w := bufio.NewWriterSize(f, 1<<16)
	if err = write(w); err == nil {
		if err = w.Flush(); err == nil {
			err = f.Datasync()
		}
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s file: %w", d.what, err)
	}
	if err = d.ops.Rename(temp, d.path(name)); err != nil {
		return fmt.Errorf("rename %s file: %w", d.what, err)
	}
	whole = true
	if err = d.ops.SyncDir(d.dir); err != nil {
		_ = d.ops.Remove(d.path(name)) // not in the catalog, so swept at the next start
		return fmt.Errorf("sync %s directory: %w", d.what, err)
	}
	return nil
}

// Open opens a file.
func (d *dirBlobs) Open(name string) (Blob, error) {
	return d.ops.OpenFile(d.path(name), os.O_RDONLY, 0)
}

// Delete removes a file.
func (d *dirBlobs) Delete(name string) error {
	if err := d.ops.Remove(d.path(name)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove %s file: %w", d.what, err)
	}
	return nil
}

// List names the files.
func (d *dirBlobs) List() ([]string, error) {
	entries, err := d.ops.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list %s files: %w", d.what, err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), d.suffix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// sweep removes the temporary files of an earlier run.
func (d *dirBlobs) sweep() error {
	entries, err := d.ops.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("list %s files: %w", d.what, err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tempSuffix) {
			if err := d.ops.Remove(filepath.Join(d.dir, e.Name())); err != nil {
				return fmt.Errorf("remove temporary file: %w", err)
			}
		}
	}
	return nil
}
