package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"

	"github.com/goinquest/inquest"
)

const (
	firstBodyBytes = 64 << 10  // what a body of unknown length is given at first
	maxPooledBytes = 256 << 10 // larger buffers are not kept
	bodyPatience   = 5 * time.Second
)

// bodies receives request bodies into buffers that are used again, and bounds
// the memory of all of them together.
type bodies struct {
	max     int64 // bytes of one body
	timeout time.Duration
	memory  *semaphore.Weighted // in bytes
	pool    sync.Pool           // of *[]byte
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

// release gives the buffer back.
func (b *body) release() {
	b.from.memory.Release(b.reserved)
	b.reserved = 0
	if cap(b.bytes) <= maxPooledBytes {
		buf := b.bytes[:0]
		b.from.pool.Put(&buf)
	}
	b.bytes = nil
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
	first := int64(firstBodyBytes)
	if r.ContentLength > 0 {
		first = min(r.ContentLength+1, 4*firstBodyBytes) // +1: room to meet the end
	}
	if !bs.acquire(r.Context(), first) {
		return nil, bs.busy()
	}
	b := &body{from: bs, reserved: first}
	if buf, ok := bs.pool.Get().(*[]byte); ok && b.reserve(int64(cap(*buf))) {
		b.bytes = *buf
	}
	if int64(cap(b.bytes)) < first {
		b.bytes = make([]byte, 0, first)
	}
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
