package load

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/remote"
)

// Options describe a run. Zero fields mean the defaults, of the fleet those of
// its own.
type Options struct {
	Client remote.Options // Connections counts for sending as well, default 64
	Fleet  fleet.Options  // From is not used
	// End is when the fleet stops: every profile has ended by then. Default now.
	End      time.Time
	AskOnly  bool          // an earlier run has sent the same
	Rate     float64       // profiles a second at most, 0: no bound
	Settle   time.Duration // longest wait until what was sent is in blocks and these are merged, 0: none
	Progress func(what string, done, total int)
}

// alignment is where the simulated window begins and ends: as rollups do, so
// that a question about all of it can be answered by them.
const alignment = 5 * time.Minute

// services is how many services are asked about.
const services = 5

// Run sends the fleet, asks the questions and reports. The error says what
// made that impossible; what went wrong on the way is in the Report, whose
// Problem says so.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Client.Connections == 0 {
		o.Client.Connections = 64
	}
	if o.End.IsZero() {
		o.End = time.Now()
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	o.Fleet = o.Fleet.WithDefaults()
	o.Fleet.From = o.End.Add(-o.Fleet.Interval).Truncate(alignment).Add(-o.Fleet.Window)
	f, err := fleet.New(o.Fleet)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%w", err)
	}
	c, err := NewClient(o.Client)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := &run{o: o, client: c, fleet: f, report: &Report{Fleet: describe(o.Fleet, o.Client.URL)}}
	return r.report, r.all(ctx)
}

// run is one Run.
type run struct {
	o      Options
	client *Client
	fleet  *fleet.Fleet
	report *Report
}

func (r *run) all(ctx context.Context) error {
	// Before anything is sent: is it a collector, does it let us?
	var version struct{ Version string }
	if err := r.client.GetJSON(ctx, "/api/v1/version", nil, &version); err != nil {
		return err
	}
	r.report.CollectorVersion = version.Version
	before, err := r.client.Metrics(ctx)
	if err != nil {
		return err
	}
	had, err := r.client.Found(ctx, r.window(), r.o.Fleet.Kinds)
	if err != nil {
		return err
	}
	w := newWatch(ctx, r.client)
	if !r.o.AskOnly {
		if err := r.send(ctx); err != nil {
			w.stop()
			return err
		}
	}
	err = r.client.Settle(ctx, r.o.Settle, r.o.Progress)
	w.stop()
	if err != nil {
		return err
	}
	if err := r.count(ctx, had); err != nil {
		return err
	}
	after, err := r.client.Metrics(ctx)
	if err != nil {
		return err
	}
	r.report.measure(before, after, w.most)
	r.report.Collector.PeakRSS = peakMemory(r.client.Base().String())
	return r.ask(ctx)
}

func (r *run) window() inquest.Window {
	return inquest.Window{From: r.o.Fleet.From, Until: r.o.Fleet.From.Add(r.o.Fleet.Window)}
}

func (r *run) send(ctx context.Context) error {
	sent, err := r.client.Send(ctx, r.fleet, SendOptions{
		Connections: r.o.Client.Connections, Rate: r.o.Rate,
		Progress: func(done, total int) { r.o.Progress("sending profiles", done, total) },
	})
	if err != nil {
		return fmt.Errorf("sending ended after %d of %d profiles: %w", sent.Accepted, sent.Profiles, err)
	}
	r.report.Sent = &sent
	return nil
}

// count compares what the collector finds in the window with what it has
// acknowledged. had is what it found before.
func (r *run) count(ctx context.Context, had map[string]int64) error {
	found, err := r.client.Found(ctx, r.window(), r.o.Fleet.Kinds)
	if err != nil {
		return err
	}
	r.report.Found = found
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		r.report.Stored += found[kind]
		if !r.o.AskOnly {
			r.report.Added += found[kind] - had[kind]
		}
	}
	return nil
}

func (r *run) ask(ctx context.Context) error {
	diff, err := r.client.HasDiff(ctx)
	if err != nil {
		return err
	}
	s := Subject{Window: r.window(), Type: inquest.DefaultType(inquest.Kind(r.o.Fleet.Kinds[0]))}
	// Spread over the fleet, the last one included: it may be a large one.
	n := r.o.Fleet.Services
	for i := range min(services, n) {
		s.Services = append(s.Services, fleet.ServiceName(n-1-i*n/min(services, n)))
	}
	r.report.Type = s.Type
	r.report.Answers, err = r.client.Ask(ctx, Questions(r.o.Fleet.Window, diff), s, func(done, total int) { r.o.Progress("asking", done, total) })
	return err
}

// describe puts the options of a fleet into words.
func describe(o fleet.Options, url string) Fleet {
	d := Fleet{
		Collector: url, Services: o.Services, Instances: o.Instances, Kinds: o.Kinds,
		IntervalSeconds: o.Interval.Seconds(), WindowSeconds: o.Window.Seconds(),
		From: o.From.UTC(), Until: o.From.Add(o.Window).UTC(),
		Novelty: max(o.Novelty, 0), KeepHeap: o.KeepHeap, Releases: o.Releases, Encoding: "gzip",
	}
	if o.Encoding == fleet.Zstd {
		d.Encoding = "zstd"
	}
	return d
}
