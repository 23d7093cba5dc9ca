package query

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// resolveType finds the type a request names among the units. One that is
// nowhere selected is still known if Go's profiles have it or if any service
// has it in the window; else it is ErrNotFound.
func (s *selection) resolveType(ctx context.Context, name string) (inquest.Type, error) {
	var t inquest.Type
	for _, u := range s.units {
		c := u.sec.Types[u.column]
		if t.Name == "" {
			t = c
		} else if c.Unit != t.Unit {
			return t, inquest.Errorf(inquest.ErrInvalid, "type %s is selected in %s and in %s: narrow the query to services that agree", name, t.Unit, c.Unit)
		}
	}
	if t.Name != "" {
		return t, nil
	}
	if t, ok := goType(name); ok {
		return t, nil
	}
	services, err := s.e.store.Services(ctx, s.window)
	if err != nil {
		return t, err
	}
	known := make(map[string]bool)
	for _, g := range goTypes {
		known[g.Name] = true
	}
	for _, svc := range services {
		for _, sec := range svc.Sections {
			if c := column(sec, name); c >= 0 {
				return sec.Types[c], nil
			}
			for _, t := range sec.Types {
				known[t.Name] = true
			}
		}
	}
	return t, inquest.Errorf(inquest.ErrNotFound, "no profile in the window has the type %q; known types are %s", name, strings.Join(sorted(known), ", "))
}

// goTypes are the types of Go's own profiles.
var goTypes = []inquest.Type{
	inquest.TypeOf(inquest.KindCPU, "cpu", "nanoseconds"),
	inquest.TypeOf(inquest.KindCPU, "samples", "count"),
	inquest.TypeOf(inquest.KindHeap, "alloc_objects", "count"),
	inquest.TypeOf(inquest.KindHeap, "alloc_space", "bytes"),
	inquest.TypeOf(inquest.KindHeap, "inuse_objects", "count"),
	inquest.TypeOf(inquest.KindHeap, "inuse_space", "bytes"),
	inquest.TypeOf(inquest.KindGoroutine, "goroutine", "count"),
	inquest.TypeOf(inquest.KindMutex, "contentions", "count"),
	inquest.TypeOf(inquest.KindMutex, "delay", "nanoseconds"),
	inquest.TypeOf(inquest.KindBlock, "contentions", "count"),
	inquest.TypeOf(inquest.KindBlock, "delay", "nanoseconds"),
	inquest.TypeOf(inquest.KindThreadCreate, "threadcreate", "count"),
	inquest.TypeOf(inquest.KindGoroutineLeak, "goroutineleak", "count"),
}

func goType(name string) (inquest.Type, bool) {
	i := slices.IndexFunc(goTypes, func(t inquest.Type) bool { return t.Name == name })
	if i < 0 {
		return inquest.Type{}, false
	}
	return goTypes[i], true
}

// sorted returns the members of a set in order, never nil.
func sorted(set map[string]bool) []string {
	out := slices.AppendSeq([]string{}, maps.Keys(set))
	slices.Sort(out)
	return out
}

// LabelNames lists the names of the labels that the selected profiles have,
// sorted: their own and those of samples in the sections they are stored in.
// Type may be empty: all types. Agg and Rate mean nothing here.
func (e *Engine) LabelNames(ctx context.Context, r Request) ([]string, error) {
	names := make(map[string]bool)
	err := e.list(ctx, r, func(_ *selection, u *unit) error {
		for set := range u.used() {
			for _, l := range set {
				names[l.Name] = true
			}
		}
		inSamples, err := u.sampleNames(ctx)
		maps.Copy(names, inSamples)
		return err
	})
	return sorted(names), err
}

// LabelValues lists the values of one label among the selected profiles and
// the samples of the sections they are stored in, sorted; limit < 1 lists all.
// Type may be empty: all types. Agg and Rate mean nothing here.
func (e *Engine) LabelValues(ctx context.Context, r Request, name string, limit int) ([]string, error) {
	values := make(map[string]bool)
	var bytes int64
	add := func(s *selection, v string) error {
		if v == "" || values[v] {
			return nil
		}
		values[strings.Clone(v)] = true
		bytes += 2*int64(len(v)) + listedBytes
		return s.mem.upTo(&s.listed, bytes)
	}
	err := e.list(ctx, r, func(s *selection, u *unit) error {
		for set := range u.used() {
			if err := add(s, set.Get(name)); err != nil {
				return err
			}
		}
		if inquest.Reserved(name) {
			return nil
		}
		inSamples, err := u.part.SampleLabelValues(ctx, u.section, name, max(limit, 0))
		for _, v := range inSamples {
			if err := add(s, v); err != nil {
				return err
			}
		}
		return err
	})
	return cut(sorted(values), limit), err
}

// list calls f for every unit of a selection of which only the labels matter.
// If a block turns out to be damaged, f is called again for the others.
func (e *Engine) list(ctx context.Context, r Request, f func(s *selection, u *unit) error) error {
	r.Agg, r.Rate = "", false
	return e.read(ctx, r, func(s *selection) error {
		for _, u := range s.units {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(s, u); err != nil {
				return err
			}
			u.part.Release(ctx)
		}
		s.mem.keeps(s.listed)
		return nil
	})
}

// listedBytes is the memory of one value in a list, its text aside.
const listedBytes = 128

// used yields the label sets of the picked rows, each once.
func (u *unit) used() func(yield func(inquest.Labels) bool) {
	return func(yield func(inquest.Labels) bool) {
		seen := make([]bool, len(u.sets))
		for _, row := range u.picked {
			if i := u.rows.LabelSet[row]; !seen[i] {
				seen[i] = true
				if !yield(u.sets[i].labels) {
					return
				}
			}
		}
	}
}

// ServiceInfo is what there is of one service in a window.
type ServiceInfo struct {
	Name      string    `json:"name"`
	Types     []string  `json:"types"`    // names, as in Types
	Releases  []string  `json:"releases"` // resolved, sorted
	Last      time.Time `json:"last"`     // Start of the newest profile
	Instances int       `json:"instances"`
}

// Services lists the services that have profiles in the window, by name.
func (e *Engine) Services(ctx context.Context, w inquest.Window) ([]ServiceInfo, error) {
	services := make(map[string]*serviceSets)
	var bytes int64
	err := e.list(ctx, Request{Window: w}, func(s *selection, u *unit) error {
		svc := services[u.part.Service]
		if svc == nil {
			bytes += serviceBytes
			svc = &serviceSets{map[string]bool{}, map[string]bool{}, map[string]bool{}, 0}
			services[u.part.Service] = svc
		}
		svc.add(u)
		bytes += listedBytes * int64(len(u.sets))
		return s.mem.upTo(&s.listed, bytes)
	})
	out := []ServiceInfo{}
	for name, svc := range services {
		types := sorted(svc.types)
		slices.SortFunc(types, compareTypeNames)
		out = append(out, ServiceInfo{name, types, sorted(svc.releases), time.Unix(0, svc.last).UTC(), len(svc.instances)})
	}
	slices.SortFunc(out, func(a, b ServiceInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out, err
}

// serviceBytes is the memory of one service in a list, with its JSON.
const serviceBytes = 2 << 10

// serviceSets collects what is told of a service.
type serviceSets struct {
	types, releases, instances map[string]bool
	last                       int64 // unix ns
}

func (s *serviceSets) add(u *unit) {
	for _, t := range u.sec.Types {
		s.types[t.Name] = true
	}
	for set := range u.used() {
		if v := set.Get(inquest.LabelRelease); v != "" {
			s.releases[v] = true
		}
		s.instances[set.Get(inquest.LabelInstance)] = true
	}
	for _, row := range u.picked {
		s.last = max(s.last, u.rows.Start[row])
	}
}

// Types lists the types that the selected profiles have: Go's in the order
// people expect them, then others by name.
func (e *Engine) Types(ctx context.Context, r Request) ([]inquest.Type, error) {
	r.Type = ""
	seen := make(map[inquest.Type]bool)
	err := e.list(ctx, r, func(_ *selection, u *unit) error {
		for _, t := range u.sec.Types {
			seen[t] = true
		}
		return nil
	})
	out := slices.AppendSeq([]inquest.Type{}, maps.Keys(seen))
	slices.SortFunc(out, func(a, b inquest.Type) int {
		return cmp.Or(compareTypeNames(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Unit, b.Unit))
	})
	return out, err
}

// compareTypeNames puts Go's types first.
func compareTypeNames(a, b string) int {
	rank := func(name string) int {
		i := slices.IndexFunc(goTypes, func(t inquest.Type) bool { return t.Name == name })
		if i < 0 {
			return len(goTypes)
		}
		return i
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}
