package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

const (
	defaultPoll    = 30 * time.Second
	longestPoll    = time.Minute
	defaultSeconds = 10
	mostSeconds    = 120
	commandSlack   = 45 * time.Second // beyond the seconds of a profile: to be fetched, sent and stored
)

// pathParam is a parameter of the path, unescaped.
func pathParam(c echo.Context, name string) string {
	v := c.Param(name)
	if u, err := url.PathUnescape(v); err == nil {
		return u
	}
	return v
}

// decode reads a request's JSON body into v.
func (s *Server) decode(c echo.Context, v any) error {
	b, err := s.bodies.read(c)
	if err != nil {
		return err
	}
	defer b.release()
	if err := json.Unmarshal(b.bytes, v); err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "the body is not the JSON that is wanted here: %v", err)
	}
	return nil
}

// agentReport takes what an agent says of itself.
func (s *Server) agentReport(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	var report inquest.AgentReport
	if err := s.decode(c, &report); err != nil {
		return err
	}
	id := pathParam(c, "id")
	if report.ID != "" && report.ID != id {
		return inquest.Errorf(inquest.ErrInvalid, "the report is of agent %.100q, the path names agent %.100q", report.ID, id)
	}
	report.ID = id
	answer, err := s.o.Fleet.Report(id, &report, remoteHost(c.Request()))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

// agentCommands waits for commands for an agent; an empty list says that none
// came.
func (s *Server) agentCommands(c echo.Context) error {
	p := s.params(c, "wait")
	wait := min(p.duration("wait", defaultPoll), longestPoll)
	if err := p.err(); err != nil {
		return err
	}
	ctx, cancel := s.untilStop(c.Request().Context())
	defer cancel()
	commands, err := s.o.Fleet.Next(ctx, pathParam(c, "id"), wait)
	if err != nil && ctx.Err() == nil {
		return err
	}
	return list(c, commands)
}

// agentResult takes what became of a command.
func (s *Server) agentResult(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	var result inquest.CommandResult
	if err := s.decode(c, &result); err != nil {
		return err
	}
	if err := s.o.Fleet.Done(pathParam(c, "id"), pathParam(c, "command"), &result); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct{}{})
}

// getAgents answers with the newest report of every agent.
func (s *Server) getAgents(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	return list(c, s.o.Fleet.Agents())
}

// fleetTarget is a target with the agent that scrapes it.
type fleetTarget struct {
	inquest.Target
	Agent    string        `json:"agent"`
	Host     string        `json:"host"`
	Version  string        `json:"version"` // of the agent
	Skew     time.Duration `json:"skew_ns"` // agent's clock minus ours
	Silent   bool          `json:"silent"`  // the agent is
	LastSeen time.Time     `json:"last_seen"`
}

// fleetTargets lists every target of every agent, by service, instance and
// agent.
func (s *Server) fleetTargets() []fleetTarget {
	var out []fleetTarget
	for _, a := range s.o.Fleet.Agents() {
		for _, t := range a.Targets {
			out = append(out, fleetTarget{t, a.ID, a.Host, a.Version, a.Skew, a.Silent, a.LastSeen})
		}
	}
	slices.SortFunc(out, func(a, b fleetTarget) int {
		for _, cmp := range []int{
			strings.Compare(a.Service, b.Service), strings.Compare(a.Instance, b.Instance), strings.Compare(a.Agent, b.Agent),
		} {
			if cmp != 0 {
				return cmp
			}
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

func (s *Server) getTargets(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	return list(c, s.fleetTargets())
}

// profileNow is what POST /api/v1/targets/profile asks for.
type profileNow struct {
	Agent   string `json:"agent"`
	Target  string `json:"target"`
	Kind    string `json:"kind"`    // or any type of it; default cpu
	Seconds int    `json:"seconds"` // default 10
}

// profileDone is what became of it.
type profileDone struct {
	inquest.CommandResult
	Link       string `json:"link"`        // the page that shows it
	ProfileURL string `json:"profile_url"` // the stored pprof; empty if the agent did not name it
}

// profileTarget has an agent profile one target now and waits for it.
func (s *Server) profileTarget(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	var want profileNow
	if err := s.decode(c, &want); err != nil {
		return err
	}
	done, err := s.profileNow(c, want)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, done)
}

// profileNow runs one profile command to its end.
func (s *Server) profileNow(c echo.Context, want profileNow) (*profileDone, error) {
	kind, err := inquest.ParseKind(want.Kind)
	if err != nil {
		return nil, err
	}
	if kind == "" {
		kind = inquest.KindCPU
	}
	if want.Seconds == 0 {
		want.Seconds = defaultSeconds
	}
	if want.Seconds < 1 || want.Seconds > mostSeconds {
		return nil, inquest.Errorf(inquest.ErrInvalid, "seconds: %d, want 1 to %d", want.Seconds, mostSeconds)
	}
	if want.Agent == "" || want.Target == "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "agent and target are needed, as GET /api/v1/targets names them")
	}
	s.audit(c, caller(c), "profile", inquest.LogAgent, want.Agent, inquest.LogTarget, want.Target, inquest.LogKind, kind, "seconds", want.Seconds)
	stop, cancelStop := s.untilStop(c.Request().Context())
	defer cancelStop()
	ctx, cancel := context.WithTimeout(stop, time.Duration(want.Seconds)*time.Second+commandSlack)
	defer cancel()
	command := inquest.Command{Verb: inquest.VerbProfile, Target: want.Target, Kind: kind, Seconds: want.Seconds}
	result, err := s.o.Fleet.Send(ctx, want.Agent, command)
	switch {
	case err != nil && s.stopping.Err() != nil:
		return nil, inquest.Errorf(inquest.ErrUnavailable, "the collector is stopping; try again in a moment")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, inquest.Errorf(inquest.ErrUnavailable, "agent %q did not answer in time", want.Agent)
	case err != nil:
		return nil, err
	case result.Error != "":
		return nil, inquest.Errorf(inquest.ErrUnavailable, "agent %q could not take the profile: %s", want.Agent, result.Error)
	}
	return linked(result, kind), nil
}

// linked adds the places where the profile of a result can be seen.
func linked(result *inquest.CommandResult, kind inquest.Kind) *profileDone {
	done := &profileDone{CommandResult: *result}
	if result.Kind != "" {
		kind = result.Kind
	}
	typ := inquest.TypeOf(kind, inquest.DefaultType(kind), "")
	q := url.Values{"type": {typ.Name}}
	if typ.Temporality == inquest.Instant {
		q.Set("agg", "last") // an average over the moments around one snapshot says nothing
	}
	if result.Service != "" {
		q.Set("query", inquest.Labels{{Name: inquest.LabelService, Value: result.Service}}.String())
	}
	if !result.Start.IsZero() {
		// A profile belongs to the window that contains its start.
		q.Set("from", result.Start.UTC().Add(-time.Second).Format(time.RFC3339))
		q.Set("until", result.Start.UTC().Add(2*time.Second).Format(time.RFC3339))
	}
	done.Link = "/explore?" + q.Encode()
	if result.Profile != "" {
		done.ProfileURL = "/api/v1/profile?" + url.Values{"id": {result.Profile}}.Encode()
	}
	return done
}

// untilStop derives a context that also ends when the server stops.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.stopping, cancel)
	return ctx, func() { unhook(); cancel() }
}
