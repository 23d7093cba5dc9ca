package ingest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// Capture says what is wanted of processes that die. The zero value works.
type Capture struct {
	Default  inquest.Tier     // default TierMini
	Services []ServiceCapture // exceptions, the first that matches counts
	// Enough is how many cores of deaths at the same place of a build are wanted
	// in 24 hours, EnoughFull how many of them with all of the memory; default 3
	// and 1. Negative: none.
	Enough, EnoughFull int
}

// ServiceCapture is an exception for some services.
type ServiceCapture struct {
	Match string // a name, or a pattern of * and ?
	Tier  inquest.Tier
}

const (
	captureSpan     = 24 * time.Hour
	captureAge      = 5 * time.Second // of a policy that is used again
	maxCaptureRules = 1000
	maxKnownBuilds  = 1000
	keylessFactor   = 4 // times as many cores of deaths that nothing tells apart
)

// SetCapture puts another configuration in force. With an error, of kind
// ErrInvalid, the old one stays.
func (x *Crashes) SetCapture(c Capture) error {
	c.Default = cmp.Or(c.Default, inquest.TierMini)
	if !c.Default.Valid() {
		return inquest.Errorf(inquest.ErrInvalid, "capture: default tier %.20q: want none, text, mini or full", c.Default)
	}
	if len(c.Services) > maxCaptureRules/2 {
		return inquest.Errorf(inquest.ErrInvalid, "capture: %d services have rules, %d are the most", len(c.Services), maxCaptureRules/2)
	}
	for i, s := range c.Services {
		if s.Match == "" || !s.Tier.Valid() {
			return inquest.Errorf(inquest.ErrInvalid, "capture: rule %d, of services %.100q with tier %.20q: want a name or pattern, and none, text, mini or full", i+1, s.Match, s.Tier)
		}
	}
	set := func(n *int, def int) { *n = max(cmp.Or(*n, def), 0) }
	set(&c.Enough, 3)
	set(&c.EnoughFull, 1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.capture, x.made = c, time.Time{}
	return nil
}

// place is where deaths are the same.
type place struct{ service, build, key string }

// had is what there is of a place.
type had struct {
	cores, full int
	newest      time.Time
}

// had counts the cores of the last day, by place.
func (x *Crashes) had() map[place]had {
	out := map[place]had{}
	since := x.o.Now().Add(-captureSpan)
	for _, c := range x.o.Store.Cores("", "") {
		if c.At.Before(since) {
			continue
		}
		p := place{c.Service, c.Build, c.Key}
		h := out[p]
		if h.cores++; c.Tier == inquest.TierFull {
			h.full++
		}
		if c.At.After(h.newest) {
			h.newest = c.At
		}
		out[p] = h
	}
	return out
}

// of is what is wanted of a service; x.mu is held.
func (c *Capture) of(service string) inquest.Tier {
	for i := range c.Services {
		if store.MatchService(c.Services[i].Match, service) {
			return c.Services[i].Tier
		}
	}
	return c.Default
}

// limited is what is wanted of a place where there are so many cores already.
func (c *Capture) limited(p place, h had) inquest.Tier {
	enough, full := c.Enough, c.EnoughFull
	if p.key == "" {
		enough, full = enough*keylessFactor, full*keylessFactor
	}
	switch want := c.of(p.service); {
	case h.cores >= enough:
		return want.Min(inquest.TierText)
	case h.full >= full:
		return want.Min(inquest.TierMini)
	default:
		return want
	}
}

// want decides about a core that is offered; x.mu is held.
func (x *Crashes) want(c *store.StoredCrash, core *inquest.Core) inquest.Tier {
	if have, err := x.o.Store.Core(core.ID); err == nil {
		return have.Tier // it is here, or coming
	}
	if c.CoreGone != "" {
		return inquest.TierText
	}
	if _, err := x.o.Store.Crash(c.ID); err != nil {
		return inquest.TierNone // not even its record is kept: there are too many newer ones
	}
	want := core.Tier // somebody asked for a snapshot
	if c.Kind != inquest.CrashSnapshot {
		p := place{c.Service, core.Build, c.Key}
		want = core.Tier.Min(x.capture.limited(p, x.had()[p]))
	}
	if most, pinned := x.o.Store.CoreQuota(); want.Cores() && pinned+core.StoredBytes > most {
		return inquest.TierText
	}
	return want
}

// Tier is what is to be kept of a death that happens now.
func (x *Crashes) Tier(service, build, key string) inquest.Tier {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := place{service, build, key}
	return x.capture.limited(p, x.had()[p])
}

// Policy is what agents are told, so that they need not ask while a process is
// held: places that have enough, the newest first, then services.
func (x *Crashes) Policy() inquest.CapturePolicy {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.o.Now()
	if age := now.Sub(x.made); age >= 0 && age < captureAge {
		return x.policy
	}
	p := inquest.CapturePolicy{Default: x.capture.Default, Builds: x.o.Store.CrashBuilds(maxKnownBuilds)}
	all := x.had()
	places := slices.SortedFunc(maps.Keys(all), func(a, b place) int {
		return cmp.Or(all[b].newest.Compare(all[a].newest), cmp.Compare(a.service, b.service), cmp.Compare(a.build, b.build), cmp.Compare(a.key, b.key))
	})
	most := maxCaptureRules - len(x.capture.Services)
	for _, at := range places {
		tier := x.capture.limited(at, all[at])
		if at.key != "" && tier != x.capture.of(at.service) && len(p.Rules) < most {
			p.Rules = append(p.Rules, inquest.CaptureRule{Service: at.service, Build: at.build, Key: at.key, Tier: tier})
		}
	}
	for _, s := range x.capture.Services {
		p.Rules = append(p.Rules, inquest.CaptureRule{Service: s.Match, Tier: s.Tier})
	}
	x.policy, x.made = p, now
	return p
}
