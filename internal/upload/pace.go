package upload

import (
	"context"
	"io"
	"time"
)

const (
	paceStep  = 32 << 10               // read at once
	paceBurst = 250 * time.Millisecond // a reader that was held up catches up on so much at most
)

// pacedReader reads no faster than rate, and tells how far it is.
type pacedReader struct {
	ctx   context.Context
	r     io.Reader
	rate  int64 // bytes a second; 0: no bound
	start time.Time
	read  int64 // since start, which moves
	total int64
	sent  func(n int64) // n bytes were read in all
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if p.rate > 0 {
		b = b[:min(len(b), paceStep)]
		if err := p.wait(); err != nil {
			return 0, err
		}
	}
	n, err := p.r.Read(b)
	p.read += int64(n)
	p.total += int64(n)
	if n > 0 {
		p.sent(p.total)
	}
	return n, err
}

// wait waits until what was read is not more than what may have been.
func (p *pacedReader) wait() error {
	due := p.start.Add(time.Duration(float64(p.read) / float64(p.rate) * float64(time.Second)))
	now := time.Now()
	if late := now.Sub(due); late > paceBurst {
		p.start, p.read = now.Add(-paceBurst), 0
		return nil
	}
	if !due.After(now) {
		return nil
	}
	timer := time.NewTimer(due.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}
