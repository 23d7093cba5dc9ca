package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/goinquest/inquest"
	"golang.org/x/sys/unix"
)

const (
	cachePage = 4 << 10
	cacheSize = 512 // pages: 2 MiB
)

// memory reads a live process's memory through one open file, which stays
// that of the process when its pid is another's.
type memory struct {
	file *os.File
	page uint64
}

// openMemory opens the memory of a process.
func openMemory(pid int) (*memory, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		return nil, fmt.Errorf("open memory: %w", err)
	}
	return &memory{file: f, page: uint64(os.Getpagesize())}, nil
}

func (m *memory) Close() error { return m.file.Close() }

// ReadAt reads memory; what is not mapped or cannot be read is an error of
// kind inquest.ErrNotFound.
func (m *memory) ReadAt(p []byte, addr int64) (int, error) {
	n := 0
	for n < len(p) {
		k, err := unix.Pread(int(m.file.Fd()), p[n:], addr+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || k == 0 {
			return n, inquest.Errorf(inquest.ErrNotFound, "memory at %#x: %w", addr+int64(n), gone(err))
		}
		n += k
	}
	return n, nil
}

// errEnded is what reading the memory of a process that has ended gives.
var errEnded = errors.New("the process has ended")

// gone names the end of a process: its memory has no bytes then.
func gone(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}

// cache keeps pages of memory that does not change, for the many small reads
// that looking into a process takes. It is safe for concurrent use.
type cache struct {
	under io.ReaderAt
	mu    sync.Mutex
	pages map[int64]*[cachePage]byte
}

func newCache(r io.ReaderAt) *cache {
	return &cache{under: r, pages: map[int64]*[cachePage]byte{}}
}

// ReadAt answers small reads from pages that were read before.
func (c *cache) ReadAt(p []byte, addr int64) (int, error) {
	if len(p) > cachePage/2 || addr < 0 {
		return c.under.ReadAt(p, addr)
	}
	n := 0
	for n < len(p) {
		at := addr + int64(n)
		page, err := c.read(at &^ (cachePage - 1))
		if err != nil {
			return n, err
		}
		n += copy(p[n:], page[at&(cachePage-1):])
	}
	return n, nil
}

func (c *cache) read(base int64) (*[cachePage]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if page := c.pages[base]; page != nil {
		return page, nil
	}
	page := new([cachePage]byte)
	if _, err := c.under.ReadAt(page[:], base); err != nil {
		return nil, err
	}
	if len(c.pages) >= cacheSize {
		clear(c.pages)
	}
	c.pages[base] = page
	return page, nil
}
