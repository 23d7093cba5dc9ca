package store

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
)

// SmallMerges makes a store merge whatever there is, into many small files.
func SmallMerges(o *Options) {
	o.MergeAge, o.CommitDelay = 1, 1
	o.merge = mergeSizes{source: 1 << 30, due: 1 << 30, step: 1 << 20, own: 20_000, file: 30_000}
}

// MarkRolled has the store believe that all profiles in blocks are in rollups
// too.
func (s *Store) MarkRolled() error {
	s.mu.RLock()
	var list []*block
	for _, b := range s.blocks {
		if b.info.level != levelRollup && !b.info.rolled {
			list = append(list, b)
		}
	}
	s.mu.RUnlock()
	return s.swap(nil, nil, list)
}

// Levels counts blocks by level.
func (s *Store) Levels() (n [levelRollup + 1]int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.blocks {
		n[b.info.level]++
	}
	return n
}

// DropDamaged takes the damaged blocks out of the store.
func (s *Store) DropDamaged() (n int, err error) {
	var list []*block
	for _, b := range s.blocks {
		for i := range 100 {
			if s.isDamaged(b, i) {
				list = append(list, b)
				break
			}
		}
	}
	return len(list), s.swap(nil, list, nil)
}

// CatalogDamage lists the entries for damaged blocks.
func (s *Store) CatalogDamage() map[string]string {
	st, err := s.catalog.load()
	if err != nil {
		panic(err)
	}
	return st.broken
}

// FailNth is a file system of which one operation fails: writes, after a part
// was written, with ENOSPC, the others with EIO.
type FailNth struct {
	osFiles
	N    atomic.Int64 // counts down to the operation that fails; negative: none does
	What atomic.Value // string: the operation that failed
}

// WithFailNth makes a store use f.
func WithFailNth(f *FailNth) func(*Options) { return func(o *Options) { o.files = f } }

func (f *FailNth) fail(op, name string) error {
	if f.N.Add(-1) != -1 {
		return nil
	}
	f.What.Store(fmt.Sprint(op, " ", name))
	return &os.PathError{Op: op, Path: name, Err: syscall.EIO}
}

func (f *FailNth) OpenFile(name string, flag int, perm os.FileMode) (file, error) {
	if err := f.fail("open", name); err != nil {
		return nil, err
	}
	inner, err := f.osFiles.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &failFile{inner, f, name}, nil
}

func (f *FailNth) Rename(from, to string) error {
	if err := f.fail("rename", from); err != nil {
		return err
	}
	return f.osFiles.Rename(from, to)
}

func (f *FailNth) Remove(name string) error {
	if err := f.fail("remove", name); err != nil {
		return err
	}
	return f.osFiles.Remove(name)
}

func (f *FailNth) SyncDir(name string) error {
	if err := f.fail("sync", name); err != nil {
		return err
	}
	return f.osFiles.SyncDir(name)
}

type failFile struct {
	file
	f    *FailNth
	name string
}

func (f *failFile) Write(p []byte) (int, error) {
	if err := f.f.fail("write", f.name); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return f.file.Write(p)
}

func (f *failFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.fail("read", f.name); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *failFile) Datasync() error {
	if err := f.f.fail("fdatasync", f.name); err != nil {
		return err
	}
	return f.file.Datasync()
}
