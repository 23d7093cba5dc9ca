package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
)

// report is a report of an agent with one target t1, whose clock is ahead.
func report(ahead time.Duration) *inquest.AgentReport {
	return &inquest.AgentReport{
		Host: "h1", Version: "v1", Protocol: inquest.ProtocolVersion, Started: time.Unix(1000, 0), Clock: time.Now().Add(ahead),
		Targets: []inquest.Target{{ID: "t1", Service: "shop", Instance: "h1:80", State: inquest.TargetUp}},
		Builds:  []inquest.Build{{ID: "abcd", GoVersion: "go1.26.8"}},
	}
}

func mustReport(t *testing.T, f *ingest.Fleet, id string, r *inquest.AgentReport) *inquest.ReportAnswer {
	t.Helper()
	a, err := f.Report(id, r, "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFleetReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stored []inquest.Build
		f := ingest.NewFleet(ingest.FleetOptions{Builds: func(b []inquest.Build) error { stored = append(stored, b...); return nil }})
		answer := mustReport(t, f, "a1", report(7*time.Second))
		want := &inquest.ReportAnswer{Protocol: 1, Clock: time.Now().UTC(), Skew: 7 * time.Second, MissingBuilds: []string{}}
		if diff := cmp.Diff(want, answer); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
		time.Sleep(10 * time.Second)
		// A report that travelled for 3 s does not make the skew smaller.
		if a := mustReport(t, f, "a1", report(4*time.Second)); a.Skew != 7*time.Second {
			t.Errorf("skew after a slow report = %v, want 7s", a.Skew)
		}
		if len(stored) != 1 || stored[0].ID != "abcd" {
			t.Errorf("builds stored = %v, want abcd once", stored)
		}
		agents := f.Agents()
		if len(agents) != 1 || agents[0].ID != "a1" || agents[0].Remote != "10.0.0.1" || agents[0].Silent || len(agents[0].Targets) != 1 {
			t.Fatalf("agents = %+v", agents)
		}
		time.Sleep(31 * time.Second)
		if !f.Agents()[0].Silent {
			t.Error("an agent is not silent after 31 s")
		}
		time.Sleep(24 * time.Hour)
		if got := f.Agents(); len(got) != 0 {
			t.Errorf("agents after a silent day = %v, want none", got)
		}
	})
}

// An agent tells of a build once; if it cannot be stored then, it is later.
func TestFleetBuildsAreTriedAgain(t *testing.T) {
	var calls [][]inquest.Build
	f := ingest.NewFleet(ingest.FleetOptions{Builds: func(b []inquest.Build) error {
		if calls = append(calls, b); len(calls) == 1 {
			return errors.New("disk")
		}
		return nil
	}})
	mustReport(t, f, "a1", report(0))
	for range 3 {
		r := report(0)
		r.Builds = nil
		mustReport(t, f, "a1", r)
	}
	if len(calls) != 2 || len(calls[1]) != 1 || calls[1][0].ID != "abcd" {
		t.Errorf("builds handed on: %v, want abcd twice: failed and then stored", calls)
	}
}

func TestFleetRefusesReports(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		protocol int
		want     string
	}{
		{"older", "a", 0, "upgrade the agent"},
		{"newer", "a", 99, "upgrade the collector"},
		{"no id", "", 1, "agent id"},
		{"long id", strings.Repeat("x", 129), 1, "agent id"},
		{"control character", "a\nb", 1, "agent id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := report(0)
			r.Protocol = tt.protocol
			_, err := ingest.NewFleet(ingest.FleetOptions{}).Report(tt.id, r, "")
			if !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestFleetIsBounded(t *testing.T) {
	f := ingest.NewFleet(ingest.FleetOptions{})
	r := report(0)
	r.Host = strings.Repeat("ä", 10_000)
	r.Targets = nil
	for i := range 6000 {
		r.Targets = append(r.Targets, inquest.Target{ID: fmt.Sprint(i), Reason: strings.Repeat("x", 5000) + "\xff"})
	}
	mustReport(t, f, "big", r)
	a := f.Agents()[0]
	if len(a.Targets) != 5000 || a.Omitted != 1000 {
		t.Errorf("targets = %d, omitted %d, want 5000 and 1000", len(a.Targets), a.Omitted)
	}
	if len(a.Host) > 1024 || len(a.Targets[0].Reason) > 1024 {
		t.Errorf("texts of %d and %d bytes kept", len(a.Host), len(a.Targets[0].Reason))
	}
	for i := range 9_999 {
		mustReport(t, f, fmt.Sprint("a", i), &inquest.AgentReport{Protocol: 1})
	}
	if _, err := f.Report("one too many", &inquest.AgentReport{Protocol: 1}, ""); !errors.Is(err, inquest.ErrBusy) {
		t.Errorf("report of agent 10,001: %v, want ErrBusy", err)
	}
	mustReport(t, f, "a5", &inquest.AgentReport{Protocol: 1})
}

func TestFleetCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := ingest.NewFleet(ingest.FleetOptions{})
		mustReport(t, f, "a1", report(0))
		go func() {
			commands, err := f.Next(t.Context(), "a1", 30*time.Second)
			if err != nil || len(commands) != 1 {
				t.Errorf("Next = %v, %v", commands, err)
				return
			}
			c := commands[0]
			if diff := cmp.Diff(inquest.Command{ID: c.ID, Verb: "profile", Target: "t1", Kind: "cpu", Seconds: 5}, c); diff != "" || c.ID == "" {
				t.Errorf("command (-want +got):\n%s", diff)
			}
			if err := f.Done("a2", c.ID, &inquest.CommandResult{}); !errors.Is(err, inquest.ErrNotFound) {
				t.Errorf("result of another agent: %v, want ErrNotFound", err)
			}
			time.Sleep(5 * time.Second)
			if err := f.Done("a1", c.ID, &inquest.CommandResult{Profile: "p"}); err != nil {
				t.Error(err)
			}
			if err := f.Done("a1", c.ID, &inquest.CommandResult{}); !errors.Is(err, inquest.ErrNotFound) {
				t.Errorf("second result: %v, want ErrNotFound", err)
			}
		}()
		time.Sleep(20 * time.Second)
		r, err := f.Send(t.Context(), "a1", inquest.Command{Verb: inquest.VerbProfile, Target: "t1", Kind: inquest.KindCPU, Seconds: 5})
		if err != nil || r.Profile != "p" {
			t.Errorf("Send = %+v, %v", r, err)
		}
		synctest.Wait()
	})
}

func TestFleetNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := ingest.NewFleet(ingest.FleetOptions{})
		elapsed := func(ctx context.Context, id string) (time.Duration, error) {
			began := time.Now()
			commands, err := f.Next(ctx, id, 30*time.Second)
			if len(commands) != 0 {
				t.Errorf("commands = %v, want none", commands)
			}
			return time.Since(began), err
		}
		if d, err := elapsed(t.Context(), "unknown"); d != time.Second || err != nil {
			t.Errorf("an unknown agent waited %v, %v, want 1s", d, err)
		}
		mustReport(t, f, "a1", report(0))
		if d, err := elapsed(t.Context(), "a1"); d != 30*time.Second || err != nil {
			t.Errorf("an agent waited %v, %v, want 30s", d, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if d, err := elapsed(ctx, "a1"); d != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an agent that went away waited %v, %v", d, err)
		}
	})
}

func TestFleetSendErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := ingest.NewFleet(ingest.FleetOptions{})
		mustReport(t, f, "a1", report(0))
		refusing := report(0)
		refusing.Refuses = []string{inquest.VerbProfile}
		mustReport(t, f, "a2", refusing)
		profile := func(agent, target string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := f.Send(ctx, agent, inquest.Command{Verb: inquest.VerbProfile, Target: target})
			return err
		}
		for _, tt := range []struct {
			agent, target string
			want          error
		}{
			{"nobody", "t1", inquest.ErrNotFound},
			{"a1", "t9", inquest.ErrNotFound},
			{"a2", "t1", inquest.ErrForbidden},
			{"a1", "t1", context.DeadlineExceeded},
		} {
			if err := profile(tt.agent, tt.target); !errors.Is(err, tt.want) {
				t.Errorf("Send to %s/%s: %v, want %v", tt.agent, tt.target, err, tt.want)
			}
		}
		// What nobody waits for any more is not handed out.
		if c, err := f.Next(t.Context(), "a1", time.Second); len(c) != 0 || err != nil {
			t.Errorf("Next after a command timed out = %v, %v", c, err)
		}
		for range 16 {
			go func() { _ = profile("a1", "t1") }()
		}
		synctest.Wait()
		if err := profile("a1", "t1"); !errors.Is(err, inquest.ErrBusy) {
			t.Errorf("command 17: %v, want ErrBusy", err)
		}
		time.Sleep(time.Minute)
		if err := profile("a1", "t1"); !errors.Is(err, inquest.ErrUnavailable) {
			t.Errorf("Send to a silent agent: %v, want ErrUnavailable", err)
		}
	})
}
