package capture

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// chunkBytes is how much memory is read at a time.
const chunkBytes = 512 << 10

// buffers are a fixed amount of memory that copies share. It is not of Go's
// heap: it neither waits for garbage to be collected nor stays when nothing is
// copied.
type buffers struct {
	count int

	mu    sync.Mutex
	users int
	arena []byte
	free  chan []byte
}

func newBuffers(bytes int64) *buffers {
	return &buffers{count: int(max(bytes/chunkBytes, 4))}
}

// open must be called before get, and close after everything was put back.
func (b *buffers) open() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == 0 {
		arena, err := unix.Mmap(-1, 0, b.count*chunkBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return fmt.Errorf("get %d bytes for copies: %w", b.count*chunkBytes, err)
		}
		b.arena = arena
		b.free = make(chan []byte, b.count)
		for i := range b.count {
			b.free <- arena[i*chunkBytes : (i+1)*chunkBytes : (i+1)*chunkBytes]
		}
	}
	b.users++
	return nil
}

func (b *buffers) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users--; b.users == 0 {
		_ = unix.Munmap(b.arena) // it was mapped by open, so there is no error
		b.arena, b.free = nil, nil
	}
}

// get waits for a chunk. The last one that a copy gets while others have the
// rest comes from those that pack, so there is always one again.
func (b *buffers) get() []byte { return <-b.free }

func (b *buffers) put(chunk []byte) { b.free <- chunk[:chunkBytes] }
