package fleet

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"time"
)

// Item is one profile to send.
type Item struct {
	Service, Instance, Process, Kind string
	Release, Build                   string // "" in a fleet without releases
	Start, End                       time.Time
	Interval                         time.Duration // until the next of its kind; 0 means a minute
	Zstd                             bool          // Body is zstd, else gzip
	Body                             []byte        // the caller's own
}

// Request is the request that pushes the item to the collector at base, as an
// agent would: amounts are of [Start, End).
func (it *Item) Request(ctx context.Context, base string) (*http.Request, error) {
	interval := it.Interval
	if interval == 0 {
		interval = time.Minute
	}
	q := url.Values{
		"service": {it.Service}, "instance": {it.Instance}, "process": {it.Process}, "kind": {it.Kind},
		"temporality": {"delta"}, "interval": {interval.String()},
		"start": {it.Start.UTC().Format(time.RFC3339Nano)}, "end": {it.End.UTC().Format(time.RFC3339Nano)},
	}
	if it.Release != "" {
		q.Set("release", it.Release)
		q.Set("build", it.Build)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/v1/profiles?"+q.Encode(), bytes.NewReader(it.Body))
	if err == nil && it.Zstd {
		req.Header.Set("Content-Encoding", "zstd")
	}
	return req, err
}
