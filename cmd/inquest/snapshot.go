package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/postmortem"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/settings"
)

// runSnapshot copies the memory of a process that goes on.
func runSnapshot(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var to remote.Options
	var targets []string
	var full, asJSON bool
	s := settings.New("inquest snapshot", "inquest snapshot has an agent copy the memory of a process that goes on, and waits until the collector has it. The process is stopped for as long as that takes.")
	s.Arguments(&targets, "SERVICE/INSTANCE", 1)
	defineCollector(s, &to, "scopes read and core")
	s.Group("What")
	s.Bool(&full, "full", false, "copy all of the memory; without it goroutines, stacks, data and what they point to")
	s.Group("Output")
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if len(targets) == 0 {
		return settings.Errorf("a snapshot of what? name a target, as in inquest snapshot -to URL shop/10.0.0.7:6060")
	}
	tier := inquest.TierMini
	if full {
		tier = inquest.TierFull
	}
	c, err := connect(to)
	if err != nil {
		return err
	}
	defer c.Close()
	line := program.NewProgressLine(stderr)
	snap, err := postmortem.Take(ctx, c, targets[0], tier, line.Show)
	line.Clear()
	if err != nil {
		return err
	}
	return write(stdout, asJSON, snap, func() error {
		_, err := fmt.Fprintf(stdout, "stopped for %v; %s core %s, %s\n%s\n", snap.Stopped.Round(100*time.Microsecond), snap.Core.Tier, snap.Core.ID, settings.SizeText(snap.Core.StoredBytes), snap.Link)
		return err
	})
}
