package profile_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/profile"
)

// oracle reads a body as google/pprof does, without its legacy text formats.
func oracle(body []byte) (*pprof.Profile, error) {
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		var err error
		if body, err = unpack(body); err != nil {
			return nil, err
		}
	}
	p, err := pprof.ParseUncompressed(body)
	if err != nil {
		return nil, err
	}
	return p, p.CheckValid()
}

// unpack is gunzip by the standard library.
func unpack(body []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// gunzip is unpack of a valid body.
func gunzip(t testing.TB, body []byte) []byte {
	t.Helper()
	raw, err := unpack(body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// decode decodes with a Decoder of its own; the body must be valid.
func decode(t testing.TB, body []byte) *profile.Profile {
	t.Helper()
	p, err := profile.NewDecoder(profile.Limits{}).Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compare reports the first difference between columns and what the oracle
// read from the same body, "" if there is none. Ids are compared as indexes.
func compare(got *profile.Profile, want *pprof.Profile) string {
	str := func(i uint32) string { return got.String(i) }
	vt := func(v profile.ValueType) string { return str(v.Type) + "/" + str(v.Unit) }
	wvt := func(v *pprof.ValueType) string { return v.Type + "/" + v.Unit }
	var comments []string
	for _, c := range got.Comments {
		comments = append(comments, str(c))
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"period type", vt(got.PeriodType), wvt(want.PeriodType)},
		{"period", got.Period, want.Period},
		{"time", got.TimeNanos, want.TimeNanos},
		{"duration", got.DurationNanos, want.DurationNanos},
		{"drop frames", str(got.DropFrames), want.DropFrames},
		{"keep frames", str(got.KeepFrames), want.KeepFrames},
		{"doc url", str(got.DocURL), want.DocURL},
		{"default sample type", str(got.DefaultSampleType), want.DefaultSampleType},
		{"comments", comments, want.Comments},
		{"sample types", len(got.SampleTypes), len(want.SampleType)},
		{"mappings", len(got.Mappings), len(want.Mapping)},
		{"locations", len(got.Locations), len(want.Location)},
		{"functions", len(got.Functions), len(want.Function)},
		{"samples", got.NumSamples(), len(want.Sample)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			return fmt.Sprintf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
	for i, w := range want.SampleType {
		if g := vt(got.SampleTypes[i]); g != wvt(w) {
			return fmt.Sprintf("sample type %d: got %s, want %s", i, g, wvt(w))
		}
	}
	mapping := map[*pprof.Mapping]int32{nil: -1}
	for i, w := range want.Mapping {
		mapping[w] = int32(i)
		g := got.Mappings[i]
		gm := pprof.Mapping{ID: w.ID, Start: g.Start, Limit: g.Limit, Offset: g.Offset, File: str(g.File), BuildID: str(g.BuildID),
			HasFunctions: g.HasFunctions, HasFilenames: g.HasFilenames, HasLineNumbers: g.HasLineNumbers, HasInlineFrames: g.HasInlineFrames,
			KernelRelocationSymbol: w.KernelRelocationSymbol}
		if gm != *w {
			return fmt.Sprintf("mapping %d: got %+v, want %+v", i, gm, *w)
		}
	}
	function := map[*pprof.Function]uint32{}
	for i, w := range want.Function {
		function[w] = uint32(i)
		g := got.Functions[i]
		gf := pprof.Function{ID: w.ID, Name: str(g.Name), SystemName: str(g.SystemName), Filename: str(g.Filename), StartLine: g.StartLine}
		if gf != *w {
			return fmt.Sprintf("function %d: got %+v, want %+v", i, gf, *w)
		}
	}
	location := map[*pprof.Location]uint32{}
	for i, w := range want.Location {
		location[w] = uint32(i)
		g := got.Locations[i]
		if g.Mapping != mapping[w.Mapping] || g.Address != w.Address || g.IsFolded != w.IsFolded || int(g.LineEnd-g.LineStart) != len(w.Line) {
			return fmt.Sprintf("location %d: got %+v, want %+v in mapping %d", i, g, *w, mapping[w.Mapping])
		}
		for j, wl := range w.Line {
			gl := got.Lines[int(g.LineStart)+j]
			if gl != (profile.Line{Function: function[wl.Function], Line: wl.Line, Column: wl.Column}) {
				return fmt.Sprintf("line %d of location %d: got %+v, want %+v of function %d", j, i, gl, wl, function[wl.Function])
			}
		}
	}
	for i, w := range want.Sample {
		var stack []uint32
		for _, l := range w.Location {
			stack = append(stack, location[l])
		}
		if !slices.Equal(got.Stack(i), stack) {
			return fmt.Sprintf("stack of sample %d: got %v, want %v", i, got.Stack(i), stack)
		}
		if !slices.Equal(got.SampleValues(i), w.Value) {
			return fmt.Sprintf("values of sample %d: got %v, want %v", i, got.SampleValues(i), w.Value)
		}
		if g, w := labelsOf(got, i), wantLabels(w); !slices.Equal(g, w) {
			return fmt.Sprintf("labels of sample %d: got %q, want %q", i, g, w)
		}
	}
	return ""
}

// labelsOf spells the labels of a sample, sorted by key; values of a key in
// their order.
func labelsOf(p *profile.Profile, i int) []string {
	w := &pprof.Sample{Label: map[string][]string{}, NumLabel: map[string][]int64{}, NumUnit: map[string][]string{}}
	for _, l := range p.SampleLabels(i) {
		key := p.String(l.Key)
		if l.Str != 0 {
			w.Label[key] = append(w.Label[key], p.String(l.Str))
			continue
		}
		if l.NumUnit != 0 {
			units := w.NumUnit[key]
			for len(units) < len(w.NumLabel[key]) {
				units = append(units, "")
			}
			w.NumUnit[key] = append(units, p.String(l.NumUnit))
		}
		w.NumLabel[key] = append(w.NumLabel[key], l.Num)
	}
	return wantLabels(w)
}

func wantLabels(s *pprof.Sample) []string {
	var out []string
	for k, vs := range s.Label {
		for i, v := range vs {
			out = append(out, fmt.Sprintf("%s#%04d=%s", k, i, v))
		}
	}
	for k, vs := range s.NumLabel {
		for i, v := range vs {
			unit := ""
			if i < len(s.NumUnit[k]) {
				unit = s.NumUnit[k][i]
			}
			out = append(out, fmt.Sprintf("%s#%04d:%d %s", k, i, v, unit))
		}
	}
	slices.Sort(out)
	return out
}

// contents spells a profile as totals by stack and labels, without ids; equal
// maps mean equal profiles. Zero values are left out, and so are labels of
// number 0 without a unit: google/pprof may hold one, but cannot write it.
func contents(p *pprof.Profile) map[string][]int64 {
	locations := make(map[*pprof.Location]string, len(p.Location))
	for _, l := range p.Location {
		var b strings.Builder
		if l.Mapping != nil {
			fmt.Fprintf(&b, "%s %s ", l.Mapping.File, l.Mapping.BuildID)
		}
		fmt.Fprintf(&b, "%x %v", l.Address, l.IsFolded)
		for _, ln := range l.Line {
			f := ln.Function
			fmt.Fprintf(&b, "|%s %s %s %d %d %d", f.Name, f.SystemName, f.Filename, f.StartLine, ln.Line, ln.Column)
		}
		locations[l] = b.String()
	}
	out := make(map[string][]int64, len(p.Sample))
	for _, s := range p.Sample {
		var b strings.Builder
		for _, l := range s.Location {
			b.WriteString(locations[l])
			b.WriteByte('\n')
		}
		fmt.Fprint(&b, slices.DeleteFunc(wantLabels(s), func(l string) bool { return strings.HasSuffix(l, ":0 ") }))
		sum, ok := out[b.String()]
		if !ok {
			sum = make([]int64, len(s.Value))
			out[b.String()] = sum
		}
		for i, v := range s.Value {
			sum[i] += v
		}
	}
	for k, v := range out {
		if !slices.ContainsFunc(v, func(x int64) bool { return x != 0 }) {
			delete(out, k)
		}
	}
	return out
}

// reread is p as google/pprof reads what p is encoded to.
func reread(t testing.TB, p *profile.Profile) *pprof.Profile {
	t.Helper()
	out, err := pprof.ParseData(p.AppendPprof(nil))
	if err != nil {
		t.Fatalf("google/pprof refuses what we encoded: %v", err)
	}
	return out
}

// inflateStd unpacks deflate data as far as the standard library can; clean
// says that it ended where the data ends, and before 256 KiB.
func inflateStd(deflated []byte) (raw []byte, clean bool) {
	r := bytes.NewReader(deflated)
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(r), 1<<18))
	return raw, err == nil && r.Len() == 0 && len(raw) < 1<<18
}
