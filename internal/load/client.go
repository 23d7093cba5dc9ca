// Package load sends the profiles of a simulated fleet to a collector and asks
// it the questions people ask, to learn what that takes. `inquest load` is this
// package with flags, and the benchmark measures with it.
//
// Bodies are made while they are sent and kept no longer, so memory does not
// grow with their number. It needs nothing but the collector's public API and
// its /metrics; of a collector on the same machine it also reads the peak of
// its memory from the kernel.
package load

import "github.com/goinquest/inquest/internal/remote"

// Client reaches the collector that is measured.
type Client struct{ *remote.Client }

// NewClient is as remote.New.
func NewClient(o remote.Options) (*Client, error) {
	o.Scopes = "scopes ingest and read"
	c, err := remote.New(o)
	return &Client{c}, err
}
