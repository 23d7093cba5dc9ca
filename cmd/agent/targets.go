package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

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
	targets, err := agent.Look(ctx, agent.Options{Host: o.Hostname, Config: o.Config})
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
