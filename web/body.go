package web

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"

	"github.com/goinquest/inquest"
)

const (
	firstBodyBytes = 64 << 10 // what a body of unknown length is given at first
	leastBodyBits  = 12       // buffers that are used again have 4 KiB,
	mostBodyBits   = 18       // twice that and so on, up to 256 KiB
	bodyPatience   = 5 * time.Second
)

// bodies receives request bodies into buffers that are used again, and bounds
// the memory of all of them together. There is a pool for each size: in a
// common one all buffers would become as large as the largest body.
type bodies struct {
	max     int64 // bytes of one body
	timeout time.Duration
	memory  *semaphore.Weighted                         // in bytes
	pools   [mostBodyBits - leastBodyBits + 1]sync.Pool // of *body
}

func newBodies(o Options) *bodies {
	return &bodies{max: o.MaxBodyBytes, timeout: o.BodyTimeout, memory: semaphore.NewWeighted(o.BodyMemoryBytes)}
}

// body is a received request body. Bytes are valid until release.
type body struct {
	from     *bodies
	bytes    []byte
	reserved int64
}

// bodyClass is the pool of buffers with at least size bytes.
func bodyClass(size int64) int {
	return min(max(bits.Len64(uint64(size-1)), leastBodyBits), mostBodyBits) - leastBodyBits
}

// get returns an empty body of a class. Its memory is reserved.
func (bs *bodies) get(class int) *body {
	b, ok := bs.pools[class].Get().(*body)
	if !ok {
		b = &body{from: bs, bytes: make([]byte, 0, 1<<(leastBodyBits+class))}
	}
	b.reserved = int64(cap(b.bytes))
	return b
}

// release gives the buffer back. The body is another one's afterwards.
func (b *body) release() {
	b.from.memory.Release(b.reserved)
	b.bytes, b.reserved = b.bytes[:0], 0
	if size := int64(cap(b.bytes)); size == 1<<(leastBodyBits+bodyClass(size)) { // else it had to grow
		b.from.pools[bodyClass(size)].Put(b)
	}
}

// read receives the body of a request, which must be released. The errors are
// ErrTooLarge, ErrBusy (too much is being received), ErrInvalid (it ended
// early or came too slowly).
func (bs *bodies) read(c echo.Context) (*body, error) {
	r := c.Request()
	if r.ContentLength > bs.max {
		return nil, bs.tooLarge()
	}
	// Only what arrives is reserved: a sender that announces much and sends
	// nothing holds little.
	class := bodyClass(firstBodyBytes)
	if r.ContentLength > 0 {
		class = bodyClass(r.ContentLength + 1) // +1: room to meet the end
	}
	if !bs.acquire(r.Context(), 1<<(leastBodyBits+class)) {
		return nil, bs.busy()
	}
	b := bs.get(class)
	control := http.NewResponseController(c.Response().Writer)
	// A connection that cannot have deadlines (LocalClient's) needs none.
	_ = control.SetReadDeadline(time.Now().Add(bs.timeout))
	if err := b.fill(http.MaxBytesReader(c.Response().Writer, r.Body, bs.max), r.ContentLength); err != nil {
		// What is left of the body is not waited for.
		c.Response().Header().Set(echo.HeaderConnection, "close")
		b.release()
		return nil, err
	}
	_ = control.SetReadDeadline(time.Time{}) // it was for the body alone
	return b, nil
}

// acquire waits for memory as long as its patience lasts.
func (bs *bodies) acquire(ctx context.Context, n int64) bool {
	if bs.memory.TryAcquire(n) { // as usual: no timer is needed
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, bodyPatience)
	defer cancel()
	return bs.memory.Acquire(ctx, n) == nil
}

// fill reads until the end of r, reserving memory as it goes.
func (b *body) fill(r io.Reader, announced int64) error {
	for {
		if len(b.bytes) == cap(b.bytes) {
			size := min(2*int64(cap(b.bytes)), b.from.max+1)
			if announced > 0 && announced < size {
				size = announced + 1
			}
			if err := b.grow(size); err != nil {
				return err
			}
		}
		n, err := r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return b.from.readError(err, len(b.bytes))
		}
	}
}

// grow makes room for size bytes in all.
func (b *body) grow(size int64) error {
	size = max(size, int64(len(b.bytes))+1)
	if !b.reserve(size) {
		return b.from.busy()
	}
	larger := make([]byte, len(b.bytes), size)
	copy(larger, b.bytes)
	b.bytes = larger
	return nil
}

// reserve sees to it that size bytes are reserved in all, if that is possible at
// once: waiting, with memory held, could last for ever, as others do the same.
func (b *body) reserve(size int64) bool {
	more := size - b.reserved
	if more > 0 {
		if !b.from.memory.TryAcquire(more) {
			return false
		}
		b.reserved = size
	}
	return true
}

func (bs *bodies) tooLarge() error {
	return inquest.Errorf(inquest.ErrTooLarge, "the body exceeds %d bytes (max_body_bytes of the collector)", bs.max)
}

func (bs *bodies) busy() error {
	return inquest.Errorf(inquest.ErrBusy, "too many bodies are being received at once; try again in a moment")
}

// readError says what went wrong after so many bytes.
func (bs *bodies) readError(err error, after int) error {
	var big *http.MaxBytesError
	var slow interface{ Timeout() bool }
	switch {
	case errors.As(err, &big):
		return bs.tooLarge()
	case errors.As(err, &slow) && slow.Timeout():
		return inquest.Errorf(inquest.ErrInvalid, "the body did not arrive within %v (%d bytes did)", bs.timeout, after)
	}
	return inquest.Errorf(inquest.ErrInvalid, "the body ended early, after %d bytes: %v", after, err)
}
