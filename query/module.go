package query

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/calltree"
)

// Names of rows by module that stand for what has none.
const (
	moduleStd     = "std"              // Go's own packages
	moduleUnknown = "(unknown module)" // of builds of which no modules are known
)

// modules finds the module of a function of one build.
type modules struct {
	main  string // import path of the main package's module, with its version
	paths []modulePath
	names map[string]string // what packages are of, found before
}

type modulePath struct{ path, name string }

// newModules takes what is known of a build; nil if that is nothing.
func newModules(b *inquest.Build) *modules {
	m := &modules{names: map[string]string{}}
	if b == nil || b.Module == "" {
		return m
	}
	m.main = moduleName(b.Module, b.Version)
	m.paths = append(m.paths, modulePath{b.Module, m.main})
	for i := range b.Modules {
		// Packages keep the path of the module that was asked for.
		built := b.Modules[i].Built()
		m.paths = append(m.paths, modulePath{b.Modules[i].Path, moduleName(built.Path, built.Version)})
	}
	slices.SortFunc(m.paths, func(a, b modulePath) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), strings.Compare(a.path, b.path))
	})
	return m
}

func moduleName(path, version string) string {
	if version == "" {
		return path
	}
	return path + "@" + version
}

// of names the module of a function: path@version as it was built, "std", or
// what stands for none.
func (m *modules) of(function string) string {
	pkg := calltree.PackageOf(function)
	if pkg == "" {
		return noPackage
	}
	name, ok := m.names[pkg]
	if !ok {
		name = m.find(pkg)
		m.names[pkg] = name
	}
	return name
}

func (m *modules) find(pkg string) string {
	if pkg == "main" {
		return cmp.Or(m.main, moduleUnknown)
	}
	for _, p := range m.paths { // the longest first
		if pkg == p.path || strings.HasPrefix(pkg, p.path+"/") {
			return p.name
		}
	}
	// The first element of every other module's path has a dot.
	if first, _, _ := strings.Cut(pkg, "/"); !strings.Contains(first, ".") {
		return moduleStd
	}
	return moduleUnknown
}

// topOfModules adds up by the modules that each build was made of.
func (e *Engine) topOfModules(ctx context.Context, r Request, limit int) (a *TopAnswer, err error) {
	err = e.readType(ctx, r, need{rollups: true, by: []string{inquest.LabelBuild}}, func(s *selection) error {
		s.holds()
		s.choose()
		s.weigh("")
		of, err := s.modules()
		if err != nil {
			return err
		}
		t := &tally{s: s, rows: make(map[string]*tallyRow)}
		err = s.eachPart(ctx, func(ctx context.Context, units []*unit) error {
			builds := map[string][]*unit{}
			for _, u := range units {
				for build, at := range u.by(ByBuild) {
					builds[build] = append(builds[build], u.only(at))
				}
			}
			for build, units := range builds {
				if err := t.addAs(ctx, units, newModules(of[build]).of); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		a, err = t.answer(ByModule, limit)
		return err
	})
	return a, err
}

// modules is what is known of the builds that are selected.
func (s *selection) modules() (map[string]*inquest.Build, error) {
	of := map[string]*inquest.Build{}
	for _, u := range s.units {
		for i := range u.sets {
			id := u.sets[i].labels.Get(inquest.LabelBuild)
			if _, ok := of[id]; ok || id == "" {
				continue
			}
			b, err := s.names.build(id)
			if err != nil {
				return nil, err
			}
			of[id] = b
		}
	}
	return of, nil
}

// only is u with some of its picked rows, given as indexes into picked.
func (u *unit) only(at []int32) *unit {
	if len(at) == len(u.picked) {
		return u
	}
	some := *u
	some.picked, some.hold, some.weights = nil, nil, nil
	for _, i := range at {
		some.picked, some.hold = append(some.picked, u.picked[i]), append(some.hold, u.hold[i])
		if u.weights != nil {
			some.weights = append(some.weights, u.weights[i])
		}
	}
	return &some
}
