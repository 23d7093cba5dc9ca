package fleet_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/profile"
)

var from = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newFleet(t testing.TB, o fleet.Options) *fleet.Fleet {
	t.Helper()
	if o.From.IsZero() {
		o.From = from
	}
	f, err := fleet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func item(t testing.TB, f *fleet.Fleet, i int) fleet.Item {
	t.Helper()
	it, err := f.Item(i)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func unpack(t testing.TB, it fleet.Item) []byte {
	t.Helper()
	var r io.Reader
	var err error
	if it.Zstd {
		r, err = zstd.NewReader(bytes.NewReader(it.Body))
	} else {
		r, err = gzip.NewReader(bytes.NewReader(it.Body))
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// However a body is compressed it is the same profile, and a Clone that was
// asked for other ones before makes the same.
func TestEncodings(t *testing.T) {
	o := fleet.Options{Kinds: corpus.SelectedKinds, Services: 10, Instances: 2, Releases: 2, Seed: 4}
	reference := newFleet(t, o)
	for _, e := range []fleet.Encoding{fleet.GzipLight, fleet.Zstd} {
		o.Encoding = e
		f := newFleet(t, o).Clone()
		for i := 299; i >= 0; i-- {
			want, got := item(t, reference, i), item(t, f, i)
			if !bytes.Equal(unpack(t, want), unpack(t, got)) {
				t.Fatalf("item %d of encoding %d is another profile", i, e)
			}
			want.Body, got.Body = nil, nil
			want.Zstd = got.Zstd
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

// Every body is one that google/pprof takes and whose samples have the values
// their kind has.
func TestBodies(t *testing.T) {
	f := newFleet(t, fleet.Options{Kinds: corpus.SelectedKinds, Services: 10, Instances: 2, Releases: 2, Novelty: 0.5, Encoding: fleet.GzipLight})
	dec := profile.NewDecoder(profile.Limits{})
	seen := map[string]bool{}
	for i := range 600 {
		it := item(t, f, i)
		p, err := pprof.ParseData(it.Body)
		if err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
		if err := p.CheckValid(); err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
		if p.TimeNanos != it.Start.UnixNano() || p.DurationNanos != int64(it.End.Sub(it.Start)) {
			t.Errorf("item %d: body is of %d for %d, item of %v to %v", i, p.TimeNanos, p.DurationNanos, it.Start, it.End)
		}
		if it.Kind == "cpu" {
			for _, s := range p.Sample {
				if s.Value[1] != s.Value[0]*p.Period {
					t.Fatalf("item %d: time %d of %d samples, period %d", i, s.Value[1], s.Value[0], p.Period)
				}
			}
		}
		q, err := dec.Decode(it.Body)
		if err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
		if kind, err := profile.KindOf(q, inquest.Kind(it.Kind)); string(kind) != it.Kind || err != nil {
			t.Errorf("item %d is of kind %s, its body of %s, %v", i, it.Kind, kind, err)
		}
		if seen[it.Kind+string(it.Body)] {
			t.Errorf("item %d came before", i)
		}
		seen[it.Kind+string(it.Body)] = true
	}
}

// All items of the window start in it, each instance has its profiles at the
// interval, and every service goes from the first release to the last.
func TestSchedule(t *testing.T) {
	o := fleet.Options{Services: 7, Instances: 3, Kinds: []string{"cpu", "goroutine"}, Interval: 30 * time.Second, Window: 10 * time.Minute, Releases: 3}
	f := newFleet(t, o)
	if want := 7 * 3 * 2 * 20; f.Len() != want {
		t.Fatalf("Len is %d, want %d", f.Len(), want)
	}
	last := map[string]fleet.Item{}
	releases := map[string][]string{}
	processes := map[string]string{}
	for i := range f.Len() {
		it := item(t, f, i)
		if it.Start.Before(from) || !it.Start.Before(from.Add(o.Window)) {
			t.Errorf("item %d starts at %v, outside of the window", i, it.Start)
		}
		who := it.Service + " " + it.Instance + " " + it.Kind
		if before, ok := last[who]; ok && it.Start.Sub(before.Start) != o.Interval {
			t.Errorf("%s: profiles at %v and %v", who, before.Start, it.Start)
		}
		last[who] = it
		if r := releases[who]; len(r) == 0 || r[len(r)-1] != it.Release {
			releases[who] = append(r, it.Release)
		}
		if of, ok := processes[it.Process]; ok && of != it.Service+it.Release+it.Build {
			t.Errorf("process %s is of %s and of %s", it.Process, of, it.Service+it.Release+it.Build)
		}
		processes[it.Process] = it.Service + it.Release + it.Build
	}
	for who, got := range releases {
		if diff := cmp.Diff([]string{"v1", "v2", "v3"}, got); diff != "" {
			t.Errorf("releases of %s: %s", who, diff)
		}
	}
}

// TestNovelty counts how many samples have a stack that no earlier profile of
// their service had.
func TestNovelty(t *testing.T) {
	for _, tt := range []struct {
		novelty   float64
		low, high float64
	}{
		{-1, 0, 0},
		{0.05, 0.005, 0.05},
		{0.5, 0.42, 0.5},
	} {
		t.Run(fmt.Sprint(tt.novelty), func(t *testing.T) {
			f := newFleet(t, fleet.Options{Services: 1, Instances: 1, Kinds: []string{"cpu"}, Novelty: tt.novelty})
			dec := profile.NewDecoder(profile.Limits{})
			seen := map[string]bool{}
			unseen, samples := 0, 0
			const profiles = 400
			for i := range profiles {
				p, err := dec.Decode(item(t, f, i).Body)
				if err != nil {
					t.Fatal(err)
				}
				for s := range p.NumSamples() {
					key := ""
					for _, l := range p.Stack(s) {
						key += fmt.Sprintf("%x ", p.Locations[l].Address)
					}
					if i >= profiles/2 {
						samples++
						if !seen[key] {
							unseen++
						}
					}
					seen[key] = true
				}
			}
			if share := float64(unseen) / float64(samples); share < tt.low || share > tt.high+0.01 {
				t.Errorf("%.3f of the samples are on unseen stacks, want %.3f to %.3f", share, tt.low, tt.high)
			}
		})
	}
}

func TestKeepHeap(t *testing.T) {
	f := newFleet(t, fleet.Options{Services: 1, Instances: 1, Kinds: []string{"heap"}, Novelty: -1, KeepHeap: true})
	want, err := pprof.ParseData(corpus.Selection("heap")[12].Data) // etcd's come after alertmanager's and caddy's
	if err != nil {
		t.Fatal(err)
	}
	got, err := pprof.ParseData(item(t, f, 0).Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Sample) != len(want.Sample) {
		t.Fatalf("%d samples, the real profile has %d", len(got.Sample), len(want.Sample))
	}
	for i := range want.Sample {
		if diff := cmp.Diff(want.Sample[i].Value, got.Sample[i].Value); diff != "" {
			t.Fatalf("sample %d: %s", i, diff)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []fleet.Options{
		{Releases: fleet.MaxReleases + 1},
		{Kinds: []string{"threadcreate"}, Bodies: corpus.Selection("cpu")},
		{Bodies: []corpus.Body{{Program: "etcd", Kind: "cpu", Name: "bad", Data: []byte("bad")}}},
	} {
		if _, err := fleet.New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func BenchmarkItem(b *testing.B) {
	for name, e := range map[string]fleet.Encoding{"go": fleet.GzipGo, "light": fleet.GzipLight, "zstd": fleet.Zstd} {
		b.Run(name, func(b *testing.B) {
			f := newFleet(b, fleet.Options{Encoding: e, Bodies: corpus.Load("cpu", "heap")})
			sum, i := 0, 0
			for b.Loop() {
				sum += len(item(b, f, i).Body)
				i++
			}
			b.ReportMetric(float64(sum)/float64(i), "B/body")
		})
	}
}

// BenchmarkDecode shows that all kinds of gzip are as fast to read.
func BenchmarkDecode(b *testing.B) {
	for name, e := range map[string]fleet.Encoding{"go": fleet.GzipGo, "light": fleet.GzipLight} {
		b.Run(name, func(b *testing.B) {
			f := newFleet(b, fleet.Options{Encoding: e})
			bodies := make([][]byte, 400)
			for i := range bodies {
				bodies[i] = item(b, f, i).Body
			}
			dec := profile.NewDecoder(profile.Limits{})
			for i := 0; b.Loop(); i++ {
				if _, err := dec.Decode(bodies[i%len(bodies)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
