package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/buildinfo"
	"github.com/goinquest/inquest/internal/demo"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

// collector is the running parts.
type collector struct {
	o   *options
	log *slog.Logger

	listener net.Listener
	store    *store.Store
	crashes  *ingest.Crashes
	vulns    vulns
	web      *web.Server
	agent    *agent.Agent

	scrapeMu sync.Mutex // held while what is scraped changes
	scrape   agent.Config
	fleet    []demo.Target // of -demo, scraped besides

	// stops undo what open did, in the order it was done.
	stops []stop
}

// stop ends one part within its context.
type stop struct {
	part string
	do   func(context.Context) error
}

// open starts all parts. When one cannot start, those before it are stopped.
func open(ctx context.Context, o *options, log *slog.Logger) (*collector, error) {
	c := &collector{o: o, log: log}
	if err := c.start(ctx); err != nil {
		if serr := c.stop(); serr != nil {
			log.Warn("stop what had started", inquest.LogErr, serr)
		}
		return nil, err
	}
	return c, nil
}

func (c *collector) start(ctx context.Context) error {
	// The address comes first: whether it is free is known at once, while
	// opening the store may take a moment.
	if err := c.listen(ctx); err != nil {
		return err
	}
	registry, err := newRegistry()
	if err != nil {
		return err
	}
	if err := c.openStore(ctx, registry); err != nil {
		return err
	}
	if err := c.startWeb(registry); err != nil {
		return err
	}
	return c.startAgent(registry)
}

func (c *collector) listen(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", c.o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("address %s is in use, perhaps by another collector; choose another one with -listen, as in -listen 127.0.0.1:0 for any free port", c.o.Listen)
	}
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	c.listener = ln
	c.stops = append(c.stops, stop{"listener", func(context.Context) error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the server has closed it
	}})
	return nil
}

// newRegistry makes the registry of /metrics with what is known of every Go
// process, and of this build.
func newRegistry() (*prometheus.Registry, error) {
	info := buildinfo.Read()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "inquest_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": info.Version, "revision": info.Revision, "goversion": info.Go},
	})
	build.Set(1)
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return r, nil
}

func (c *collector) openStore(ctx context.Context, registry *prometheus.Registry) error {
	s, err := store.Open(ctx, store.Options{
		Dir:        storeDir(c.o.Data),
		Logger:     c.log,
		Registerer: registry,
		Epoch:      c.o.Epoch,
		Retention:  c.o.retention(),

		BinaryBytes: c.o.MaxBinary,
		HeadBytes:   c.o.budget.heads,
		LogBytes:    c.o.budget.logBytes(),
		CacheBytes:  c.o.budget.caches,
		KeyBytes:    c.o.budget.keys,
		MergeBytes:  c.o.budget.blocks,

		RollupLabels: c.o.RollupLabels,
	})
	if err != nil {
		return openError(err, c.o.Data)
	}
	c.store = s
	c.stops = append(c.stops, stop{"store", func(ctx context.Context) error { return within(ctx, s.Close) }})
	return nil
}

// openError says what can be done about data that cannot be opened.
func openError(err error, data string) error {
	err = fmt.Errorf("open the data in %s: %w", data, err)
	if errors.Is(err, store.ErrCatalog) {
		return fmt.Errorf("%w; this makes it again: collector check -repair -data %s", err, data)
	}
	return err
}

func (c *collector) startWeb(registry *prometheus.Registry) error {
	b := c.o.budget
	if b.bodyBytes < c.o.MaxBody && c.o.set.Lookup("max-body").Source() != "default" {
		c.log.Warn("bodies of -max-body do not fit the memory there is", "max_body", c.o.MaxBody, "taken", b.bodyBytes, "memory", b.total)
	}
	in := ingest.New(ingest.Options{
		Store:        c.store,
		Logger:       c.log,
		Registerer:   registry,
		MaxBodyBytes: b.bodyBytes,
		Limits:       profile.Limits{MaxRawBytes: b.rawBytes},
		Decoders:     b.decoders,
		WaitingBytes: b.waiting,
		Retention:    c.o.Retention,
	})
	binaries, err := ingest.NewBinaries(ingest.BinariesOptions{
		Store: c.store, Logger: c.log, Upstreams: c.o.Debuginfod.URLs, UpstreamBytes: int64(c.o.Debuginfod.MaxBytes),
		TableBytes: b.tables, UpstreamTimeout: time.Duration(c.o.Debuginfod.Timeout), UpstreamPause: time.Duration(c.o.Debuginfod.Pause),
	})
	if err != nil {
		return usage(err)
	}
	c.stops = append(c.stops, stop{"binaries", func(ctx context.Context) error {
		return within(ctx, func() error { binaries.Stop(); return nil })
	}})
	if c.crashes, err = ingest.NewCrashes(ingest.CrashesOptions{Store: c.store, Logger: c.log, Capture: c.o.capture()}); err != nil {
		return usage(c.o.set.InSection("capture", err))
	}
	analyses := ingest.NewAnalyses(ingest.AnalysesOptions{
		Store: c.store, Binaries: binaries, Crashes: c.crashes, Logger: c.log, Unconfined: c.o.Analysis.Unconfined,
	})
	analyses.Start()
	c.stops = append(c.stops, stop{"analyses", func(ctx context.Context) error {
		return within(ctx, func() error { analyses.Stop(); return nil })
	}})
	engine := query.New(query.Options{Store: c.store, MemoryBytes: b.queries, Symbols: binaries})
	if err := b.register(registry, c.store, engine); err != nil {
		return err
	}
	if err := c.vulns.read(c.o.Vulns); err != nil {
		return usage(fmt.Errorf("flag -vulns: %w", err))
	}
	info := buildinfo.Read()
	w, err := web.New(web.Options{
		Store:           c.store,
		Ingest:          in,
		Fleet:           ingest.NewFleet(ingest.FleetOptions{Logger: c.log, Builds: c.store.PutBuilds, Missing: binaries.Lease, Capture: c.crashes.Policy}),
		Crashes:         c.crashes,
		Analyses:        analyses,
		Binaries:        binaries,
		Vulnerabilities: c.vulns.of,
		Query:           engine,
		Logger:          c.log,
		Registry:        registry,
		Version:         info.Version,
		Revision:        info.Revision,
		Listen:          c.o.Listen,
		Hosts:           c.o.Hosts,
		Tokens:          c.o.webTokens(),
		TLSCertFile:     c.o.TLSCert,
		TLSKeyFile:      c.o.TLSKey,
		MaxBodyBytes:    b.bodyBytes,
		QueryTimeout:    c.o.QueryTimeout,

		BodyMemoryBytes: b.bodies,
		MaxConnections:  b.connections,
	})
	if err != nil {
		return usage(err)
	}
	if err := w.Start(c.listener); err != nil {
		return err
	}
	c.web = w
	c.stops = append(c.stops, stop{"server", w.Stop})
	return nil
}

// url is where people open the collector.
func (c *collector) url() string {
	scheme := "http"
	if c.o.TLSCert != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(c.listener.Addr().String())
	if err != nil {
		return scheme + "://" + c.listener.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// serve waits until ctx ends or the server fails, and reloads on hangup.
func (c *collector) serve(ctx context.Context, level *slog.LevelVar, hangup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			c.log.Info("stopping")
			return nil
		case err := <-c.web.Done():
			return fmt.Errorf("serve: %w", err)
		case <-hangup:
			c.reload(level)
		}
	}
}

// stop ends all parts, the newest first. Half of the time there is goes to
// requests and to the agent; the store, which comes last, gets what is left.
func (c *collector) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.o.ShutdownTimeout)
	defer cancel()
	early, cancelEarly := context.WithTimeout(ctx, c.o.ShutdownTimeout/2)
	defer cancelEarly()
	var errs []error
	for i := len(c.stops) - 1; i >= 0; i-- {
		s, ctx := c.stops[i], ctx
		if s.part != "store" {
			ctx = early
		}
		began := time.Now()
		if err := s.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.part, err))
		}
		c.log.Debug("stopped", "part", s.part, inquest.LogDur, time.Since(began))
	}
	c.stops = nil
	return errors.Join(errs...)
}

// within waits for do until ctx ends.
func within(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("not done in the time there was; what was acknowledged is in the log and will be read at the next start")
	}
}
