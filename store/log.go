package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// logFile is one numbered file of the log.
type logFile struct {
	number uint64
	path   string
	size   int64
	epochs map[uint64]struct{} // open epochs that have records in it
}

// logSet is the log: files in ascending order, of which the last may be open
// for appending. Only the committer appends.
type logSet struct {
	ops fileOps
	dir string

	mu     sync.Mutex
	files  []*logFile
	active *logFile
	next   uint64 // number of the next file

	f    file // of active; the committer's
	sync bool // the directory's entry of active is not durable yet
}

// openLog lists the files of a directory.
func openLog(ops fileOps, dir string, next uint64) (*logSet, error) {
	if err := ops.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	files, err := listLog(ops, dir)
	if err != nil {
		return nil, err
	}
	l := &logSet{ops: ops, dir: dir, files: files, next: next}
	if n := len(files); n > 0 {
		l.next = max(l.next, files[n-1].number+1)
	}
	return l, nil
}

// listLog lists the files of a log in order.
func listLog(ops fileOps, dir string) ([]*logFile, error) {
	entries, err := ops.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list log: %w", err)
	}
	var files []*logFile
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), logSuffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(name, 10, 64)
		if err != nil {
			continue
		}
		info, err := ops.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("list log: %w", err)
		}
		files = append(files, &logFile{n, filepath.Join(dir, e.Name()), info.Size(), map[uint64]struct{}{}})
	}
	slices.SortFunc(files, func(a, b *logFile) int { return cmp.Compare(a.number, b.number) })
	return files, nil
}

func logHeader(number uint64) []byte {
	b := append(make([]byte, 0, logHeaderSize), magicLogFile...)
	b = binary.LittleEndian.AppendUint32(b, logVersion)
	b = binary.LittleEndian.AppendUint64(b, number)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

var errVersion = errors.New("written by a program of format version")

// readLogHeader returns the file number of a header.
func readLogHeader(b []byte) (uint64, error) {
	switch {
	case len(b) < logHeaderSize:
		return 0, errors.New("header is cut off")
	case string(b[:4]) != magicLogFile:
		return 0, errors.New("not a log file")
	case checksum(b[:16]) != binary.LittleEndian.Uint32(b[16:]):
		return 0, errors.New("header is damaged")
	case binary.LittleEndian.Uint32(b[4:]) != logVersion:
		return 0, fmt.Errorf("%w %d, this one reads %d", errVersion, binary.LittleEndian.Uint32(b[4:]), logVersion)
	}
	return binary.LittleEndian.Uint64(b[8:]), nil
}

// append writes one frame with records of the given epochs and makes it
// durable. After an error nothing more goes to that file.
func (l *logSet) append(frame []byte, epochs func(yield func(uint64))) error {
	if l.f == nil {
		if err := l.create(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	epochs(func(e uint64) { l.active.epochs[e] = struct{}{} })
	l.mu.Unlock()
	n, err := l.f.Write(frame)
	if err == nil && n < len(frame) {
		err = errors.New("short write")
	}
	if err == nil {
		err = l.f.Datasync()
	}
	if err == nil && l.sync {
		// Without its directory entry the file would be lost with what was
		// just acknowledged.
		if err = l.ops.SyncDir(l.dir); err == nil {
			l.sync = false
		}
	}
	if err != nil {
		l.abandon()
		return fmt.Errorf("append to log: %w", err)
	}
	l.mu.Lock()
	l.active.size += int64(len(frame))
	l.mu.Unlock()
	return nil
}

func (l *logSet) create() error {
	l.mu.Lock()
	n := l.next
	l.next++
	l.mu.Unlock()
	path := filepath.Join(l.dir, fmt.Sprintf("%08d%s", n, logSuffix))
	f, err := l.ops.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("create log file: %w", err)
	}
	if _, err := f.Write(logHeader(n)); err != nil {
		_ = f.Close() // the write error is the one to report
		_ = l.ops.Remove(path)
		return fmt.Errorf("create log file: %w", err)
	}
	l.f, l.sync = f, true
	l.mu.Lock()
	l.active = &logFile{n, path, logHeaderSize, map[uint64]struct{}{}}
	l.files = append(l.files, l.active)
	l.mu.Unlock()
	return nil
}

// abandon gives up the active file after a failed write, cutting off what was
// not acknowledged as far as the disk lets us; replay copes with the rest.
func (l *logSet) abandon() {
	l.mu.Lock()
	size := l.active.size
	l.active = nil
	l.mu.Unlock()
	if err := l.f.Truncate(size); err == nil {
		_ = l.f.Datasync() // best effort, see above
	}
	_ = l.f.Close()
	l.f = nil
}

// rotate ends the active file, so that it can go once its epochs are closed.
// Only the committer calls it.
func (l *logSet) rotate() error {
	if l.f == nil {
		return nil
	}
	l.mu.Lock()
	l.active = nil
	l.mu.Unlock()
	err := l.f.Close()
	l.f = nil
	return err
}

// activeSize is the size of the file appended to.
func (l *logSet) activeSize() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == nil {
		return 0
	}
	return l.active.size
}

// bytes is the size of all files.
func (l *logSet) bytes() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		n += f.size
	}
	return n
}

// oldest returns the open epochs with records in the oldest file.
func (l *logSet) oldest() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.files) == 0 {
		return nil
	}
	var out []uint64
	for e := range l.files[0].epochs {
		out = append(out, e)
	}
	return out
}

// note says that a file has records of an epoch that is open: replay found
// some.
func (l *logSet) note(f *logFile, epoch uint64) {
	l.mu.Lock()
	f.epochs[epoch] = struct{}{}
	l.mu.Unlock()
}

// release forgets closed epochs and deletes the oldest files, as far as no
// open epoch needs them and mayDelete allows. A file in the middle stays, so
// that commits are numbered without a gap. A file counts as there until its
// deletion is durable: the catalog forgets closed epochs after that.
func (l *logSet) release(closed []uint64, mayDelete func(number uint64) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		for _, e := range closed {
			delete(f.epochs, e)
		}
	}
	n := 0
	for n < len(l.files) && len(l.files[n].epochs) == 0 && l.files[n] != l.active && mayDelete(l.files[n].number) {
		if err := l.ops.Remove(l.files[n].path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove log file: %w", err)
		}
		n++
	}
	if n == 0 {
		return nil
	}
	if err := l.ops.SyncDir(l.dir); err != nil {
		return fmt.Errorf("sync log directory: %w", err)
	}
	l.files = slices.Clone(l.files[n:])
	return nil
}

// lowest is the number of the oldest file there is.
func (l *logSet) lowest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.files) == 0 {
		return l.next
	}
	return l.files[0].number
}

// highest is the number of the newest file there has been.
func (l *logSet) highest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.next, 1) - 1
}
