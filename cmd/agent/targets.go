package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
)

// runTargets shows what the agent would scrape, and what not and why.
func runTargets(ctx context.Context, args []string, stdout io.Writer) error {
	o := &options{}
	var asJSON bool
	s := define(o)
	s.Rename("agent targets", "agent targets shows what an agent with these settings would scrape, and why not the rest. Nothing is scraped.")
	s.Group("Targets")
	s.Bool(&asJSON, "json", false, "write JSON")
	o.set = s
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	o.finish()
	targets, err := look(ctx, o)
	if err != nil {
		return o.usage(err)
	}
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Values []inquest.Target `json:"values"`
		}{targets})
	}
	return writeTargets(stdout, targets)
}

// How long look waits for targets to stop appearing, and at most.
const (
	lookQuiet = 1500 * time.Millisecond
	lookMost  = 15 * time.Second
)

// look runs an agent that can ask ports for /debug/pprof/ and do nothing else,
// until no more targets appear.
func look(ctx context.Context, o *options) ([]inquest.Target, error) {
	dir, err := os.MkdirTemp("", "inquest-targets-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	a, err := agent.New(agent.Options{
		Collector:       "http://nowhere",
		HTTPClient:      &http.Client{Transport: refuse{}},
		SpoolDir:        dir,
		Host:            o.Hostname,
		Config:          o.Config,
		TargetTransport: probeOnly{http.DefaultTransport},
	})
	if err != nil {
		return nil, err
	}
	defer a.Stop(ctx)
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	var targets []inquest.Target
	for began, changed := time.Now(), time.Now(); time.Since(changed) < lookQuiet && time.Since(began) < lookMost; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if next := a.Targets(); !slices.EqualFunc(targets, next, sameTarget) {
			targets, changed = next, time.Now()
		}
	}
	for i, t := range targets {
		// What became of scrapes says nothing here: they were refused.
		targets[i].Scrapes = nil
		if t.State != inquest.TargetSkipped {
			targets[i].State, targets[i].Reason = inquest.TargetPending, ""
		}
	}
	return targets, nil
}

func sameTarget(a, b inquest.Target) bool {
	return a.ID == b.ID && a.URL == b.URL && a.Process == b.Process
}

// refuse is a way to nowhere.
type refuse struct{}

var errDryRun = errors.New("nothing is sent in a dry run")

func (refuse) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, errDryRun
}

// probeOnly lets through what asks whether a port serves profiles, not what
// takes one.
type probeOnly struct{ http.RoundTripper }

func (p probeOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/debug/pprof/") {
		return refuse{}.RoundTrip(r)
	}
	return p.RoundTripper.RoundTrip(r)
}

// writeTargets writes a table, what is scraped first.
func writeTargets(w io.Writer, targets []inquest.Target) error {
	if len(targets) == 0 {
		_, err := fmt.Fprintln(w, "nothing found: no target is named, and no Go process of this host serves /debug/pprof/")
		return err
	}
	slices.SortStableFunc(targets, func(a, b inquest.Target) int {
		return cmp.Compare(order(a), order(b))
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SERVICE\tINSTANCE\tRELEASE\tFOUND BY\tSCRAPED")
	for _, t := range targets {
		scraped := "yes, " + t.URL
		if t.Source == "self" {
			scraped = "yes, in the agent's process"
		}
		if t.State == inquest.TargetSkipped {
			scraped = "no: " + t.Reason
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", dash(t.Service), dash(t.Instance), dash(t.Release), t.Source, scraped)
	}
	return tw.Flush()
}

func order(t inquest.Target) int {
	if t.State == inquest.TargetSkipped {
		return 1
	}
	return 0
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
