package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// now is the time in these tests.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world is an Ingest on a real store.
type world struct {
	t     testing.TB
	dir   string
	o     ingest.Options
	store *store.Store
	in    *ingest.Ingest
}

func newWorld(t testing.TB, o ingest.Options) *world {
	w := &world{t: t, dir: t.TempDir(), o: o}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	clock := func() time.Time { return now }
	var err error
	w.store, err = store.Open(w.t.Context(), store.Options{Dir: w.dir, Now: clock, CommitDelay: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	o := w.o
	o.Store, o.Now = w.store, clock
	w.in = ingest.New(o)
}

func (w *world) close() {
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) push(p ingest.Push) *ingest.Ack {
	w.t.Helper()
	ack, err := w.in.Profile(w.t.Context(), &p)
	if err != nil {
		w.t.Fatal(err)
	}
	return ack
}

// stored is what the store holds of one profile.
type stored struct {
	Kind       inquest.Kind
	Start, End time.Time
	Hold       time.Duration
	Labels     string
	Process    string
	Totals     map[string]int64 // by type
}

func (w *world) find(id string) stored {
	w.t.Helper()
	v, section, row, err := w.store.Find(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	rows, err := v.Parts[0].Rows(w.t.Context(), section)
	if err != nil {
		w.t.Fatal(err)
	}
	sec := v.Parts[0].Sections()[section]
	s := stored{
		Kind: sec.Kind, Start: time.Unix(0, rows.Start[row]).UTC(), End: time.Unix(0, rows.End[row]).UTC(), Hold: time.Duration(rows.Hold[row]),
		Labels: rows.LabelSets[rows.LabelSet[row]].String(), Process: rows.Processes[rows.Process[row]], Totals: map[string]int64{},
	}
	for i, typ := range sec.Types {
		s.Totals[typ.Name] = rows.Totals[i][row]
	}
	return s
}

// sample is one stack of one function and its values.
type sample struct {
	fn     string
	values []int64
}

// body makes a pprof body. types are "name/unit".
func body(types []string, at time.Time, d time.Duration, samples ...sample) []byte {
	p := &pprof.Profile{
		TimeNanos: at.UnixNano(), DurationNanos: int64(d), PeriodType: &pprof.ValueType{}, Period: 1,
		Mapping: []*pprof.Mapping{{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/bin/shop", BuildID: "ABCDEF0123456789"}},
	}
	if at.IsZero() {
		p.TimeNanos = 0
	}
	for _, t := range types {
		name, unit, _ := strings.Cut(t, "/")
		p.SampleType = append(p.SampleType, &pprof.ValueType{Type: name, Unit: unit})
	}
	for i, s := range samples {
		f := &pprof.Function{ID: uint64(i + 1), Name: s.fn, Filename: "x.go"}
		l := &pprof.Location{ID: uint64(i + 1), Mapping: p.Mapping[0], Address: 0x1000 + uint64(i), Line: []pprof.Line{{Function: f, Line: 1}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		p.Sample = append(p.Sample, &pprof.Sample{Location: []*pprof.Location{l}, Value: s.values})
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var (
	cpuTypes       = []string{"samples/count", "cpu/nanoseconds"}
	heapTypes      = []string{"alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"}
	goroutineTypes = []string{"goroutine/count"}
	blockTypes     = []string{"contentions/count", "delay/nanoseconds"}
)

func cpuBody(at time.Time) []byte {
	return body(cpuTypes, at, 10*time.Second, sample{"main.work", []int64{3, 30e6}}, sample{"main.idle", []int64{1, 10e6}})
}

func heapBody(at time.Time, allocs, inuse int64) []byte {
	return body(heapTypes, at, 0, sample{"main.make", []int64{allocs, 100 * allocs, inuse, 100 * inuse}})
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func gunzipped(t testing.TB, b []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(b, nil)
}

func TestProfileStored(t *testing.T) {
	w := newWorld(t, ingest.Options{})
	ack := w.push(ingest.Push{
		Service: "shop", Instance: "h:80", Release: "v1", Process: "p1", Kind: "cpu", Interval: time.Minute,
		Labels: map[string]string{"zone": "a", "app": "x"}, Body: cpuBody(now.Add(-time.Minute)),
	})
	labels := `{app="x", build="abcdef0123456789", instance="h:80", release="v1", service="shop", zone="a"}`
	if ack.Series != labels || ack.Samples != 2 || ack.Duplicate || ack.ID == "" {
		t.Errorf("ack = %+v", ack)
	}
	want := stored{
		Kind: inquest.KindCPU, Start: now.Add(-time.Minute), End: now.Add(-50 * time.Second), Hold: time.Minute, Labels: labels, Process: "p1",
		Totals: map[string]int64{"samples": 4, "cpu": 40e6},
	}
	if diff := cmp.Diff(want, w.find(ack.ID)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestProfileEncodings(t *testing.T) {
	w := newWorld(t, ingest.Options{})
	zipped := cpuBody(now.Add(-time.Minute))
	plain := gunzipped(t, zipped)
	for i, tt := range []struct {
		name, encoding string
		body           []byte
	}{
		{"gzip pprof", "", zipped},
		{"plain pprof", "identity", plain},
		{"gzip of plain", "gzip", zipped},
		{"gzip of gzip", "gzip", gzipped(zipped)},
		{"zstd of plain", "zstd", zstded(plain)},
		{"zstd of gzip", "zstd", zstded(zipped)},
		{"two gzip members", "", append(gzipped(plain[:50]), gzipped(plain[50:])...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // with a new worker and with one used before
				ack := w.push(ingest.Push{Service: "shop", Process: fmt.Sprint(i), Encoding: tt.encoding, Body: tt.body, Key: fmt.Sprintf("%032x", i)})
				if diff := cmp.Diff(map[string]int64{"samples": 4, "cpu": 40e6}, w.find(ack.ID).Totals); diff != "" {
					t.Errorf("totals (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestProfileErrors(t *testing.T) {
	limits := profile.Limits{MaxRawBytes: 1 << 20}
	w := newWorld(t, ingest.Options{MaxBodyBytes: 64 << 10, Limits: limits})
	bomb := make([]byte, 8<<20)
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint("l", i)] = "x"
	}
	good := cpuBody(now.Add(-time.Minute))
	for _, tt := range []struct {
		name string
		p    ingest.Push
		kind error
		want string // in the message
	}{
		{"no service", ingest.Push{}, inquest.ErrInvalid, "service=NAME"},
		{"control character", ingest.Push{Service: "a\x00b"}, inquest.ErrInvalid, "control character"},
		{"long service", ingest.Push{Service: strings.Repeat("a", 2000)}, inquest.ErrInvalid, "1024"},
		{"long process", ingest.Push{Service: "s", Process: strings.Repeat("a", 2000)}, inquest.ErrInvalid, "process"},
		{"not UTF-8", ingest.Push{Service: "s", Instance: "\xff"}, inquest.ErrInvalid, "UTF-8"},
		{"unknown kind", ingest.Push{Service: "s", Kind: "gpu"}, inquest.ErrInvalid, "known kinds are"},
		{"other kind", ingest.Push{Service: "s", Kind: "heap"}, inquest.ErrInvalid, "kind=heap"},
		{"mutex or block", ingest.Push{Service: "s", Body: body(blockTypes, now, 0, sample{"f", []int64{1, 1}})}, inquest.ErrInvalid, "kind=mutex or kind=block"},
		{"reserved label", ingest.Push{Service: "s", Labels: map[string]string{"build": "x"}}, inquest.ErrInvalid, "parameter build="},
		{"many labels", ingest.Push{Service: "s", Labels: many}, inquest.ErrInvalid, "at most 32"},
		{"temporality", ingest.Push{Service: "s", Temporality: "diff"}, inquest.ErrInvalid, "delta or cumulative"},
		{"key", ingest.Push{Service: "s", Key: "123"}, inquest.ErrInvalid, "32 hex digits"},
		{"encoding", ingest.Push{Service: "s", Encoding: "br"}, inquest.ErrInvalid, "gzip, zstd or none"},
		{"negative interval", ingest.Push{Service: "s", Interval: -1}, inquest.ErrInvalid, "negative"},
		{"empty", ingest.Push{Service: "s", Body: []byte{}}, inquest.ErrInvalid, "empty"},
		{"text", ingest.Push{Service: "s", Body: []byte("<html><body>404</body></html>")}, inquest.ErrInvalid, ""},
		{"truncated", ingest.Push{Service: "s", Body: good[:len(good)-20]}, inquest.ErrInvalid, ""},
		{"large body", ingest.Push{Service: "s", Body: bomb}, inquest.ErrTooLarge, "65536"},
		{"gzip bomb", ingest.Push{Service: "s", Body: gzipped(bomb)}, inquest.ErrTooLarge, "1048576"},
		{"gzip encoding bomb", ingest.Push{Service: "s", Encoding: "gzip", Body: gzipped(bomb)}, inquest.ErrTooLarge, "1048576"},
		{"gzip in gzip bomb", ingest.Push{Service: "s", Encoding: "gzip", Body: gzipped(gzipped(bomb))}, inquest.ErrTooLarge, "1048576"},
		{"zstd bomb", ingest.Push{Service: "s", Encoding: "zstd", Body: zstded(bomb)}, inquest.ErrTooLarge, "1048576"},
		{"huge values", ingest.Push{Service: "s", Body: body(cpuTypes, now, time.Second, sample{"f", []int64{1, 1 << 59}}, sample{"g", []int64{1, 1<<59 + 1}})}, inquest.ErrInvalid, `"cpu" add up`},
		{"least value", ingest.Push{Service: "s", Body: body(cpuTypes, now, time.Second, sample{"f", []int64{math.MinInt64, 1}})}, inquest.ErrInvalid, `"samples" add up`},
		{"not gzip", ingest.Push{Service: "s", Encoding: "gzip", Body: []byte("hello")}, inquest.ErrInvalid, "Content-Encoding"},
		{"not zstd", ingest.Push{Service: "s", Encoding: "zstd", Body: good}, inquest.ErrInvalid, "Content-Encoding"},
		{"empty zstd", ingest.Push{Service: "s", Encoding: "zstd", Body: zstded(nil)}, inquest.ErrInvalid, "nothing"},
		{"end before start", ingest.Push{Service: "s", Start: now, End: now.Add(-1)}, inquest.ErrInvalid, "before it starts"},
		{"too old", ingest.Push{Service: "s", Start: now.Add(-16 * 24 * time.Hour)}, inquest.ErrInvalid, "2026-11-05T12:00:00Z"},
		{"too new", ingest.Push{Service: "s", Start: now.Add(11 * time.Minute)}, inquest.ErrInvalid, "2026-11-21T12:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.p.Body == nil {
				tt.p.Body = good
			}
			_, err := w.in.Profile(t.Context(), &tt.p)
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v\nwant %v with %q", err, tt.kind, tt.want)
			}
		})
	}
}

func TestProfileTimes(t *testing.T) {
	at := now.Add(-time.Hour)
	const s = time.Second
	for _, tt := range []struct {
		name       string
		p          ingest.Push
		start, end time.Time
		hold       time.Duration
		shift      string
	}{
		{"parameters", ingest.Push{Body: cpuBody(now), Start: at, End: at.Add(5 * s)}, at, at.Add(5 * s), 0, ""},
		{"start and the body's duration", ingest.Push{Body: cpuBody(now), Start: at}, at, at.Add(10 * s), 0, ""},
		{"end and the body's duration", ingest.Push{Body: cpuBody(now), End: at}, at.Add(-10 * s), at, 0, ""},
		{"body", ingest.Push{Body: cpuBody(at)}, at, at.Add(10 * s), 0, ""},
		{"nothing", ingest.Push{Body: cpuBody(time.Time{})}, now.Add(-10 * s), now, 0, ""},
		{"clock a little off", ingest.Push{Body: cpuBody(at), SentAt: now.Add(-4 * s)}, at, at.Add(10 * s), 0, ""},
		{"clock ahead", ingest.Push{Body: cpuBody(now.Add(time.Hour)), SentAt: now.Add(time.Hour + 30*s)}, now.Add(-30 * s), now.Add(-20 * s), 0, "-1h0m30s"},
		{"clock behind", ingest.Push{Body: cpuBody(at), SentAt: now.Add(-10 * s)}, at.Add(10 * s), at.Add(20 * s), 0, "10s"},
		{"no time of its own is not shifted", ingest.Push{Body: cpuBody(time.Time{}), SentAt: now.Add(time.Hour)}, now.Add(-10 * s), now, 0, ""},
		{"interval", ingest.Push{Body: cpuBody(at), Interval: 60 * s}, at, at.Add(10 * s), 60 * s, ""},
		{"interval is capped", ingest.Push{Body: cpuBody(at), Interval: time.Hour}, at, at.Add(10 * s), 300 * s, ""},
		{"interval is not below what was observed", ingest.Push{Body: cpuBody(at), Interval: s}, at, at.Add(10 * s), 10 * s, ""},
		{"instant", ingest.Push{Body: body(goroutineTypes, at, 0, sample{"f", []int64{7}}), Interval: 60 * s}, at, at, 60 * s, ""},
		{"instant over a span", ingest.Push{Body: body(goroutineTypes, at, 0, sample{"f", []int64{7}}), Start: at, End: at.Add(15 * s)}, at, at, 15 * s, ""},
		{"heap delta", ingest.Push{Body: heapBody(at, 5, 3), Temporality: "delta", Start: at.Add(-60 * s), End: at, Interval: 60 * s}, at.Add(-60 * s), at, 60 * s, ""},
		{"first heap", ingest.Push{Body: heapBody(at, 5, 3), Interval: 60 * s}, at, at, 60 * s, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, ingest.Options{})
			tt.p.Service = "shop"
			ack := w.push(tt.p)
			got := w.find(ack.ID)
			if !got.Start.Equal(tt.start) || !got.End.Equal(tt.end) || got.Hold != tt.hold || ack.ClockShift != tt.shift {
				t.Errorf("stored [%v, %v) hold %v, shift %q\nwant   [%v, %v) hold %v, shift %q",
					got.Start, got.End, got.Hold, ack.ClockShift, tt.start, tt.end, tt.hold, tt.shift)
			}
		})
	}
}

func TestProfileIdempotent(t *testing.T) {
	w := newWorld(t, ingest.Options{})
	const key = "000102030405060708090a0b0c0d0e0f"
	first, second := cpuBody(now.Add(-time.Minute)), cpuBody(now.Add(-2*time.Minute))
	p := ingest.Push{Service: "shop", Body: first, Key: key}
	id := w.push(p).ID
	if !strings.HasPrefix(id, key+"-") {
		t.Errorf("id = %q, want it to begin with the key", id)
	}
	for range 2 {
		if ack := w.push(p); !ack.Duplicate || ack.ID != id {
			t.Errorf("retry: %+v, want a duplicate of %s", ack, id)
		}
		w.close()
		w.open()
	}
	p.Body = second
	if _, err := w.in.Profile(t.Context(), &p); !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("another body under the same key: %v, want ErrConflict", err)
	}

	// Without a key it is what was sent that counts.
	p = ingest.Push{Service: "shop", Instance: "h1", Body: first}
	if w.push(p).Duplicate || !w.push(p).Duplicate {
		t.Error("the same push twice must be a duplicate the second time only")
	}
	for name, change := range map[string]func(*ingest.Push){
		"service":  func(p *ingest.Push) { p.Service = "cart" },
		"instance": func(p *ingest.Push) { p.Instance = "h2" },
		"kind":     func(p *ingest.Push) { p.Kind = "cpu" },
		"start":    func(p *ingest.Push) { p.Start = now.Add(-time.Hour) },
		"body":     func(p *ingest.Push) { p.Body = second },
	} {
		q := p
		change(&q)
		if w.push(q).Duplicate {
			t.Errorf("a push with another %s is taken for a duplicate", name)
		}
	}
}

func TestProfileTruncated(t *testing.T) {
	w := newWorld(t, ingest.Options{MaxKept: 3})
	var samples []sample
	for i := range 10 {
		samples = append(samples, sample{fmt.Sprint("f", i), []int64{int64(i)}})
	}
	ack := w.push(ingest.Push{Service: "shop", Body: body(goroutineTypes, now, 0, samples...)})
	if ack.Truncated != 8 || ack.Samples != 3 {
		t.Errorf("ack = %+v, want 8 samples folded into one of 3", ack)
	}
	if got := w.find(ack.ID).Totals["goroutine"]; got != 45 {
		t.Errorf("total = %d, want 45", got)
	}
}

func TestCumulative(t *testing.T) {
	w := newWorld(t, ingest.Options{})
	minute := func(i int) time.Time { return now.Add(time.Duration(i-30) * time.Minute) }
	type step struct {
		name          string
		at            int // minute
		allocs, inuse int64
		from          int // minute at which the stored profile starts
		want          int64
		baseline      bool
	}
	steps := []step{
		{"first", 1, 100, 10, 1, 0, true},
		{"second", 2, 130, 20, 1, 30, false},
		{"nothing new", 3, 130, 5, 2, 0, false},
		{"older than the last", 2, 999, 7, 2, 0, true},
		{"after a gap", 10, 200, 9, 3, 70, false},
		{"process began anew", 11, 50, 8, 11, 0, true},
		{"and goes on", 12, 60, 8, 11, 10, false},
	}
	for i, st := range steps {
		if i == 4 { // the state survives a restart
			w.close()
			w.open()
		}
		for retry := range 2 {
			ack := w.push(ingest.Push{Service: "shop", Instance: "h", Kind: "heap", Body: heapBody(minute(st.at), st.allocs, st.inuse)})
			if ack.Duplicate != (retry == 1) || retry == 0 && ack.Baseline != st.baseline {
				t.Errorf("%s, retry %d: ack = %+v", st.name, retry, ack)
			}
			got := w.find(ack.ID)
			wantTotals := map[string]int64{"alloc_objects": st.want, "alloc_space": 100 * st.want, "inuse_objects": st.inuse, "inuse_space": 100 * st.inuse}
			if diff := cmp.Diff(wantTotals, got.Totals); diff != "" {
				t.Errorf("%s: totals (-want +got):\n%s", st.name, diff)
			}
			if !got.Start.Equal(minute(st.from)) || !got.End.Equal(minute(st.at)) {
				t.Errorf("%s: [%v, %v), want [%v, %v)", st.name, got.Start, got.End, minute(st.from), minute(st.at))
			}
		}
	}
	// Another process, instance or kind is another counter; delta is taken as it is.
	for _, p := range []ingest.Push{
		{Service: "shop", Instance: "h", Process: "p2"},
		{Service: "shop", Instance: "h2"},
		{Service: "shoph", Instance: ""},
	} {
		p.Body = heapBody(minute(20), 500, 1)
		if ack := w.push(p); !ack.Baseline {
			t.Errorf("first heap profile of %+v is not a baseline", p.Instance+"/"+p.Process)
		}
	}
	ack := w.push(ingest.Push{Service: "shop", Instance: "h", Temporality: "delta", Body: heapBody(minute(21), 7, 1)})
	if got := w.find(ack.ID).Totals["alloc_objects"]; got != 7 || ack.Baseline {
		t.Errorf("a delta was stored as %d, want 7", got)
	}
	p := ingest.Push{Service: "shop", Instance: "cum", Temporality: "cumulative", Body: cpuBody(minute(20))}
	if ack := w.push(p); !ack.Baseline || w.find(ack.ID).Totals["cpu"] != 0 {
		t.Errorf("a cumulative cpu profile was not taken as such: %+v", ack)
	}
}

// However snapshots of one process arrive, nothing is counted twice: the
// deltas add up to the difference of the highest and the first taken.
func TestCumulativeConcurrent(t *testing.T) {
	w := newWorld(t, ingest.Options{})
	const n = 24
	w.push(ingest.Push{Service: "shop", Body: heapBody(now.Add(-time.Hour), 10, 1)})
	var mu sync.Mutex
	var sum int64
	var wg sync.WaitGroup
	for i := range 2 * n {
		wg.Go(func() {
			i := int64(i/2 + 1) // every snapshot is sent twice
			ack, err := w.in.Profile(t.Context(), &ingest.Push{Service: "shop", Body: heapBody(now.Add(-time.Hour+time.Duration(i)*time.Minute), 10+i, 1)})
			if err != nil {
				t.Error(err)
				return
			}
			if ack.Duplicate {
				return
			}
			got := w.find(ack.ID).Totals["alloc_objects"]
			mu.Lock()
			sum += got
			mu.Unlock()
		})
	}
	wg.Wait()
	if sum != n {
		t.Errorf("deltas add up to %d, want %d", sum, n)
	}
}

func TestProfileCanceled(t *testing.T) {
	w := newWorld(t, ingest.Options{Decoders: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.in.Profile(ctx, &ingest.Push{Service: "shop", Body: cpuBody(now)}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	w.push(ingest.Push{Service: "shop", Body: cpuBody(now)})
}
