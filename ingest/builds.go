package ingest

import (
	"cmp"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// What is known of a build's code.
const (
	CodeMissing = "missing" // no binary
	CodeNames   = "names"   // a binary without debug information; of Go that is names and lines
	CodeDWARF   = "dwarf"   // a binary with debug information, or with a companion that has it
	CodeDebug   = "debug"   // debug information alone
)

// BuildState is a build and what the collector has of it.
type BuildState struct {
	inquest.Build
	Code     string               `json:"code"`               // one of the Code… constants
	Conflict bool                 `json:"conflict,omitempty"` // binaries of one id differ in their code
	Fetching bool                 `json:"fetching,omitempty"` // another server is being asked
	LastSeen time.Time            `json:"last_seen,omitzero"` // newest data
	Services []store.SeenBuild    `json:"services"`           // that data came of
	Binaries []store.StoredBinary `json:"binaries"`           // the best first
}

// Builds lists every build that data came of, an agent reported or somebody
// uploaded, those with the newest data first.
func (b *Binaries) Builds() ([]BuildState, error) {
	states := map[string]*BuildState{}
	at := func(id string) *BuildState {
		s := states[id]
		if s == nil {
			s = &BuildState{Build: inquest.Build{ID: id}, Services: []store.SeenBuild{}}
			states[id] = s
		}
		return s
	}
	if err := b.o.Store.Builds(func(build *inquest.Build) { at(build.ID).Build = *build }); err != nil {
		return nil, err
	}
	for id := range b.o.Store.StoredIDs() {
		at(id)
	}
	for id, services := range b.o.Store.SeenBuilds() {
		if list := b.o.Store.Binaries(id); len(list) > 0 {
			id = list[0].ID // it may be another one of its ids
		}
		s := at(id)
		s.Services = append(s.Services, services...)
		for _, x := range services {
			if x.Last.After(s.LastSeen) {
				s.LastSeen = x.Last
			}
		}
	}
	out := make([]BuildState, 0, len(states))
	for _, s := range states {
		b.complete(s)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b BuildState) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// complete adds what binaries say.
func (b *Binaries) complete(s *BuildState) {
	s.Binaries = b.o.Store.Binaries(s.ID)
	program, dwarf := false, false
	for i := range s.Binaries {
		c := &s.Binaries[i]
		s.Conflict = s.Conflict || c.Conflict
		program = program || c.Program()
		dwarf = dwarf || c.DWARF
		if s.GoVersion != "" && s.Modules != nil || c.GoVersion == "" {
			continue
		}
		if whole, err := b.o.Store.Binary(c.SHA256); err == nil { // else it has just gone
			s.Build = whole.Build
		}
	}
	switch {
	case program && dwarf:
		s.Code = CodeDWARF
	case program:
		s.Code = CodeNames
	case dwarf:
		s.Code = CodeDebug
	default:
		s.Code = CodeMissing
	}
	s.Fetching = b.Fetching(s.ID)
}
