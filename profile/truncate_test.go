package profile_test

import (
	"fmt"
	"slices"
	"testing"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// A dump of 100,000 goroutines, each on a stack of its own.
func TestTruncateHugeDump(t *testing.T) {
	const stacks, limit = 100_000, 10_000
	src := &pprof.Profile{SampleType: []*pprof.ValueType{{Type: "goroutine", Unit: "count"}}, PeriodType: &pprof.ValueType{}}
	for i := range 500 {
		f := &pprof.Function{ID: uint64(i + 1), Name: fmt.Sprintf("main.f%d", i)}
		src.Function = append(src.Function, f)
		src.Location = append(src.Location, &pprof.Location{ID: uint64(i + 1), Address: uint64(i), Line: []pprof.Line{{Function: f}}})
	}
	for i := range stacks {
		a, b, c := src.Location[i%499], src.Location[i/499%500], src.Location[499]
		s := &pprof.Sample{Location: []*pprof.Location{a, b, c}, Value: []int64{int64(i%7 + 1)}}
		if i%3 == 0 {
			s.Label = map[string][]string{"n": {fmt.Sprint(i)}}
		}
		src.Sample = append(src.Sample, s)
	}
	p := decode(t, plain(t, src))
	before := totals(p)
	if folded := p.Truncate(limit); folded != stacks-limit+1 {
		t.Errorf("folded %d", folded)
	}
	if p.NumSamples() != limit || !slices.Equal(totals(p), before) {
		t.Errorf("%d samples, totals %v, want %v", p.NumSamples(), totals(p), before)
	}
	got := reread(t, p)
	for i, s := range got.Sample[:limit-1] {
		if s.Value[0] != 7 {
			t.Fatalf("sample %d of value %d was kept", i, s.Value[0])
		}
		// Whole samples stay together: value 7 means i%7 == 6.
		if n := s.Location[0].Address + 499*s.Location[1].Address; n%7 != 6 || s.Label["n"] != nil && s.Label["n"][0] != fmt.Sprint(n) {
			t.Fatalf("sample %d is of goroutine %d with labels %v", i, n, s.Label)
		}
	}
	last := got.Sample[limit-1]
	if name := last.Location[0].Line[0].Function.Name; name != profile.TruncatedFrame || len(last.Location) != 1 || len(last.Label) != 0 {
		t.Errorf("last sample is %v", last)
	}
	if p.Truncate(limit) != 0 {
		t.Errorf("truncated again")
	}
}

func TestTruncateCorpus(t *testing.T) {
	for _, b := range corpus.Load("heap", "cpu") {
		if b.Seq > 0 {
			continue
		}
		for _, limit := range []int{-1, 1, 2, 20} {
			p := decode(t, b.Data)
			before, want := totals(p), min(max(limit, 1), p.NumSamples())
			p.Truncate(limit)
			if n := p.NumSamples(); n != want || !slices.Equal(totals(p), before) {
				t.Errorf("%s to %d: %d samples, totals %v, want %v", b.Name, limit, n, totals(p), before)
			}
			reread(t, p)
		}
	}
}
