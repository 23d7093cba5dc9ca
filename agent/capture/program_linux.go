package capture

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// exeKey names one executable file as it is now.
type exeKey struct {
	dev, ino    uint64
	size, mtime int64
}

// program is what was found out of an executable. It keeps the file open, so
// that functions are found when the file was deleted meanwhile.
type program struct {
	build *inquest.Build // nil: not of Go
	funcs *symbolize.Functions
	file  *os.File
	size  int64 // of it
	users int   // and one while it is in the cache
	used  uint64
}

// maxPrograms bounds how many executables are kept open.
const maxPrograms = 16

// programs remembers executables. It is safe for concurrent use.
type programs struct {
	mu    sync.Mutex
	known map[exeKey]*program
	clock uint64
}

// open looks at the executable of a process, once per file. release must be
// called when the program is not needed any more. A program of anything but
// Go has no build.
func (ps *programs) open(pid int) (p *program, release func(), err error) {
	name := fmt.Sprintf("/proc/%d/exe", pid)
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, processError(fmt.Errorf("open executable: %w", err))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	key := exeKey{size: info.Size(), mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		key.dev, key.ino = uint64(st.Dev), st.Ino
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.clock++
	if p = ps.known[key]; p != nil {
		err = f.Close()
	} else {
		p = inspect(f, info.Size())
		p.users = 1
		ps.evict()
		ps.known[key] = p
	}
	p.used = ps.clock
	p.users++
	return p, func() { ps.release(p) }, err
}

// inspect reads what an executable says of itself.
func inspect(f *os.File, size int64) *program {
	p := &program{file: f, size: size}
	b, err := symbolize.ReadBuild(f)
	if err != nil {
		return p
	}
	p.build = b
	if p.funcs, err = symbolize.OpenFunctions(f, size); err != nil {
		p.funcs = nil // of Go before 1.20, or damaged: there are no names then
	}
	return p
}

func (ps *programs) release(p *program) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.users--; p.users == 0 {
		_ = p.file.Close() // only read
	}
}

// evict makes room for one more.
func (ps *programs) evict() {
	if len(ps.known) < maxPrograms {
		return
	}
	var oldest exeKey
	for k, p := range ps.known {
		if o := ps.known[oldest]; o == nil || p.used < o.used {
			oldest = k
		}
	}
	p := ps.known[oldest]
	delete(ps.known, oldest)
	if p.users--; p.users == 0 {
		_ = p.file.Close() // only read
	}
}

// close forgets all.
func (ps *programs) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for k, p := range ps.known {
		delete(ps.known, k)
		if p.users--; p.users == 0 {
			_ = p.file.Close() // only read
		}
	}
}

// exePath is where an executable was, as the kernel spells it. The suffix of
// one that was deleted is taken off.
func exePath(pid int) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return clip(strings.TrimSuffix(name, deletedSuffix))
}
