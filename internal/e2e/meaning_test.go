package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/proc"
)

// TestMeaning checks what numbers mean, by hand-computed cases through the API
// of one running collector. Every case has services of its own.
func TestMeaning(t *testing.T) {
	addr, data := freeAddr(t), t.TempDir()
	l := newLab(t, startCollector(t, addr, data))
	for _, c := range []struct {
		name string
		run  func(t *testing.T, l *lab)
	}{
		{"InstantsOverAnHour", instantsOverAnHour},
		{"SmallShares", smallShares},
		{"InstantAggregations", instantAggregations},
		{"AggregationsRefused", aggregationsRefused},
		{"DutyCycles", dutyCycles},
		{"DutyOfReleases", dutyOfReleases},
		{"CutSteps", cutSteps},
		{"BytesPerSecond", bytesPerSecond},
		{"CumulativeLife", cumulativeLife},
		{"CumulativeLate", cumulativeLate},
		{"CumulativeRetries", cumulativeRetries},
		{"Kinds", kinds},
		{"Idempotency", idempotency},
		{"Packings", packings},
		{"Unusual", unusual},
		{"LateAndEarly", lateAndEarly},
		{"Skew", skew},
		{"HalfOpen", halfOpen},
		{"Labels", labelRules},
		{"SampleLabels", sampleLabels},
		{"Selectors", selectors},
		{"Releases", releaseOf},
		{"Pruned", pruned},
		{"Times", timeForms},
		{"Refusals", refusals},
		{"Shapes", shapes},
		{"Lists", lists},
		{"Merged", merged},
		{"Exported", exported},
		{"HugeGoroutineDump", hugeGoroutineDump},
		{"Protocol", protocolVersions},
		{"FirstHalf", firstHalf},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, l) })
	}
	// Everything asked so far has the same answer wherever the store keeps it:
	// in memory, read again from the log, in blocks.
	before := l.again(t)
	l.Kill()
	l.Collector = startCollector(t, addr, data)
	sameAnswers(t, "after SIGKILL", before, l.again(t))
	if err := l.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	l.Collector = startCollector(t, addr, data, "-epoch", "1s")
	sameAnswers(t, "after SIGTERM", before, l.again(t))
	eventually(t, 10*time.Second, "the epochs end", func() error {
		var raw []byte
		if err := tryGet(t.Context(), l.URL, "/metrics", nil, &raw); err != nil {
			return err
		}
		if text := string(raw); !strings.Contains(text, "\ninquest_store_heads 0\n") || strings.Contains(text, "\ninquest_store_blocks 0\n") {
			return errors.New("there are open epochs, or no blocks")
		}
		return nil
	})
	sameAnswers(t, "from blocks", before, l.again(t))
	t.Run("AcrossParts", func(t *testing.T) { secondHalf(t, l) })
}

// again asks everything that was asked about the hour, and returns the answers.
func (l *lab) again(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for asked := range l.asked {
		path, query, _ := strings.Cut(asked, "?")
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		var raw []byte
		get(t, l.URL, path, q, &raw)
		out[asked] = raw
	}
	return out
}

func sameAnswers(t *testing.T, when string, want, got map[string][]byte) {
	t.Helper()
	for asked, w := range want {
		if !bytes.Equal(w, got[asked]) {
			t.Errorf("%s: %s: got %.300s, want %.300s", when, asked, got[asked], w)
		}
	}
}

// TestMeaningOverRestarts ends the collector between cumulative bodies: what
// they are subtracted from has to survive SIGKILL and SIGTERM.
func TestMeaningOverRestarts(t *testing.T) {
	addr, data := freeAddr(t), t.TempDir()
	c := startCollector(t, addr, data)
	l := newLab(t, c)
	push := func(minute, bytes int64) bool {
		t.Helper()
		at := l.hour.Add(time.Duration(minute) * time.Minute)
		return l.store(t, url.Values{"service": {"restarted"}, "instance": {"a"}, "kind": {"heap"}}, heap(at, "main;work", bytes/10, bytes, 1, 10)).Baseline
	}
	var baselines []bool
	baselines = append(baselines, push(0, 1000), push(1, 1500))
	c.Kill()
	c = startCollector(t, addr, data)
	baselines = append(baselines, push(2, 1700))
	if err := c.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	startCollector(t, addr, data)
	baselines = append(baselines, push(3, 2000))
	if diff := cmp.Diff([]bool{true, false, false, false}, baselines); diff != "" {
		t.Errorf("baselines (-want +got):\n%s", diff)
	}
	g := l.graph(t, url.Values{"query": {`{service="restarted"}`}, "type": {"alloc_space"}})
	if g.Total != 1000 || g.Coverage.Profiles != 4 || g.Coverage.ObservedProcessSeconds != 180 {
		t.Errorf("total %v, coverage %+v; want 500+200+300 over 4 profiles and 180 s", g.Total, g.Coverage)
	}
}

// lab is a collector with an hour in its past that cases fill.
type lab struct {
	*proc.Collector
	hour  time.Time       // begin of a full hour, some hours ago
	asked map[string]bool // queries about the hour, "/path?query"
}

func newLab(t *testing.T, c *proc.Collector) *lab {
	t.Helper()
	return &lab{c, time.Now().UTC().Add(-6 * time.Hour).Truncate(time.Hour), map[string]bool{}}
}

// at is a moment of the hour.
func (l *lab) at(seconds float64) time.Time {
	return l.hour.Add(time.Duration(seconds * float64(time.Second)))
}

// pushed is the answer to a pushed profile.
type pushed struct {
	Status     int `json:"-"`
	ID         string
	Series     string
	Samples    int
	Bytes      int64
	Duplicate  bool
	Truncated  int
	Baseline   bool
	ClockShift string `json:"clock_shift"`
	Error      struct{ Kind, Message string }
}

// push sends one profile; header holds names and values by turns.
func (l *lab) push(ctx context.Context, q url.Values, body []byte, header ...string) (pushed, error) {
	var a pushed
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL+"/api/v1/profiles?"+q.Encode(), bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.Status = resp.StatusCode
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// store pushes a profile that has to be taken.
func (l *lab) store(t *testing.T, q url.Values, body []byte, header ...string) pushed {
	t.Helper()
	a, err := l.push(t.Context(), q, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != http.StatusOK {
		t.Fatalf("push %v: status %d: %s", q, a.Status, a.Error.Message)
	}
	return a
}

// refuse pushes a profile that must not be taken, for a reason that names all
// the words.
func (l *lab) refuse(t *testing.T, status int, q url.Values, body []byte, words []string, header ...string) {
	t.Helper()
	a, err := l.push(t.Context(), q, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != status {
		t.Errorf("push %v: status %d (%s), want %d", q, a.Status, a.Error.Message, status)
		return
	}
	for _, w := range words {
		if !strings.Contains(a.Error.Message, w) {
			t.Errorf("push %v: %q does not say %q", q, a.Error.Message, w)
		}
	}
}

// coverage is that of every answer.
type coverage struct {
	Profiles, Processes, Samples int64
	From, Until                  time.Time
	Resolution                   string
	ObservedProcessSeconds       float64 `json:"observed_process_seconds"`
	PresentProcessSeconds        float64 `json:"present_process_seconds"`
	Pruned                       struct {
		Nodes int
		Value float64
	}
	Unsymbolized float64
	Estimated    bool
	Truncated    int `json:"truncated_profiles"`
}

type graph struct {
	Names []string
	Nodes struct {
		Name, Parent []int
		Self, Cum    []float64
	}
	Total     float64
	Unit      string
	Type, Agg string
	Coverage  coverage
}

// self is the self values of a graph by stack, "main;work".
func (g *graph) self() map[string]float64 {
	out := map[string]float64{}
	stacks := make([]string, len(g.Nodes.Name))
	for i, n := range g.Nodes.Name {
		if p := g.Nodes.Parent[i]; p > 0 {
			stacks[i] = stacks[p] + ";" + g.Names[n]
		} else if p == 0 {
			stacks[i] = g.Names[n]
		}
		if v := g.Nodes.Self[i]; v != 0 {
			out[stacks[i]] = v
		}
	}
	return out
}

// inHour adds the hour as the window, where none is given.
func (l *lab) inHour(q url.Values) url.Values {
	out := url.Values{"from": {l.at(0).Format(time.RFC3339)}, "until": {l.at(3600).Format(time.RFC3339)}}
	for k, v := range q {
		out[k] = v
	}
	return out
}

// ofHour asks about the hour.
func (l *lab) ofHour(t *testing.T, path string, q url.Values, into any) {
	t.Helper()
	q = l.inHour(q)
	get(t, l.URL, path, q, into)
	if !strings.HasPrefix(q.Get("from"), "-") {
		l.asked[path+"?"+q.Encode()] = true
	}
}

// graph asks for a flame graph, by default of the hour.
func (l *lab) graph(t *testing.T, q url.Values) *graph {
	t.Helper()
	var g graph
	l.ofHour(t, "/api/v1/flamegraph", q, &g)
	return &g
}

type table struct {
	Rows []struct {
		Name      string
		Self, Cum float64
		File      string
		Line      int64
	}
	Total    float64
	Count    int
	Unit     string
	Coverage coverage
}

func (l *lab) top(t *testing.T, q url.Values) *table {
	t.Helper()
	var a table
	l.ofHour(t, "/api/v1/top", q, &a)
	return &a
}

// rows is the self values of a table by name.
func (a *table) rows() map[string]float64 {
	out := map[string]float64{}
	for _, r := range a.Rows {
		out[r.Name] = r.Self
	}
	return out
}

type lines struct {
	Series []struct {
		Labels map[string]string
		Points [][2]float64
	}
	Step     float64
	Unit     string
	Coverage coverage
}

func (l *lab) series(t *testing.T, q url.Values) *lines {
	t.Helper()
	var a lines
	l.ofHour(t, "/api/v1/series", q, &a)
	return &a
}

// values is the values of a series by the seconds within the hour; the label
// chooses the series.
func (l *lab) values(t *testing.T, a *lines, label, value string) map[int]float64 {
	t.Helper()
	for _, s := range a.Series {
		if s.Labels[label] == value {
			out := map[int]float64{}
			for _, p := range s.Points {
				out[int(p[0]-float64(l.hour.Unix()))] = p[1]
			}
			return out
		}
	}
	t.Errorf("there is no series of %s=%q in %+v", label, value, a.Series)
	return nil
}

// status asks the API and returns the status and the error of the answer.
func (l *lab) status(t *testing.T, path string, q url.Values) (status int, kind, message string) {
	t.Helper()
	resp, err := http.Get(l.URL + path + "?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		Error struct{ Kind, Message string }
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatalf("GET %s: %s is no error of the API: %v", path, body, err)
		}
	}
	return resp.StatusCode, a.Error.Kind, a.Error.Message
}

// near says whether two values are equal but for the rounding of answers: to
// thousandths, per node of a tree.
func near(a, b float64) bool { return math.Abs(a-b) <= 2e-3 }

// sample is one sample of a built body.
type sample struct {
	stack  string // "main;work", the root first
	values []int64
	labels map[string][]string
	nums   map[string][]int64
}

// built makes a pprof body (gzip) with sample types as in "cpu/nanoseconds".
func built(at time.Time, d time.Duration, types string, samples ...sample) []byte {
	p := &profile.Profile{TimeNanos: at.UnixNano(), DurationNanos: int64(d), PeriodType: &profile.ValueType{}}
	for typ := range strings.FieldsSeq(types) {
		name, unit, _ := strings.Cut(typ, "/")
		p.SampleType = append(p.SampleType, &profile.ValueType{Type: name, Unit: unit})
	}
	m := &profile.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, File: "/bin/built"}
	p.Mapping = []*profile.Mapping{m}
	known := map[string]*profile.Location{}
	for _, s := range samples {
		ps := &profile.Sample{Value: s.values, Label: s.labels, NumLabel: s.nums}
		frames := strings.Split(s.stack, ";")
		for i := len(frames) - 1; i >= 0; i-- {
			loc := known[frames[i]]
			if loc == nil {
				id := uint64(len(p.Location) + 1)
				f := &profile.Function{ID: id, Name: frames[i], SystemName: frames[i], Filename: "/src/" + frames[i] + ".go", StartLine: int64(id)}
				p.Function = append(p.Function, f)
				loc = &profile.Location{ID: id, Mapping: m, Address: 0x400000 + 16*id, Line: []profile.Line{{Function: f, Line: int64(id) + 2}}}
				p.Location = append(p.Location, loc)
				known[frames[i]] = loc
			}
			ps.Location = append(ps.Location, loc)
		}
		p.Sample = append(p.Sample, ps)
	}
	return written(p)
}

func written(p *profile.Profile) []byte {
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(fmt.Sprintf("a body of the test is wrong: %v", err))
	}
	return b.Bytes()
}

// cpu is a CPU profile of one stack, with a tick every 10 ms.
func cpu(at time.Time, d time.Duration, stack string, used time.Duration) []byte {
	return built(at, d, "samples/count cpu/nanoseconds", sample{stack: stack, values: []int64{int64(used / (10 * time.Millisecond)), int64(used)}})
}

// heap is a heap profile of one stack.
func heap(at time.Time, stack string, allocObjects, allocSpace, inuseObjects, inuseSpace int64) []byte {
	return built(at, 0, heapTypes, sample{stack: stack, values: []int64{allocObjects, allocSpace, inuseObjects, inuseSpace}})
}

const heapTypes = "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes"

// goroutines is a goroutine profile of one stack.
func goroutines(at time.Time, stack string, n int64) []byte {
	return built(at, 0, "goroutine/count", sample{stack: stack, values: []int64{n}})
}

// who names the sender of a push; more are names and values by turns.
func who(service, instance string, more ...string) url.Values {
	q := url.Values{"service": {service}, "instance": {instance}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q
}

// ask makes the parameters of a query about one service.
func ask(service, typ string, more ...string) url.Values {
	q := url.Values{"query": {"{service=" + strconv.Quote(service) + "}"}}
	if typ != "" {
		q.Set("type", typ)
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q
}
