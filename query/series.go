package query

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// Series is the values of one set of labels over time.
type Series struct {
	Labels map[string]string `json:"labels"` // those asked for; one without value is left out
	// Points are [unix seconds of the step's begin, value], ascending. A step
	// without profiles has none.
	Points [][2]float64 `json:"points"`
}

// SeriesAnswer is a number of series, those with the largest sum first.
type SeriesAnswer struct {
	Series   []Series `json:"series"`
	Step     float64  `json:"step"` // seconds; may be longer than was asked for
	Unit     string   `json:"unit"`
	Type     string   `json:"type"`
	Agg      string   `json:"agg"`
	Coverage Coverage `json:"coverage"`
}

// maxPoints bounds the steps of one series, maxCells those of all together.
const (
	maxPoints = 11_000
	maxCells  = 2 << 20
)

// Bytes of memory.
const (
	cellBytes    = int64(unsafe.Sizeof(cell{}))
	pointBytes   = 64 // of an answer, with its JSON
	bestRowBytes = 96 // of the profile that stands for a process in a step
)

// Series adds up what r selects per step of the window and per set of the
// labels by (any label of a profile; release is the resolved one).
//
// Steps are aligned to multiples of step since the epoch. Each is a window of
// its own, cut to the request's at both ends, and follows the same rules as
// other answers: a profile counts in the step of its Start, avg and rate divide
// by the length of the step, rate scales per service and set of labels. A step
// of which the window has less than the interval of the profiles counts as one
// interval long for avg and rate: else the one profile that may lie in its few
// seconds would show as a peak.
//
// step 0 chooses one that gives about 120 to 240 points. A step shorter than
// the interval of the profiles would show nothing but peaks and gaps, so it is
// raised to that, but for plain sums, which stay true.
func (e *Engine) Series(ctx context.Context, r Request, step time.Duration, by []string) (*SeriesAnswer, error) {
	if step < 0 || step > 0 && step < time.Second || step%time.Second != 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "step %v: want whole seconds, at least 1s", step)
	}
	w, err := e.window(r.Window)
	if err != nil {
		return nil, err
	}
	var a *SeriesAnswer
	r.Window = w
	step, least, err := e.leastStep(r, step)
	if err != nil {
		return nil, err
	}
	err = e.readType(ctx, r, need{rollups: true, step: least, by: by}, func(s *selection) error {
		s.holds()
		step := s.step(step, least)
		if n := s.window.Duration() / step; n > maxPoints {
			return inquest.Errorf(inquest.ErrInvalid, "step %v cuts the window of %v into %d points, at most %d are allowed: use a longer step", step, s.window.Duration(), n, maxPoints)
		}
		if err := s.focus(ctx, functions(r.Function)); err != nil {
			return err
		}
		g := newGrid(s, step, by)
		if err := g.fill(ctx); err != nil {
			return err
		}
		a = &SeriesAnswer{Series: g.series(), Step: step.Seconds(), Unit: s.unit, Type: s.typ.Name, Agg: s.agg, Coverage: s.coverage()}
		return nil
	})
	return a, err
}

// roundSteps are the steps people expect.
var roundSteps = []time.Duration{
	time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour,
}

const (
	day        = 24 * time.Hour
	goodPoints = 240
)

// leastStep returns the step asked for, longer where only rollups are left that
// do not divide time as finely, and the shortest that may be in effect in the
// end: a multiple of it will be.
func (e *Engine) leastStep(r Request, asked time.Duration) (step, least time.Duration, err error) {
	sel, err := parseSelector(r.Query)
	if err != nil {
		return 0, 0, err
	}
	finest := e.store.Finest(sel.services(), r.Window.From).Duration()
	if asked > 0 {
		if finest > 0 {
			asked = (asked + finest - 1) / finest * finest
		}
		return asked, asked, nil
	}
	return 0, roundStep(max(r.Window.Duration()/goodPoints, finest)), nil
}

// roundStep is the shortest of the steps people expect that is not below d.
// Each of them that is longer than five minutes is a multiple of every step of
// rollups that is not longer.
func roundStep(d time.Duration) time.Duration {
	for _, r := range roundSteps {
		if r >= d {
			return r
		}
	}
	return (d + day - 1) / day * day
}

// step is the one in effect.
func (s *selection) step(asked, least time.Duration) time.Duration {
	interval := s.interval()
	if asked > 0 && (s.agg == AggSum || interval <= asked) {
		return asked
	}
	if asked == 0 {
		return roundStep(max(least, interval))
	}
	// A multiple of it, so that what rollups were chosen for it still fit.
	for _, r := range roundSteps {
		if r >= interval && r%asked == 0 {
			return r
		}
	}
	return (interval + asked - 1) / asked * asked
}

// interval is what all but a few profiles stand for: 95 % of them no longer.
func (s *selection) interval() time.Duration {
	var all []int64
	for _, u := range s.units {
		for i, row := range u.picked {
			all = append(all, u.hold[i]/max(1, u.profiles(row)))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return time.Duration(all[(len(all)-1)*95/100])
}

// grid is the values of all series: a row of cells per track.
type grid struct {
	s      *selection
	by     []string
	from   int64 // unix ns of the first step's begin
	step   int64 // ns
	steps  int
	least  int64 // ns; avg and rate divide by no less
	tracks []*track
	index  map[trackKey]*track
}

// track is the part of one series that comes from one service: rates are
// scaled per service.
type track struct {
	series string // its labels, see setKey
	labels map[string]string
	cells  []cell // per step
}

type trackKey struct{ service, series string }

// cell is one step of a track.
type cell struct {
	profiles int32
	value    float64 // before the division by the step's length
	duty     duty
}

func newGrid(s *selection, step time.Duration, by []string) *grid {
	g := &grid{s: s, by: by, step: int64(step), index: make(map[trackKey]*track)}
	if s.agg == AggAvg || s.agg == aggRate {
		g.least = int64(min(s.interval(), step))
	}
	from, until := s.window.From.UnixNano(), s.window.Until.UnixNano()
	g.from = floor(from, g.step)
	g.steps = int((until-1-g.from)/g.step) + 1
	return g
}

// floor is the largest multiple of step that is not above t.
func floor(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}

// seconds is what avg and rate divide a step by: its length within the window,
// if that is not too short to say something.
func (g *grid) seconds(k int) float64 {
	begin := g.from + int64(k)*g.step
	end := min(begin+g.step, g.s.window.Until.UnixNano())
	return time.Duration(max(end-max(begin, g.s.window.From.UnixNano()), g.least)).Seconds()
}

// fill adds up all units.
func (g *grid) fill(ctx context.Context) error {
	var best map[stepOfProcess]pickedRow
	if g.s.agg == AggLast || g.s.agg == AggMax {
		if err := g.s.mem.grow(bestRowBytes * g.s.count()); err != nil {
			return err
		}
		best = g.best()
	}
	for _, u := range g.s.units {
		if err := ctx.Err(); err != nil {
			return err
		}
		tracks, err := g.tracksOf(u)
		if err != nil {
			return err
		}
		values := g.s.values(u)
		asked := make(map[*cell][]int32) // rows whose samples must be asked, as indexes into picked
		for i, row := range u.picked {
			k := int((u.rows.Start[row] - g.from) / g.step)
			if best != nil && best[stepOfProcess{k, u.proc[u.rows.Process[row]]}] != (pickedRow{u, row}) {
				continue
			}
			set := u.rows.LabelSet[row]
			c := &tracks[set].cells[k]
			c.profiles++
			c.duty.add(u.observed(row), u.hold[i])
			if len(u.sets[set].keep) > 0 {
				asked[c] = append(asked[c], int32(i))
				continue
			}
			v := float64(values[row])
			switch {
			case g.s.agg != AggAvg:
			case u.sec.Resolution != store.Raw:
				v /= store.HeldPerSecond(g.s.typ)
			default:
				v *= time.Duration(u.hold[i]).Seconds()
			}
			c.value += v
		}
		if err := g.ask(ctx, u, asked); err != nil {
			return err
		}
		u.part.Release(ctx)
	}
	return nil
}

// ask adds what matchers on the samples' labels let through.
func (g *grid) ask(ctx context.Context, u *unit, asked map[*cell][]int32) error {
	var weights []float64
	if g.s.agg == AggAvg {
		weights = make([]float64, len(u.hold))
		for i, h := range u.hold {
			weights[i] = time.Duration(h).Seconds()
		}
	}
	for c, at := range asked {
		if err := ctx.Err(); err != nil {
			return err
		}
		exact, weighed, err := g.s.total(ctx, u, at, weights)
		if err != nil {
			return err
		}
		if weights == nil {
			weighed = float64(exact)
		}
		c.value += weighed
	}
	return nil
}

type stepOfProcess struct {
	step int
	proc uint32
}

// best finds the profile that stands for each process in each step.
func (g *grid) best() map[stepOfProcess]pickedRow {
	best := make(map[stepOfProcess]pickedRow)
	for _, u := range g.s.units {
		for _, row := range u.picked {
			key := stepOfProcess{int((u.rows.Start[row] - g.from) / g.step), u.proc[u.rows.Process[row]]}
			if b, ok := best[key]; !ok || (pickedRow{u, row}).better(b, g.s.agg) {
				best[key] = pickedRow{u, row}
			}
		}
	}
	return best
}

// tracksOf returns the track of each label set of the unit, nil for those not
// selected.
func (g *grid) tracksOf(u *unit) ([]*track, error) {
	used := make([]bool, len(u.sets))
	service := make([]string, len(u.sets))
	for _, row := range u.picked {
		used[u.rows.LabelSet[row]] = true
		service[u.rows.LabelSet[row]] = u.service(row)
	}
	out := make([]*track, len(u.sets))
	for i := range u.sets {
		if !used[i] {
			continue
		}
		labels := make(map[string]string, len(g.by))
		var name strings.Builder
		for _, l := range g.by {
			v := u.sets[i].labels.Get(l)
			if v != "" {
				labels[l] = v
			}
			name.WriteString(v)
			name.WriteByte(0)
		}
		key := trackKey{service[i], name.String()}
		t := g.index[key]
		if t == nil {
			if (len(g.tracks)+1)*g.steps > maxCells {
				return nil, inquest.Errorf(inquest.ErrTooLarge, "by=%s gives more than %d series of %d steps: use a longer step, fewer labels or a narrower query", strings.Join(g.by, ","), len(g.tracks), g.steps)
			}
			// Its cells, and as much for what becomes of them.
			if err := g.s.mem.keep(int64(g.steps)*(cellBytes+pointBytes) + 1<<10); err != nil {
				return nil, err
			}
			t = &track{series: key.series, labels: labels, cells: make([]cell, g.steps)}
			g.index[key] = t
			g.tracks = append(g.tracks, t)
		}
		out[i] = t
	}
	return out, nil
}

// series folds the tracks of the same labels.
func (g *grid) series() []Series {
	slices.SortFunc(g.tracks, func(a, b *track) int { return cmp.Compare(a.series, b.series) })
	type ranked struct {
		Series
		sum float64
	}
	var all []ranked
	for len(g.tracks) > 0 {
		n := 1
		for n < len(g.tracks) && g.tracks[n].series == g.tracks[0].series {
			n++
		}
		one := ranked{Series: Series{Labels: g.tracks[0].labels, Points: [][2]float64{}}}
		for k := range g.steps {
			if v, ok := g.point(g.tracks[:n], k); ok {
				one.Points = append(one.Points, [2]float64{float64(g.from+int64(k)*g.step) / 1e9, v})
				one.sum += v
			}
		}
		all = append(all, one)
		g.tracks = g.tracks[n:]
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.sum, a.sum) })
	out := make([]Series, len(all))
	for i := range all {
		out[i] = all[i].Series
	}
	return out
}

// point is one step of tracks of the same labels; ok is false if it has no
// profile.
func (g *grid) point(tracks []*track, k int) (v float64, ok bool) {
	for _, t := range tracks {
		c := &t.cells[k]
		if c.profiles == 0 {
			continue
		}
		ok = true
		switch g.s.agg {
		case aggRate:
			v += c.value * c.duty.factor()
		default:
			v += c.value
		}
	}
	if g.s.agg == aggRate || g.s.agg == AggAvg {
		v /= g.seconds(k)
	}
	return scaled(g.s.fixed(v), g.s.dec), ok
}
