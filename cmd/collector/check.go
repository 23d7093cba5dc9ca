package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/store"
)

// checkFlags are the flags of collector check.
type checkFlags struct {
	place
	Repair, Deep, JSON bool
}

// runCheck verifies the data of a collector. It returns nil if everything is
// whole; a *settings.Error, for exit code 2, if it could not check.
func runCheck(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := &checkFlags{}
	s := settings.New("collector check", "collector check verifies stored data: every checksum, and that catalog, blocks and log fit together. "+
		"Exit codes: 0 everything is whole, 1 problems were found or are left, 2 it could not check.")
	s.Group("Flags")
	f.define(s)
	s.Bool(&f.Deep, "deep", false, "decode every value too: totals, references, dictionaries")
	s.Bool(&f.Repair, "repair", false, "set aside what is lost, remove marks that are wrong, make rows and catalog again; not with -url")
	s.Bool(&f.JSON, "json", false, "write the report as JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if err := f.check(s); err != nil {
		return err
	}
	if f.Repair && f.URL != "" {
		return settings.Errorf("-repair needs the data for itself: stop the collector and give -data")
	}
	line := program.NewProgressLine(stderr)
	progress := func(p store.CheckProgress) { line.Show(p.Part, p.What) }
	var r *store.CheckReport
	var err error
	if f.URL != "" {
		r, err = f.remote(ctx, progress)
	} else {
		r, err = f.local(ctx, progress)
	}
	line.Clear()
	if err != nil {
		return settings.Errorf("%w", err)
	}
	if f.JSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		_, err = io.WriteString(stdout, spellReport(r))
	}
	if err != nil {
		return settings.Errorf("write the report: %w", err)
	}
	switch left := r.Left(); {
	case left == 0:
		return nil
	case f.Repair:
		return fmt.Errorf("%s left; what is lost, only a backup has", count(left, "problem is", "problems are"))
	default:
		return fmt.Errorf("%s", count(left, "problem", "problems"))
	}
}

// local checks a directory.
func (f *checkFlags) local(ctx context.Context, progress func(store.CheckProgress)) (*store.CheckReport, error) {
	dir, err := f.existing()
	if err != nil {
		return nil, err
	}
	r, err := store.Check(ctx, store.CheckOptions{Dir: dir, Repair: f.Repair, Deep: f.Deep, Progress: progress})
	return r, inUse(err, "check it while it runs", "check")
}

// inUse says what can be done about data that a collector has open.
func inUse(err error, instead, command string) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w; stop that collector, or %s: collector %s -url http://127.0.0.1:7070", err, instead, command)
	}
	return err
}

// maxLineBytes bounds a line of a collector's answer.
const maxLineBytes = 64 << 20

// remote asks a running collector.
func (f *checkFlags) remote(ctx context.Context, progress func(store.CheckProgress)) (*store.CheckReport, error) {
	body, err := f.call(ctx, http.MethodPost, fmt.Sprintf("/api/v1/admin/check?deep=%v", f.Deep), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		var l struct {
			Progress *store.CheckProgress
			Report   *store.CheckReport
			Error    *struct{ Message string }
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("read the collector's answer: %w", err)
		}
		switch {
		case l.Report != nil:
			return l.Report, nil
		case l.Error != nil:
			return nil, errors.New(l.Error.Message)
		case l.Progress != nil:
			progress(*l.Progress)
		}
	}
	return nil, fmt.Errorf("the collector's answer ended without a report: %w", errors.Join(lines.Err(), ctx.Err(), io.ErrUnexpectedEOF))
}

// spellReport writes a report for people.
func spellReport(r *store.CheckReport) string {
	var b strings.Builder
	how := ""
	if r.Deep {
		how = ", every value decoded"
	}
	fmt.Fprintf(&b, "checked %s with %d profiles of %s%s, %s of the log, %s in %s%s\n",
		count(r.Blocks, "block", "blocks"), r.Profiles, count(r.Parts, "part", "parts"), andBinaries(r.Binaries, r.Cores), count(r.Commits, "commit", "commits"),
		settings.SizeText(r.Bytes), time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond), how)
	if s := &r.Space; r.Blocks > 0 {
		fmt.Fprintf(&b, "of blocks, profiles are %s and their dictionaries %s; rollups of 5m, 1h, 1d %s, %s, %s, of functions of the fleet %s and their dictionaries %s; digests %s\n",
			settings.SizeText(s.Profiles), settings.SizeText(s.Dictionaries), settings.SizeText(s.FiveMinutes), settings.SizeText(s.Hours), settings.SizeText(s.Days), settings.SizeText(s.Fleet), settings.SizeText(s.RollupNames), settings.SizeText(s.Digests))
	}
	for i := range r.Problems {
		spellProblem(&b, &r.Problems[i])
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "\nand %s\n", count(r.More, "more problem", "more problems"))
	}
	if len(r.Notes) > 0 {
		b.WriteString("\nnothing to worry about:\n")
		for _, n := range r.Notes {
			fmt.Fprintf(&b, "  %s\n", n)
		}
	}
	if r.Whole() {
		b.WriteString("\neverything is whole\n")
	}
	return b.String()
}

func spellProblem(b *strings.Builder, p *store.CheckProblem) {
	fmt.Fprintf(b, "\n%s\n  %s\n", p.Where, p.What)
	if p.Lost != nil {
		fmt.Fprintf(b, "  lost: %s\n", spellLoss(p.Lost))
	}
	switch {
	case p.Known:
		b.WriteString("  known: it is left out of answers already, everything else is served\n")
	case p.Repaired && p.Lost != nil:
		fmt.Fprintf(b, "  set aside: %s\n", p.Repair)
	case p.Repaired:
		fmt.Fprintf(b, "  repaired: %s\n", p.Repair)
	case p.Repair != "":
		fmt.Fprintf(b, "  with -repair: %s\n", p.Repair)
	}
}

func spellLoss(l *store.CheckLoss) string {
	what := fmt.Sprintf("%d profiles", l.Profiles)
	switch {
	case l.Rollups:
		what = "rollups (profiles answer, as far as they go back)"
	case l.Profiles == 0:
		return "what it held is not known"
	}
	switch {
	case l.Many && len(l.Services) == 2:
		what = fmt.Sprintf("services %s to %s, %s", l.Services[0], l.Services[1], what)
	case len(l.Services) > 0:
		what = fmt.Sprintf("service %s, %s", strings.Join(l.Services, ", "), what)
	}
	if l.From.IsZero() {
		return what
	}
	const form = "2006-01-02 15:04:05"
	return fmt.Sprintf("%s from %s to %s UTC", what, l.From.UTC().Format(form), l.Until.UTC().Format(form))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
