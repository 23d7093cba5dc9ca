package ingest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/goinquest/inquest"
)

// Bounds of the registry: nothing an agent says makes it grow beyond them.
const (
	maxAgents       = 10_000
	maxAgentTargets = 5_000
	maxAgentBuilds  = 5_000
	maxAgentIDBytes = 128
	maxQueue        = 16 // commands waiting for one agent

	silentAfter = 30 * time.Second // agents report every 10 s
	sweepEvery  = time.Minute
	skewSamples = 6           // reports over which the skew is taken
	unknownWait = time.Second // how long an agent that has not reported waits for commands
)

// FleetOptions configure a Fleet; the zero value works.
type FleetOptions struct {
	Now    func() time.Time
	Logger *slog.Logger
	Builds func([]inquest.Build) error // takes reported builds, each once; nil: they are not kept
	// Missing says which of the builds that run beside an agent it should upload;
	// nil: none. Agents that refuse uploads are not asked for any.
	Missing func(agent string, started time.Time, ids []string) []string
	// Capture says what agents keep of processes that die; nil: they decide.
	Capture func() inquest.CapturePolicy
	Forget  time.Duration // silent agents are forgotten after it; default 24 h
}

// Fleet is the registry of agents: their newest reports and the commands that
// wait for them. It is in memory: after a restart agents report again within
// seconds.
type Fleet struct {
	o FleetOptions

	mu      sync.Mutex
	agents  map[string]*agent
	pending map[string]*pending // by command id
	swept   time.Time           // when silent agents were last looked for
}

// agent is what is known of one agent.
type agent struct {
	report  inquest.AgentReport // the newest, without builds; replaced as a whole, never changed in place
	omitted int                 // targets beyond the bound
	remote  string
	seen    time.Time
	skews   []time.Duration     // of the newest reports, oldest first
	builds  map[string]struct{} // ids that Builds took
	untaken []inquest.Build     // that Builds failed to take
	queue   []inquest.Command   // not fetched yet
	wake    chan struct{}       // closed and replaced when queue grows
}

// pending is a command whose result is waited for.
type pending struct {
	agent  string
	result chan *inquest.CommandResult // has room for one
}

// Agent is an agent's newest report with what the collector knows beside it.
// Its slices and maps are shared and must not be changed.
type Agent struct {
	inquest.AgentReport
	Remote   string        `json:"remote"` // address it reported from
	LastSeen time.Time     `json:"last_seen"`
	Silent   bool          `json:"silent"`                    // no report for 30 s
	Skew     time.Duration `json:"skew_ns"`                   // agent's clock minus the collector's
	Omitted  int           `json:"omitted_targets,omitempty"` // targets beyond what is kept of one agent
}

// NewFleet makes an empty registry.
func NewFleet(o FleetOptions) *Fleet {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Forget <= 0 {
		o.Forget = 24 * time.Hour
	}
	return &Fleet{o: o, agents: map[string]*agent{}, pending: map[string]*pending{}}
}

// Report takes an agent's report, which belongs to the Fleet afterwards;
// remote is the address it came from. ErrInvalid on an id that cannot be one
// and on a protocol that is not spoken here, naming both versions; ErrBusy if
// there are too many agents.
func (f *Fleet) Report(id string, r *inquest.AgentReport, remote string) (*inquest.ReportAnswer, error) {
	if err := checkReport(id, r); err != nil {
		return nil, err
	}
	r.ID = id
	omitted := tidy(r)
	builds := r.Builds
	r.Builds = nil
	now := f.o.Now().UTC()
	skew := r.Clock.Sub(now)

	f.mu.Lock()
	f.forget(now)
	a := f.agents[id]
	if a == nil {
		if len(f.agents) >= maxAgents {
			f.mu.Unlock()
			return nil, inquest.Errorf(inquest.ErrBusy, "there are %d agents already, which is the most this collector keeps", maxAgents)
		}
		a = &agent{wake: make(chan struct{}), builds: map[string]struct{}{}}
		f.agents[id] = a
		f.o.Logger.Info("agent appeared", inquest.LogAgent, id, "host", r.Host, "version", r.Version, "remote", remote)
	}
	if !a.report.Started.Equal(r.Started) {
		a.skews = nil // another life, perhaps on another machine
	}
	if !r.Clock.IsZero() {
		a.skews = append(a.skews, skew)
		a.skews = a.skews[max(0, len(a.skews)-skewSamples):]
	}
	a.report, a.omitted, a.remote, a.seen = *r, omitted, remote, now
	running := runningBuilds(r, builds)
	fresh := a.freshBuilds(builds)
	answer := &inquest.ReportAnswer{Protocol: inquest.ProtocolVersion, Clock: now, Skew: a.skew(), MissingBuilds: []string{}}
	f.mu.Unlock()

	f.putBuilds(id, fresh)
	if f.o.Missing != nil && len(running) > 0 && !slices.Contains(r.Refuses, inquest.RefuseUpload) {
		answer.MissingBuilds = f.o.Missing(id, r.Started, running)
	}
	if f.o.Capture != nil {
		answer.Capture = f.o.Capture()
	}
	return answer, nil
}

// runningBuilds are the ids of what runs beside an agent: it tells of a build
// once, and of its targets every time.
func runningBuilds(r *inquest.AgentReport, builds []inquest.Build) []string {
	var ids []string
	seen := map[string]bool{"": true}
	add := func(id string) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for i := range builds {
		add(builds[i].ID)
	}
	for i := range r.Targets {
		add(r.Targets[i].Build)
	}
	return ids
}

// checkReport refuses what cannot be a report.
func checkReport(id string, r *inquest.AgentReport) error {
	switch {
	case id == "" || len(id) > maxAgentIDBytes || !utf8.ValidString(id) || control(id):
		return inquest.Errorf(inquest.ErrInvalid, "agent id %.60q: want 1 to %d bytes of UTF-8 without control characters", id, maxAgentIDBytes)
	case r.Protocol < inquest.ProtocolVersion:
		return inquest.Errorf(inquest.ErrInvalid, "agent %q speaks version %d of the protocol, this collector version %d: upgrade the agent", id, r.Protocol, inquest.ProtocolVersion)
	case r.Protocol > inquest.ProtocolVersion:
		return inquest.Errorf(inquest.ErrInvalid, "agent %q speaks version %d of the protocol, this collector only version %d: upgrade the collector", id, r.Protocol, inquest.ProtocolVersion)
	}
	return nil
}

// skew is the agent's clock minus ours. The time a report travels makes every
// measurement too small, so the largest of the newest ones is the best.
func (a *agent) skew() time.Duration {
	if len(a.skews) == 0 {
		return 0
	}
	return slices.Max(a.skews)
}

// freshBuilds returns the builds to hand on: those not taken yet. An agent does
// not tell of a build with every report.
func (a *agent) freshBuilds(reported []inquest.Build) []inquest.Build {
	var fresh []inquest.Build
	seen := map[string]bool{"": true}
	for _, b := range append(a.untaken, reported...) {
		if _, taken := a.builds[b.ID]; !taken && !seen[b.ID] && len(fresh) < maxAgentBuilds {
			seen[b.ID] = true
			fresh = append(fresh, b)
		}
	}
	a.untaken = nil
	return fresh
}

// putBuilds hands builds on. What fails is tried again with the next report.
func (f *Fleet) putBuilds(id string, fresh []inquest.Build) {
	if len(fresh) == 0 || f.o.Builds == nil {
		return
	}
	err := f.o.Builds(fresh)
	if err != nil {
		f.o.Logger.Warn("builds not stored", inquest.LogAgent, id, "builds", len(fresh), inquest.LogErr, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.agents[id]
	switch {
	case a == nil:
		return
	case err != nil:
		a.untaken = fresh
		return
	case len(a.builds) > 2*maxAgentBuilds:
		clear(a.builds) // an agent that saw very many; storing some again does no harm
	}
	for _, b := range fresh {
		a.builds[b.ID] = struct{}{}
	}
}

// forget drops agents that have been silent for long, looking for them now and
// then. f.mu is held.
func (f *Fleet) forget(now time.Time) {
	if now.Sub(f.swept) < sweepEvery && len(f.agents) < maxAgents {
		return
	}
	f.swept = now
	for id, a := range f.agents {
		if now.Sub(a.seen) >= f.o.Forget {
			delete(f.agents, id)
			f.o.Logger.Info("agent forgotten", inquest.LogAgent, id, "last_seen", a.seen)
		}
	}
}

// Agents returns every agent by id.
func (f *Fleet) Agents() []Agent {
	now := f.o.Now().UTC()
	f.mu.Lock()
	f.forget(now)
	out := make([]Agent, 0, len(f.agents))
	for _, a := range f.agents {
		out = append(out, Agent{
			AgentReport: a.report, Remote: a.remote, LastSeen: a.seen,
			Silent: now.Sub(a.seen) > silentAfter, Skew: a.skew(), Omitted: a.omitted,
		})
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Agent) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Next waits up to wait for commands for an agent and hands them out; it
// returns none when none came in time, and ctx's error when that ended first.
// An agent that has not reported yet is sent away soon, without commands.
func (f *Fleet) Next(ctx context.Context, id string, wait time.Duration) ([]inquest.Command, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		f.mu.Lock()
		a := f.agents[id]
		if a == nil {
			f.mu.Unlock()
			return nil, pause(ctx, min(wait, unknownWait))
		}
		if len(a.queue) > 0 {
			commands := a.queue
			a.queue = nil
			f.mu.Unlock()
			return commands, nil
		}
		wake := a.wake
		f.mu.Unlock()
		select {
		case <-wake:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send gives a command, whose id it chooses, to the agent that has the target
// and waits for the result until ctx ends. ErrNotFound: there is no such agent
// or target; ErrForbidden: the agent refuses the verb; ErrUnavailable: it is
// silent; ErrBusy: too many commands wait for it.
func (f *Fleet) Send(ctx context.Context, id string, c inquest.Command) (*inquest.CommandResult, error) {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // crypto/rand never fails
	c.ID = hex.EncodeToString(raw[:])
	p, err := f.enqueue(id, c)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-p.result:
		return r, nil
	case <-ctx.Done():
		f.withdraw(id, c.ID)
		return nil, ctx.Err()
	}
}

func (f *Fleet) enqueue(id string, c inquest.Command) (*pending, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.agents[id]
	switch {
	case a == nil:
		return nil, inquest.Errorf(inquest.ErrNotFound, "there is no agent %.100q; GET /api/v1/agents lists them", id)
	case !slices.ContainsFunc(a.report.Targets, func(t inquest.Target) bool { return t.ID == c.Target }):
		return nil, inquest.Errorf(inquest.ErrNotFound, "agent %q has no target %.100q; GET /api/v1/targets lists them", id, c.Target)
	case slices.Contains(a.report.Refuses, c.Verb):
		return nil, inquest.Errorf(inquest.ErrForbidden, "the configuration of agent %q refuses the command %q", id, c.Verb)
	case f.o.Now().Sub(a.seen) > silentAfter:
		return nil, inquest.Errorf(inquest.ErrUnavailable, "agent %q is silent since %s", id, a.seen.Format(time.RFC3339))
	case len(a.queue) >= maxQueue:
		return nil, inquest.Errorf(inquest.ErrBusy, "%d commands wait for agent %q already", len(a.queue), id)
	}
	p := &pending{agent: id, result: make(chan *inquest.CommandResult, 1)}
	f.pending[c.ID] = p
	a.queue = append(a.queue, c)
	close(a.wake)
	a.wake = make(chan struct{})
	return p, nil
}

// withdraw takes a command back that nobody waits for any more.
func (f *Fleet) withdraw(id, command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, command)
	if a := f.agents[id]; a != nil {
		a.queue = slices.DeleteFunc(a.queue, func(c inquest.Command) bool { return c.ID == command })
	}
}

// Done takes an agent's result of a command. ErrNotFound if nobody waits for
// it: it is unknown, another agent's, or took too long.
func (f *Fleet) Done(id, command string, r *inquest.CommandResult) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pending[command]
	if p == nil || p.agent != id {
		return inquest.Errorf(inquest.ErrNotFound, "nobody waits for command %.40q of agent %.100q; it may have taken too long", command, id)
	}
	delete(f.pending, command)
	r.Error, r.Service, r.Profile = clip(r.Error), clip(r.Service), clip(r.Profile)
	p.result <- r
	return nil
}
