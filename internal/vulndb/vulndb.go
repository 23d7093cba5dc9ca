// Package vulndb says which modules of a build are affected by known
// vulnerabilities, from entries in the OSV format as the Go vulnerability
// database publishes them. It goes by modules and versions: whether the
// program ever calls the vulnerable function is another question.
//
// Versions are in ranges of semantic versions without a "v"; "0" is before all
// of them. The standard library and Go's own tools are the modules stdlib and
// toolchain, with Go's version. A Database does not change once it is read, so
// it is safe for use by several goroutines.
package vulndb

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/goinquest/inquest"
)

// The modules that stand for Go itself.
const (
	Stdlib    = "stdlib"    // is in every program
	Toolchain = "toolchain" // has built it
)

// entry is one vulnerability, as far as it counts here.
type entry struct {
	ID        string     `json:"id"`
	Summary   string     `json:"summary"`
	Aliases   []string   `json:"aliases"`
	Withdrawn string     `json:"withdrawn"`
	Affected  []affected `json:"affected"`
	Database  struct {
		URL string `json:"url"`
	} `json:"database_specific"`
}

// affected is one module of an entry.
type affected struct {
	Package struct {
		Name      string `json:"name"`
		Ecosystem string `json:"ecosystem"`
	} `json:"package"`
	Ranges   []versions `json:"ranges"`
	Versions []string   `json:"versions"`
	Specific struct {
		Imports []struct {
			GOOS   []string `json:"goos"`
			GOARCH []string `json:"goarch"`
		} `json:"imports"`
	} `json:"ecosystem_specific"`

	entry *entry
}

// versions are events along the order of versions: each begins or ends what is
// affected.
type versions struct {
	Type   string `json:"type"`
	Events []struct {
		Introduced   string `json:"introduced"`
		Fixed        string `json:"fixed"`
		LastAffected string `json:"last_affected"`
	} `json:"events"`
}

// Database is a set of entries.
type Database struct {
	entries int
	modules map[string][]affected
}

// Entries is how many vulnerabilities there are, without withdrawn ones.
func (d *Database) Entries() int { return d.entries }

// add reads one entry, or an array of them.
func (d *Database) add(data []byte) error {
	var list []*entry
	if text := strings.TrimSpace(string(data[:min(len(data), 64)])); strings.HasPrefix(text, "[") {
		if err := json.Unmarshal(data, &list); err != nil {
			return inquest.Errorf(inquest.ErrInvalid, "not OSV: %w", err)
		}
	} else {
		list = []*entry{{}}
		if err := json.Unmarshal(data, list[0]); err != nil {
			return inquest.Errorf(inquest.ErrInvalid, "not OSV: %w", err)
		}
	}
	for i, e := range list {
		if e == nil || e.ID == "" {
			return inquest.Errorf(inquest.ErrInvalid, "not OSV: entry %d has no id", i)
		}
		if e.Withdrawn != "" {
			continue
		}
		d.entries++
		for _, a := range e.Affected {
			if a.Package.Ecosystem == "Go" {
				a.entry = e
				d.modules[a.Package.Name] = append(d.modules[a.Package.Name], a)
			}
		}
	}
	return nil
}

// Affecting lists what affects a build, by module and id. Of a module that was
// replaced what was built instead counts; one of which the version is not known
// is left out.
func (d *Database) Affecting(b *inquest.Build) []inquest.Vulnerability {
	out := []inquest.Vulnerability{}
	look := func(module, shown, version string) {
		if version == "" {
			return
		}
		for i := range d.modules[module] {
			a := &d.modules[module][i]
			if !a.runsOn(b.Settings["GOOS"], b.Settings["GOARCH"]) {
				continue
			}
			if hit, fixed := a.at(version); hit {
				out = append(out, inquest.Vulnerability{
					ID: a.entry.ID, Aliases: a.entry.Aliases, Summary: a.entry.Summary, URL: a.entry.Database.URL,
					Module: module, Version: shown, Fixed: spell(fixed, shown),
				})
			}
		}
	}
	look(b.Module, b.Version, canonical(b.Version))
	for i := range b.Modules {
		m := b.Modules[i].Built()
		look(m.Path, m.Version, canonical(m.Version))
	}
	v := goSemver(b.GoVersion)
	look(Stdlib, strings.TrimPrefix(v, "v"), v)
	look(Toolchain, strings.TrimPrefix(v, "v"), v)
	slices.SortStableFunc(out, func(x, y inquest.Vulnerability) int {
		return cmp.Or(cmp.Compare(x.Module, y.Module), cmp.Compare(x.ID, y.ID))
	})
	// An entry may name a module more than once.
	return slices.CompactFunc(out, func(x, y inquest.Vulnerability) bool { return x.Module == y.Module && x.ID == y.ID })
}

// canonical is a version as package semver compares it, "" if it is none.
func canonical(v string) string {
	if v != "" && v[0] != 'v' {
		v = "v" + v
	}
	if !semver.IsValid(v) {
		return ""
	}
	return v
}

// spell writes a version as the one beside it: modules' have a "v".
func spell(v, like string) string {
	if !strings.HasPrefix(like, "v") {
		return strings.TrimPrefix(v, "v")
	}
	return v
}

// runsOn says whether some of the affected packages is for a platform. What is
// not known counts as affected.
func (a *affected) runsOn(goos, goarch string) bool {
	for _, p := range a.Specific.Imports {
		if listed(p.GOOS, goos) && listed(p.GOARCH, goarch) {
			return true
		}
	}
	return len(a.Specific.Imports) == 0
}

func listed(list []string, name string) bool {
	return len(list) == 0 || name == "" || slices.Contains(list, name)
}

// at says whether a version is affected, and which is the first after it that
// is not.
func (a *affected) at(version string) (hit bool, fixed string) {
	for _, r := range a.Ranges {
		if r.Type != "SEMVER" {
			continue
		}
		if in, f := r.contains(version); in {
			return true, f
		}
	}
	for _, v := range a.Versions {
		if v = canonical(v); v != "" && semver.Compare(v, version) == 0 {
			return true, ""
		}
	}
	return false, ""
}

// event is one event of a range, in the order of versions.
type event struct {
	version string // canonical; "" is before all
	begins  bool
	last    bool // the version itself is still affected
}

func (r *versions) contains(version string) (in bool, fixed string) {
	var events []event
	for _, e := range r.Events {
		switch {
		case e.Introduced == "0":
			events = append(events, event{begins: true})
		case canonical(e.Introduced) != "":
			events = append(events, event{version: canonical(e.Introduced), begins: true})
		case canonical(e.Fixed) != "":
			events = append(events, event{version: canonical(e.Fixed)})
		case canonical(e.LastAffected) != "":
			events = append(events, event{version: canonical(e.LastAffected), last: true})
		}
	}
	slices.SortStableFunc(events, func(x, y event) int { return semver.Compare(x.version, y.version) })
	for _, e := range events {
		c := semver.Compare(e.version, version)
		if c < 0 || c == 0 && !e.last {
			in = e.begins
			continue
		}
		if in && !e.begins && !e.last {
			return true, e.version
		}
		if in && !e.begins {
			return true, ""
		}
	}
	return in, ""
}
