package query_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
)

// t0 is when the fleet's time begins: a full hour.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is t0 and some seconds.
func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// hour is the window [t0, t0+1h).
var hour = inquest.Window{From: t0, Until: at(3600)}

// fleet is a store that profiles are put into and an engine on it.
type fleet struct {
	testing.TB
	store  *store.Store
	engine *query.Engine
	dec    *profile.Decoder
	seq    uint64
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	now := func() time.Time { return at(3600) }
	st, err := store.Open(context.Background(), store.Options{Dir: t.TempDir(), Now: now, CommitDelay: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return newFleetOn(t, st, now)
}

func newFleetOn(t testing.TB, st *store.Store, now func() time.Time) *fleet {
	return &fleet{
		TB: t, store: st, dec: profile.NewDecoder(profile.Limits{}),
		engine: query.New(query.Options{Store: st, Now: now}),
	}
}

// put stores a body. meta needs kind, labels (as a map), start and end.
func (f *fleet) put(body []byte, meta inquest.ProfileMeta, labels map[string]string) string {
	f.Helper()
	p, err := f.dec.Decode(body)
	if err != nil {
		f.Fatal(err)
	}
	f.seq++
	r := &store.Record{BodyHash: f.seq, Meta: meta, Profile: p}
	r.Meta.Labels = inquest.NewLabels(labels)
	binary.BigEndian.PutUint64(r.Key[8:], f.seq)
	a, err := f.store.Append(context.Background(), r)
	if err != nil {
		f.Fatal(err)
	}
	return a.ID
}

// stack is one sample: frames from the root, joined by ";", its values, and
// its labels as "key=text" or "key:number".
type stack struct {
	frames string
	values []int64
	labels []string
}

// body makes a pprof body whose sample types are spelled "name/unit".
func body(t testing.TB, types string, stacks ...stack) []byte {
	t.Helper()
	p := &pprof.Profile{PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000}
	for _, st := range strings.Fields(types) {
		name, unit, _ := strings.Cut(st, "/")
		p.SampleType = append(p.SampleType, &pprof.ValueType{Type: name, Unit: unit})
	}
	locations := map[string]*pprof.Location{}
	for _, s := range stacks {
		sample := &pprof.Sample{Value: s.values}
		for _, name := range strings.Split(s.frames, ";") {
			loc := locations[name]
			if loc == nil {
				n := uint64(len(locations) + 1)
				fn := &pprof.Function{ID: n, Name: name, SystemName: name, Filename: "/src/" + name + ".go", StartLine: int64(n)}
				loc = &pprof.Location{ID: n, Address: 0x1000 * n, Line: []pprof.Line{{Function: fn, Line: int64(n) + 2}}}
				locations[name] = loc
				p.Function = append(p.Function, fn)
				p.Location = append(p.Location, loc)
			}
			sample.Location = append([]*pprof.Location{loc}, sample.Location...)
		}
		for _, l := range s.labels {
			if k, v, ok := strings.Cut(l, "="); ok {
				if sample.Label == nil {
					sample.Label = map[string][]string{}
				}
				sample.Label[k] = append(sample.Label[k], v)
			} else if k, v, ok := strings.Cut(l, ":"); ok {
				var n int64
				fmt.Sscan(v, &n)
				sample.NumLabel = map[string][]int64{k: {n}}
			}
		}
		p.Sample = append(p.Sample, sample)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	cpuTypes  = "samples/count cpu/nanoseconds"
	heapTypes = "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes"
)

// cpu stores a CPU profile that observed some seconds of the given stacks
// (values in ns).
func (f *fleet) cpu(start, observed, hold float64, labels map[string]string, stacks ...stack) string {
	f.Helper()
	for i := range stacks {
		stacks[i].values = []int64{stacks[i].values[0] / 10_000_000, stacks[i].values[0]}
	}
	return f.put(body(f, cpuTypes, stacks...), inquest.ProfileMeta{
		Kind: inquest.KindCPU, Start: at(start), End: at(start + observed), Hold: seconds(hold),
	}, labels)
}

// heap stores a heap profile of one stack.
func (f *fleet) heap(start, end, hold float64, labels map[string]string, alloc, inuse int64) string {
	f.Helper()
	return f.put(body(f, heapTypes, stack{frames: "main.main;main.keep", values: []int64{alloc / 100, alloc, inuse / 100, inuse}}), inquest.ProfileMeta{
		Kind: inquest.KindHeap, Start: at(start), End: at(end), Hold: seconds(hold),
	}, labels)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func on(service, instance string) map[string]string {
	return map[string]string{"service": service, "instance": instance}
}

// flame asks for the whole tree of a request whose window is hour if it has none.
func (f *fleet) flame(r query.Request) *query.FlameGraph {
	f.Helper()
	if r.Window.From.IsZero() {
		r.Window = hour
	}
	g, err := f.engine.FlameGraph(context.Background(), r, -1)
	if err != nil {
		f.Fatal(err)
	}
	return g
}

// total is the answer's total in its unit.
func total(g *query.FlameGraph) float64 { return float64(g.Tree.Total()) * g.Scale }

// paths maps each stack of a flame graph to its self value.
func paths(g *query.FlameGraph) map[string]int64 {
	t := g.Tree
	out := map[string]int64{}
	path := make([]string, t.Len())
	for i := range path {
		if i > 0 {
			path[i] = strings.TrimPrefix(path[t.Parent[i]]+";"+t.Names[t.Name[i]], ";")
		}
		if t.Self[i] != 0 {
			out[path[i]] = t.Self[i]
		}
	}
	return out
}

// load returns the corpus bodies of a kind and program ("" = all).
func load(kind, program string) []corpus.Body {
	var out []corpus.Body
	for _, b := range corpus.Load(kind) {
		if program == "" || b.Program == program {
			out = append(out, b)
		}
	}
	return out
}

// merged is google/pprof's merge of bodies.
func merged(t testing.TB, bodies [][]byte) *pprof.Profile {
	t.Helper()
	var ps []*pprof.Profile
	for _, b := range bodies {
		p, err := pprof.ParseData(b)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	m, err := pprof.Merge(ps)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// functions is the stack of a sample at function level, from the root.
func functions(s *pprof.Sample) []string {
	var out []string
	for i := len(s.Location) - 1; i >= 0; i-- {
		lines := s.Location[i].Line
		for j := len(lines) - 1; j >= 0; j-- {
			out = append(out, lines[j].Function.Name)
		}
	}
	return out
}
