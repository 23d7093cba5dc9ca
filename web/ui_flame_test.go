package web_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest/web"
)

const manyFrames = 100_000

// bigProfile is a CPU profile whose call tree has at least the given number of
// frames, 10 to 50 deep, of 3,000 functions in 131 packages.
func bigProfile(t testing.TB, at time.Time, frames int) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1e7,
		TimeNanos: at.UnixNano(), DurationNanos: 10e9,
		Mapping: []*pprof.Mapping{{ID: 1, Start: 0x1000, Limit: 0x900000, File: "/bin/big", HasFunctions: true}},
	}
	for i := range 3000 {
		f := &pprof.Function{ID: uint64(i + 1), Name: fmt.Sprintf("example.com/mod%d/pkg%d.(*T%d).Method%d", i%17, i%131, i%7, i), Filename: "big.go"}
		p.Function = append(p.Function, f)
		p.Location = append(p.Location, &pprof.Location{ID: f.ID, Mapping: p.Mapping[0], Address: 0x1000 + uint64(i)*16, Line: []pprof.Line{{Function: f, Line: 7}}})
	}
	seen := map[[2]int]int{} // (node, function) → node
	for len(seen) < frames {
		depth := 10 + rng.IntN(40)
		locs := make([]*pprof.Location, depth)
		node, fn := 0, 0
		for d := range depth {
			fn = (fn*7 + rng.IntN(4)) % 3000
			next, ok := seen[[2]int{node, fn}]
			if !ok {
				next = len(seen) + 1
				seen[[2]int{node, fn}] = next
			}
			node = next
			locs[depth-1-d] = p.Location[fn]
		}
		n := int64(1 + rng.IntN(3))
		p.Sample = append(p.Sample, &pprof.Sample{Location: locs, Value: []int64{n, n * 1e7}})
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// flameScript zooms, pans, scrolls, points, searches and clicks, one event per
// animation frame as a person's hand does, and returns the page's own
// measurements: ms per drawn frame and ms of drawing alone.
const flameScript = `(async () => {
  const c = document.querySelector("#flame");
  const r = c.getBoundingClientRect();
  const frame = () => new Promise(requestAnimationFrame);
  const at = (x, y) => ({clientX: r.left + x * r.width, clientY: r.top + y, bubbles: true, cancelable: true});
  const wheel = (x, o) => c.dispatchEvent(new WheelEvent("wheel", {...at(x, 80), ...o}));
  const times = async (n, f) => { for (let i = 0; i < n; i++) { f(i); await frame(); } };
  performance.clearMeasures();
  for (let round = 0; round < 2; round++) {
    await times(35, () => wheel(0.15 + 0.3 * round, {deltaY: -60, ctrlKey: true}));
    await times(30, () => wheel(0.5, {deltaX: 25}));
    await times(20, () => wheel(0.5, {deltaY: 21}));
    await times(35, () => wheel(0.5, {deltaY: 60, ctrlKey: true}));
    await times(30, (i) => c.dispatchEvent(new PointerEvent("pointermove", at(0.1 + i * 0.02, 40 + i * 8))));
    const search = document.querySelector("#search");
    search.value = "Method1" + round;
    search.dispatchEvent(new Event("input", {bubbles: true}));
    await times(20, () => {});
    c.dispatchEvent(new MouseEvent("click", {...at(0.3, 70), detail: 1}));
    await times(22, () => {});
    c.dispatchEvent(new MouseEvent("dblclick", at(0.3, 70)));
    await times(22, () => {});
  }
  const sorted = (name) => performance.getEntriesByName(name).map((e) => e.duration).sort((a, b) => a - b);
  const [frames, draws] = [sorted("flame:frame"), sorted("flame:draw")];
  const of = (d, p) => d[Math.min(d.length - 1, Math.floor(d.length * p))];
  return {frames: frames.length, median: of(frames, 0.5), p95: of(frames, 0.95), draw: of(draws, 0.5), drawP95: of(draws, 0.95)};
})()`

// flameTimes is what flameScript returns.
type flameTimes struct {
	Frames                     int
	Median, P95, Draw, DrawP95 float64
}

// testFlameGraphFrames draws a tree of 100,000 frames out of a real store and
// demands 60 frames per second of a scripted zoom, pan and search.
func testFlameGraphFrames(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newWorld(t, web.Options{})
	at := time.Now().Add(-5 * time.Minute).UTC()
	w.push("service=big&instance=big:1&kind=cpu", bigProfile(t, at, manyFrames))
	began := time.Now()
	b.open(w.url + "/explore?" + url.Values{"query": {`{service="big"}`}, "view": {"graph"}, "nodes": {"200000"}}.Encode())
	b.wait("the flame graph to be drawn", `performance.getEntriesByName("flame:draw").length > 0 && /frames/.test(document.querySelector("#flame-status").textContent)`)
	t.Logf("shown %v after the page was asked for: %s", time.Since(began).Round(time.Millisecond), b.text("#flame-status"))
	if got := eval[int](b, `Number(document.querySelector("#flame-status").textContent.replace(/ frames.*/, "").replace(/\D/g, ""))`); got < manyFrames {
		t.Fatalf("%d frames are in the page, want at least %d", got, manyFrames)
	}
	best := flameTimes{Median: math.Inf(1)}
	// What else runs on this machine only ever makes it slower: the best of three counts.
	for range 3 {
		got := eval[flameTimes](b, flameScript)
		t.Logf("%d frames: median %.1f ms, 95%% %.1f ms; drawing alone: median %.1f ms, 95%% %.1f ms", got.Frames, got.Median, got.P95, got.Draw, got.DrawP95)
		if got.Frames < 200 {
			t.Fatalf("only %d frames were drawn", got.Frames)
		}
		if got.Median < best.Median {
			best = got
		}
		if best.Median < 16.75 {
			break
		}
	}
	// Browsers give times in steps of 0.1 ms: 16.7 is one frame at 60 Hz.
	if math.Round(best.Median*10)/10 > 16.7 {
		t.Errorf("median frame took %.2f ms, want at most 16.7", best.Median)
	}
	b.shot("flame-100000")
}
