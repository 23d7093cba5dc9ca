package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/doctor"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
)

// coreSetup is what setup-cores tells.
type coreSetup struct {
	Plan     *corepattern.Plan  `json:"plan"`
	Services []doctor.Limit     `json:"services"` // RLIMIT_CORE of the Go processes
	Trial    *corepattern.Trial `json:"trial,omitempty"`
	Error    string             `json:"error,omitempty"` // of the trial
	Hints    []string           `json:"hints"`
}

// runSetupCores says how cores would be got at, and tries it.
func runSetupCores(ctx context.Context, args []string, stdout io.Writer) error {
	var o corepattern.Options
	var dryRun, asJSON bool
	s := settings.New("agent setup-cores", "agent setup-cores says what an agent changes on this host to get at core dumps, and tries it: a program of its own dies, its death is looked for, "+
		"and everything is put back. An agent does the same when it starts, so nothing has to be set up for good.")
	s.Group("Cores")
	s.Choice(&o.Mode, "mode", "auto", []string{"auto", corepattern.ModeSocket, corepattern.ModePipe, corepattern.ModeDirectory, corepattern.ModeSystemd, corepattern.ModeOff},
		"`MODE` to get at cores by")
	coresDir(s, &o.Dir)
	s.Bool(&dryRun, "dry-run", false, "only say it: no program dies, nothing is changed")
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if o.Mode == "auto" {
		o.Mode = corepattern.ModeAuto
	}
	plan, err := corepattern.Look(o)
	if err != nil {
		return err
	}
	c := &coreSetup{Plan: plan, Hints: hints(plan)}
	if c.Services, err = doctor.Limits(ctx); err != nil {
		return err
	}
	if !dryRun && plan.Mode != corepattern.ModeOff {
		if c.Trial, err = corepattern.Try(ctx, o); err != nil {
			c.Error = err.Error()
		}
	}
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(c)
	} else {
		err = c.write(stdout, settings.Colours(stdout))
	}
	if err == nil && (c.Error != "" || plan.Mode == corepattern.ModeOff && plan.Other == "") {
		return program.Status(program.ExitFailure)
	}
	return err
}

// hints say what is to be known besides.
func hints(p *corepattern.Plan) []string {
	var list []string
	switch p.Mode {
	case corepattern.ModeSocket, corepattern.ModePipe:
		list = append(list,
			"the agent sets the pattern when it starts and puts the old one back when it ends; nothing belongs into /etc/sysctl.d",
			"in the agent's unit: ExecStopPost="+self()+" restore-cores, for when it and its guardian are killed together",
			"sysctl --system, as packages run it, sets the host's own pattern again; the agent then says so in its report and wants a restart")
	case corepattern.ModeDirectory:
		list = append(list,
			"the pattern stays the host's: to keep it over a boot, put kernel.core_pattern = "+p.Pattern+" into /etc/sysctl.d/60-cores.conf",
			"a core is written whole before it is looked at, and RLIMIT_CORE bounds it: set LimitCORE=infinity in the services' units")
	case corepattern.ModeSystemd:
		list = append(list, "systemd-coredump keeps what it stores by /etc/systemd/coredump.conf: what is larger than ProcessSizeMax= or ExternalSizeMax= is not whole")
	}
	return append(list, "a Go process leaves a core only with GOTRACEBACK=crash in its environment, or after debug.SetTraceback(\"crash\"); agent doctor says which have it")
}

// self is the agent as a unit names it.
func self() string {
	exe, err := os.Executable()
	if err != nil {
		return "agent"
	}
	return exe
}

// write writes it for people.
func (c *coreSetup) write(w io.Writer, colour bool) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	p := c.Plan
	fmt.Fprintf(tw, "mode\t%s\n", p.Mode)
	if p.Problem != "" {
		fmt.Fprintf(tw, "problem\t%s\n", p.Problem)
	}
	fmt.Fprintf(tw, "kernel\t%s\n", p.Kernel)
	fmt.Fprintf(tw, "core_pattern\t%s\n", change(p.Pattern, p.Then))
	fmt.Fprintf(tw, "core_pipe_limit\t%s\n", change(p.Limit, p.ThenLimit))
	if p.Then != "" {
		fmt.Fprintf(tw, "not of Go\tgoes to %q, as before\n", p.Old)
	}
	if len(p.Watched) > 0 {
		fmt.Fprintf(tw, "looked at\t%s\n", strings.Join(p.Watched, ", "))
	}
	fmt.Fprintf(tw, "RLIMIT_CORE\t%s\n", c.limits())
	for _, m := range p.Modes {
		usable := "no: "
		if m.Usable {
			usable = "yes: "
		}
		fmt.Fprintf(tw, "by %s\t%s\n", m.Mode, usable+m.Reason)
	}
	switch {
	case c.Error != "":
		fmt.Fprintf(tw, "trial\t%s\n", paint(colour, doctor.Missing, c.Error))
	case c.Trial != nil:
		fmt.Fprintf(tw, "trial\t%s\n", paint(colour, doctor.Fine, fmt.Sprintf("a program died and its core came, %.0f ms after it was started", c.Trial.Took.Seconds()*1000)))
	}
	tw.Flush()
	for _, h := range c.Hints {
		fmt.Fprintf(&b, "- %s\n", h)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func change(now, then string) string {
	if then == "" || now == then {
		return fmt.Sprintf("%q, left as it is", now)
	}
	return fmt.Sprintf("%q → %q", now, then)
}

// limits says whom RLIMIT_CORE keeps from leaving a core in this mode.
func (c *coreSetup) limits() string {
	if !c.Plan.Limited {
		return "does not matter in this mode"
	}
	var none []string
	for _, s := range c.Services {
		if s.Bytes < doctor.LeastCore {
			none = append(none, fmt.Sprintf("%s (%d)", s.Service, s.PID))
		}
	}
	if len(none) == 0 {
		return "lets all Go processes leave a core"
	}
	return "keeps these from leaving a core: " + strings.Join(none, ", ")
}
