package profile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// sequences are the first cumulative bodies of the corpus by kind and program, in order.
func sequences() map[string][]corpus.Body {
	out := map[string][]corpus.Body{}
	for _, b := range corpus.Load("heap", "allocs", "mutex", "block") {
		if b.Program != "gocompile" && b.Seq < 5 { // each body of the compiler is a process of its own
			out[b.Kind+" "+b.Program] = append(out[b.Kind+" "+b.Program], b)
		}
	}
	return out
}

func kindOf(t testing.TB, b corpus.Body) inquest.Kind {
	kind, err := inquest.ParseKind(b.Kind)
	if err != nil {
		t.Fatal(err)
	}
	return kind
}

// plain encodes the oracle's profile.
func plain(t testing.TB, p *pprof.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Each delta is what google/pprof's merge with the negated predecessor gives;
// instants are those of the newest body. Byte and time columns may be clamped.
func TestDeltaIsPprofsDifference(t *testing.T) {
	d := profile.NewDecoder(profile.Limits{})
	for name, bodies := range sequences() {
		var s profile.Snapshot
		var last *pprof.Profile
		for _, b := range bodies {
			cur, err := oracle(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			p, err := d.Decode(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			kind := kindOf(t, b)
			types := profile.Types(kind, p)
			outcome := s.Delta(kind, p)
			if last == nil {
				if outcome != profile.Baseline {
					t.Fatalf("%s: first is %v", b.Name, outcome)
				}
				last = cur
				continue
			}
			if outcome != profile.Difference {
				t.Fatalf("%s: %v", b.Name, outcome)
			}
			want := difference(t, last, cur, types)
			if diff := cmp.Diff(want, contents(reread(t, p))); diff != "" {
				t.Fatalf("%s in %s (-want +got):\n%.3000s", b.Name, name, diff)
			}
			last = cur
		}
	}
}

// difference computes cur - last by google/pprof, with instants of cur.
func difference(t *testing.T, last, cur *pprof.Profile, types []inquest.Type) map[string][]int64 {
	negative := last.Copy()
	negative.Scale(-1)
	merged, err := pprof.Merge([]*pprof.Profile{cur, negative})
	if err != nil {
		t.Fatal(err)
	}
	diff, now := contents(merged), contents(cur)
	keys := slices.Collect(maps.Keys(diff))
	keys = slices.AppendSeq(keys, maps.Keys(now))
	out := map[string][]int64{}
	for _, k := range keys {
		v := make([]int64, len(types))
		zero := true
		for i, typ := range types {
			switch {
			case typ.Temporality == inquest.Instant && now[k] != nil:
				v[i] = now[k][i]
			case typ.Temporality == inquest.Delta && diff[k] != nil:
				v[i] = max(diff[k][i], 0)
			}
			zero = zero && v[i] == 0
		}
		if !zero {
			out[k] = v
		}
	}
	return out
}

// A baseline keeps instants, which are the whole of what it says.
func TestBaseline(t *testing.T) {
	for _, b := range corpus.Load("heap", "mutex") {
		if b.Seq > 0 {
			continue
		}
		p := decode(t, b.Data)
		before := totals(p)
		kind := kindOf(t, b)
		var s profile.Snapshot
		if got := s.Delta(kind, p); got != profile.Baseline {
			t.Fatalf("%s: %v", b.Name, got)
		}
		for i, typ := range profile.Types(kind, p) {
			want := before[i]
			if typ.Temporality == inquest.Delta {
				want = 0
			}
			if got := totals(p)[i]; got != want {
				t.Errorf("%s: %s is %d, want %d", b.Name, typ.Name, got, want)
			}
		}
		if kind == inquest.KindMutex && p.NumSamples() != 0 {
			t.Errorf("%s: %d samples are left", b.Name, p.NumSamples())
		}
	}
}

// The first body and all differences add up to the last body: nothing is
// lost or counted twice, and a restart of the agent in between, as the durable
// form sees it, changes nothing.
func TestDeltasAddUp(t *testing.T) {
	d := profile.NewDecoder(profile.Limits{})
	for name, bodies := range sequences() {
		kind := kindOf(t, bodies[0])
		var s profile.Snapshot
		sum := profile.NewMerger()
		for i, b := range bodies {
			p, err := d.Decode(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			outcome := s.Delta(kind, p)
			if i == 0 {
				p, err = d.Decode(b.Data)
			} else if outcome != profile.Difference {
				t.Fatalf("%s: %v", b.Name, outcome)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := sum.Add(p); err != nil {
				t.Fatal(err)
			}
			stored := s.AppendBinary(nil)
			var restored profile.Snapshot
			if err := restored.UnmarshalBinary(stored); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(restored.AppendBinary(nil), stored) {
				t.Fatalf("%s: durable form is not stable", b.Name)
			}
			s = restored
		}
		last, err := oracle(bodies[len(bodies)-1].Data)
		if err != nil {
			t.Fatal(err)
		}
		merged := sum.Profile()
		got, want := contents(reread(t, merged)), contents(last)
		for i, typ := range profile.Types(kind, merged) {
			if typ.Temporality != inquest.Delta || typ.Unit != "count" {
				continue
			}
			for k := range got {
				w := int64(0)
				if want[k] != nil {
					w = want[k][i]
				}
				if got[k][i] != w {
					t.Fatalf("%s, %s: sum %d, last %d at\n%s", name, typ.Name, got[k][i], w, k)
				}
			}
		}
	}
}

// counted is a heap or contention body of the given values by function name.
func counted(t *testing.T, types []string, values map[string][]int64) *profile.Profile {
	t.Helper()
	p := &pprof.Profile{PeriodType: &pprof.ValueType{}}
	for _, typ := range types {
		unit := "count"
		switch typ {
		case "delay":
			unit = "nanoseconds"
		case "alloc_space", "inuse_space":
			unit = "bytes"
		}
		p.SampleType = append(p.SampleType, &pprof.ValueType{Type: typ, Unit: unit})
	}
	for i, name := range slices.Sorted(maps.Keys(values)) {
		f := &pprof.Function{ID: uint64(i + 1), Name: name[:1]} // "a1" and "a2" are the same function
		l := &pprof.Location{ID: uint64(i + 1), Line: []pprof.Line{{Function: f}}}
		p.Function = append(p.Function, f)
		p.Location = append(p.Location, l)
		p.Sample = append(p.Sample, &pprof.Sample{Location: []*pprof.Location{l}, Value: values[name]})
	}
	return decode(t, plain(t, p))
}

// named is the reverse of counted.
func named(p *profile.Profile) map[string][]int64 {
	out := map[string][]int64{}
	for i := range p.NumSamples() {
		line := p.Lines[p.Locations[p.Stack(i)[0]].LineStart]
		out[p.String(p.Functions[line.Function].Name)] = slices.Clone(p.SampleValues(i))
	}
	return out
}

func TestDeltaRules(t *testing.T) {
	type values = map[string][]int64
	contention := []string{"contentions", "delay"}
	heap := []string{"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}
	for _, c := range []struct {
		name  string
		types []string
		steps []values
		want  values // of the last step
		out   profile.Outcome
	}{
		{"difference", contention, []values{{"a": {1, 10}, "b": {2, 20}}, {"a": {4, 40}, "b": {2, 20}, "c": {1, 1}}}, values{"a": {3, 30}, "c": {1, 1}}, profile.Difference},
		{"nothing happened", contention, []values{{"a": {1, 10}}, {"a": {1, 10}}}, values{}, profile.Difference},
		{"count falls", contention, []values{{"a": {5, 10}, "b": {1, 1}}, {"a": {4, 40}, "b": {1, 1}}}, values{}, profile.Reset},
		{"stack is gone", contention, []values{{"a": {5, 10}, "b": {1, 1}}, {"a": {5, 10}}}, values{}, profile.Reset},
		{"everything is gone", contention, []values{{"a": {5, 10}}, {}}, values{}, profile.Reset},
		{"zero stack is gone", contention, []values{{"a": {5, 10}, "b": {0, 1}}, {"a": {6, 10}}}, values{"a": {1, 0}}, profile.Difference},
		{"delay falls", contention, []values{{"a": {5, 100}}, {"a": {6, 99}}}, values{"a": {1, 0}}, profile.Difference},
		{"delay falls and comes back", contention, []values{{"a": {5, 100}}, {"a": {6, 99}}, {"a": {7, 103}}}, values{"a": {1, 3}}, profile.Difference},
		{"after a reset", contention, []values{{"a": {5, 100}}, {"a": {1, 9}}, {"a": {3, 10}}}, values{"a": {2, 1}}, profile.Difference},
		{"equal stacks", contention, []values{{"a1": {1, 10}, "a2": {2, 20}}, {"a1": {2, 15}, "a2": {2, 20}}}, values{"a": {1, 5}}, profile.Difference},
		{"instants stay", heap, []values{{"a": {5, 50, 1, 10}, "b": {1, 1, 1, 1}}, {"a": {5, 50, 2, 20}, "b": {2, 9, 0, 0}}}, values{"a": {0, 0, 2, 20}, "b": {1, 8, 0, 0}}, profile.Difference},
		{"instants stay in a reset", heap, []values{{"a": {5, 50, 1, 10}}, {"a": {4, 40, 2, 20}}}, values{"a": {0, 0, 2, 20}}, profile.Reset},
		{"instants fall", heap, []values{{"a": {5, 50, 3, 30}}, {"a": {5, 50, 2, 20}}}, values{"a": {0, 0, 2, 20}}, profile.Difference},
		{"without counts", []string{"alloc_space"}, []values{{"a": {50}}, {"a": {49}}}, values{}, profile.Reset},
		{"instants alone", []string{"inuse_space"}, []values{{"a": {50}}, {"b": {49}}}, values{"b": {49}}, profile.Difference},
	} {
		kind := inquest.KindHeap
		if c.types[0] == "contentions" {
			kind = inquest.KindMutex
		}
		var s profile.Snapshot
		var p *profile.Profile
		var out profile.Outcome
		for _, v := range c.steps {
			p = counted(t, c.types, v)
			out = s.Delta(kind, p)
		}
		if out != c.out {
			t.Errorf("%s: %v, want %v", c.name, out, c.out)
		}
		if diff := cmp.Diff(c.want, named(p)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// Other columns than before are another program's.
func TestDeltaOfOtherColumns(t *testing.T) {
	var s profile.Snapshot
	s.Delta(inquest.KindHeap, counted(t, []string{"alloc_objects", "alloc_space"}, map[string][]int64{"a": {1, 1}}))
	p := counted(t, []string{"alloc_space", "alloc_objects"}, map[string][]int64{"a": {2, 2}})
	if got := s.Delta(inquest.KindHeap, p); got != profile.Reset {
		t.Errorf("%v", got)
	}
}

// A process that starts anew is noticed with every program of the corpus.
func TestRestartIsAReset(t *testing.T) {
	for name, bodies := range sequences() {
		kind := kindOf(t, bodies[0])
		first, last := decode(t, bodies[0].Data), decode(t, bodies[len(bodies)-1].Data)
		if slices.Equal(totals(first), totals(last)) || first.NumSamples() == 0 {
			continue // nothing happened
		}
		var s profile.Snapshot
		s.Delta(kind, last)
		if got := s.Delta(kind, first); got != profile.Reset {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The hash does not depend on indexes: the same profile, its tables and
// samples in another order and with other ids, makes no difference.
func TestDeltaGoesByContent(t *testing.T) {
	for _, b := range corpus.Load("heap", "block") {
		if b.Seq > 0 {
			continue
		}
		src, err := oracle(b.Data)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(src.Location)
		slices.Reverse(src.Function)
		slices.Reverse(src.Sample)
		for i, l := range src.Location {
			l.ID = uint64(7*i + 1000)
		}
		kind := kindOf(t, b)
		var s profile.Snapshot
		s.Delta(kind, decode(t, b.Data))
		p := decode(t, plain(t, src))
		types := profile.Types(kind, p)
		if got := s.Delta(kind, p); got != profile.Difference {
			t.Errorf("%s: %v", b.Name, got)
		}
		for i, sum := range totals(p) {
			if types[i].Temporality == inquest.Delta && sum != 0 {
				t.Errorf("%s: %s is %d", b.Name, types[i].Name, sum)
			}
		}
	}
}

func TestSnapshotRefusesDamage(t *testing.T) {
	var s profile.Snapshot
	s.Delta(inquest.KindMutex, decode(t, corpus.Load("mutex")[0].Data))
	good := s.AppendBinary(nil)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := s.UnmarshalBinary(bad); !errors.Is(err, inquest.ErrInvalid) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if i > 0 {
			if err := s.UnmarshalBinary(good[:i]); !errors.Is(err, inquest.ErrInvalid) {
				t.Fatalf("cut at %d: %v", i, err)
			}
		}
	}
	if !bytes.Equal(s.AppendBinary(nil), good) {
		t.Error("a failed UnmarshalBinary changed the snapshot")
	}
	var none profile.Snapshot
	if b := none.AppendBinary(nil); len(b) != 0 || s.UnmarshalBinary(b) != nil {
		t.Errorf("durable form of nothing is %x", b)
	}
	p := decode(t, corpus.Load("mutex")[0].Data)
	if got := s.Delta(inquest.KindMutex, p); got != profile.Baseline {
		t.Errorf("after nothing was restored: %v", got)
	}
}

// FuzzSnapshot reads damaged durable forms whose checksum was mended: an
// error, or a snapshot that can be used and written again.
func FuzzSnapshot(f *testing.F) {
	var s profile.Snapshot
	s.Delta(inquest.KindMutex, decode(f, corpus.Load("mutex")[0].Data))
	f.Add(s.AppendBinary(nil))
	s = profile.Snapshot{}
	s.Delta(inquest.KindHeap, decode(f, corpus.Load("heap")[0].Data))
	f.Add(s.AppendBinary(nil))
	next := corpus.Load("mutex")[1].Data
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8 {
			data = binary.LittleEndian.AppendUint64(data[:len(data)-8:len(data)-8], xxhash.Sum64(data[:len(data)-8]))
		}
		var s profile.Snapshot
		if err := s.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, inquest.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again := s.AppendBinary(nil)
		var restored profile.Snapshot
		if err := restored.UnmarshalBinary(again); err != nil || !bytes.Equal(restored.AppendBinary(nil), again) {
			t.Fatalf("written again: %v", err)
		}
		p := decode(t, next)
		s.Delta(inquest.KindMutex, p)
		reread(t, p)
	})
}
