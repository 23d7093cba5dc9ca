package postmortem

import (
	"context"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/remote"
)

// Snapshot is a snapshot that was taken.
type Snapshot struct {
	Crash   string        `json:"crash"`
	Stopped time.Duration `json:"stopped_ns"` // how long the process was stopped
	Link    string        `json:"link"`
	Agent   string        `json:"agent"`
	Core    *Core         `json:"core,omitempty"` // once the collector has it
}

// arrival is how long a snapshot is waited for to be sent.
const arrival = 5 * time.Minute

// Take has a target, SERVICE/INSTANCE, copied while it goes on, and waits until
// the collector has the core.
func Take(ctx context.Context, c *remote.Client, target string, tier inquest.Tier, progress func(part float64, what string)) (*Snapshot, error) {
	t, err := findTarget(ctx, c, target)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Agent: t.Agent}
	want := map[string]string{"agent": t.Agent, "target": t.ID, "tier": string(tier)}
	if err := callJSON(ctx, c, "/api/v1/targets/snapshot", want, s); err != nil {
		return nil, err
	}
	if s.Link != "" {
		s.Link = c.Base().String() + s.Link
	}
	ctx, cancel := context.WithTimeoutCause(ctx, arrival, inquest.Errorf(inquest.ErrUnavailable, "the snapshot %s was taken, and is not here after %v; it comes when its agent has sent it", s.Crash, arrival))
	defer cancel()
	for {
		crash, err := OneCrash(ctx, c, s.Crash)
		if err == nil && crash.Core != nil && crash.Core.Complete {
			s.Core, err = FindCore(ctx, c, crash.Core.ID)
			return s, err
		}
		if progress != nil {
			progress(-1, "the agent sends it")
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// target is a target of an agent, as the collector lists it.
type target struct {
	inquest.Target
	Agent string `json:"agent"`
}

// findTarget finds the target that SERVICE/INSTANCE names, or SERVICE alone if
// it has one instance.
func findTarget(ctx context.Context, c *remote.Client, name string) (*target, error) {
	var list struct{ Values []target }
	if err := c.GetJSON(ctx, "/api/v1/targets", nil, &list); err != nil {
		return nil, err
	}
	service, instance, _ := strings.Cut(name, "/")
	var found []*target
	var near []string
	for i := range list.Values {
		t := &list.Values[i]
		if t.Service != service {
			continue
		}
		near = append(near, t.Service+"/"+t.Instance)
		if instance == "" || t.Instance == instance {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(near) == 0:
		return nil, inquest.Errorf(inquest.ErrNotFound, "no agent has a target of service %q", service)
	case len(found) == 0:
		return nil, inquest.Errorf(inquest.ErrNotFound, "no target %q; there is %s", name, strings.Join(near, ", "))
	}
	return nil, inquest.Errorf(inquest.ErrInvalid, "%d targets are %q: %s", len(found), name, strings.Join(near, ", "))
}
