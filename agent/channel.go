package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

const (
	reportEvery   = 10 * time.Second
	reportTimeout = 10 * time.Second
	buildsEvery   = 10 * time.Minute // known builds are told again
	commandsWait  = 30 * time.Second
	commandRetry  = time.Second
	commandMost   = 30 * time.Second
	commandsAhead = 8 // commands obeyed at once
	busyWait      = 30 * time.Second
	maxCPUCommand = 300 // seconds
)

// channel is the agents' channel: what the agent says of itself, and what it
// is asked to do.
type channel struct {
	agent    *Agent
	mu       sync.Mutex
	told     map[string]time.Time // builds the collector knows, by id
	missing  map[string]bool      // of them, those whose executables it asked for
	trouble  map[string]string    // newest error by call, logged once
	commands sync.WaitGroup
}

// reports tells the collector about the agent until ctx ends.
func (c *channel) reports(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		c.note("report", c.report(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// note logs what is wrong when it changes.
func (c *channel) note(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text := errText(err); text != c.trouble[what] {
		c.trouble[what] = text
		if err != nil {
			c.agent.log.Warn("agents' channel", "call", what, inquest.LogErr, err)
		}
	}
}

func (c *channel) report(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	r := c.agent.Report()
	now := c.agent.now()
	r.Builds = c.untold(r.Builds, now)
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	var answer inquest.ReportAnswer
	err = c.agent.collector.do(ctx, call{
		method: http.MethodPost, path: c.path("report"), body: body,
		header: map[string]string{"Content-Type": "application/json"},
	}, &answer)
	if err != nil {
		if ctx.Err() != nil {
			return nil // we stop, or the next one comes
		}
		return err
	}
	if answer.Protocol != inquest.ProtocolVersion {
		return inquest.Errorf(inquest.ErrInvalid, "collector speaks protocol %d, this agent %d: update the older one", answer.Protocol, inquest.ProtocolVersion)
	}
	c.agent.binaries.want(answer.MissingBuilds)
	if err := c.agent.capture.setPolicy(answer.Capture); err != nil {
		c.agent.log.Warn("keep the capture policy", inquest.LogErr, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range r.Builds {
		c.told[r.Builds[i].ID] = now
	}
	for _, id := range answer.MissingBuilds {
		c.missing[id] = true
	}
	return nil
}

// untold leaves out the builds the collector was told about lately.
func (c *channel) untold(all []inquest.Build, now time.Time) []inquest.Build {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(all, func(b inquest.Build) bool {
		at, ok := c.told[b.ID]
		return ok && now.Sub(at) < buildsEvery && !c.agent.held.has(b.ID) // whose targets are gone
	})
}

// lacks reports whether the collector may lack the executable of a build: it
// asked for it, or was never told of the build.
func (c *channel) lacks(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.told[id]
	return !ok || c.missing[id]
}

// uploaded notes that the collector has an executable.
func (c *channel) uploaded(id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.missing, id)
	}
}

func (c *channel) path(rest string) string {
	return "api/v1/agents/" + url.PathEscape(c.agent.spool.AgentID()) + "/" + rest
}

// listen waits for commands and obeys them until ctx ends.
func (c *channel) listen(ctx context.Context) {
	defer c.commands.Wait()
	slots := make(chan struct{}, commandsAhead)
	pause := commandRetry
	for ctx.Err() == nil {
		commands, err := c.poll(ctx)
		if err != nil {
			if ctx.Err() == nil {
				c.note("commands", err)
			}
			sleep(ctx, jitter(pause))
			pause = min(2*pause, commandMost)
			continue
		}
		pause = commandRetry
		c.note("commands", nil)
		for _, cmd := range commands {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			c.commands.Go(func() {
				defer func() { <-slots }()
				c.answer(cmd, c.obey(ctx, cmd))
			})
		}
	}
}

func (c *channel) poll(ctx context.Context) ([]inquest.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, commandsWait+reportTimeout)
	defer cancel()
	var list struct {
		Values []inquest.Command `json:"values"`
	}
	begin := c.agent.now()
	err := c.agent.collector.do(ctx, call{
		method: http.MethodGet, path: c.path("commands"), query: url.Values{"wait": {commandsWait.String()}},
	}, &list)
	if err == nil && len(list.Values) == 0 && c.agent.now().Sub(begin) < commandRetry {
		// A collector that does not wait must not be asked without a pause.
		sleep(ctx, commandRetry)
	}
	return list.Values, err
}

// answer tells what became of a command.
func (c *channel) answer(cmd inquest.Command, r inquest.CommandResult) {
	ctx, cancel := context.WithTimeout(c.agent.shipCtx, reportTimeout)
	defer cancel()
	body, err := json.Marshal(r)
	if err == nil {
		err = c.agent.collector.do(ctx, call{
			method: http.MethodPost, path: c.path("commands/" + url.PathEscape(cmd.ID)), body: body,
			header: map[string]string{"Content-Type": "application/json"},
		}, nil)
	}
	if err != nil {
		c.agent.log.Warn("answer command", "command", cmd.ID, inquest.LogErr, err)
	}
}

// obey does what a command says.
func (c *channel) obey(ctx context.Context, cmd inquest.Command) inquest.CommandResult {
	a := c.agent
	a.log.Info("command", "command", cmd.ID, "verb", cmd.Verb, inquest.LogTarget, cmd.Target, inquest.LogKind, cmd.Kind)
	switch {
	case slices.Contains(a.refuses(), cmd.Verb):
		return inquest.CommandResult{Error: fmt.Sprintf("this agent's configuration refuses %q", cmd.Verb)}
	case cmd.Verb == inquest.VerbSnapshot:
		crash, err := a.capture.snapshot(ctx, cmd)
		if err != nil {
			return inquest.CommandResult{Error: err.Error()}
		}
		return inquest.CommandResult{Service: crash.Service, Crash: crash.ID, Stopped: crash.Held}
	case cmd.Verb != inquest.VerbProfile:
		return inquest.CommandResult{Error: fmt.Sprintf("this agent does not know the command %q; it knows %s and %s", cmd.Verb, inquest.VerbProfile, inquest.VerbSnapshot)}
	}
	out, id, err := a.takeNow(ctx, cmd)
	r := inquest.CommandResult{Error: errText(err), Service: out.head.Service, Kind: out.kind, Start: out.head.Start, Profile: id}
	return r
}

// takeNow takes one profile of a target on command and ships it at once. It
// waits a while for what is being taken of the target already.
func (a *Agent) takeNow(ctx context.Context, cmd inquest.Command) (out outcome, id string, err error) {
	kind := cmd.Kind
	if kind == "" {
		kind = inquest.KindCPU
	}
	if endpoints[kind] == "" {
		return out, "", inquest.Errorf(inquest.ErrInvalid, "kind %q is nothing that /debug/pprof serves", kind)
	}
	a.mu.Lock()
	t := a.targets[cmd.Target]
	a.mu.Unlock()
	if t == nil {
		return out, "", inquest.Errorf(inquest.ErrNotFound, "this agent has no target %q", cmd.Target)
	}
	s := t.current()
	if s.skip != "" {
		return out, "", inquest.Errorf(inquest.ErrUnavailable, "the target is not scraped: %s", s.skip)
	}
	r := request{kind: kind, seconds: cmd.Seconds, hold: onDemandHold, claim: true}
	if r.seconds <= 0 {
		r.seconds = s.schedule.CPUSeconds
	}
	if r.seconds > maxCPUCommand {
		return out, "", inquest.Errorf(inquest.ErrInvalid, "%d seconds asked for, at most %d are allowed", r.seconds, maxCPUCommand)
	}
	wait, cancel := context.WithTimeout(ctx, busyWait)
	defer cancel()
	if !t.acquire(wait) {
		return out, "", inquest.Errorf(inquest.ErrBusy, "another profile is being taken of the target; try again when it is done")
	}
	out = func() outcome {
		defer t.release()
		return a.take(ctx, t.current(), r)
	}()
	a.metrics.observe(out)
	if out.err != nil {
		return out, "", out.err
	}
	_, ack, err := a.uploader.ship(ctx, out.item)
	if err != nil {
		return out, "", fmt.Errorf("the profile was taken, but not shipped yet: %w", err)
	}
	return out, ack.ID, nil
}
