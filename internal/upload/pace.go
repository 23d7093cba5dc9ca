package upload

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	paceStep  = 32 << 10               // read at once
	paceBurst = 250 * time.Millisecond // a reader that was held up catches up on so much at most
)

// Pacer bounds how many bytes a second are read by all of its readers
// together. It is safe for use by several goroutines.
type Pacer struct {
	rate int64 // bytes a second; 0: no bound

	mu    sync.Mutex
	start time.Time
	read  int64 // since start, which moves
}

// NewPacer returns a Pacer of so many bytes a second; 0: no bound.
func NewPacer(rateBytes int64) *Pacer { return &Pacer{rate: rateBytes, start: time.Now()} }

// Reader reads r no faster than that, until ctx ends. sent is told how many
// bytes were read of r in all; it may be nil, and must not block.
func (p *Pacer) Reader(ctx context.Context, r io.Reader, sent func(n int64)) io.Reader {
	return &pacedReader{pacer: p, ctx: ctx, r: r, sent: sent}
}

// pacedReader is a reader of a Pacer.
type pacedReader struct {
	pacer *Pacer
	ctx   context.Context
	r     io.Reader
	total int64
	sent  func(n int64)
}

func (r *pacedReader) Read(b []byte) (int, error) {
	if r.pacer.rate > 0 {
		b = b[:min(len(b), paceStep)]
		if err := r.pacer.wait(r.ctx, int64(len(b))); err != nil {
			return 0, err
		}
	}
	n, err := r.r.Read(b)
	r.total += int64(n)
	if n > 0 && r.sent != nil {
		r.sent(r.total)
	}
	return n, err
}

// wait waits until what was read is not more than what may have been, and
// counts n bytes more.
func (p *Pacer) wait(ctx context.Context, n int64) error {
	now := time.Now()
	p.mu.Lock()
	due := p.start.Add(time.Duration(float64(p.read) / float64(p.rate) * float64(time.Second)))
	if late := now.Sub(due); late > paceBurst {
		p.start, p.read = now.Add(-paceBurst), 0
		due = p.start
	}
	p.read += n
	p.mu.Unlock()
	if !due.After(now) {
		return nil
	}
	timer := time.NewTimer(due.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
