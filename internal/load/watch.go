package load

import (
	"context"
	"sync"
	"time"
)

// watch reads a collector's metrics every second and keeps the highest values.
type watch struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	most   Metrics // valid after stop
}

func newWatch(ctx context.Context, c *Client) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, most: Metrics{}}
	w.done.Go(func() {
		for {
			// A collector too busy to answer is read again in a second.
			if m, err := c.Metrics(ctx); err == nil {
				for name, v := range m {
					w.most[name] = max(w.most[name], v)
				}
			}
			if !sleep(ctx, time.Second) {
				return
			}
		}
	})
	return w
}

// stop ends the watch; most may be read then.
func (w *watch) stop() {
	w.cancel()
	w.done.Wait()
}
