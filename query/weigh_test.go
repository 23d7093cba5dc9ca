package query_test

import (
	"context"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

const mb = 1_000_000

func near(t *testing.T, label string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s: got %v, want %v", label, got, want)
	}
}

// 100 MB for 10 minutes, then 200 MB for 50: (100·10 + 200·50) ÷ 60 = 183.33.
func TestInstantIsTimeWeighted(t *testing.T) {
	f := newFleet(t)
	for m := range 60 {
		inuse := int64(100 * mb)
		if m >= 10 {
			inuse = 200 * mb
		}
		f.heap(float64(60*m), float64(60*m), 60, on("s", "a"), 0, inuse)
	}
	g := f.flame(query.Request{Type: "inuse_space"})
	near(t, "avg", total(g), (100*10+200*50)/60.0*mb)
	if g.Agg != "avg" || g.Unit != "bytes" {
		t.Errorf("agg %s, unit %s", g.Agg, g.Unit)
	}
	near(t, "present", g.Coverage.PresentProcessSeconds, 3600)
	near(t, "observed", g.Coverage.ObservedProcessSeconds, 0)
	near(t, "sum", total(f.flame(query.Request{Type: "inuse_space", Agg: "sum"})), (100*10+200*50)*mb)
	near(t, "last", total(f.flame(query.Request{Type: "inuse_space", Agg: "last"})), 200*mb)
	near(t, "max", total(f.flame(query.Request{Type: "inuse_space", Agg: "max"})), 200*mb)
	half := inquest.Window{From: t0, Until: at(1200)}
	near(t, "first 20 minutes", total(f.flame(query.Request{Type: "inuse_space", Window: half})), 150*mb)
}

// The first snapshot of a scraped heap stands for the same minute as the
// difference that follows it, and must not count twice.
func TestBaselineIsNotCountedTwice(t *testing.T) {
	f := newFleet(t)
	f.heap(0, 0, 60, on("s", "a"), 0, 100*mb)
	for m := range 60 {
		f.heap(float64(60*m), float64(60*m+60), 60, on("s", "a"), 6*mb, 100*mb)
	}
	g := f.flame(query.Request{Type: "inuse_space"})
	near(t, "avg", total(g), 100*mb)
	near(t, "present", g.Coverage.PresentProcessSeconds, 3600)
	if g.Coverage.Profiles != 61 || g.Coverage.Processes != 1 {
		t.Errorf("coverage %+v", g.Coverage)
	}
	rate := f.flame(query.Request{Type: "alloc_space", Rate: true})
	near(t, "rate", total(rate), 0.1*mb)
	if rate.Unit != "bytes/s" || !rate.Coverage.Estimated {
		t.Errorf("unit %s, estimated %v", rate.Unit, rate.Coverage.Estimated)
	}
}

// Two services profiled at different duty cycles show their true cores.
func TestRateIsTrueForEveryDutyCycle(t *testing.T) {
	f := newFleet(t)
	for i := range 60 { // 2 cores, seen for 10 s of every minute
		f.cpu(float64(60*i), 10, 60, on("slow", "a"), stack{frames: "main.main;a", values: []int64{20e9}})
	}
	for i := range 240 { // 3 cores, seen for 14 s of every 15
		f.cpu(float64(15*i), 14, 15, on("fast", "b"), stack{frames: "main.main;b", values: []int64{42e9}})
	}
	for service, want := range map[string]float64{`{service="slow"}`: 2, `{service="fast"}`: 3, "": 5, "{}": 5, `{service=~"slow|fast"}`: 5} {
		g := f.flame(query.Request{Query: service, Type: "cpu", Rate: true})
		near(t, service, total(g), want)
		if g.Unit != "cores" || g.Agg != "rate" || !g.Coverage.Estimated {
			t.Errorf("%s: unit %s, agg %s, estimated %v", service, g.Unit, g.Agg, g.Coverage.Estimated)
		}
	}
	ctx := context.Background()
	top, err := f.engine.Top(ctx, query.Request{Type: "cpu", Rate: true, Window: hour}, "service", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []query.TopRow{{Name: "fast", Self: 3, Cum: 3}, {Name: "slow", Self: 2, Cum: 2}}
	if d := cmp.Diff(want, top.Rows, cmpopts.EquateApprox(0, 1e-9)); d != "" {
		t.Error(d)
	}
	series, err := f.engine.Series(ctx, query.Request{Type: "cpu", Rate: true, Window: hour}, seconds(60), []string{"service"})
	if err != nil {
		t.Fatal(err)
	}
	if len(series.Series) != 2 || series.Step != 60 {
		t.Fatalf("%d series, step %v", len(series.Series), series.Step)
	}
	for i, cores := range []float64{3, 2} {
		if n := len(series.Series[i].Points); n != 60 {
			t.Errorf("%d points", n)
		}
		for _, p := range series.Series[i].Points {
			near(t, "point", p[1], cores)
		}
	}
	raw := f.flame(query.Request{Type: "cpu"})
	near(t, "sum", total(raw), 60*20e9+240*42e9)
	near(t, "observed", raw.Coverage.ObservedProcessSeconds, 600+3360)
	near(t, "present", raw.Coverage.PresentProcessSeconds, 7200)
}

func TestHold(t *testing.T) {
	type p struct{ start, end, hold float64 }
	for _, c := range []struct {
		label    string
		profiles []p
		present  float64
	}{
		{"stated", []p{{0, 10, 60}, {60, 70, 60}}, 120},
		{"stated, with a gap", []p{{0, 10, 60}, {600, 610, 60}}, 120},
		{"stated, above the cap", []p{{0, 10, 1200}}, 300},
		{"stated, below what was observed", []p{{0, 10, 3}}, 10},
		{"observed more than the cap", []p{{0, 1800, 60}}, 1800},
		{"derived: gaps, and the last takes its predecessor's", []p{{0, 10, 0}, {30, 40, 0}, {75, 85, 0}}, 30 + 45 + 45},
		{"derived: gap capped", []p{{0, 10, 0}, {1000, 1010, 0}}, 300 + 300},
		{"derived: alone", []p{{0, 10, 0}}, 10},
		{"derived: alone, nothing observed", []p{{0, 0, 0}}, 60},
		{"derived: observed more than the gap", []p{{0, 10, 0}, {4, 14, 0}}, 10 + 10},
		{"a stated one is a neighbour too", []p{{0, 10, 0}, {20, 30, 60}}, 20 + 60},
		{"the last takes a stated one", []p{{0, 10, 60}, {20, 30, 0}}, 60 + 60},
		{"two at once stand for the time together", []p{{0, 0, 0}, {0, 0, 0}}, 0 + 60},
		{"a baseline and its difference", []p{{0, 0, 60}, {0, 60, 60}, {60, 120, 60}}, 0 + 60 + 60},
		{"the same without stated holds", []p{{0, 0, 0}, {0, 60, 0}, {60, 120, 0}}, 0 + 60 + 60},
		{"a reset after a gap is a baseline with time of its own", []p{{0, 60, 60}, {120, 120, 60}, {180, 240, 60}}, 60 + 60 + 60},
	} {
		f := newFleet(t)
		for _, x := range c.profiles {
			f.cpu(x.start, x.end-x.start, x.hold, on("s", "a"), stack{frames: "f", values: []int64{1e7}})
		}
		// Another process is no neighbour.
		f.cpu(5, 1, 2, on("s", "b"), stack{frames: "f", values: []int64{1e7}})
		g := f.flame(query.Request{Type: "cpu"})
		near(t, c.label, g.Coverage.PresentProcessSeconds, c.present+2)
	}
}

func TestLastAndMaxArePerProcess(t *testing.T) {
	f := newFleet(t)
	for _, x := range []struct {
		instance string
		at       float64
		inuse    int64
	}{{"a", 0, 5}, {"a", 60, 9}, {"a", 120, 7}, {"b", 30, 100}, {"b", 90, 40}} {
		f.heap(x.at, x.at, 60, on("s", x.instance), 0, x.inuse*mb)
	}
	for _, flushed := range []bool{false, true} {
		last := f.flame(query.Request{Type: "inuse_space", Agg: "last"})
		near(t, "last", total(last), 47*mb)
		near(t, "max", total(f.flame(query.Request{Type: "inuse_space", Agg: "max"})), 109*mb)
		if last.Coverage.Profiles != 2 || last.Coverage.Processes != 2 || last.Scale != 1 {
			t.Errorf("coverage %+v, scale %v", last.Coverage, last.Scale)
		}
		if !flushed {
			if err := f.store.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			f.heap(20, 20, 60, on("s", "b"), 0, 100*mb) // older, as large: changes nothing
		}
	}
}

func TestWindowIsHalfOpenAndAdditive(t *testing.T) {
	f := newFleet(t)
	for i := range 10 {
		f.cpu(float64(60*i), 10, 60, on("s", "a"), stack{frames: "f", values: []int64{int64(1+i) * 1e9}})
	}
	for _, c := range []struct{ from, until, want float64 }{
		{0, 600, 55e9}, {0, 60, 1e9}, {0, 60.001, 3e9}, {0.001, 60, 0}, {60, 120, 2e9}, {590, 600, 0}, {-600, 0, 0},
	} {
		g := f.flame(query.Request{Type: "cpu", Window: inquest.Window{From: at(c.from), Until: at(c.until)}})
		near(t, "total", total(g), c.want)
	}
}

func TestSeries(t *testing.T) {
	f := newFleet(t)
	labels := func(instance, release string) map[string]string {
		l := on("s", instance)
		l["release"] = release
		return l
	}
	for i := range 10 { // 1 s of CPU per profile in v1, 2 in v2
		f.cpu(float64(60*i)+7, 10, 60, labels("a", "v1"), stack{frames: "f", values: []int64{1e9}, labels: []string{"tenant=x"}}, stack{frames: "g", values: []int64{0}})
		f.cpu(float64(60*i)+8, 10, 60, labels("b", "v2"), stack{frames: "f", values: []int64{2e9}, labels: []string{"tenant=y"}})
		f.heap(float64(60*i)+9, float64(60*i)+9, 60, labels("a", "v1"), 0, int64(i)*mb)
	}
	w := inquest.Window{From: at(0), Until: at(600)}
	ask := func(r query.Request, step float64, by ...string) *query.SeriesAnswer {
		t.Helper()
		if r.Window.From.IsZero() {
			r.Window = w
		}
		a, err := f.engine.Series(context.Background(), r, seconds(step), by)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	points := func(step float64, values ...float64) [][2]float64 {
		out := [][2]float64{}
		for i, v := range values {
			out = append(out, [2]float64{float64(t0.Unix()) + float64(i)*step, v})
		}
		return out
	}
	for _, c := range []struct {
		label string
		got   *query.SeriesAnswer
		want  []query.Series
	}{
		{"sum", ask(query.Request{Type: "cpu"}, 300), []query.Series{{Labels: map[string]string{}, Points: points(300, 15e9, 15e9)}}},
		{"by release", ask(query.Request{Type: "cpu"}, 300, "release"), []query.Series{
			{Labels: map[string]string{"release": "v2"}, Points: points(300, 10e9, 10e9)},
			{Labels: map[string]string{"release": "v1"}, Points: points(300, 5e9, 5e9)},
		}},
		{"by a label of none", ask(query.Request{Type: "cpu"}, 600, "zone"), []query.Series{{Labels: map[string]string{}, Points: points(600, 30e9)}}},
		{"rate: 1 and 2 s seen in 10 of 60 s", ask(query.Request{Type: "cpu", Rate: true}, 300), []query.Series{{Labels: map[string]string{}, Points: points(300, 0.3, 0.3)}}},
		{"samples' labels", ask(query.Request{Type: "cpu", Query: `{tenant="x"}`}, 300), []query.Series{{Labels: map[string]string{}, Points: points(300, 5e9, 5e9)}}},
		{"samples' labels, rate", ask(query.Request{Type: "cpu", Query: `{tenant="y"}`, Rate: true}, 300, "instance"), []query.Series{
			{Labels: map[string]string{"instance": "b"}, Points: points(300, 0.2, 0.2)},
			{Labels: map[string]string{"instance": "a"}, Points: points(300, 0, 0)},
		}},
		{"avg", ask(query.Request{Type: "inuse_space"}, 300), []query.Series{{Labels: map[string]string{}, Points: points(300, 2*mb, 7*mb)}}},
		{"last", ask(query.Request{Type: "inuse_space", Agg: "last"}, 300), []query.Series{{Labels: map[string]string{}, Points: points(300, 4*mb, 9*mb)}}},
		{"max", ask(query.Request{Type: "inuse_space", Agg: "max"}, 300), []query.Series{{Labels: map[string]string{}, Points: points(300, 4*mb, 9*mb)}}},
		{"a cut first and last step", ask(query.Request{Type: "inuse_space", Window: inquest.Window{From: at(60), Until: at(180)}}, 3600), []query.Series{
			{Labels: map[string]string{}, Points: points(3600, 1.5*mb)},
		}},
		{"nothing", ask(query.Request{Type: "cpu", Query: `{service="none"}`}, 300), []query.Series{}},
	} {
		if d := cmp.Diff(c.want, c.got.Series, cmpopts.EquateApprox(0, 1e-6)); d != "" {
			t.Errorf("%s: -want +got\n%s", c.label, d)
		}
	}
	if a := ask(query.Request{Type: "cpu"}, 0); a.Step != 60 {
		t.Errorf("chosen step %v, want the interval of the profiles", a.Step)
	}
	if a := ask(query.Request{Type: "inuse_space"}, 10); a.Step != 60 {
		t.Errorf("step of an average %v, want it raised to the interval of the profiles", a.Step)
	}
	if a := ask(query.Request{Type: "cpu"}, 1); a.Step != 1 || len(a.Series[0].Points) != 20 {
		t.Errorf("a sum has the step asked for: %v, %d points", a.Step, len(a.Series[0].Points))
	}
}
