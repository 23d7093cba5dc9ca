package query_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"
	"golang.org/x/sync/errgroup"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
)

// shop is a fleet with labels of every sort. Each stack has its own power of
// two of nanoseconds ×10 ms, so that a total says what was selected.
func shop(t *testing.T) *fleet {
	f := newFleet(t)
	with := func(service, instance string, more ...string) map[string]string {
		l := on(service, instance)
		for i := 0; i < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		return l
	}
	one := func(v int64, labels ...string) stack {
		return stack{frames: "main.main;main.f", values: []int64{v * 1e7}, labels: labels}
	}
	f.cpu(0, 10, 60, with("cart", "a", "release", "v1", "zone", "eu"), one(1, "tenant=x"), one(2, "tenant=y", "size:42"))
	f.cpu(60, 10, 60, with("cart", "b", "build", "b2"), one(4), one(8, "tenant=x", "tenant=z"))
	f.cpu(120, 10, 60, with("pay", "c", "build", "b3", "zone", "us", "tenant", "y"), one(16, "tenant=x"))
	if err := f.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.cpu(180, 10, 60, with("pay", "d"), one(32))
	if err := f.store.PutBuilds([]inquest.Build{{ID: "b2", Version: "v2"}}); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMatchers(t *testing.T) {
	f := shop(t)
	for q, want := range map[string]int64{
		"":                                63,
		"{}":                              63,
		" { } ":                           63,
		`{service="cart"}`:                15,
		`{service!="cart"}`:               48,
		`{service=~"ca.*", zone="eu"}`:    3,
		`{service=""}`:                    0,
		`{instance=~"a|d"}`:               35,
		`{release="v1"}`:                  3,
		`{release="v2"}`:                  12, // of the build
		`{release="b3"}`:                  16, // the short id of a build that is not known
		`{release=""}`:                    32,
		`{build="b2"}`:                    12,
		`{build=""}`:                      35,
		`{zone=""}`:                       44, // nowhere
		`{zone!=""}`:                      19,
		`{zone!="eu"}`:                    60,
		`{zone=~".+"}`:                    19,
		`{tenant="x"}`:                    9,      // of samples
		`{tenant="y"}`:                    2 + 16, // of a sample and of a profile, which comes first
		`{tenant="z"}`:                    8,      // the second value of a sample
		`{tenant!="x"}`:                   2 + 4 + 16 + 32,
		`{tenant!="z"}`:                   1 + 2 + 4 + 16 + 32,
		`{tenant=""}`:                     4 + 32,
		`{tenant=~"x|z", service="cart"}`: 9,
		`{size="42"}`:                     2,
		`{size!="42"}`:                    61,
		`{size=~"4."}`:                    2,
		`{"size"="42", tenant="x"}`:       0,
		`{nowhere="x"}`:                   0,
		`{nowhere!="x"}`:                  63,
		`{service="cart", service="pay"}`: 0,
	} {
		g := f.flame(query.Request{Query: q, Type: "cpu"})
		if got := g.Tree.Total() / 1e7; got != want {
			t.Errorf("%s selects %b, want %b", q, got, want)
		}
		var b bytes.Buffer
		err := f.engine.Profile(context.Background(), query.Request{Query: q, Type: "cpu", Window: hour}, &b)
		if errors.Is(err, inquest.ErrNotFound) && want == 0 {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		p, err := pprof.ParseData(b.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		var sum int64
		for _, s := range p.Sample {
			sum += s.Value[1]
		}
		if sum != want*1e7 {
			t.Errorf("%s exports %b, want %b", q, sum/1e7, want)
		}
	}
}

func TestCoverageCountsWhatWasAddedUp(t *testing.T) {
	f := shop(t)
	for q, want := range map[string]query.Coverage{
		"":              {Profiles: 4, Processes: 4, Samples: 6, ObservedProcessSeconds: 40, PresentProcessSeconds: 240},
		`{tenant="x"}`:  {Profiles: 2, Processes: 2, Samples: 2, ObservedProcessSeconds: 20, PresentProcessSeconds: 120},
		`{tenant="y"}`:  {Profiles: 3, Processes: 3, Samples: 2, ObservedProcessSeconds: 30, PresentProcessSeconds: 180},
		`{zone="mars"}`: {},
	} {
		want.From, want.Until, want.Resolution = hour.From, hour.Until, "raw"
		if d := cmp.Diff(want, f.flame(query.Request{Query: q, Type: "cpu"}).Coverage); d != "" {
			t.Errorf("%s: -want +got\n%s", q, d)
		}
	}
}

func TestTop(t *testing.T) {
	f := shop(t)
	ctx := context.Background()
	table := func(r query.Request, by string, limit int) (*query.TopAnswer, map[string]float64) {
		t.Helper()
		r.Window = hour
		a, err := f.engine.Top(ctx, r, by, limit)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, row := range a.Rows {
			out[row.Name] = row.Self / 1e7
		}
		return a, out
	}
	for _, c := range []struct {
		by, query string
		want      map[string]float64
	}{
		{"service", "", map[string]float64{"cart": 15, "pay": 48}},
		{"release", "", map[string]float64{"v1": 3, "v2": 12, "b3": 16, "(no release)": 32}},
		{"release", `{tenant="x"}`, map[string]float64{"v1": 1, "v2": 8}},
		{"package", "", map[string]float64{"main": 63}},
		{"function", "", map[string]float64{"main.f": 63, "main.main": 0}},
	} {
		a, got := table(query.Request{Query: c.query, Type: "cpu"}, c.by, 0)
		for name, v := range got {
			if v == 0 && c.want[name] == 0 && c.by == "release" {
				delete(got, name) // selected, but no sample of it
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("by %s %s: -want +got\n%s", c.by, c.query, d)
		}
		sum := 0.0
		for _, v := range c.want {
			sum += v
		}
		if a.Total != sum*1e7 || a.Unit != "nanoseconds" {
			t.Errorf("by %s: total %v %s", c.by, a.Total, a.Unit)
		}
	}
	a, _ := table(query.Request{Type: "cpu"}, "function", 1)
	if a.Count != 2 || len(a.Rows) != 1 || a.Rows[0].File != "/src/main.f.go" || a.Rows[0].Line != 2 || a.Rows[0].Cum != 63e7 {
		t.Errorf("%+v", a)
	}
}

func TestInventory(t *testing.T) {
	f := shop(t)
	f.heap(30, 30, 60, on("cart", "a"), 0, 5)
	f.put(body(t, "wall/nanoseconds", stack{frames: "java.run", values: []int64{7}}), inquest.ProfileMeta{
		Kind: inquest.KindOther, Start: at(10), End: at(20),
	}, on("jvm", "j"))
	ctx := context.Background()
	check := func(label string, want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", label, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", label, d)
		}
	}
	names, err := f.engine.LabelNames(ctx, query.Request{Window: hour})
	check("names", []string{"build", "instance", "release", "service", "size", "tenant", "zone"}, names, err)
	names, err = f.engine.LabelNames(ctx, query.Request{Window: hour, Query: `{service="jvm"}`})
	check("names of one", []string{"instance", "service"}, names, err)
	for _, c := range []struct {
		name string
		r    query.Request
		n    int
		want []string
	}{
		{"service", query.Request{}, 0, []string{"cart", "jvm", "pay"}},
		{"service", query.Request{Type: "inuse_space"}, 0, []string{"cart"}},
		{"release", query.Request{}, 0, []string{"b3", "v1", "v2"}},
		{"release", query.Request{}, 2, []string{"b3", "v1"}},
		{"tenant", query.Request{}, 0, []string{"x", "y", "z"}},
		{"tenant", query.Request{Query: `{service="jvm"}`}, 0, []string{}},
		{"size", query.Request{}, 0, []string{"42"}},
		{"zone", query.Request{Query: `{release="v1"}`}, 0, []string{"eu"}},
		{"nowhere", query.Request{}, 0, []string{}},
	} {
		c.r.Window = hour
		vs, err := f.engine.LabelValues(ctx, c.r, c.name, c.n)
		check("values of "+c.name, c.want, vs, err)
	}
	services, err := f.engine.Services(ctx, hour)
	check("services", []query.ServiceInfo{
		{Name: "cart", Types: []string{"cpu", "samples", "alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}, Releases: []string{"v1", "v2"}, Last: at(60), Instances: 2},
		{Name: "jvm", Types: []string{"wall"}, Releases: []string{}, Last: at(10), Instances: 1},
		{Name: "pay", Types: []string{"cpu", "samples"}, Releases: []string{"b3"}, Last: at(180), Instances: 2},
	}, services, err)
	services, err = f.engine.Services(ctx, inquest.Window{From: at(100), Until: at(150)})
	check("services of a window", []query.ServiceInfo{{Name: "pay", Types: []string{"cpu", "samples"}, Releases: []string{"b3"}, Last: at(120), Instances: 1}}, services, err)
	types, err := f.engine.Types(ctx, query.Request{Window: hour, Query: `{service=~"pay|jvm"}`})
	check("types", []inquest.Type{
		{Name: "cpu", Kind: "cpu", Unit: "nanoseconds"}, {Name: "samples", Kind: "cpu", Unit: "count"}, {Name: "wall", Kind: "other", Unit: "nanoseconds"},
	}, types, err)
	infos, coverage, err := f.engine.Profiles(ctx, query.Request{Window: hour, Type: "cpu", Query: `{service="cart"}`}, 1)
	if err != nil || len(infos) != 1 || coverage.Profiles != 2 {
		t.Fatalf("%v %v %v", infos, coverage, err)
	}
	id := infos[0].ID
	infos[0].ID = ""
	check("profiles", query.ProfileInfo{
		Kind: "cpu", Labels: map[string]string{"service": "cart", "instance": "b", "build": "b2", "release": "v2"}, Process: "b",
		Start: at(60), End: at(70), Samples: 2, Total: 12e7,
	}, infos[0], nil)
	if !strings.HasPrefix(id, "00000000000000000000000000000002-") {
		t.Errorf("id %s", id)
	}
	near(t, "other", total(f.flame(query.Request{Type: "wall"})), 7)
}

// A build that becomes known later renames what is stored already.
func TestReleaseIsResolvedWhenRead(t *testing.T) {
	f := shop(t)
	if err := f.store.PutBuilds([]inquest.Build{{ID: "b3", Revision: "0123456789abcdef", Modified: true}}); err != nil {
		t.Fatal(err)
	}
	near(t, "late build", total(f.flame(query.Request{Type: "cpu", Query: `{release="0123456789ab+dirty"}`})), 16e7)
}

func TestEmptyAnswer(t *testing.T) {
	f := newFleet(t)
	for _, typ := range []string{"cpu", "inuse_space", "mutex_delay"} {
		g := f.flame(query.Request{Type: typ})
		if g.Tree.Len() != 1 || g.Coverage.Profiles != 0 || g.Type.Name != typ || g.Type.Unit == "" {
			t.Errorf("%s: %+v", typ, g)
		}
		series, err := f.engine.Series(context.Background(), query.Request{Type: typ, Window: hour}, 0, nil)
		if err != nil || len(series.Series) != 0 || series.Step != 15 {
			t.Errorf("%s: %+v, %v", typ, series, err)
		}
	}
	now := f.flame(query.Request{Type: "cpu", Window: inquest.Window{}})
	if now.Coverage.From != t0 || now.Coverage.Until != at(3600) {
		t.Errorf("default window %v, %v", now.Coverage.From, now.Coverage.Until)
	}
}

func TestErrors(t *testing.T) {
	f := shop(t)
	ctx := context.Background()
	flame := func(r query.Request) error {
		_, err := f.engine.FlameGraph(ctx, r, 0)
		return err
	}
	top := func(by string) error {
		_, err := f.engine.Top(ctx, query.Request{Type: "cpu", Window: hour}, by, 0)
		return err
	}
	series := func(step time.Duration) error {
		_, err := f.engine.Series(ctx, query.Request{Type: "cpu", Window: hour}, step, nil)
		return err
	}
	year := inquest.Window{From: t0.AddDate(-1, 0, 0), Until: at(3600)}
	_, tooMany := f.engine.Series(ctx, query.Request{Type: "cpu", Window: year}, time.Second, nil)
	for _, c := range []struct {
		err  error
		kind error
		says string
	}{
		{flame(query.Request{Type: "cpu", Query: `{service="cart"`}), inquest.ErrInvalid, "at character"},
		{flame(query.Request{Type: "cpu", Query: `{service=cart}`}), inquest.ErrInvalid, "at character 10"},
		{flame(query.Request{Type: "cpu", Query: `cart`}), inquest.ErrInvalid, `write {service="cart"}`},
		{flame(query.Request{Type: "cpu", Query: `{service=~"("}`}), inquest.ErrInvalid, "missing closing )"},
		{flame(query.Request{Type: "cpu", Query: strings.Repeat(" ", 20_000) + `{a="b"}`}), inquest.ErrInvalid, "20007 bytes"},
		{flame(query.Request{Type: "cpu", Window: inquest.Window{From: at(1), Until: at(1)}}), inquest.ErrInvalid, "2026-03-01T12:00:01Z is not before until 2026-03-01T12:00:01Z"},
		{flame(query.Request{}), inquest.ErrInvalid, "type=cpu"},
		{flame(query.Request{Type: "cpus"}), inquest.ErrNotFound, "alloc_objects, alloc_space"},
		{flame(query.Request{Type: "cpu", Agg: "avg"}), inquest.ErrInvalid, "rate=true"},
		{flame(query.Request{Type: "cpu", Agg: "median"}), inquest.ErrInvalid, "want avg, sum, last or max"},
		{flame(query.Request{Type: "inuse_space", Rate: true}), inquest.ErrInvalid, "leave rate out"},
		{top("modul"), inquest.ErrInvalid, "module"},
		{top("line"), inquest.ErrInvalid, "want function, package, module, service, release or build"},
		{series(time.Millisecond), inquest.ErrInvalid, "whole seconds"},
		{series(-time.Second), inquest.ErrInvalid, "whole seconds"},
		{tooMany, inquest.ErrInvalid, "use a longer step"},
		{f.engine.Profile(ctx, query.Request{Type: "cpu", Rate: true}, nil), inquest.ErrInvalid, "leave rate out"},
		{f.engine.Profile(ctx, query.Request{Type: "inuse_space", Agg: "avg"}, nil), inquest.ErrInvalid, "agg=sum"},
		{f.engine.Profile(ctx, query.Request{Type: "cpu", Window: hour, Query: `{service="x"}`}, nil), inquest.ErrNotFound, `matches {service="x"}`},
		{f.engine.ProfileByID(ctx, "nonsense", nil), inquest.ErrInvalid, ""},
		{f.engine.ProfileByID(ctx, strings.Repeat("0", 32)+"-abc", nil), inquest.ErrNotFound, ""},
	} {
		if !errors.Is(c.err, c.kind) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("got %v, want %v that says %q", c.err, c.kind, c.says)
		}
	}
}

// FuzzQuery asks with any text: an answer or an error of kind ErrInvalid.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"{}", `{service="cart", size!~"4."}`, `cart{a="b"}`, `{"a b"=~"(x|y)*"}`, `{a="\xff"}`, "{a=`b`,}", "# x\n{}", "{", "\x00"} {
		f.Add(q)
	}
	fl := newFleet(f)
	fl.cpu(0, 10, 60, on("cart", "a"), stack{frames: "f", values: []int64{1e9}, labels: []string{"size:42", "a=b"}})
	f.Fuzz(func(t *testing.T, q string) {
		_, err := fl.engine.FlameGraph(context.Background(), query.Request{Query: q, Type: "cpu", Window: hour}, 0)
		if err != nil && !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%q: %v", q, err)
		}
	})
}

// A frame of which only the address is known counts as unsymbolized, a
// truncated profile as such, in the answer's unit.
func TestCoverageSaysWhatIsMissing(t *testing.T) {
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1e7,
		Mapping:  []*pprof.Mapping{{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/usr/lib/libc.so.6"}},
		Function: []*pprof.Function{{ID: 1, Name: "main.main"}},
	}
	p.Location = []*pprof.Location{
		{ID: 1, Mapping: p.Mapping[0], Address: 0x1234},
		{ID: 2, Mapping: p.Mapping[0], Address: 0x2000, Line: []pprof.Line{{Function: p.Function[0]}}},
	}
	p.Sample = []*pprof.Sample{
		{Location: []*pprof.Location{p.Location[0], p.Location[1]}, Value: []int64{3, 3e7}},
		{Location: []*pprof.Location{p.Location[1]}, Value: []int64{4, 4e7}},
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t)
	f.put(b.Bytes(), inquest.ProfileMeta{Kind: inquest.KindCPU, Start: t0, End: at(10), Hold: seconds(20), Truncated: true}, on("s", "a"))
	f.cpu(30, 10, 20, on("s", "a"), stack{frames: "main.main", values: []int64{1e9}})
	g := f.flame(query.Request{Type: "cpu"})
	if g.Coverage.Unsymbolized != 3e7 || g.Coverage.Truncated != 1 {
		t.Errorf("%+v", g.Coverage)
	}
	rate := f.flame(query.Request{Type: "cpu", Rate: true})
	near(t, "unsymbolized cores", rate.Coverage.Unsymbolized, 3e7*2/3600/1e9)
}

// A block that turns out to be damaged is named, and the rest is served.
func TestDamagedBlockIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(context.Background(), store.Options{Dir: dir, CommitDelay: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{TB: t, store: st, dec: profile.NewDecoder(profile.Limits{}), engine: query.New(query.Options{Store: st})}
	var damaged string
	for i, service := range []string{"lost", "kept"} {
		f.cpu(float64(i), 1, 1, on(service, "a"), stack{frames: "f", values: []int64{1e9}}, stack{frames: "g;h;i", values: []int64{2e9}})
		if err := st.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if damaged == "" {
			damaged = largestFile(t, dir)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(body) / 8; i < len(body)*3/4; i++ {
		body[i] ^= 0x55
	}
	if err := os.WriteFile(damaged, body, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err = store.Open(context.Background(), store.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f.engine = query.New(query.Options{Store: st})
	for range 2 {
		g := f.flame(query.Request{Type: "cpu"})
		if total(g) != 3e9 || len(g.Coverage.Damaged) != 1 {
			t.Errorf("total %v, coverage %+v", total(g), g.Coverage)
		}
	}
}

// largestFile finds the block in a store that has one.
func largestFile(t *testing.T, dir string) (largest string) {
	size := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "block") {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		t.Fatalf("no block in %s: %v", dir, err)
	}
	return largest
}

func TestConcurrentQueries(t *testing.T) {
	f := newFleet(t)
	fill(f, "goroutine", inquest.KindGoroutine)
	want := total(f.flame(query.Request{Type: "goroutine"}))
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			a, err := f.engine.FlameGraph(context.Background(), query.Request{Type: "goroutine", Window: hour}, 0)
			if err == nil && total(a) != want {
				err = fmt.Errorf("total %v, want %v", total(a), want)
			}
			return err
		})
		g.Go(func() error {
			_, err := f.engine.Top(context.Background(), query.Request{Type: "goroutine", Window: hour}, "package", 10)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// gate is a context that lets a query begin and then holds it until it is
// opened.
type gate struct {
	context.Context
	asked       atomic.Int32
	begun, open chan struct{}
}

func (g *gate) Err() error {
	if g.asked.Add(1) == 2 { // the first time it waits for its turn
		close(g.begun)
		<-g.open
	}
	return nil
}

func TestAdmission(t *testing.T) {
	f := shop(t)
	e := query.New(query.Options{Store: f.store, MaxConcurrent: 1, MaxWaiting: 1})
	r := query.Request{Type: "cpu", Window: hour}
	ctx, cancel := context.WithCancel(context.Background())
	g := &gate{Context: context.Background(), begun: make(chan struct{}), open: make(chan struct{})}
	running := make(chan error)
	go func() {
		_, err := e.FlameGraph(g, r, 0)
		running <- err
	}()
	<-g.begun
	waiting := make(chan error)
	go func() {
		_, err := e.FlameGraph(ctx, r, 0)
		waiting <- err
	}()
	// One of the two next must be refused, the other wait; which one is open.
	other := make(chan error)
	go func() {
		_, err := e.Top(ctx, r, "", 0)
		other <- err
	}()
	select {
	case err := <-waiting:
		waiting = other
		if !errors.Is(err, inquest.ErrBusy) {
			t.Errorf("got %v", err)
		}
	case err := <-other:
		if !errors.Is(err, inquest.ErrBusy) {
			t.Errorf("got %v", err)
		}
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled query that waits ends with %v", err)
	}
	close(g.open)
	if err := <-running; err != nil {
		t.Error(err)
	}
	if _, err := e.FlameGraph(ctx, r, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before it began: %v", err)
	}
	if _, err := e.FlameGraph(context.Background(), r, 0); err != nil {
		t.Errorf("after all that: %v", err)
	}
}
