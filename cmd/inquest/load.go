package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/load"
	"github.com/goinquest/inquest/internal/settings"
)

// loadOptions are the settings of inquest load.
type loadOptions struct {
	load.Options
	zstd bool
	json bool
}

func defineLoad(o *loadOptions) *settings.Set {
	s := settings.New("inquest load", "inquest load sends the profiles of a simulated fleet to a collector as fast as it takes them, "+
		"asks it what people ask, and reports what both took. Use a collector of its own: what was sent stays there.")
	s.Group("Collector")
	s.String(&o.Client.URL, "to", "", "`URL` of the collector; required")
	s.String(&o.Client.TokenFile, "token-file", "", "`FILE` that holds a token with the scopes ingest and read").Path = true
	s.String(&o.Client.CAFile, "tls-ca", "", "PEM `FILE` with certificates to trust the collector by, instead of the system's").Path = true
	s.Int(&o.Client.Connections, "connections", 64, 1, 10_000, "`NUMBER` of connections that send at the same time")
	s.Var((*perSecond)(&o.Rate), "rate", "`PROFILES` a second to send at most, or unlimited")

	s.Group("Fleet")
	f := &o.Fleet
	s.Int(&f.Services, "services", 200, 1, 1_000_000, "`NUMBER` of services; every tenth is a large one")
	s.Int(&f.Instances, "instances", 4, 1, 1_000_000, "`NUMBER` of instances of each service")
	f.Kinds = []string{"cpu", "heap", "goroutine", "mutex"}
	s.List(&f.Kinds, "kinds", "`KINDS` of profiles each instance has, separated by commas: "+strings.Join(corpus.SelectedKinds, ", "))
	s.Duration(&f.Interval, "interval", time.Minute, time.Second, "`DURATION` between two profiles of a kind")
	s.Duration(&f.Window, "window", time.Hour, time.Second, "`DURATION` that is simulated: the profiles are of as long a time")
	s.Var(&moment{t: &o.End}, "end", "`TIME` at which all of it has ended: now, a DURATION ago as -2h, or RFC 3339; the window ends at the last full five minutes before")
	f.Novelty = 0.05
	s.Var(&share{&f.Novelty}, "novelty", "`SHARE` of samples, from 0 to 1, on stacks that real profiles did not have; those beyond 0.05 never come twice")
	s.Bool(&f.KeepHeap, "keep-heap", false, "leave heap values as real programs have them, instead of multiplying each by a random factor")
	s.Int(&f.Releases, "releases", 2, 1, fleet.MaxReleases, "`NUMBER` of releases each service has in the window, one after the other")
	s.Bool(&o.zstd, "zstd", false, "send zstd, as agents do, instead of gzip")

	s.Group("Questions")
	s.Duration(&o.Settle, "settle", 0, 0, "wait for this `DURATION` at most, before asking, until all that was sent is in blocks and these are merged")
	s.Bool(&o.AskOnly, "ask-only", false, "send nothing: only ask about what an earlier run with the same settings and -end has sent")
	s.Bool(&o.json, "json", false, "write JSON")
	return s
}

// runLoad sends, asks and reports.
func runLoad(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := &loadOptions{}
	s := defineLoad(o)
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	p := load.NewProgress(stderr)
	o.Progress = p.Step
	report, err := load.Run(ctx, o.Options)
	p.Done()
	if errors.Is(err, inquest.ErrInvalid) && report == nil {
		return settings.Errorf("%w", err)
	}
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.Write(stdout, settings.Colours(stdout))
	}
	if err != nil {
		return err
	}
	return report.Problem()
}

// check refuses settings that do not go together, and puts them where they
// belong.
func (o *loadOptions) check() error {
	f := &o.Fleet
	switch {
	case o.Client.URL == "":
		return settings.Errorf("where is the collector? give -to URL, as in -to http://127.0.0.1:7070")
	case f.Window < f.Interval:
		return settings.Errorf("flag -window: %s is less than the interval of %s, there would be no profiles", settings.FormatDuration(f.Window), settings.FormatDuration(f.Interval))
	case len(f.Kinds) == 0:
		return settings.Errorf("flag -kinds: want at least one of %s", strings.Join(corpus.SelectedKinds, ", "))
	}
	for i, k := range f.Kinds {
		if !slices.Contains(corpus.SelectedKinds, k) || slices.Contains(f.Kinds[:i], k) {
			return settings.Errorf("flag -kinds: %q: want some of %s, each once", k, strings.Join(corpus.SelectedKinds, ", "))
		}
	}
	if f.Novelty == 0 {
		f.Novelty = -1 // 0 is the default there
	}
	f.Encoding = fleet.GzipLight
	if o.zstd {
		f.Encoding = fleet.Zstd
	}
	return nil
}

// share is a setting from 0 to 1.
type share struct{ p *float64 }

func (v *share) String() string { return strconv.FormatFloat(*v.p, 'g', -1, 64) }

func (v *share) Set(t string) error {
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || !(n >= 0 && n <= 1) {
		return errors.New("want a number from 0 to 1")
	}
	*v.p = n
	return nil
}

// perSecond is a setting that is a positive number or, as 0, no bound.
type perSecond float64

func (v *perSecond) String() string {
	if *v == 0 {
		return "unlimited"
	}
	return strconv.FormatFloat(float64(*v), 'g', -1, 64)
}

func (v *perSecond) Set(t string) error {
	if t == "unlimited" {
		*v = 0
		return nil
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || !(n > 0) || math.IsInf(n, 0) {
		return errors.New("want a number above 0, or unlimited")
	}
	*v = perSecond(n)
	return nil
}

// moment is a setting that is a time; zero is now.
type moment struct {
	t    *time.Time
	text string
}

func (v *moment) String() string {
	if v.text == "" {
		return "now"
	}
	return v.text
}

func (v *moment) Set(t string) error {
	v.text = t
	if t == "now" {
		*v.t = time.Time{}
		return nil
	}
	if ago, ok := strings.CutPrefix(t, "-"); ok {
		d, err := settings.ParseDuration(ago)
		*v.t = time.Now().Add(-d)
		return err
	}
	at, err := time.Parse(time.RFC3339, t)
	if err != nil {
		return fmt.Errorf("want now, a duration ago as -2h, or a time as 2026-11-21T15:00:00Z")
	}
	*v.t = at
	return nil
}
