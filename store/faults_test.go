package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// FaultMode says how calls of a Faults fail.
type FaultMode int

const (
	FailOnce  FaultMode = iota // one call of any kind, with EIO
	FailRead                   // one that reads
	FailWrite                  // one that does not
	FailFrom                   // one of any kind, and all later ones
	FullOnce                   // one that needs space, with ENOSPC; writes after a part was written
	FullFrom                   // it and all later ones
	NoCatalog                  // from a call that needs space on, the catalog cannot be written
	NumFaultModes
)

func (m FaultMode) String() string {
	return [...]string{"once", "read", "write", "from then on", "full once", "full", "catalog"}[m]
}

// concerns says whether calls of a kind fail.
func (m FaultMode) concerns(kind string) bool {
	switch m {
	case FailRead:
		return readCalls[kind]
	case FailWrite:
		return !readCalls[kind]
	case FullOnce, FullFrom, NoCatalog:
		return spaceCalls[kind]
	}
	return true
}

// Faults is a file system of which calls fail when told to. It counts them, so
// that every one there is can be made to fail.
type Faults struct {
	osFiles

	mu     sync.Mutex
	mode   FaultMode
	at     int // calls of the mode to let pass; negative: all
	failed []string
	reads  bool // one that failed was a read
	count  map[string]int
	mapped map[string]*os.File
	broken bool // the mapped files
}

// WithFaults makes a store use f.
func WithFaults(f *Faults) func(*Options) { return func(o *Options) { o.files = f } }

// Arm lets n more calls pass that the mode concerns.
func (f *Faults) Arm(mode FaultMode, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode, f.at, f.failed, f.reads, f.count = mode, n, nil, false, map[string]int{}
}

// Repair ends all faults.
func (f *Faults) Repair() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = -1
	f.setMapped(os.O_RDWR)
}

// Failed says what has failed since Arm, and whether one of it was reading.
func (f *Faults) Failed() (what string, reads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.failed, ", "), f.reads
}

// Counts is how many calls there were since Arm, by kind; those of "" are what
// the mode concerns.
func (f *Faults) Counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.count)
}

// Calls that need space on the disk.
var spaceCalls = map[string]bool{"create": true, "write": true, "sync": true, "syncdir": true, "rename": true, "mkdir": true, "commit": true}

var readCalls = map[string]bool{"open": true, "read": true, "stat": true, "size": true, "readdir": true}

// call counts a call and says how it fails.
func (f *Faults) call(kind, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[string]int{}
	}
	f.count[kind]++
	if !f.mode.concerns(kind) {
		return nil
	}
	if f.count[""]++; f.at < 0 {
		return nil
	}
	if f.at > 0 {
		f.at--
		return nil
	}
	errno := syscall.EIO
	switch f.mode {
	case FailOnce, FailRead, FailWrite:
		f.at = -1
	case FullOnce:
		f.at, errno = -1, syscall.ENOSPC
	case FullFrom:
		errno = syscall.ENOSPC
	case NoCatalog:
		if !f.broken {
			f.failed = append(f.failed, "catalog")
			f.setMapped(os.O_RDONLY)
		}
		return nil
	}
	f.reads = f.reads || readCalls[kind]
	if len(f.failed) < 5 {
		f.failed = append(f.failed, kind+" "+filepath.Base(name))
	}
	return &os.PathError{Op: kind, Path: name, Err: errno}
}

// setMapped puts another descriptor of the same file in the place of those
// that are mapped: of one that is read-only writes fail.
func (f *Faults) setMapped(flag int) {
	if broken := flag == os.O_RDONLY; broken == f.broken {
		return
	}
	f.broken = !f.broken
	for name, m := range f.mapped {
		fd := m.Fd()
		if fd == ^uintptr(0) { // closed
			delete(f.mapped, name)
			continue
		}
		other, err := unix.Open(fmt.Sprint("/proc/self/fd/", fd), flag, 0) // it may have another name by now
		if err == nil {
			err = errors.Join(unix.Dup3(other, int(fd), unix.O_CLOEXEC), unix.Close(other))
		}
		if err != nil {
			panic(fmt.Sprint("break ", name, ": ", err))
		}
	}
}

func (f *Faults) OpenFile(name string, flag int, perm os.FileMode) (file, error) {
	kind := "open"
	if flag&os.O_CREATE != 0 {
		kind = "create"
	}
	if err := f.call(kind, name); err != nil {
		return nil, err
	}
	inner, err := f.osFiles.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{inner, f, name}, nil
}

func (f *Faults) OpenMapped(name string, flag int, perm os.FileMode) (*os.File, error) {
	if err := f.call("open", name); err != nil {
		return nil, err
	}
	m, err := f.osFiles.OpenMapped(name, flag, perm)
	if err == nil && flag != os.O_RDONLY {
		f.mu.Lock()
		if f.mapped == nil {
			f.mapped = map[string]*os.File{}
		}
		f.mapped[name] = m
		f.mu.Unlock()
	}
	return m, err
}

// Commit fails after the transaction: then it is in the file, though nobody
// knows for how long. On a full disk it fails before.
func (f *Faults) Commit(name string, tx func() error) error {
	err := f.call("commit", name)
	if errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return errors.Join(tx(), err)
}

func (f *Faults) MkdirAll(name string, perm os.FileMode) error {
	if err := f.call("mkdir", name); err != nil {
		return err
	}
	return f.osFiles.MkdirAll(name, perm)
}

func (f *Faults) ReadDir(name string) ([]os.DirEntry, error) {
	if err := f.call("readdir", name); err != nil {
		return nil, err
	}
	return f.osFiles.ReadDir(name)
}

func (f *Faults) Stat(name string) (os.FileInfo, error) {
	if err := f.call("stat", name); err != nil {
		return nil, err
	}
	return f.osFiles.Stat(name)
}

func (f *Faults) Rename(from, to string) error {
	if err := f.call("rename", from); err != nil {
		return err
	}
	return f.osFiles.Rename(from, to)
}

func (f *Faults) Remove(name string) error {
	if err := f.call("remove", name); err != nil {
		return err
	}
	return f.osFiles.Remove(name)
}

func (f *Faults) SyncDir(name string) error {
	if err := f.call("syncdir", name); err != nil {
		return err
	}
	return f.osFiles.SyncDir(name)
}

func (f *Faults) Free(dir string) (int64, error) {
	if err := f.call("free", dir); err != nil {
		return 0, err
	}
	return f.osFiles.Free(dir)
}

type faultFile struct {
	file
	f    *Faults
	name string
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.f.call("write", f.name); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, err
	}
	return f.file.Write(p)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.f.call("write", f.name); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.call("read", f.name); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *faultFile) Datasync() error {
	if err := f.f.call("sync", f.name); err != nil {
		return err
	}
	return f.file.Datasync()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.f.call("truncate", f.name); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultFile) Size() (int64, error) {
	if err := f.f.call("size", f.name); err != nil {
		return 0, err
	}
	return f.file.Size()
}
