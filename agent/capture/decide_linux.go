package capture

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// policy says what is wanted of deaths. It is safe for concurrent use.
type policy struct {
	local, most inquest.Tier
	ask         func(ctx context.Context, service, build, key string) (inquest.Tier, error)
	timeout     time.Duration

	mu      sync.Mutex
	set     inquest.CapturePolicy
	answers map[string]answer // of the collector, by service, build and key
	silent  time.Time         // it is not asked before
}

type answer struct {
	tier  inquest.Tier
	until time.Time
}

const (
	answersKept = time.Minute // an answer counts that long: policies come with reports by then
	maxAnswers  = 1024
	askPause    = 10 * time.Second // after a question without an answer
)

// use takes a policy that came with an answer to a report.
func (p *policy) use(set inquest.CapturePolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = set
	clear(p.answers)
}

// known is what the policy at hand says. ask says that the collector may
// know better, as it has not heard of the build.
func (p *policy) known(service, build, key string, now time.Time) (t inquest.Tier, ask bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t = p.local
	if p.set.Default.Valid() {
		t = p.set.Default
	}
	for _, r := range p.set.Rules {
		if match(r.Service, service) && (r.Build == "" || r.Build == build) && (r.Key == "" || r.Key == key) && r.Tier.Valid() {
			t = r.Tier
			break
		}
	}
	if p.ask == nil || slices.Contains(p.set.Builds, build) {
		return t.Min(p.most), false
	}
	if a, ok := p.answers[place(place(service, build), key)]; ok && now.Before(a.until) {
		return a.tier.Min(p.most), false
	}
	return t.Min(p.most), !now.Before(p.silent)
}

// wanted is what is to be kept of a death, asking the collector if need be.
func (p *policy) wanted(ctx context.Context, service, build, key string, now time.Time) inquest.Tier {
	t, ask := p.known(service, build, key, now)
	if !ask {
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	said := make(chan inquest.Tier, 1)
	go func() {
		// Whoever asks may not keep to the context: the process is held meanwhile.
		t, err := p.ask(ctx, service, build, key)
		if err != nil || !t.Valid() {
			t = ""
		}
		said <- t
	}()
	var told inquest.Tier
	select {
	case told = <-said:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if told == "" {
		p.silent = now.Add(askPause)
		return t
	}
	if len(p.answers) >= maxAnswers {
		clear(p.answers)
	}
	p.answers[place(place(service, build), key)] = answer{told, now.Add(answersKept)}
	return told.Min(p.most)
}

// match holds a name against a pattern of * and ?; an empty one matches all.
func match(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	return wildcard(pattern, name)
}

// wildcard is a match in which * stands for any characters, ? for one. It
// goes back only to the last *, so it takes no more than len(p)*len(s) steps.
func wildcard(p, s string) bool {
	i, j, star, from := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
