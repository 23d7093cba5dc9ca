package profile_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// Every sequence of the corpus, and all programs of a kind at once, merge to
// what google/pprof merges them to.
func TestMergeIsPprofs(t *testing.T) {
	groups := map[string][]corpus.Body{}
	for _, b := range corpus.Load() {
		if b.Seq < 2 {
			groups[b.Kind+" "+b.Program] = append(groups[b.Kind+" "+b.Program], b)
		}
		if b.Seq == 0 {
			groups[b.Kind] = append(groups[b.Kind], b)
		}
	}
	d := profile.NewDecoder(profile.Limits{})
	for name, bodies := range groups {
		m := profile.NewMerger()
		var srcs []*pprof.Profile
		for _, b := range bodies {
			src, err := oracle(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			srcs = append(srcs, src)
			p, err := d.Decode(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Add(p); err != nil {
				t.Fatalf("%s: %v", b.Name, err)
			}
		}
		want, err := pprof.Merge(srcs)
		if err != nil {
			t.Fatal(err)
		}
		merged := m.Profile()
		got := reread(t, merged)
		if diff := cmp.Diff(contents(want), contents(got)); diff != "" {
			t.Errorf("%s (-pprof +ours):\n%.2000s", name, diff)
		}
		if len(got.Sample) != len(want.Sample) || len(got.Location) != len(want.Location) || len(got.Function) != len(want.Function) || len(got.Mapping) != len(want.Mapping) {
			t.Errorf("%s: %d samples, %d locations, %d functions, %d mappings; google/pprof has %d, %d, %d, %d", name,
				len(got.Sample), len(got.Location), len(got.Function), len(got.Mapping),
				len(want.Sample), len(want.Location), len(want.Function), len(want.Mapping))
		}
		if got.TimeNanos != want.TimeNanos || got.DurationNanos != want.DurationNanos || got.Period != want.Period || got.DefaultSampleType != want.DefaultSampleType {
			t.Errorf("%s: header differs", name)
		}
	}
}

// Bodies of other producers, added twice, merge as with google/pprof.
func TestMergeOtherProducers(t *testing.T) {
	for name, body := range made(t) {
		m := profile.NewMerger()
		var srcs []*pprof.Profile
		for range 2 {
			src, err := oracle(body)
			if err != nil {
				t.Fatal(err)
			}
			srcs = append(srcs, src)
			if err := m.Add(decode(t, body)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		want, err := pprof.Merge(srcs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(contents(want), contents(reread(t, m.Profile()))); diff != "" {
			t.Errorf("%s (-pprof +ours):\n%s", name, diff)
		}
	}
}

// Adding a profile and its negative leaves nothing, as with google/pprof.
func TestMergeCancels(t *testing.T) {
	b := corpus.Load("mutex")[0]
	src, err := oracle(b.Data)
	if err != nil {
		t.Fatal(err)
	}
	m := profile.NewMerger()
	if err := m.Add(decode(t, b.Data)); err != nil {
		t.Fatal(err)
	}
	negative := src.Copy()
	negative.Scale(-1)
	negative.Sample = negative.Sample[:len(negative.Sample)/2]
	if err := m.Add(decode(t, plain(t, negative))); err != nil {
		t.Fatal(err)
	}
	want, err := pprof.Merge([]*pprof.Profile{src, negative})
	if err != nil {
		t.Fatal(err)
	}
	p := m.Profile()
	got := reread(t, p)
	if diff := cmp.Diff(contents(want), contents(got)); diff != "" {
		t.Errorf("-pprof +ours:\n%.2000s", diff)
	}
	if len(got.Sample) != len(want.Sample) || len(got.Location) != len(want.Location) {
		t.Errorf("%d samples and %d locations, want %d and %d", len(got.Sample), len(got.Location), len(want.Sample), len(want.Location))
	}
}

func TestMergeRefusesOtherTypes(t *testing.T) {
	m := profile.NewMerger()
	if err := m.Add(decode(t, corpus.Load("heap")[0].Data)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"cpu", "mutex"} {
		if err := m.Add(decode(t, corpus.Load(kind)[0].Data)); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%s added to heap: %v", kind, err)
		}
	}
}

func TestMergeDefaultSampleType(t *testing.T) {
	m := profile.NewMerger()
	m.SetDefaultSampleType("alloc_space")
	if err := m.Add(decode(t, corpus.Load("heap")[0].Data)); err != nil {
		t.Fatal(err)
	}
	p := m.Profile()
	if got := p.String(p.DefaultSampleType); got != "alloc_space" {
		t.Errorf("default sample type %q", got)
	}
	if empty := m.Profile(); empty.NumSamples() != 0 {
		t.Errorf("Merger is not empty after Profile")
	}
}
