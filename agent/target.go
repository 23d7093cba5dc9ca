package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// Where a target comes from, as inquest.Target.Source says it.
const (
	sourceStatic = "static"
	sourceFile   = "file"
	sourceHost   = "host"
	sourceSelf   = "self"
)

// endpoints are the last elements of the URLs of the kinds.
var endpoints = map[inquest.Kind]string{
	inquest.KindCPU:           "profile",
	inquest.KindHeap:          "heap",
	inquest.KindGoroutine:     "goroutine",
	inquest.KindMutex:         "mutex",
	inquest.KindBlock:         "block",
	inquest.KindThreadCreate:  "threadcreate",
	inquest.KindGoroutineLeak: "goroutineleak",
}

// spec is what discovery knows of a place to scrape. It is never changed once
// made: a target gets a new one.
type spec struct {
	id       string
	service  string
	instance string
	release  string
	labels   map[string]string
	base     *url.URL // up to and including /debug/pprof/; nil if it is only shown
	source   string
	skip     string // why it is not scraped; empty if it is
	process  string // see inquest.ProfileMeta.Process; empty if not known
	build    *inquest.Build
	schedule Schedule
	client   *http.Client
}

// newID makes a stable id out of what tells a target from others.
func newID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// sameSchedule reports whether two specs mean the same scrapes at the same
// times, whichever process is there.
func (s *spec) sameSchedule(o *spec) bool {
	return s.schedule.Interval == o.schedule.Interval && s.schedule.CPUSeconds == o.schedule.CPUSeconds &&
		slices.Equal(s.schedule.Kinds, o.schedule.Kinds) && s.skip == o.skip
}

// target is a place that is scraped, and what became of it.
type target struct {
	busy    chan struct{} // holds a token while something is taken of the target
	changed chan struct{} // signalled when the schedule changed
	stop    func()        // ends its loop

	mu    sync.Mutex
	spec  *spec
	kinds map[inquest.Kind]*kindState
}

// kindState is what became of one kind of a target.
type kindState struct {
	scrape    inquest.Scrape
	build     string // as the newest profile said
	fails     int    // in a row
	notBefore time.Time
}

func newTarget(s *spec) *target {
	return &target{
		busy: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		spec: s, kinds: map[inquest.Kind]*kindState{},
	}
}

// current is the newest spec.
func (t *target) current() *spec {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spec
}

// update gives the target a newer spec of the same id.
func (t *target) update(s *spec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := t.spec.sameSchedule(s)
	if t.spec.process != s.process {
		for _, k := range t.kinds { // the new process did not do anything wrong yet
			k.fails, k.notBefore = 0, time.Time{}
		}
	}
	t.spec = s
	if !same {
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
}

// kind is the state of a kind. Callers hold t.mu.
func (t *target) kind(k inquest.Kind) *kindState {
	st := t.kinds[k]
	if st == nil {
		st = &kindState{scrape: inquest.Scrape{Kind: k}}
		t.kinds[k] = st
	}
	return st
}

// withoutQuery spells a URL for everybody to see: parameters may be secrets.
func withoutQuery(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// report is what the agent says of the target.
func (t *target) report() inquest.Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.spec
	out := inquest.Target{
		ID: s.id, Service: s.service, Instance: s.instance, Release: s.release, Process: s.process,
		Labels: maps.Clone(s.labels), Source: s.source, State: inquest.TargetPending, Reason: s.skip,
	}
	if s.build != nil {
		out.Build = s.build.ID
	}
	if s.base != nil {
		out.URL = withoutQuery(s.base)
	}
	if s.skip != "" {
		out.State = inquest.TargetSkipped
		return out
	}
	newestError := time.Time{}
	for _, kind := range s.schedule.Kinds {
		st := t.kinds[kind]
		if st == nil {
			continue
		}
		out.Scrapes = append(out.Scrapes, st.scrape)
		if out.Build == "" {
			out.Build = st.build
		}
		switch {
		case st.scrape.Error != "":
			out.State = inquest.TargetDown
			if st.scrape.At.After(newestError) {
				newestError, out.Reason = st.scrape.At, string(kind)+": "+st.scrape.Error
			}
		case st.scrape.Scrapes > 0 && out.State == inquest.TargetPending:
			out.State = inquest.TargetUp
		}
	}
	return out
}
