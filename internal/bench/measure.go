package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/load"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/store"
)

// A workload is a fleet; all send CPU and heap profiles, gzip as Go writes it.
type workload struct {
	name string
	o    fleet.Options
}

var workloads = []workload{
	// The same stacks over and over.
	{"steady", fleet.Options{Novelty: -1}},
	// One sample in twenty on a stack that profiles of its process did not have.
	{"standard", fleet.Options{}},
	// Half of the samples on stacks never seen before, and heap values as real
	// programs have them.
	{"novelty", fleet.Options{Novelty: 0.5, KeepHeap: true}},
}

const (
	few, many = 64, 512 // connections
	interval  = time.Minute
)

var kinds = []string{"cpu", "heap"}

// result is what was measured of one workload.
type result struct {
	Workload      string           `json:"workload"`
	Sent          load.Sent        `json:"sent"`                  // over 64 connections
	CPUMillis     float64          `json:"cpu_ms_per_profile"`    // all there is to do, to merged blocks and rollups
	AckMillis     float64          `json:"cpu_ms_to_ack"`         // of it, until all is acknowledged
	BlockMillis   float64          `json:"cpu_ms_to_blocks"`      // of it, until all is in blocks
	GunzipMillis  float64          `json:"gunzip_ms_per_profile"` // of the same bodies
	CPURatio      float64          `json:"cpu_ratio_to_gunzip"`   //
	PeakRSS       int64            `json:"peak_rss_bytes"`        // while 64 connections send
	PeakRSSMany   int64            `json:"peak_rss_bytes_512"`    // while 512 do
	BlockBytes    float64          `json:"block_bytes_per_profile"`
	RollupBytes   float64          `json:"rollup_bytes_per_profile"` // of files with rollups and digests
	Space         store.CheckSpace `json:"space"`
	PprofMillis   float64          `json:"pprof_ms"` // Parse and Merge of the CPU profiles of one service
	PprofProfiles int              `json:"pprof_profiles"`
	Equal         bool             `json:"total_equals_pprof"` // of that service, as the collector adds it up
	Answers       []load.Answer    `json:"answers"`
}

func measure(ctx context.Context, o options) ([]*result, error) {
	if o.collector == "" {
		o.collector = filepath.Join(o.dir, "collector")
		if err := proc.Build(ctx, o.collector, "github.com/goinquest/inquest/cmd/collector", "-pgo", o.pgo); err != nil {
			return nil, err
		}
	}
	var results []*result
	for _, w := range workloads {
		if o.workload != "all" && o.workload != w.name {
			continue
		}
		b := &bench{options: o, workload: w, result: &result{Workload: w.name}}
		if err := b.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		results = append(results, b.result)
	}
	if results == nil {
		return nil, fmt.Errorf("no workload %q", o.workload)
	}
	return results, nil
}

// bench measures one workload.
type bench struct {
	options
	workload
	fleet  *fleet.Fleet
	window inquest.Window
	data   string
	result *result
}

func (b *bench) run(ctx context.Context) error {
	ticks := max(1, b.profiles/(b.services*b.instances*len(kinds)))
	b.window.Until = time.Now().Add(-interval).Truncate(5 * time.Minute)
	b.window.From = b.window.Until.Add(-time.Duration(ticks) * interval).Truncate(5 * time.Minute)
	fo := b.o
	fo.Seed, fo.Services, fo.Instances, fo.Kinds, fo.Interval = 1, b.services, b.instances, kinds, interval
	fo.From, fo.Window, fo.Bodies = b.window.From, time.Duration(ticks)*interval, corpus.Load(kinds...)
	var err error
	if b.fleet, err = fleet.New(fo); err != nil {
		return err
	}
	if err := b.take(ctx); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if err := b.takeFromMany(ctx); err != nil {
		return err
	}
	return b.answer(ctx)
}

// service is the one that is asked about: a large one, if there is one.
func (b *bench) service() int { return min(9, b.services-1) }

func (b *bench) start(ctx context.Context, data string, connections int) (*proc.Collector, *load.Client, error) {
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	c, err := proc.StartCollector(ctx, b.log, b.collector, addr, data, strings.Fields(b.args)...)
	if err != nil {
		return nil, nil, err
	}
	client, err := load.NewClient(remote.Options{URL: c.URL, Connections: connections})
	if err != nil {
		c.Kill()
	}
	return c, client, err
}

func (b *bench) send(ctx context.Context, client *load.Client, connections int, each func(*fleet.Item)) (load.Sent, error) {
	sent, err := client.Send(ctx, b.fleet, load.SendOptions{Connections: connections, Each: each, Progress: func(done, total int) {
		b.progress.Step(fmt.Sprintf("%s: sending over %d connections", b.name, connections), done, total)
	}})
	if err == nil && sent.Accepted != sent.Profiles {
		err = fmt.Errorf("%d of %d profiles were accepted: %+v", sent.Accepted, sent.Profiles, sent.Refusals)
	}
	return sent, err
}

// take sends everything and stops the collector, so that all of it is in
// blocks.
func (b *bench) take(ctx context.Context) error {
	b.data = filepath.Join(b.dir, b.name)
	c, client, err := b.start(ctx, b.data, few)
	if err != nil {
		return err
	}
	defer c.Kill()
	var g gunzip
	stop := b.recorder.follow(ctx, c.URL)
	b.result.Sent, err = b.send(ctx, client, few, g.each)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	acknowledged, err := c.CPU()
	if err != nil {
		return err
	}
	if b.result.PeakRSS, err = c.PeakRSS(); err != nil {
		return err
	}
	client.Close()
	if err := c.Stop(time.Minute); err != nil {
		return err
	}
	stopped, err := c.CPU()
	if err != nil {
		return err
	}
	b.result.AckMillis, b.result.BlockMillis = b.perProfile(acknowledged), b.perProfile(stopped)
	b.result.GunzipMillis, err = g.millis()
	return err
}

// perProfile is CPU time in ms per profile.
func (b *bench) perProfile(cpu time.Duration) float64 {
	return cpu.Seconds() * 1000 / float64(b.result.Sent.Profiles)
}

// takeFromMany sends everything to another collector, for its memory alone.
func (b *bench) takeFromMany(ctx context.Context) error {
	data := filepath.Join(b.dir, "many")
	c, client, err := b.start(ctx, data, many)
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	defer c.Kill()
	defer client.Close()
	if _, err := b.send(ctx, client, many, nil); err != nil {
		return err
	}
	b.result.PeakRSSMany, err = c.PeakRSS()
	return err
}

// answer starts the collector again and asks.
func (b *bench) answer(ctx context.Context) error {
	c, client, err := b.start(ctx, b.data, few)
	if err != nil {
		return err
	}
	defer c.Kill()
	defer client.Close()
	r := b.result
	m, err := client.Metrics(ctx)
	if err != nil {
		return err
	}
	profiles := float64(r.Sent.Profiles)
	r.BlockBytes, r.RollupBytes = m[load.MetricBlockBytes]/profiles, m[load.MetricRollupBytes]/profiles

	diff, err := client.HasDiff(ctx)
	if err != nil {
		return err
	}
	s := load.Subject{Window: b.window, Services: []string{fleet.ServiceName(b.service())}, Type: "cpu"}
	stop := b.recorder.follow(ctx, c.URL)
	r.Answers, err = client.Ask(ctx, load.Questions(b.window.Duration(), diff), s, func(done, total int) {
		b.progress.Step(b.name+": asking", done, total)
	})
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	for _, a := range r.Answers {
		if a.Error != "" {
			return fmt.Errorf("%s: %s", a.Name, a.Error)
		}
	}
	return b.compare(ctx, client)
}

// compare lets google/pprof do what the flame graph of the service does.
func (b *bench) compare(ctx context.Context, client *load.Client) error {
	r := b.result
	var total int64
	var err error
	if total, r.PprofProfiles, r.PprofMillis, err = b.pprofMerge(); err != nil {
		return err
	}
	var a struct {
		Total    float64
		Coverage struct{ Profiles int }
	}
	q := url.Values{
		"query": {fmt.Sprintf("{service=%q}", fleet.ServiceName(b.service()))}, "type": {"cpu"},
		"from": {b.window.From.UTC().Format(time.RFC3339)}, "until": {b.window.Until.UTC().Format(time.RFC3339)},
	}
	if err := client.GetJSON(ctx, "/api/v1/flamegraph", q, &a); err != nil {
		return err
	}
	r.Equal = a.Total == float64(total) && a.Coverage.Profiles == r.PprofProfiles
	return nil
}
