package query

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// resolveType finds the type a request names among the units. One that is
// nowhere selected is still known if Go's profiles have it or if any service
// has it in the window; else it is ErrNotFound.
func (s *selection) resolveType(ctx context.Context, name string) (inquest.Type, error) {
	var t inquest.Type
	for _, u := range s.units {
		c := u.sec.Types[u.typ]
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
// sorted: their own and those of the samples they are stored with, whatever their kind.
// Type may be empty: all types. Agg and Rate mean nothing here.
func (e *Engine) LabelNames(ctx context.Context, r Request) ([]string, error) {
	names := make(map[string]bool)
	err := e.list(ctx, r, nil, func(s *selection, u *unit) error {
		for set := range u.used() {
			for _, l := range set {
				names[l.Name] = true
			}
		}
		return u.part.SampleLabels(ctx, func(l store.SampleLabel) { names[l.Key] = true })
	})
	return sorted(names), err
}

// LabelValues lists the values of one label among the selected profiles and
// the samples they are stored with, whatever their kind, sorted; limit < 1 lists
// all.
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
	err := e.list(ctx, r, []string{name}, func(s *selection, u *unit) error {
		for set := range u.used() {
			if err := add(s, set.Get(name)); err != nil {
				return err
			}
		}
		if inquest.Reserved(name) || u.sec.Resolution != store.Raw {
			return nil
		}
		var failed error
		err := u.part.SampleLabels(ctx, func(l store.SampleLabel) {
			if l.Key == name && failed == nil {
				failed = add(s, sampleValue(l))
			}
		})
		return cmp.Or(failed, err)
	})
	return cut(sorted(values), limit), err
}

// list calls f for every unit of a selection of which only the labels by
// matter, nil: all of them. If a block turns out to be damaged, f is called
// again for the others.
func (e *Engine) list(ctx context.Context, r Request, by []string, f func(s *selection, u *unit) error) error {
	r.Agg, r.Rate = "", false
	return e.read(ctx, r, need{labels: true, by: by}, func(s *selection) error {
		for _, u := range s.units {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(s, u); err != nil {
				return err
			}
			u.part.Release(ctx)
		}
		s.mem.keeps(s.listed.Load())
		return nil
	})
}

// listedBytes is the memory of one value in a list, its text aside.
const listedBytes = 128

// used yields the label sets that matched.
func (u *unit) used() func(yield func(inquest.Labels) bool) {
	return func(yield func(inquest.Labels) bool) {
		for _, m := range u.sets {
			if m.ok && !yield(m.labels) {
				return
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

// Services lists the services that have profiles in the window, by name. Types
// are those of whole blocks that touch the window.
func (e *Engine) Services(ctx context.Context, w inquest.Window) ([]ServiceInfo, error) {
	services := make(map[string]*serviceSets)
	var bytes int64
	err := e.list(ctx, Request{Window: w}, []string{inquest.LabelInstance, inquest.LabelRelease}, func(s *selection, u *unit) error {
		svc := services[u.part.Service]
		if svc == nil {
			bytes += serviceBytes
			svc = &serviceSets{map[string]bool{}, map[string]bool{}, 0}
			services[u.part.Service] = svc
		}
		svc.add(u)
		bytes += listedBytes * int64(len(u.sets))
		return s.mem.upTo(&s.listed, bytes)
	})
	if err != nil {
		return nil, err
	}
	if w, err = e.window(w); err != nil {
		return nil, err
	}
	stored, err := e.store.Services(ctx, w)
	if err != nil {
		return nil, err
	}
	out := []ServiceInfo{}
	for _, info := range stored {
		svc := services[info.Name]
		if svc == nil {
			continue // its blocks touch the window, its profiles do not
		}
		types := make(map[string]bool)
		for _, sec := range info.Sections {
			for _, t := range sec.Types {
				types[t.Name] = true
			}
		}
		names := sorted(types)
		slices.SortFunc(names, compareTypeNames)
		out = append(out, ServiceInfo{info.Name, names, sorted(svc.releases), time.Unix(0, svc.last).UTC(), len(svc.instances)})
	}
	return out, nil
}

// serviceBytes is the memory of one service in a list, with its JSON.
const serviceBytes = 2 << 10

// serviceSets collects what is told of a service.
type serviceSets struct {
	releases, instances map[string]bool
	last                int64 // unix ns
}

func (s *serviceSets) add(u *unit) {
	for set := range u.used() {
		if v := set.Get(inquest.LabelRelease); v != "" {
			s.releases[v] = true
		}
		s.instances[set.Get(inquest.LabelInstance)] = true
	}
	s.last = max(s.last, u.last)
}

// Types lists the types that the selected profiles have: Go's in the order
// people expect them, then others by name.
func (e *Engine) Types(ctx context.Context, r Request) ([]inquest.Type, error) {
	r.Type = ""
	seen := make(map[inquest.Type]bool)
	err := e.list(ctx, r, []string{}, func(_ *selection, u *unit) error {
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
