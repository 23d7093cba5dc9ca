package store

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fileOps is what the store asks of a file system, and its only way to it, so
// that tests can make it fail.
type fileOps interface {
	OpenFile(name string, flag int, perm os.FileMode) (file, error)
	// OpenMapped opens a file for bbolt, which maps it and so wants a real one.
	OpenMapped(name string, flag int, perm os.FileMode) (*os.File, error)
	// Commit does tx, a transaction of such a file.
	Commit(name string, tx func() error) error
	MkdirAll(name string, perm os.FileMode) error
	ReadDir(name string) ([]os.DirEntry, error)
	Stat(name string) (os.FileInfo, error)
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
	Free(dir string) (bytes int64, err error)
	Total(dir string) (bytes int64, err error) // size of the disk
}

type file interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
	io.Closer
	Datasync() error
	Truncate(size int64) error
	Size() (int64, error)
}

// osFiles is the real file system.
type osFiles struct{}

func (osFiles) OpenFile(name string, flag int, perm os.FileMode) (file, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) OpenMapped(name string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

func (osFiles) Commit(_ string, tx func() error) error { return tx() }

func (osFiles) MkdirAll(name string, perm os.FileMode) error { return os.MkdirAll(name, perm) }
func (osFiles) ReadDir(name string) ([]os.DirEntry, error)   { return os.ReadDir(name) }
func (osFiles) Stat(name string) (os.FileInfo, error)        { return os.Stat(name) }
func (osFiles) Rename(from, to string) error                 { return os.Rename(from, to) }
func (osFiles) Remove(name string) error                     { return os.Remove(name) }

func (osFiles) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

func (osFiles) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

func (osFiles) Total(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Blocks) * int64(st.Bsize), nil
}

type osFile struct{ *os.File }

func (f osFile) Datasync() error { return unix.Fdatasync(int(f.Fd())) }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
