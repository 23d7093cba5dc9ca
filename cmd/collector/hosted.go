package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/buildinfo"
	"github.com/goinquest/inquest/internal/demo"
)

// startAgent starts the agent in this process: it takes profiles of the
// collector itself and of what the configuration names, and speaks to the
// server over no network.
func (c *collector) startAgent(registry *prometheus.Registry) error {
	if err := c.checkCapture(c.o.Scrape); err != nil {
		return err
	}
	c.scrape = c.o.Scrape
	a, err := agent.New(agent.Options{
		Collector:  "http://collector",
		HTTPClient: c.web.LocalClient(),
		SpoolDir:   filepath.Join(c.o.Data, "agent"),
		Version:    buildinfo.Read().Version,
		Config:     c.effectiveScrape(),
		Logger:     c.log,
		Registerer: registry,
	})
	if err != nil {
		return usage(c.o.set.InSection("scrape", err))
	}
	c.agent = a
	c.stops = append(c.stops, stop{"agent", func(ctx context.Context) error {
		a.Stop(ctx)
		return nil
	}})
	return a.Start(context.Background())
}

// checkCapture refuses to have the kernel give its cores to the collector: they
// go to a program of their own, which has the helpers that this takes.
func (c *collector) checkCapture(config agent.Config) error {
	switch config.Capture.Mode {
	case "", corepattern.ModeOff, corepattern.ModeDirectory, corepattern.ModeSystemd:
		return nil
	}
	return usage(c.o.set.InSection("scrape", inquest.Errorf(inquest.ErrInvalid,
		"capture.mode: %q: the agent inside the collector reads files only, want directory, systemd or off; run cmd/agent beside it to take cores from the kernel", config.Capture.Mode)))
}

// setScrape changes what the configuration names.
func (c *collector) setScrape(config agent.Config) error {
	if err := c.checkCapture(config); err != nil {
		return err
	}
	c.scrapeMu.Lock()
	defer c.scrapeMu.Unlock()
	old := c.scrape
	c.scrape = config
	if err := c.agent.Reload(c.effectiveScrape()); err != nil {
		c.scrape = old
		return err
	}
	return nil
}

// setFleet adds the services of the demo to what is scraped.
func (c *collector) setFleet(targets []demo.Target) error {
	c.scrapeMu.Lock()
	defer c.scrapeMu.Unlock()
	c.fleet = targets
	return c.agent.Reload(c.effectiveScrape())
}

// demoSchedule shows something within seconds; it looks at the services half
// of the time.
var demoSchedule = agent.Schedule{Interval: 10 * time.Second, CPUSeconds: 5}

// effectiveScrape is what the configuration names and, with -demo, the demo's
// services.
func (c *collector) effectiveScrape() agent.Config {
	config := c.scrape
	if !c.o.Demo {
		return config
	}
	config.Self.Schedule = demoSchedule
	if c.fleet == nil {
		return config
	}
	job := agent.ScrapeConfig{JobName: "demo", Schedule: demoSchedule}
	for _, t := range c.fleet {
		job.StaticConfigs = append(job.StaticConfigs, agent.StaticConfig{
			Targets: []string{t.Instance},
			Labels:  map[string]string{inquest.LabelService: t.Service, inquest.LabelRelease: t.Release},
		})
	}
	config.ScrapeConfigs = append(config.ScrapeConfigs[:len(config.ScrapeConfigs):len(config.ScrapeConfigs)], job)
	return config
}
