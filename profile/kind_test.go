package profile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// typed is a profile without samples whose sample types are as in
// "cpu/nanoseconds"; a last one after "@" is the period type.
func typed(t *testing.T, types string) *profile.Profile {
	t.Helper()
	p := &pprof.Profile{}
	value := func(s string) *pprof.ValueType {
		typ, unit, _ := strings.Cut(s, "/")
		return &pprof.ValueType{Type: typ, Unit: unit}
	}
	types, period, _ := strings.Cut(types, "@")
	for s := range strings.FieldsSeq(types) {
		p.SampleType = append(p.SampleType, value(s))
	}
	p.PeriodType = value(period)
	return decode(t, plain(t, p))
}

func TestKindOf(t *testing.T) {
	const invalid = inquest.Kind("invalid")
	for _, c := range []struct {
		types  string
		stated inquest.Kind
		want   inquest.Kind
	}{
		{"samples/count cpu/nanoseconds", "", inquest.KindCPU},
		{"cpu/nanoseconds", "", inquest.KindCPU},
		{"cpu/microseconds", "", inquest.KindCPU},
		{"samples/count@cpu/nanoseconds", "", inquest.KindCPU},
		{"samples/count cpu/nanoseconds", inquest.KindCPU, inquest.KindCPU},
		{"samples/count cpu/nanoseconds", inquest.KindHeap, invalid},
		{"samples/count cpu/nanoseconds", inquest.KindMutex, invalid},
		{"samples/count cpu/nanoseconds", inquest.KindOther, inquest.KindOther},
		{"samples/count", "", inquest.KindOther},
		{"cpu/count", "", inquest.KindOther},
		{"sample/count wall/nanoseconds", "", inquest.KindOther},
		{"wall/nanoseconds cpu/nanoseconds", "", inquest.KindOther},
		{"wall/nanoseconds cpu/nanoseconds", inquest.KindCPU, inquest.KindCPU},
		{"wall/nanoseconds", inquest.KindCPU, invalid},
		{"off-cpu/nanoseconds", "", inquest.KindOther},
		{"alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes", "", inquest.KindHeap},
		{"inuse_objects/count inuse_space/bytes", "", inquest.KindHeap},
		{"alloc_space/bytes", inquest.KindHeap, inquest.KindHeap},
		{"alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes", inquest.KindCPU, invalid},
		{"objects/count space/bytes", "", inquest.KindHeap},
		{"objects/count", "", inquest.KindOther},
		{"contentions/count delay/nanoseconds", "", invalid},
		{"contentions/count delay/nanoseconds", inquest.KindMutex, inquest.KindMutex},
		{"contentions/count delay/nanoseconds", inquest.KindBlock, inquest.KindBlock},
		{"contentions/count delay/nanoseconds", inquest.KindHeap, invalid},
		{"contentions/count delay/nanoseconds", inquest.KindOther, inquest.KindOther},
		{"goroutine/count", "", inquest.KindGoroutine},
		{"goroutines/count", "", inquest.KindGoroutine},
		{"goroutine/count", inquest.KindThreadCreate, invalid},
		{"threadcreate/count", "", inquest.KindThreadCreate},
		{"goroutineleak/count", "", inquest.KindGoroutineLeak},
		{"", "", inquest.KindOther},
		{"", inquest.KindGoroutine, invalid},
	} {
		got, err := profile.KindOf(typed(t, c.types), c.stated)
		if c.want == invalid {
			if !errors.Is(err, inquest.ErrInvalid) {
				t.Errorf("%q stated %q: %q, %v", c.types, c.stated, got, err)
			}
		} else if got != c.want || err != nil {
			t.Errorf("%q stated %q: %q, %v, want %q", c.types, c.stated, got, err, c.want)
		}
	}
}

func TestKindErrorNamesBoth(t *testing.T) {
	_, err := profile.KindOf(typed(t, "inuse_objects/count inuse_space/bytes"), inquest.KindCPU)
	want := "body has sample types inuse_objects/count, inuse_space/bytes, that is a heap profile, but kind=cpu was stated"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestKindOfCorpus(t *testing.T) {
	for _, b := range corpus.Load() {
		if b.Seq > 0 {
			continue
		}
		want := kindOf(t, b)
		stated := inquest.Kind("")
		if want == inquest.KindMutex || want == inquest.KindBlock {
			stated = want
		}
		if got, err := profile.KindOf(decode(t, b.Data), stated); got != want || err != nil {
			t.Errorf("%s: %q, %v", b.Name, got, err)
		}
	}
}

func TestTypes(t *testing.T) {
	got := profile.Types(inquest.KindMutex, typed(t, "contentions/count delay/nanoseconds"))
	want := []inquest.Type{
		{Name: "mutex_count", Kind: inquest.KindMutex, Unit: "count"},
		{Name: "mutex_delay", Kind: inquest.KindMutex, Unit: "nanoseconds"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, kind := range inquest.Kinds {
		want := kind == inquest.KindHeap || kind == inquest.KindMutex || kind == inquest.KindBlock
		if profile.Cumulative(kind) != want {
			t.Errorf("Cumulative(%s) is %v", kind, !want)
		}
	}
}
