package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/doctor"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
)

// The exit codes of doctor.
const (
	exitMissing = 1 // something will be missing
	exitUnknown = 2 // it cannot be told whether something will be
)

// runDoctor says what would be missing of the Go processes of this host.
func runDoctor(ctx context.Context, args []string, stdout io.Writer) error {
	o := &options{}
	var asJSON bool
	var only []string
	var d doctor.Options
	s := define(o)
	s.Rename("agent doctor", "agent doctor says why a core dump, a crash text or a profile of a Go process of this host would be missing, and what cures it. "+
		"It ends with 0 if nothing is, 1 if something is, 2 if that cannot be told.")
	s.Group("Doctor")
	s.Bool(&asJSON, "json", false, "write JSON")
	s.Arguments(&only, "[PID|SERVICE]", 1)
	o.set = s
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	o.finish()
	if len(only) > 0 {
		d.Only = only[0]
	}
	d.Dir, d.Cores, d.Mode = o.CoresDir, o.Config.Capture.Directories, o.Config.Capture.Mode
	if d.Mode == "" || d.Mode == "auto" {
		d.Mode = corepattern.ModeAuto
	}
	if d.Spool = o.Spool; d.Spool == "" {
		d.Spool, _ = defaultSpool()
	}
	d.SpoolQuota = o.SpoolQuota
	var err error
	if d.Targets, err = agent.Look(ctx, agent.Options{Host: o.Hostname, Config: o.Config}); err != nil {
		return o.usage(err)
	}
	r, err := doctor.Run(ctx, d)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = writeReport(stdout, r, d.Only != "", settings.Colours(stdout))
	}
	if err != nil {
		return err
	}
	switch r.State() {
	case doctor.Missing:
		return program.Status(exitMissing)
	case doctor.Unknown:
		return program.Status(exitUnknown)
	}
	return nil
}

// colours are those of the states on a terminal.
var colours = map[string]string{doctor.Fine: "32", doctor.Missing: "31", doctor.Unknown: "33"}

func paint(colour bool, state, text string) string {
	if code := colours[state]; colour && code != "" {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// writeReport writes what was found, process by process. What is fine is
// written of a single process only.
func writeReport(w io.Writer, r *doctor.Report, all, colour bool) error {
	var b strings.Builder
	b.WriteString("this host\n")
	writeFindings(&b, r.Host, true, colour)
	for i := range r.Processes {
		p := &r.Processes[i]
		fmt.Fprintf(&b, "\n%s, process %d, %s: %s\n", dash(p.Service), p.PID, p.Exe, paint(colour, p.State(), summary(p)))
		writeFindings(&b, p.Findings, all, colour)
	}
	if len(r.Processes) == 0 {
		b.WriteString("\nno Go process runs on this host\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// summary says in one phrase how a process is.
func summary(p *doctor.Process) string {
	n := map[string]int{}
	for _, f := range p.Findings {
		n[f.State]++
	}
	switch {
	case n[doctor.Missing] > 0:
		return fmt.Sprintf("%d missing", n[doctor.Missing])
	case n[doctor.Unknown] > 0:
		return "cannot tell"
	}
	return "fine"
}

func writeFindings(b *strings.Builder, list []doctor.Finding, all, colour bool) {
	for _, f := range list {
		if !all && (f.State == doctor.Fine || f.State == doctor.Note) {
			continue
		}
		fmt.Fprintf(b, "  %s  %-16s %s\n", paint(colour, f.State, fmt.Sprintf("%-7s", f.State)), f.Check, f.Text)
		if f.Cure != "" {
			fmt.Fprintf(b, "           %-16s → %s\n", "", f.Cure)
		}
	}
}
