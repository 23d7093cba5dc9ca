package e2e_test

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var rounded = cmpopts.EquateApprox(0, 1e-3)

// Levels that were found at different times, by processes that say how long
// each stands for and by such that do not: over an hour they are the
// time-weighted total, in every view.
func instantsOverAnHour(t *testing.T, l *lab) {
	const s = "levels"
	delta := func(instance string, more ...string) url.Values {
		return who(s, instance, append([]string{"temporality", "delta"}, more...)...)
	}
	// 60 × 100 B for 60 s each.
	for i := range 60 {
		l.store(t, delta("stated", "interval", "60"), heap(l.at(float64(60*i)), "main;stated", 0, 0, 1, 100))
	}
	// 20 × 1000 B for 30 s each, then it is gone.
	for i := range 20 {
		l.store(t, delta("short", "interval", "30s"), heap(l.at(float64(30*i)), "main;short", 0, 0, 1, 1000))
	}
	// 10 B for 100 s, 20 for 300, 30 for 600 but at most 5 min, 40 as its predecessor.
	for i, at := range []float64{0, 100, 400, 1000} {
		l.store(t, delta("unstated"), heap(l.at(at), "main;unstated", 0, 0, 1, int64(10*(i+1))))
	}
	// A level that is alone stands for a minute.
	l.store(t, delta("lone"), heap(l.at(1800), "main;lone", 0, 0, 1, 5))
	// A stated interval is at most 5 min.
	l.store(t, delta("long", "interval", "1h"), heap(l.at(900), "main;long", 0, 0, 1, 6000))
	// Differences of cumulative bodies: the level found at their end stands for
	// the time since the one before.
	for _, instance := range []string{"cumulative", "cumulative-stated"} {
		q := who(s, instance)
		if instance == "cumulative-stated" {
			q.Set("interval", "60")
		}
		for i, level := range []int64{7, 8, 9, 10} {
			l.store(t, q, heap(l.at(float64(60*i)), "main;"+instance, 100*level, 1000*level, 1, level))
		}
	}
	weighted := map[string]float64{
		"stated":            60 * 100 * 60,
		"short":             20 * 1000 * 30,
		"unstated":          10*100 + 20*300 + 30*300 + 40*300,
		"lone":              5 * 60,
		"long":              6000 * 300,
		"cumulative":        (8 + 9 + 10) * 60,
		"cumulative-stated": (8 + 9 + 10) * 60,
	}
	var total float64
	want := map[string]float64{}
	for name, v := range weighted {
		want["main;"+name] = v / 3600
		total += v / 3600
	}
	g := l.graph(t, ask(s, "inuse_space"))
	if diff := cmp.Diff(want, g.self(), rounded); diff != "" {
		t.Errorf("flame graph (-want +got):\n%s", diff)
	}
	if !near(g.Total, total) || g.Unit != "bytes" || g.Agg != "avg" {
		t.Errorf("total %v %s (%s), want %v bytes (avg)", g.Total, g.Unit, g.Agg, total)
	}
	if c := g.Coverage; c.Profiles != 60+20+4+1+1+8 || c.Processes != 7 || c.ObservedProcessSeconds != 2*180 ||
		c.PresentProcessSeconds != 3600+600+1000+60+300+2*180 || c.Estimated {
		t.Errorf("coverage %+v", c)
	}
	if a := l.top(t, ask(s, "inuse_space", "by", "service")); !near(a.Total, total) || !near(a.rows()[s], total) {
		t.Errorf("top by service: %+v, want %v", a, total)
	}
	a := l.series(t, ask(s, "inuse_space", "by", "instance", "step", "1h"))
	for name, v := range weighted {
		if got := l.values(t, a, "instance", name); !near(got[0], v/3600) {
			t.Errorf("series of %s: %v, want %v", name, got, v/3600)
		}
	}
	// Half the window has half the seconds and no less memory.
	half := ask(s, "inuse_space", "until", l.at(1800).Format(time.RFC3339))
	half.Set("query", `{service="levels", instance=~"stated|short"}`)
	if g := l.graph(t, half); !near(g.Total, 100+600000.0/1800) {
		t.Errorf("half an hour: %v, want %v", g.Total, 100+600000.0/1800)
	}
}

// What was there for a minute of a fortnight is little, but not nothing.
func smallShares(t *testing.T, l *lab) {
	const s = "share"
	l.store(t, who(s, "a", "interval", "60"), goroutines(l.at(0), "main;once", 50))
	until := l.at(3600)
	window := []string{"from", until.Add(-14 * 24 * time.Hour).Format(time.RFC3339), "until", until.Format(time.RFC3339)}
	want := 50 * 60 / (14 * 24 * 3600.0)
	q := ask(s, "goroutine", window...)
	if g := l.graph(t, q); math.Abs(g.Total-want) > 1e-6 || math.Abs(g.self()["main;once"]-want) > 1e-6 {
		t.Errorf("total %v, want %v", g.Total, want)
	}
	q.Set("by", "service")
	if a := l.top(t, q); math.Abs(a.rows()[s]-want) > 1e-6 {
		t.Errorf("top by service %v, want %v", a.rows(), want)
	}
}

func instantAggregations(t *testing.T, l *lab) {
	const s = "aggs"
	for _, p := range []struct {
		instance string
		at       float64
		stack    string
		n        int64
	}{
		{"a", 0, "main;early", 5}, {"a", 60, "main;late", 3},
		{"b", 0, "main;early", 10}, {"b", 120, "main;late", 20},
	} {
		l.store(t, who(s, p.instance, "interval", "60"), goroutines(l.at(p.at), p.stack, p.n))
	}
	for _, c := range []struct {
		agg      string
		want     map[string]float64
		profiles int64
	}{
		{"sum", map[string]float64{"main;early": 15, "main;late": 23}, 4},
		{"last", map[string]float64{"main;late": 23}, 2},
		{"max", map[string]float64{"main;early": 5, "main;late": 20}, 2},
		{"avg", map[string]float64{"main;early": 15.0 * 60 / 3600, "main;late": 23.0 * 60 / 3600}, 4},
		{"", map[string]float64{"main;early": 15.0 * 60 / 3600, "main;late": 23.0 * 60 / 3600}, 4},
	} {
		q := ask(s, "goroutine")
		if c.agg != "" {
			q.Set("agg", c.agg)
		}
		g := l.graph(t, q)
		if diff := cmp.Diff(c.want, g.self(), rounded); diff != "" || g.Coverage.Profiles != c.profiles {
			t.Errorf("agg=%s over %d profiles (-want +got):\n%s", c.agg, g.Coverage.Profiles, diff)
		}
		var total float64
		for _, v := range c.want {
			total += v
		}
		if g.Unit != "count" || !near(g.Total, total) {
			t.Errorf("agg=%s: total %v %s, want %v", c.agg, g.Total, g.Unit, total)
		}
		q.Set("by", "service")
		if a := l.top(t, q); !near(a.Total, total) || !near(a.rows()[s], total) {
			t.Errorf("agg=%s by service: %+v, want %v", c.agg, a, total)
		}
		q.Set("step", "1h")
		if got := l.values(t, l.series(t, q), "service", s); !near(got[0], total) {
			t.Errorf("agg=%s series: %v, want %v", c.agg, got, total)
		}
	}
}

func aggregationsRefused(t *testing.T, l *lab) {
	for _, path := range []string{"/api/v1/flamegraph", "/api/v1/top", "/api/v1/series"} {
		for _, c := range []struct{ typ, name, value string }{
			{"cpu", "agg", "avg"}, {"cpu", "agg", "last"}, {"alloc_space", "agg", "max"}, {"mutex_delay", "agg", "avg"},
			{"inuse_space", "rate", "true"}, {"goroutine", "rate", "1"}, {"goroutine", "agg", "median"}, {"cpu", "rate", "perhaps"},
		} {
			if status, kind, msg := l.status(t, path, l.inHour(url.Values{"type": {c.typ}, c.name: {c.value}})); status != 400 || kind != "invalid" {
				t.Errorf("%s of %s with %s=%s: %d %s %s", path, c.typ, c.name, c.value, status, kind, msg)
			}
		}
	}
}

// Two services profiled at different duty cycles show their true cores side by
// side: half a core at 10 s a minute, 0.75 at 14 s out of 15.
func dutyCycles(t *testing.T, l *lab) {
	for _, interval := range []bool{true, false} {
		rare, often := fmt.Sprintf("rare-%v", interval), fmt.Sprintf("often-%v", interval)
		sender := func(s, seconds string) url.Values {
			q := who(s, "a")
			if interval {
				q.Set("interval", seconds)
			}
			return q
		}
		for i := range 10 {
			l.store(t, sender(rare, "60"), cpu(l.at(float64(60*i)), 10*time.Second, "main;rare", 5*time.Second))
		}
		for i := range 40 {
			l.store(t, sender(often, "15"), cpu(l.at(float64(15*i)), 14*time.Second, "main;often", 10500*time.Millisecond))
		}
		q := url.Values{"query": {fmt.Sprintf(`{service=~"(rare|often)-%v"}`, interval)}, "type": {"cpu"}, "until": {l.at(600).Format(time.RFC3339)}}
		if g := l.graph(t, q); g.Total != 50e9+420e9 || g.Unit != "nanoseconds" || g.Coverage.Estimated {
			t.Errorf("interval %v: raw sum %v %s", interval, g.Total, g.Unit)
		}
		q.Set("rate", "true")
		g := l.graph(t, q)
		if diff := cmp.Diff(map[string]float64{"main;rare": 0.5, "main;often": 0.75}, g.self(), rounded); diff != "" || !near(g.Total, 1.25) || g.Unit != "cores" {
			t.Errorf("interval %v: total %v %s (-want +got):\n%s", interval, g.Total, g.Unit, diff)
		}
		if c := g.Coverage; !c.Estimated || c.Profiles != 50 || c.Processes != 2 || c.ObservedProcessSeconds != 100+560 || c.PresentProcessSeconds != 600+600 {
			t.Errorf("interval %v: coverage %+v", interval, c)
		}
		q.Set("by", "service")
		if a := l.top(t, q); !near(a.rows()[rare], 0.5) || !near(a.rows()[often], 0.75) || a.Unit != "cores" {
			t.Errorf("interval %v: top by service %+v", interval, a)
		}
		for _, step := range []string{"60", "5m"} {
			q.Set("step", step)
			a := l.series(t, q)
			for name, want := range map[string]float64{rare: 0.5, often: 0.75} {
				got := l.values(t, a, "service", name)
				if len(got) != int(600/a.Step) {
					t.Errorf("interval %v: %d points of %v s", interval, len(got), a.Step)
				}
				for at, v := range got {
					if !near(v, want) {
						t.Errorf("interval %v, step %s: %s is %v at %d s, want %v", interval, step, name, v, at, want)
					}
				}
			}
		}
	}
}

// Two releases of one service at different duty cycles: the table, the series
// and the graph of each say the same cores.
func dutyOfReleases(t *testing.T, l *lab) {
	const s = "canaried"
	for i := range 10 {
		l.store(t, who(s, "a", "release", "v1"), cpu(l.at(float64(60*i)), 10*time.Second, "main;v1", 5*time.Second))
	}
	for i := range 40 {
		l.store(t, who(s, "b", "release", "v2"), cpu(l.at(float64(15*i)), 14*time.Second, "main;v2", 10500*time.Millisecond))
	}
	q := ask(s, "cpu", "rate", "true", "by", "release", "until", l.at(600).Format(time.RFC3339))
	rows := l.top(t, q)
	q.Set("step", "10m")
	series := l.series(t, q)
	if !near(rows.Total, 1.25) {
		t.Errorf("%v cores in all", rows.Total)
	}
	for release, want := range map[string]float64{"v1": 0.5, "v2": 0.75} {
		one := ask(s, "cpu", "rate", "true", "until", l.at(600).Format(time.RFC3339))
		one.Set("query", fmt.Sprintf("{service=%q, release=%q}", s, release))
		if table, line, tree := rows.rows()[release], l.values(t, series, "release", release)[0], l.graph(t, one).Total; !near(table, want) || !near(line, want) || !near(tree, want) {
			t.Errorf("release %s has %v cores in the table, %v in the series, %v in the graph; want %v", release, table, line, tree, want)
		}
	}
}

// Of the steps at both ends the window may have only some seconds: one profile
// in them is no peak.
func cutSteps(t *testing.T, l *lab) {
	const s = "cut"
	for i := range 12 {
		at := float64(60*i + 3)
		l.store(t, who(s, "a", "interval", "60"), goroutines(l.at(at), "main;g", 10))
		l.store(t, who(s, "a", "interval", "60"), cpu(l.at(at), 10*time.Second, "main;g", 5*time.Second))
	}
	from, until := l.at(60).Format(time.RFC3339), l.at(665).Format(time.RFC3339)
	for _, step := range []string{"", "60"} {
		for _, c := range []struct {
			typ, name, value string
			want             float64
		}{{"goroutine", "agg", "avg", 10}, {"cpu", "rate", "true", 0.5}} {
			q := ask(s, c.typ, c.name, c.value, "by", "service", "from", from, "until", until)
			if step != "" {
				q.Set("step", step)
			}
			got := l.values(t, l.series(t, q), "service", s)
			if len(got) != 11 {
				t.Errorf("%s, step %q: %d points", c.typ, step, len(got))
			}
			for at, v := range got {
				if !near(v, c.want) {
					t.Errorf("%s, step %q: %v at %d s, want %v", c.typ, step, v, at, c.want)
				}
			}
		}
	}
}

func bytesPerSecond(t *testing.T, l *lab) {
	const s = "allocating"
	for i := range int64(11) {
		l.store(t, who(s, "a", "interval", "60"), heap(l.at(float64(60*i)), "main;alloc", 6*i, 600*i, 1, 10))
	}
	q := ask(s, "alloc_space", "rate", "true", "until", l.at(600).Format(time.RFC3339))
	// The eleven bodies make a baseline and ten differences of 600 B, which
	// begin at 0, 60, … 540 s.
	g := l.graph(t, q)
	if c := g.Coverage; !near(g.Total, 10) || g.Unit != "bytes/s" || c.Profiles != 11 || c.ObservedProcessSeconds != 600 || c.PresentProcessSeconds != 600 {
		t.Errorf("%v %s, coverage %+v", g.Total, g.Unit, c)
	}
}

func cumulativeLife(t *testing.T, l *lab) {
	const s = "life"
	push := func(at float64, process string, samples ...sample) pushed {
		t.Helper()
		return l.store(t, who(s, "a", "process", process), built(l.at(at), 0, heapTypes, samples...))
	}
	on := func(stack string, objects, space, inuse int64) sample {
		return sample{stack: stack, values: []int64{objects, space, 1, inuse}}
	}
	var baselines []bool
	for _, a := range []pushed{
		push(0, "p1", on("main;x", 10, 100, 1)),
		push(60, "p1", on("main;x", 15, 150, 2), on("main;y", 3, 30, 3)),   // x +50, y +30
		push(120, "p1", on("main;x", 4, 40, 4), on("main;y", 1, 10, 5)),    // fell: reset
		push(180, "p1", on("main;x", 9, 90, 6), on("main;y", 1, 10, 7)),    // x +50
		push(240, "p1", on("main;x", 20, 200, 8)),                          // y is gone: reset
		push(300, "p2", on("main;x", 21, 210, 9)),                          // another process
		push(360, "p2", on("main;x", 22, 220, 10), on("main;z", 1, 7, 11)), // x +10, z +7
	} {
		baselines = append(baselines, a.Baseline)
	}
	if diff := cmp.Diff([]bool{true, false, true, false, true, true, false}, baselines); diff != "" {
		t.Errorf("baselines (-want +got):\n%s", diff)
	}
	g := l.graph(t, ask(s, "alloc_space"))
	if diff := cmp.Diff(map[string]float64{"main;x": 110, "main;y": 30, "main;z": 7}, g.self()); diff != "" {
		t.Errorf("alloc_space (-want +got):\n%s", diff)
	}
	if c := g.Coverage; c.Profiles != 7 || c.Processes != 2 || c.ObservedProcessSeconds != 180 {
		t.Errorf("coverage %+v", c)
	}
	if g := l.graph(t, ask(s, "alloc_objects")); g.Total != 5+3+5+1+1 {
		t.Errorf("alloc_objects %v", g.Total)
	}
	if g := l.graph(t, ask(s, "inuse_space", "agg", "sum")); g.Total != 1+2+3+4+5+6+7+8+9+10+11 {
		t.Errorf("Σ inuse_space %v", g.Total)
	}
	if g := l.graph(t, ask(s, "inuse_space", "agg", "last")); g.Total != 8+21 {
		t.Errorf("last inuse_space %v", g.Total)
	}
	// A difference belongs to the time it began.
	if g := l.graph(t, ask(s, "alloc_space", "from", l.at(60).Format(time.RFC3339), "until", l.at(180).Format(time.RFC3339))); g.Total != 50 {
		t.Errorf("from 60 s until 180 s: %v", g.Total)
	}
	// Mutex delays may fall by rounding: that is no reset.
	mutex := func(at float64, n, delay int64) pushed {
		t.Helper()
		return l.store(t, who(s, "m", "kind", "mutex"), built(l.at(at), 0, "contentions/count delay/nanoseconds", sample{stack: "main;lock", values: []int64{n, delay}}))
	}
	mutex(0, 5, 1000)
	if a := mutex(60, 5, 990); a.Baseline {
		t.Errorf("a delay that fell by rounding is a reset")
	}
	mutex(120, 7, 1400)
	if n, d := l.graph(t, ask(s, "mutex_count")).Total, l.graph(t, ask(s, "mutex_delay")).Total; n != 2 || d != 400 {
		t.Errorf("mutex: %v contentions, %v ns; want 2, 400", n, d)
	}
}

// A snapshot older than the last counts for its instants only, and does not
// disturb the differences of the others.
func cumulativeLate(t *testing.T, l *lab) {
	const s = "unordered"
	for _, p := range []struct {
		at              float64
		alloc, inuse    int64
		baseline, again bool
	}{
		{at: 0, alloc: 100, inuse: 1, baseline: true},
		{at: 120, alloc: 300, inuse: 2},
		{at: 60, alloc: 200, inuse: 4, baseline: true}, // late
		{at: 180, alloc: 450, inuse: 8},
	} {
		if a := l.store(t, who(s, "a"), heap(l.at(p.at), "main;w", p.alloc, p.alloc, 1, p.inuse)); a.Baseline != p.baseline {
			t.Errorf("at %v: baseline is %v", p.at, a.Baseline)
		}
	}
	if g := l.graph(t, ask(s, "alloc_space")); g.Total != 350 || g.Coverage.ObservedProcessSeconds != 180 {
		t.Errorf("alloc_space %v over %v s, want 350 over 180", g.Total, g.Coverage.ObservedProcessSeconds)
	}
	if g := l.graph(t, ask(s, "inuse_space", "agg", "sum")); g.Total != 15 || g.Coverage.Profiles != 4 {
		t.Errorf("Σ inuse_space %v over %d", g.Total, g.Coverage.Profiles)
	}
	// The three minutes are there once: the differences stand for them.
	until := l.at(180).Format(time.RFC3339)
	if g := l.graph(t, ask(s, "inuse_space", "until", until)); !near(g.Total, (2*120+8*60)/180.0) || g.Coverage.PresentProcessSeconds != 180 {
		t.Errorf("inuse_space %v, coverage %+v", g.Total, g.Coverage)
	}
	if g := l.graph(t, ask(s, "alloc_space", "rate", "true", "until", until)); !near(g.Total, 350.0/180) {
		t.Errorf("%v bytes/s, want %v", g.Total, 350.0/180)
	}
}

// Many attempts for the same snapshots at once, as by a sender that lost the
// answers: each is stored and subtracted once.
func cumulativeRetries(t *testing.T, l *lab) {
	const s = "retried"
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[int]map[string]bool{}
	for i := range 5 {
		ids[i] = map[string]bool{}
		body := heap(l.at(float64(60*i)), "main;r", int64(10*(i+1)), int64(100*(i+1)), 1, 10)
		for range 8 {
			wg.Go(func() {
				a, err := l.push(t.Context(), who(s, "a"), body, "Idempotency-Key", fmt.Sprintf("%032x", 0x7e7e0000+i))
				if err != nil || a.Status != http.StatusOK {
					t.Errorf("status %d: %v %s", a.Status, err, a.Error.Message)
				}
				mu.Lock()
				defer mu.Unlock()
				ids[i][a.ID] = true
			})
		}
		wg.Wait()
	}
	for i, got := range ids {
		if len(got) != 1 {
			t.Errorf("snapshot %d has the ids %v", i, got)
		}
	}
	if g := l.graph(t, ask(s, "alloc_space")); g.Total != 400 || g.Coverage.Profiles != 5 || g.Coverage.ObservedProcessSeconds != 240 {
		t.Errorf("alloc_space %v, coverage %+v", g.Total, g.Coverage)
	}
}

func idempotency(t *testing.T, l *lab) {
	const s = "once"
	key := strings.Repeat("0a", 16)
	one, other := cpu(l.at(0), time.Second, "main;one", time.Second), cpu(l.at(1), time.Second, "main;other", time.Second)
	first := l.store(t, who(s, "a"), one, "Idempotency-Key", key)
	again := l.store(t, who(s, "a"), one, "Idempotency-Key", strings.ToUpper(key))
	if first.Duplicate || !again.Duplicate || again.ID != first.ID || again.Samples != first.Samples || again.Series != first.Series || again.Bytes != first.Bytes {
		t.Errorf("first %+v, again %+v", first, again)
	}
	l.refuse(t, http.StatusConflict, who(s, "a"), other, nil, "Idempotency-Key", key)
	l.refuse(t, 400, who(s, "a"), other, []string{"32 hex digits"}, "Idempotency-Key", "short")
	l.refuse(t, 400, who(s, "a"), other, []string{"32 hex digits"}, "Idempotency-Key", strings.Repeat("zz", 16))
	// Without a key the same body of the same sender is the same profile.
	for i, q := range []url.Values{who(s, "b"), who(s, "b"), who(s, "c"), who(s, "c", "start", l.at(9).Format(time.RFC3339))} {
		if a := l.store(t, q, one); a.Duplicate != (i == 1) {
			t.Errorf("push %d without a key: %+v", i, a)
		}
	}
	if g := l.graph(t, ask(s, "cpu")); g.Coverage.Profiles != 4 || g.Total != 4e9 {
		t.Errorf("%d profiles, total %v", g.Coverage.Profiles, g.Total)
	}
}

const across = "across" // a service whose profiles are partly in blocks, partly in memory

// firstHalf and secondHalf push profiles that only together make a whole: the
// store keeps them in different parts, which nobody must notice.
func firstHalf(t *testing.T, l *lab) {
	for _, at := range []float64{0, 100, 200} {
		l.store(t, who(across, "a"), goroutines(l.at(at), "main;early", int64(at)+1))
	}
	for i := range int64(3) {
		l.store(t, who(across, "h"), heap(l.at(float64(60*i)), "main;h", 10*(i+1), 100*(i+1), 1, 7))
	}
	l.store(t, who(across, "c"), cpu(l.at(0), 10*time.Second, "main;early;c", 5*time.Second))
	l.store(t, who(across, "c", "interval", "60"), cpu(l.at(60), 10*time.Second, "main;c", 5*time.Second), "Idempotency-Key", strings.Repeat("5", 32))
}

func secondHalf(t *testing.T, l *lab) {
	for _, at := range []float64{150, 230} {
		l.store(t, who(across, "a"), goroutines(l.at(at), "main;late", int64(at)+1))
	}
	if a := l.store(t, who(across, "h"), heap(l.at(180), "main;h", 40, 450, 1, 9)); a.Baseline {
		t.Errorf("what comes after the end of an epoch is a baseline")
	}
	same := cpu(l.at(60), 10*time.Second, "main;c", 5*time.Second)
	if a := l.store(t, who(across, "c", "interval", "60"), same, "Idempotency-Key", strings.Repeat("5", 32)); !a.Duplicate || a.Samples != 1 {
		t.Errorf("a retry after the end of an epoch: %+v", a)
	}
	l.refuse(t, http.StatusConflict, who(across, "c"), cpu(l.at(61), 0, "main", 1), nil, "Idempotency-Key", strings.Repeat("5", 32))
	if a := l.store(t, who(across, "c"), cpu(l.at(0), 10*time.Second, "main;early;c", 5*time.Second)); !a.Duplicate {
		t.Errorf("the same body without a key after the end of an epoch: %+v", a)
	}
	l.store(t, who(across, "c"), cpu(l.at(120), 10*time.Second, "main;late;c", 5*time.Second))

	// 1 × 100 s + 101 × 50 + 151 × 50 + 201 × 30 + 231 × 30, as its predecessor.
	for agg, want := range map[string]map[string]float64{
		"avg":  {"main;early": (1*100 + 101*50 + 201*30) / 3600.0, "main;late": (151*50 + 231*30) / 3600.0},
		"sum":  {"main;early": 1 + 101 + 201, "main;late": 151 + 231},
		"last": {"main;late": 231},
		"max":  {"main;late": 231},
	} {
		if diff := cmp.Diff(want, l.graph(t, ask(across, "goroutine", "agg", agg)).self(), rounded); diff != "" {
			t.Errorf("agg=%s (-want +got):\n%s", agg, diff)
		}
	}
	if g := l.graph(t, ask(across, "alloc_space")); g.Total != 100+100+150 || g.Coverage.ObservedProcessSeconds != 180 || g.Coverage.Processes != 1 {
		t.Errorf("alloc_space %v, coverage %+v", g.Total, g.Coverage)
	}
	g := l.graph(t, ask(across, "cpu", "rate", "true", "until", l.at(180).Format(time.RFC3339)))
	if diff := cmp.Diff(map[string]float64{"main;early;c": 0.5 / 3, "main;c": 0.5 / 3, "main;late;c": 0.5 / 3}, g.self(), rounded); diff != "" {
		t.Errorf("cores (-want +got):\n%s", diff)
	}
	if c := g.Coverage; c.Profiles != 3 || c.Processes != 1 || c.ObservedProcessSeconds != 30 || c.PresentProcessSeconds != 180 {
		t.Errorf("coverage %+v", c)
	}
}
