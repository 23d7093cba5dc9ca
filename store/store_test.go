package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"
	"go.uber.org/goleak"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// everything is a window without bounds.
var everything inquest.Window

func open(tb testing.TB, dir string, change ...func(*store.Options)) *store.Store {
	tb.Helper()
	o := store.Options{Dir: dir, MinFreeBytes: 1}
	for _, c := range change {
		c(&o)
	}
	s, err := store.Open(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func key(n int) (k inquest.Key) {
	copy(k[:], "agent--1")
	binary.BigEndian.PutUint64(k[8:], uint64(n))
	return k
}

var hashSeed = maphash.MakeSeed()

// record makes a record of a body. The decoder's columns are the record's.
func record(tb testing.TB, d *profile.Decoder, n int, service string, kind inquest.Kind, body []byte) *store.Record {
	tb.Helper()
	p, err := d.Decode(body)
	if err != nil {
		tb.Fatal(err)
	}
	start := t0.Add(time.Duration(n) * 10 * time.Second)
	return &store.Record{
		Key: key(n), BodyHash: maphash.Bytes(hashSeed, body),
		Meta: inquest.ProfileMeta{
			Kind: kind, Process: fmt.Sprintf("boot/%d", n%3), Start: start, End: start.Add(5 * time.Second), Hold: 10 * time.Second,
			Labels: inquest.NewLabels(map[string]string{"service": service, "instance": fmt.Sprintf("host-%d:80", n%3), "build": "b1"}),
		},
		Profile: p,
	}
}

func kindOf(folder string) inquest.Kind {
	if folder == "allocs" {
		return inquest.KindHeap
	}
	return inquest.Kind(folder)
}

// appendCorpus stores bodies of the corpus, the program being the service,
// and returns them by service and kind.
func appendCorpus(tb testing.TB, s *store.Store, kinds ...string) map[string][]corpus.Body {
	tb.Helper()
	d := profile.NewDecoder(profile.Limits{})
	out := map[string][]corpus.Body{}
	for i, b := range corpus.Load(kinds...) {
		a, err := s.Append(context.Background(), record(tb, d, i, b.Program, kindOf(b.Kind), b.Data))
		if err != nil {
			tb.Fatalf("%s: %v", b.Name, err)
		}
		if a.Duplicate || a.ID == "" || a.Bytes <= 0 {
			tb.Fatalf("%s: %+v", b.Name, a)
		}
		id := b.Program + " " + string(kindOf(b.Kind))
		out[id] = append(out[id], b)
	}
	return out
}

// spell writes everything that is known of a location.
func spell(l *pprof.Location) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%x %v ", l.Address, l.IsFolded)
	if m := l.Mapping; m != nil {
		fmt.Fprintf(&b, "[%x %x %x %s %s %v%v%v%v]", m.Start, m.Limit, m.Offset, m.File, m.BuildID,
			m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames)
	}
	for _, ln := range l.Line {
		f := ln.Function
		fmt.Fprintf(&b, "(%s|%s|%s:%d %d:%d)", f.Name, f.SystemName, f.Filename, f.StartLine, ln.Line, ln.Column)
	}
	b.WriteByte('\n')
	return b.String()
}

// sampleSet spells the samples of a profile: stack with everything that is
// known of each frame, and labels, to the sums of values.
func sampleSet(p *pprof.Profile) map[string][]int64 {
	out := map[string][]int64{}
	frames := map[*pprof.Location]string{}
	for _, s := range p.Sample {
		var b strings.Builder
		for _, l := range s.Location {
			if frames[l] == "" {
				frames[l] = spell(l)
			}
			b.WriteString(frames[l])
		}
		var keys []string
		for k := range s.Label {
			keys = append(keys, k)
		}
		for k := range s.NumLabel {
			keys = append(keys, "#"+k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			if n, ok := strings.CutPrefix(k, "#"); ok {
				fmt.Fprintf(&b, "%s=%v %q\n", n, s.NumLabel[n], s.NumUnit[n])
			} else {
				fmt.Fprintf(&b, "%s=%q\n", k, s.Label[k])
			}
		}
		id := b.String()
		if out[id] == nil {
			out[id] = make([]int64, len(s.Value))
		}
		for i, v := range s.Value {
			out[id][i] += v
		}
	}
	return out
}

// head is what a profile says beside its samples.
type head struct {
	Types                                  []string
	Period, Time, Duration                 int64
	PeriodType                             string
	Default, Drop, Keep, DocURL, FirstFile string
	Comments                               []string
	Maps, Samples                          int
}

func headOf(p *pprof.Profile) head {
	h := head{
		Period: p.Period, Time: p.TimeNanos, Duration: p.DurationNanos, Default: p.DefaultSampleType,
		Drop: p.DropFrames, Keep: p.KeepFrames, DocURL: p.DocURL, Comments: p.Comments, Maps: len(p.Mapping), Samples: len(p.Sample),
	}
	if p.PeriodType != nil {
		h.PeriodType = p.PeriodType.Type + "/" + p.PeriodType.Unit
	}
	for _, t := range p.SampleType {
		h.Types = append(h.Types, t.Type+"/"+t.Unit)
	}
	if len(p.Mapping) > 0 {
		h.FirstFile = p.Mapping[0].File
	}
	return h
}

func parse(tb testing.TB, body []byte) *pprof.Profile {
	tb.Helper()
	p, err := pprof.ParseData(body)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// exported returns every stored profile by id.
func exported(tb testing.TB, s *store.Store) map[string]*pprof.Profile {
	tb.Helper()
	ctx := context.Background()
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	out := map[string]*pprof.Profile{}
	for _, p := range v.Parts {
		for i := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				tb.Fatal(err)
			}
			at := 0
			err = p.Export(ctx, i, nil, func(x *profile.Profile) error {
				id := p.Service + " " + rows.ID(at)
				if out[id] != nil {
					tb.Errorf("%s is there twice", id)
				}
				out[id] = parse(tb, x.AppendPprof(nil))
				at++
				return nil
			})
			if err != nil {
				tb.Fatal(err)
			}
			if at != len(rows.Start) {
				tb.Fatalf("exported %d of %d rows", at, len(rows.Start))
			}
		}
	}
	return out
}

// TestLossless stores the whole corpus and compares what comes out, from
// heads, from blocks and from a replayed log, with google/pprof's view of what
// went in.
func TestLossless(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"head", "block", "log"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			appendCorpus(t, s)
			switch from {
			case "log":
				cut := copyDir(t, dir)
				_ = s.Close()
				s = open(t, cut)
				waitReady(t, s)
			case "block":
				if err := s.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				if st := s.Stats(); st.Blocks == 0 || st.HeadBytes != 0 {
					t.Fatalf("not in blocks: %+v", st)
				}
			}
			got := exported(t, s)
			bodies := corpus.Load()
			if len(got) != len(bodies) {
				t.Fatalf("%d profiles came out, %d went in", len(got), len(bodies))
			}
			for i, b := range bodies {
				start := t0.Add(time.Duration(i) * 10 * time.Second)
				id := fmt.Sprintf("%s %s-%s", b.Program, key(i), base36(start))
				p := got[id]
				if p == nil {
					t.Fatalf("%s: no profile %s", b.Name, id)
				}
				want := parse(t, b.Data)
				if diff := cmp.Diff(headOf(want), headOf(p)); diff != "" {
					t.Fatalf("%s: (-in +out)\n%s", b.Name, diff)
				}
				if in, out := sampleSet(want), sampleSet(p); !reflect.DeepEqual(in, out) { // cmp is slow on these
					t.Fatalf("%s: (-in +out)\n%.2000s", b.Name, cmp.Diff(in, out))
				}
			}
		})
	}
}

func base36(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 36) }
