// Package inventory asks a collector which builds it knows and writes what it
// answers: `inquest builds` is this package with flags. It knows the collector
// by its API alone.
package inventory

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/vulndb"
)

// Build is a build as the collector lists it.
type Build struct {
	inquest.Build
	Code     string    `json:"code"` // dwarf, names, debug or missing: what is stored
	Conflict bool      `json:"conflict,omitempty"`
	Fetching bool      `json:"fetching,omitempty"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Services []struct {
		Service string    `json:"service"`
		First   time.Time `json:"first"`
		Last    time.Time `json:"last"`
	} `json:"services"`
	Binaries []Binary `json:"binaries"`

	Findings []inquest.Vulnerability `json:"vulnerabilities,omitempty"` // with Query.Vulnerabilities
}

// Binary is a stored file of a build.
type Binary struct {
	inquest.Binary
	Uploaded    time.Time `json:"uploaded"`
	By          string    `json:"by,omitempty"`
	Source      string    `json:"source"`
	StoredBytes int64     `json:"stored_bytes"`
}

// Query says which builds are asked for; the zero value is all of them.
type Query struct {
	ID          string // or the beginning of one
	Service     string
	Module      string // a path: builds that have it in them
	ModuleBelow string // "PATH@VERSION": and of a version below
	GoBelow     string // "1.25": built by an older Go
	Dirty       bool   // built from a tree with changes
	// Vulnerabilities, if set, leaves those builds that some of them affect, unless
	// one build is asked for.
	Vulnerabilities *vulndb.Database
}

// idBytes is how long an id is at least that is asked for as a whole.
const idBytes = 40

// Ask asks for builds, those with the newest data first. The error is that of
// remote.Client.Do, or of kind inquest.ErrNotFound if no build has the id and
// inquest.ErrInvalid if several begin so.
func Ask(ctx context.Context, c *remote.Client, q Query) ([]Build, error) {
	params := url.Values{}
	for name, value := range map[string]string{
		"service": q.Service, "module": q.Module, "module_below": q.ModuleBelow, "go_below": q.GoBelow,
	} {
		if value != "" {
			params.Set(name, value)
		}
	}
	if q.Dirty {
		params.Set("dirty", "true")
	}
	if q.ID != "" || q.Vulnerabilities != nil {
		params.Set("detail", "true")
	}
	if len(q.ID) >= idBytes {
		params.Set("id", q.ID)
	}
	var list struct {
		Values []Build `json:"values"`
	}
	if err := c.GetJSON(ctx, "/api/v1/builds", params, &list); err != nil {
		return nil, err
	}
	builds := list.Values
	if q.ID != "" {
		var err error
		if builds, err = one(builds, q.ID); err != nil {
			return nil, err
		}
	}
	if d := q.Vulnerabilities; d != nil {
		for i := range builds {
			builds[i].Findings = d.Affecting(&builds[i].Build)
		}
		if q.ID == "" {
			builds = slices.DeleteFunc(builds, func(b Build) bool { return len(b.Findings) == 0 })
		}
	}
	return builds, nil
}

// one is the build that has an id, or whose id begins so.
func one(builds []Build, id string) ([]Build, error) {
	if len(id) < idBytes {
		builds = slices.DeleteFunc(builds, func(b Build) bool { return !b.named(id) })
	}
	switch {
	case len(builds) == 0:
		return nil, inquest.Errorf(inquest.ErrNotFound, "no build %q is known to the collector; inquest builds lists them all", id)
	case len(builds) > 1:
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d builds begin with %q: give more of the id", len(builds), id)
	}
	return builds, nil
}

// named says whether one of the ids begins so; a Go build id also without "go-".
func (b *Build) named(id string) bool {
	begins := func(name string) bool {
		return strings.HasPrefix(name, id) || strings.HasPrefix(strings.TrimPrefix(name, "go-"), id)
	}
	return begins(b.ID) || slices.ContainsFunc(b.Binaries, func(x Binary) bool { return begins(x.ID) || begins(x.GNUBuildID) })
}

// Release names the build for people: see inquest.Release.
func (b *Build) Release() string { return inquest.Release("", "", &b.Build) }
