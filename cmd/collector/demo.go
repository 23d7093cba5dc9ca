package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/demo"
)

// runDemo runs a collector whose data is gone afterwards, with a small fleet
// of services beside it.
func runDemo(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "inquest-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer os.RemoveAll(dir)
	if o.set.Lookup("log-level").Source() == "default" {
		o.Log.Level = "warn" // the demo says itself what happens
	}
	if o.Data == "" {
		o.Data = filepath.Join(dir, "data")
	}
	return runCollector(ctx, o, stdout, stderr, func(ctx context.Context, c *collector) func() {
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() { c.runFleet(ctx, ended, dir, stdout) })
		return func() {
			cancel()
			close(ended)
			wait.Wait()
		}
	})
}

// runFleet builds and starts the services, unless ctx ends first, has them
// scraped and stops them when the collector has ended. The collector serves all
// the while, and its agent stops before the services, so that it does not miss
// them.
func (c *collector) runFleet(ctx context.Context, ended <-chan struct{}, dir string, stdout io.Writer) {
	say := func(format string, args ...any) { fmt.Fprintf(stdout, "demo: "+format+"\n", args...) }
	say("building the services; until they run, the collector shows itself")
	f, err := demo.Start(ctx, demo.Options{Dir: dir, Say: say, Logger: c.log})
	if err != nil {
		if ctx.Err() == nil {
			c.log.Error("the demo goes on without services", inquest.LogErr, err)
		}
		return
	}
	defer f.Stop()
	if err := c.setFleet(f.Targets()); err != nil {
		c.log.Error("the demo's services are not scraped", inquest.LogErr, err)
	}
	say("the first flame graphs of the services are there in about 20 s: open %s/explore?%s", c.url(), url.Values{
		"query": {`{service="catalog"}`}, "type": {"cpu"}, "from": {"-15m"}, "by": {"release"}, "auto": {"10"},
	}.Encode())
	<-ended
}
