package load

import (
	"context"
	"time"
)

// A collector that has just started may not know yet what it has to do, so it
// must have had nothing to do so many times in a row.
const (
	settlePoll  = 500 * time.Millisecond
	settleTimes = 3
)

// Settle waits until the collector has written all it holds in memory to
// blocks, and merged and rolled these up, as far as it says what it has to do.
// After bound it gives up, which is no error.
func (c *Client) Settle(ctx context.Context, bound time.Duration, progress func(what string, done, total int)) error {
	idle := 0
	for began := time.Now(); time.Since(began) < bound; {
		m, err := c.Metrics(ctx)
		if err != nil {
			return err
		}
		if idle++; m[metricHeads]+m[metricPending] > 0 {
			idle = 0
		}
		if idle == settleTimes {
			break
		}
		progress("waiting for blocks, seconds", int(time.Since(began).Seconds()), int(bound.Seconds()))
		if !sleep(ctx, settlePoll) {
			return context.Cause(ctx)
		}
	}
	return nil
}
