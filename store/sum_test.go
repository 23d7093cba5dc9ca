package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// TestSum compares what Sum adds up with google/pprof's merge of the same
// profiles, for any choice of them and of samples by their labels: of Go's
// heap, of odd ones of which half were mapped elsewhere, and of ones that
// cancel others.
func TestSum(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir())
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("heap")
	const n = 130 // more than two groups
	for i := range n {
		odd := oddProfile(i)
		if i%2 == 1 {
			moveMain(odd, 0x10000)
		}
		heap, cancels := parse(t, bodies[i%len(bodies)].Data), parse(t, bodies[i/2%3].Data)
		heap.Sample, cancels.Sample = heap.Sample[:min(100, len(heap.Sample))], cancels.Sample[:min(100, len(cancels.Sample))]
		if i%2 == 1 {
			cancels.Scale(-1)
			cancels.Sample = cancels.Sample[i%5:]
		}
		for service, body := range map[string][]byte{"odd": encode(t, odd), "heap": encode(t, heap), "cancels": encode(t, cancels)} {
			r := record(t, d, i, service, inquest.KindOther, body)
			copy(r.Key[8:], service)
			if _, err := s.Append(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		v, err := s.View(ctx, store.Selection{Window: everything})
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Parts) != 3 {
			t.Fatalf("%d parts", len(v.Parts))
		}
		for _, p := range v.Parts {
			for name, chosen := range map[string]func(i int) bool{
				"all":         nil,
				"every third": func(i int) bool { return i%3 == 1 },
				"some":        func(i int) bool { return i > 70 && i < 120 && i%8 != 0 },
				"two":         func(i int) bool { return i == 3 || i == 128 },
				"one":         func(i int) bool { return i == 99 },
				"none":        func(int) bool { return false },
			} {
				compareSum(t, p, p.Service+", "+name, chosen, nil)
				compareSum(t, p, p.Service+" of large and without k, "+name, chosen, func(ls []store.SampleLabel) bool {
					return !slices.ContainsFunc(ls, func(l store.SampleLabel) bool { return l.Key == "k" || l.Key == "bytes" && l.Num < 1024 })
				})
			}
		}
		v.Close()
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// moveMain loads the main binary of a profile elsewhere.
func moveMain(p *pprof.Profile, by uint64) {
	m := p.Mapping[0]
	m.Start, m.Limit = m.Start+by, m.Limit+by
	for _, l := range p.Location {
		if l.Mapping == m {
			l.Address += by
		}
	}
}

func compareSum(t *testing.T, p *store.Part, name string, chosen func(i int) bool, keep func([]store.SampleLabel) bool) {
	t.Helper()
	ctx := context.Background()
	q := store.SumQuery{Keep: keep}
	if chosen != nil {
		q.Rows = make([]bool, p.Sections()[0].Profiles)
		for i := range q.Rows {
			q.Rows[i] = chosen(i)
		}
	}
	var list []*pprof.Profile
	err := p.Export(ctx, 0, q.Rows, func(x *profile.Profile) error {
		one := parse(t, x.AppendPprof(nil))
		if keep != nil {
			one.Sample = slices.DeleteFunc(one.Sample, func(s *pprof.Sample) bool { return !keep(labelsOf(s)) })
		}
		list = append(list, one)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := profile.NewMerger()
	if err := p.Sum(ctx, q, sum.Add); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got := parse(t, sum.Profile().AppendPprof(nil))
	if list == nil {
		if len(got.SampleType) > 0 || len(got.Sample) > 0 {
			t.Fatalf("%s: there is a sum of nothing", name)
		}
		return
	}
	want, err := pprof.Merge(list)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(headOf(want), headOf(got)); diff != "" {
		t.Fatalf("%s (-pprof +ours)\n%s", name, diff)
	}
	if diff := cmp.Diff(sampleSet(want), sampleSet(got)); diff != "" {
		t.Fatalf("%s (-pprof +ours)\n%.2000s", name, diff)
	}
}

func labelsOf(s *pprof.Sample) (ls []store.SampleLabel) {
	for k, values := range s.Label {
		for _, v := range values {
			ls = append(ls, store.SampleLabel{Key: k, Str: v})
		}
	}
	for k, values := range s.NumLabel {
		for _, v := range values {
			ls = append(ls, store.SampleLabel{Key: k, Num: v})
		}
	}
	return ls
}
