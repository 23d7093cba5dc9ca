package query_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
)

// unkept is a matcher that lets everything through and that rollups cannot
// answer: with it, answers come from profiles alone.
const unkept = `zone=~".*"`

// TestRollupsAnswerAsProfilesDo asks random questions of a random fleet, and
// the same ones so that no rollup can answer: both answers are equal, whatever
// of the fleet is in heads, blocks or rollups.
func TestRollupsAnswerAsProfilesDo(t *testing.T) {
	rounds, questions := 6, 60
	if testing.Short() {
		rounds, questions = 3, 25
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			g := &randomFleet{newRollupFleet(t), r}
			rolled := 0
			for step := range 4 {
				g.append(80 + r.IntN(120))
				if r.IntN(3) > 0 {
					if err := g.store.Flush(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				if step > 0 {
					if err := g.store.Settle(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				for range questions / 4 {
					if g.ask() != "raw" {
						rolled++
					}
				}
			}
			if rolled < questions/8 {
				t.Errorf("rollups answered %d of %d questions: this tests nothing", rolled, questions)
			}
		})
	}
}

// rollupDays is the time the random fleet lives.
const rollupDays = 3

// TestFleetRate: rates are scaled service by service, which rows of all services
// together cannot be. One service is observed all of the time, one a sixth of it.
func TestFleetRate(t *testing.T) {
	f := newRollupFleet(t)
	for i := range 3 * 60 {
		for service, seconds := range map[string]float64{"a": 60, "b": 10} {
			start := float64(i * 60)
			f.put(body(t, cpuTypes, stack{frames: "main;" + service, values: []int64{1, 10_000_000}}),
				inquest.ProfileMeta{Kind: inquest.KindCPU, Start: at(start), End: at(start + seconds), Hold: time.Minute},
				map[string]string{"service": service, "instance": "i", "zone": "x"})
		}
	}
	ctx := context.Background()
	if err := errors.Join(f.store.Flush(ctx), f.store.Settle(ctx)); err != nil {
		t.Fatal(err)
	}
	for _, rate := range []bool{false, true} {
		r := query.Request{Type: "cpu", Rate: rate, Window: inquest.Window{From: at(0), Until: at(3 * 3600)}}
		rolled, err := f.engine.Top(ctx, r, query.ByFunction, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.Query = "{" + unkept + "}"
		raw, err := f.engine.Top(ctx, r, query.ByFunction, 0)
		if err != nil {
			t.Fatal(err)
		}
		if rolled.Coverage.Resolution != "1h" || raw.Coverage.Resolution != "raw" || len(raw.Rows) != 3 {
			t.Fatalf("rate %v: from %s and %s: %+v", rate, rolled.Coverage.Resolution, raw.Coverage.Resolution, raw.Rows)
		}
		if d := cmp.Diff(raw.Rows, rolled.Rows); d != "" {
			t.Errorf("rate %v (-raw +rolled)\n%s", rate, d)
		}
	}
}

func newRollupFleet(t testing.TB) *fleet {
	t.Helper()
	now := func() time.Time { return at(rollupDays * 86400) }
	st, err := store.Open(context.Background(), store.Options{Dir: t.TempDir(), Now: now, CommitDelay: 1, RollupLabels: []string{"region"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f := newFleetOn(t, st, now)
	if err := st.PutBuilds([]inquest.Build{{ID: "b1", Version: "v1"}, {ID: "b2", Version: "v2"}}); err != nil {
		t.Fatal(err)
	}
	return f
}

// randomFleet stores random profiles and asks random questions.
type randomFleet struct {
	*fleet
	r *rand.Rand
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (g *randomFleet) append(n int) {
	r := g.r
	for range n {
		l := on(pick(r, "cart", "pay", "mail"), pick(r, "a", "b"))
		for name, values := range map[string][]string{"build": {"", "b1", "b2", "b3"}, "release": {"", "", "canary"}, "region": {"", "eu"}, "zone": {"", "z1"}} {
			if v := pick(r, values...); v != "" {
				l[name] = v
			}
		}
		start := float64(r.IntN(rollupDays * 86400))
		if r.IntN(4) == 0 { // on a seam, or next to it
			start = float64(r.IntN(rollupDays*288))*300 + pick(r, 0, 0.000001, -0.000001)
		}
		stacks := make([]stack, 1+r.IntN(4))
		for i := range stacks {
			frames := []string{"main.main"}
			for range r.IntN(5) {
				frames = append(frames, pick(r, "encoding/json.Marshal", "pkg.f", "pkg.g", "other/pkg.h"))
			}
			stacks[i] = stack{frames: strings.Join(frames, ";"), values: []int64{int64(r.IntN(200)) * 1e7}}
			if r.IntN(8) == 0 {
				stacks[i].values[0] *= -1
			}
		}
		switch r.IntN(3) {
		case 0:
			g.cpu(start, pick(r, 10.0, 5, 60), pick(r, 60.0, 15), l, stacks...)
		case 1:
			g.heap(start, start+60, 60, l, r.Int64N(1<<30), r.Int64N(1<<40))
		default:
			for i := range stacks {
				stacks[i].values = []int64{int64(r.IntN(1000))}
			}
			g.put(body(g, "goroutine/count", stacks...), inquest.ProfileMeta{
				Kind: inquest.KindGoroutine, Start: at(start), End: at(start), Hold: seconds(float64(15 * (1 + r.IntN(8)))),
			}, l)
		}
	}
}

// request is a random one.
func (g *randomFleet) request() query.Request {
	r := g.r
	q := query.Request{Type: pick(r, "cpu", "samples", "alloc_space", "inuse_space", "goroutine")}
	var ms []string
	for _, m := range []string{`service="cart"`, `service=~"cart|pay"`, `service!="mail"`, `release="v1"`, `release="canary"`, `build=~"b.*"`, `region="eu"`, `region!="eu"`} {
		if r.IntN(8) == 0 {
			ms = append(ms, m)
		}
	}
	q.Query = "{" + strings.Join(ms, ",") + "}"
	from, length := r.Float64()*rollupDays*86400, r.Float64()*86400*2
	switch r.IntN(3) {
	case 0: // whole steps
		grid := pick(r, 300.0, 3600, 86400)
		from, length = math.Floor(from/grid)*grid, math.Max(grid, math.Floor(length/grid)*grid)
	case 1:
		from, length = 0, rollupDays*86400
	}
	q.Window = inquest.Window{From: at(from), Until: at(from + length)}
	if q.Type == "goroutine" || q.Type == "inuse_space" {
		q.Agg = pick(r, "", "sum", "avg")
	} else {
		q.Rate = r.IntN(2) == 0
	}
	return q
}

// ask compares the answers to a random question and returns the resolution of
// the first.
func (g *randomFleet) ask() string {
	g.Helper()
	ctx := context.Background()
	q := g.request()
	plain := q
	plain.Query = "{" + strings.TrimPrefix(strings.Trim(q.Query, "{}")+","+unkept, ",") + "}"
	about := fmt.Sprintf("%s %s agg=%s rate=%v %s to %s", q.Query, q.Type, q.Agg, q.Rate, q.Window.From, q.Window.Until)
	var resolution string
	coverage := func(a, b query.Coverage) {
		g.Helper()
		resolution = a.Resolution
		if b.Resolution != "raw" {
			g.Fatalf("%s: the matcher did not keep rollups out", about)
		}
		a.Resolution = "raw"
		if d := cmp.Diff(b, a, cmpopts.EquateApprox(1e-9, 1e-3)); d != "" {
			g.Fatalf("%s: coverage -profiles +rollups\n%s", about, d)
		}
	}
	// Values are rounded once per part, and rollups have other parts.
	near := cmpopts.EquateApprox(1e-9, 0.01)
	switch g.r.IntN(4) {
	case 0:
		got, want := g.flame(q), g.flame(plain)
		coverage(got.Coverage, want.Coverage)
		if d := cmp.Diff(valuesOf(want), valuesOf(got), near); d != "" {
			g.Fatalf("%s: flame graph -profiles +rollups\n%s", about, d)
		}
	case 1:
		by := pick(g.r, "function", "package", "service", "release", "build")
		got, err := g.engine.Top(ctx, q, by, 0)
		want, err2 := g.engine.Top(ctx, plain, by, 0)
		if err != nil || err2 != nil {
			g.Fatal(about, err, err2)
		}
		coverage(got.Coverage, want.Coverage)
		if d := cmp.Diff(rowsOf(want), rowsOf(got), near); d != "" {
			g.Fatalf("%s: top by %s -profiles +rollups\n%s", about, by, d)
		}
	default:
		by := pick(g.r, nil, []string{"service"}, []string{"release", "service"}, []string{"build"}, []string{"region"})
		step := pick(g.r, 0, 5*time.Minute, 10*time.Minute, time.Hour, 6*time.Hour, 24*time.Hour, 7*time.Minute)
		if g.r.IntN(4) == 0 {
			q.Function, plain.Function = "encoding/json.*", "encoding/json.*"
		}
		got, err := g.engine.Series(ctx, q, step, by)
		want, err2 := g.engine.Series(ctx, plain, step, by)
		if err != nil || err2 != nil {
			g.Fatal(about, err, err2)
		}
		coverage(got.Coverage, want.Coverage)
		if d := cmp.Diff(seriesOf(want), seriesOf(got), near); d != "" || got.Step != want.Step {
			g.Fatalf("%s: series by %v, step %v and %v -profiles +rollups\n%s", about, by, got.Step, want.Step, d)
		}
	}
	return resolution
}

// valuesOf is the self and cumulative value of every path.
func valuesOf(g *query.FlameGraph) map[string][2]float64 {
	out := map[string][2]float64{}
	path := make([]string, g.Tree.Len())
	for i := range path {
		path[i] = g.Tree.Names[g.Tree.Name[i]]
		if p := g.Tree.Parent[i]; p >= 0 {
			path[i] = path[p] + ";" + path[i]
		}
		if g.Tree.Self[i] != 0 || g.Tree.Cum[i] != 0 {
			out[path[i]] = [2]float64{float64(g.Tree.Self[i]) * g.Scale, float64(g.Tree.Cum[i]) * g.Scale}
		}
	}
	return out
}

// rowsOf is a table's rows with a value, and its total as that of "".
func rowsOf(a *query.TopAnswer) map[string][2]float64 {
	out := map[string][2]float64{"": {a.Total, a.Total}}
	for _, row := range a.Rows {
		if row.Self != 0 || row.Cum != 0 {
			out[row.Name] = [2]float64{row.Self, row.Cum}
		}
	}
	return out
}

func seriesOf(a *query.SeriesAnswer) map[string]map[string]float64 {
	out := map[string]map[string]float64{}
	for _, s := range a.Series {
		points := map[string]float64{}
		for _, p := range s.Points {
			points[fmt.Sprint(p[0])] = p[1]
		}
		out[fmt.Sprint(s.Labels)] = points
	}
	return out
}
