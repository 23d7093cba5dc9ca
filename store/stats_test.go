package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// TestBounds: heads and log stay near their bounds, and epochs end by
// themselves.
func TestBounds(t *testing.T) {
	bodies := corpus.Load("cpu")
	for name, change := range map[string]func(*store.Options){
		"head bytes": func(o *store.Options) { o.HeadBytes = 1 << 20 },
		"log bytes":  func(o *store.Options) { o.LogBytes = 1 << 18 },
		"epoch":      func(o *store.Options) { o.Epoch = 50 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o store.Options
			s := open(t, t.TempDir(), func(x *store.Options) { change(x); o = *x })
			d := profile.NewDecoder(profile.Limits{})
			for i := range 3 * len(bodies) {
				b := bodies[i%len(bodies)]
				if _, err := s.Append(context.Background(), record(t, d, i, b.Program, inquest.KindCPU, b.Data)); err != nil {
					t.Fatal(err)
				}
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				st := s.Stats()
				if st.Blocks > 0 && (o.HeadBytes == 0 || st.HeadBytes <= o.HeadBytes) && (o.LogBytes == 0 || st.LogBytes <= o.LogBytes) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("out of bounds: %+v", st)
				}
			}
			if got := stored(t, s); len(got) != 3*len(bodies) {
				t.Fatalf("%d profiles, want %d", len(got), 3*len(bodies))
			}
		})
	}
}

// TestMetrics: metrics are there, and gone once the store is closed.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	d := profile.NewDecoder(profile.Limits{})
	for i := range 2 {
		s := open(t, dir, func(o *store.Options) { o.Registerer = reg })
		if _, err := s.Append(context.Background(), record(t, d, i, "svc", inquest.KindCPU, corpus.Load("cpu")[0].Data)); err != nil {
			t.Fatal(err)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "inquest_store_") || f.GetHelp() == "" {
				t.Errorf("metric %s: %q", f.GetName(), f.GetHelp())
			}
			found = found || f.GetName() == "inquest_store_profiles_appended_total" && f.Metric[0].Counter.GetValue() == 1
		}
		if !found || len(families) < 12 {
			t.Errorf("%d metrics, profiles counted: %v", len(families), found)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if families, _ := reg.Gather(); len(families) > 0 {
			t.Errorf("%d metrics are left", len(families))
		}
	}
}

// TestRefusals: wrong records are refused with the right kind of error, and so
// is everything after Close, and a second store on the directory.
func TestRefusals(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir)
	d := profile.NewDecoder(profile.Limits{})
	good := func() *store.Record { return record(t, d, 1, "svc", inquest.KindCPU, corpus.Load("cpu")[0].Data) }
	for name, change := range map[string]func(*store.Record){
		"no service":   func(r *store.Record) { r.Meta.Labels = nil },
		"no kind":      func(r *store.Record) { r.Meta.Kind = "" },
		"no values":    func(r *store.Record) { r.Profile.Values = nil },
		"no types":     func(r *store.Record) { r.Profile.SampleTypes = nil },
		"no year":      func(r *store.Record) { r.Meta.Start = time.Time{} },
		"no name":      func(r *store.Record) { r.Baseline = []byte{1} },
		"a long name":  func(r *store.Record) { r.Baseline, r.BaselineName = []byte{1}, strings.Repeat("x", 1<<15) },
		"a far future": func(r *store.Record) { r.Meta.End = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		r := good()
		change(r)
		if _, err := s.Append(ctx, r); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := stored(t, s); len(got) != 0 {
		t.Errorf("%d profiles are stored", len(got))
	}
	if _, err := store.Open(ctx, store.Options{Dir: dir}); err == nil {
		t.Error("a directory was opened twice")
	}
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, good()); !errors.Is(err, inquest.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := s.View(ctx, store.Selection{Window: everything}); !errors.Is(err, inquest.ErrUnavailable) {
		t.Error(err)
	}
	if err := s.Flush(ctx); !errors.Is(err, inquest.ErrUnavailable) {
		t.Error(err)
	}
}
