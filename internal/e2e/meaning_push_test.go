package e2e_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest/internal/corpus"
)

func kinds(t *testing.T, l *lab) {
	const s = "kinds"
	start := l.at(0).Format(time.RFC3339)
	body := map[string][]byte{}
	for _, b := range corpus.Load() {
		if len(b.Data) > len(body[b.Kind]) { // one with samples
			body[b.Kind] = b.Data
		}
	}
	for i, c := range []struct {
		folder, param, value string
		want                 string // a type that is there then; "" = refused
	}{
		{"cpu", "", "", "cpu"},
		{"cpu", "kind", "cpu", "samples"},
		{"cpu", "type", "samples", "cpu"},
		{"cpu", "kind", "profile", "cpu"},
		{"cpu", "kind", "heap", ""},
		{"cpu", "kind", "nonsense", ""},
		{"heap", "", "", "inuse_space"},
		{"allocs", "", "", "inuse_space"},
		{"allocs", "kind", "allocs", "alloc_space"},
		{"allocs", "type", "alloc_objects", "alloc_space"},
		{"heap", "kind", "cpu", ""},
		{"heap", "kind", "goroutine", ""},
		{"goroutine", "", "", "goroutine"},
		{"goroutine", "kind", "threadcreate", ""},
		{"mutex", "", "", ""},
		{"mutex", "kind", "mutex", "mutex_count"},
		{"mutex", "type", "mutex_delay", "mutex_delay"},
		{"mutex", "kind", "block", "block_delay"}, // they look alike
		{"mutex", "kind", "heap", ""},
		{"block", "", "", ""},
		{"block", "kind", "block", "block_count"},
	} {
		if body[c.folder] == nil {
			t.Fatalf("the corpus has no %s", c.folder)
		}
		service := fmt.Sprintf("%s-%d", s, i)
		q := who(service, "a", "start", start)
		if c.param != "" {
			q.Set(c.param, c.value)
		}
		if c.want == "" {
			l.refuse(t, 400, q, body[c.folder], []string{"kind"})
			continue
		}
		l.store(t, q, body[c.folder])
		if g := l.graph(t, ask(service, c.want)); g.Coverage.Profiles != 1 || g.Type != c.want {
			t.Errorf("%s with %s=%s: %d profiles of %s", c.folder, c.param, c.value, g.Coverage.Profiles, g.Type)
		}
	}
	// Without a temporality Go's heap, mutex and block are cumulative; as deltas
	// they count from the first on.
	for _, c := range []struct{ kind, typ string }{{"heap", "alloc_space"}, {"mutex", "mutex_delay"}, {"block", "block_count"}} {
		service := s + "-of-" + c.kind
		if a := l.store(t, who(service, "a", "kind", c.kind, "start", start), body[c.kind]); !a.Baseline {
			t.Errorf("the first %s is no baseline: %+v", c.kind, a)
		}
		if a := l.store(t, who(service, "b", "kind", c.kind, "start", start, "temporality", "delta"), body[c.kind]); a.Baseline {
			t.Errorf("a delta of %s is a baseline: %+v", c.kind, a)
		}
		p, err := profile.ParseData(body[c.kind])
		if err != nil {
			t.Fatal(err)
		}
		column := map[string]int{"alloc_space": 1, "mutex_delay": 1, "block_count": 0}[c.typ]
		var want int64
		for _, smp := range p.Sample {
			want += smp.Value[column]
		}
		if g := l.graph(t, ask(service, c.typ)); int64(g.Total) != want || want == 0 {
			t.Errorf("%s: %v, want %d once", c.typ, g.Total, want)
		}
	}
	l.refuse(t, 400, who(s, "a", "temporality", "sometimes"), body["heap"], []string{"temporality", "delta", "cumulative"})
	l.refuse(t, 400, who(s, "a"), []byte("<html>not found</html>"), nil)
	l.refuse(t, 400, who(s, "a"), nil, []string{"empty"})
	l.refuse(t, 400, who(s, "a"), body["cpu"][:len(body["cpu"])/2], nil)
	l.refuse(t, 400, url.Values{}, body["cpu"], []string{"service"})
	l.refuse(t, 400, who(s, "a"), body["cpu"], []string{"zstd"}, "Content-Encoding", "zstd")
	l.refuse(t, 400, who(s, "a"), body["cpu"], []string{"br"}, "Content-Encoding", "br")
}

// One profile is the same however it is packed, and limits hold before and
// after it is unpacked.
func packings(t *testing.T, l *lab) {
	const s = "packed"
	body := cpu(l.at(0), time.Second, "main;x", time.Second)
	plain, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var twice bytes.Buffer
	w := gzip.NewWriter(&twice)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		body     []byte
		encoding string
	}{
		{raw, ""}, {body, ""}, {raw, "identity"}, {body, "gzip"}, {twice.Bytes(), "gzip"}, {z.EncodeAll(raw, nil), "zstd"}, {z.EncodeAll(body, nil), "zstd"},
	} {
		var header []string
		if c.encoding != "" {
			header = []string{"Content-Encoding", c.encoding}
		}
		if a := l.store(t, who(s, fmt.Sprint("i", i)), c.body, header...); a.Samples != 1 || a.Bytes != int64(len(c.body)) {
			t.Errorf("%s of %d bytes: %+v", c.encoding, len(c.body), a)
		}
	}
	if g := l.graph(t, ask(s, "cpu")); g.Total != 7e9 || g.Coverage.Processes != 7 {
		t.Errorf("total %v over %d processes", g.Total, g.Coverage.Processes)
	}
	l.refuse(t, 413, who(s, "a"), make([]byte, 33<<20), []string{"33554432"})
	bomb := make([]byte, 100<<20)
	l.refuse(t, 413, who(s, "a"), z.EncodeAll(bomb, nil), []string{"67108864"}, "Content-Encoding", "zstd")
}

// Values that are unusual but true: none, negative ones, recursion.
func unusual(t *testing.T, l *lab) {
	const s, types = "unusual", "samples/count cpu/nanoseconds"
	at := l.at(0)
	l.store(t, who(s+"-idle", "a", "interval", "60"), built(at, 10*time.Second, types)) // idle: present, observed, nothing used
	l.store(t, who(s+"-idle", "a", "interval", "60"), cpu(l.at(60), 10*time.Second, "main", 5*time.Second))
	g := l.graph(t, ask(s+"-idle", "cpu", "rate", "true", "until", l.at(120).Format(time.RFC3339)))
	if c := g.Coverage; !near(g.Total, 0.25) || c.Profiles != 2 || c.ObservedProcessSeconds != 20 || c.PresentProcessSeconds != 120 {
		t.Errorf("half idle: %v cores, coverage %+v", g.Total, c)
	}
	l.store(t, who(s+"-less", "a"), built(at, time.Second, types, sample{stack: "a;b", values: []int64{-1, -5}}, sample{stack: "a;c", values: []int64{1, 3}}))
	if g := l.graph(t, ask(s+"-less", "cpu")); g.Total != -2 || !cmp.Equal(g.self(), map[string]float64{"a;b": -5, "a;c": 3}) {
		t.Errorf("negative: %v, %v", g.Total, g.self())
	}
	l.store(t, who(s+"-again", "a"), built(at, time.Second, types, sample{stack: "a;b;a;b;a", values: []int64{1, 5}}, sample{stack: "a", values: []int64{1, 3}}))
	a := l.top(t, ask(s+"-again", "cpu"))
	if len(a.Rows) != 2 || a.Rows[0].Self != 8 || a.Rows[0].Cum != 8 || a.Rows[1].Self != 0 || a.Rows[1].Cum != 5 {
		t.Errorf("recursion: %+v", a.Rows)
	}
}

func lateAndEarly(t *testing.T, l *lab) {
	const s = "late"
	now := time.Now().UTC()
	body := func(at time.Time) []byte { return cpu(at, 0, "main;l", time.Second) }
	for _, c := range []struct {
		shift time.Duration
		taken bool
	}{
		{-16 * 24 * time.Hour, false}, {-14 * 24 * time.Hour, true}, {11 * time.Minute, false}, {9 * time.Minute, true},
	} {
		at := now.Add(c.shift)
		for _, by := range []string{"parameter", "body"} {
			q, b := who(s, by), body(at)
			if by == "parameter" {
				q.Set("start", at.Format(time.RFC3339Nano))
				b = body(now)
			}
			if c.taken {
				l.store(t, q, b)
				continue
			}
			// Both times are told: the profile's and the collector's.
			l.refuse(t, 400, q, b, []string{at.Format("2006-01-02T15:04:05"), "it is " + now.Format("2006-01-02T15:")})
		}
	}
	l.refuse(t, 400, who(s, "a", "start", "-1h", "end", "-2h"), body(now), []string{"ends", "before it starts"})
	if g := l.graph(t, ask(s, "cpu", "from", "-15d", "until", "+10m")); g.Coverage.Profiles != 4 {
		t.Errorf("%d of 4 are there", g.Coverage.Profiles)
	}
}

// A sender whose clock is an hour behind or ahead says so with
// Inquest-Sent-At: its times are brought to the collector's clock.
func skew(t *testing.T, l *lab) {
	for i, c := range []struct {
		off     time.Duration // the sender's clock minus the collector's
		shifted bool
	}{{-time.Hour, true}, {time.Hour, true}, {3 * time.Second, false}, {-3 * time.Second, false}, {8 * time.Second, true}} {
		for _, by := range []string{"body", "parameters", "relative"} {
			service := fmt.Sprintf("skew-%d-%s", i, by)
			now := time.Now().UTC()
			sent, taken := now.Add(c.off), now.Add(c.off-10*time.Minute) // as the sender has it
			q, at := who(service, "a"), now
			switch by {
			case "body":
				at = taken
			case "parameters":
				q.Set("start", taken.Format(time.RFC3339Nano))
				q.Set("end", taken.Add(10*time.Second).Format(time.RFC3339Nano))
			case "relative":
				q.Set("start", "-10m")
			}
			a := l.store(t, q, cpu(at, 10*time.Second, "main;s", time.Second), "Inquest-Sent-At", sent.Format(time.RFC3339Nano))
			if (a.ClockShift != "") != c.shifted {
				t.Errorf("%s, clock off by %v: shifted by %q", by, c.off, a.ClockShift)
			}
			if d, err := time.ParseDuration(a.ClockShift); c.shifted && (err != nil || (d+c.off).Abs() > 2*time.Second) {
				t.Errorf("%s, clock off by %v: shifted by %q", by, c.off, a.ClockShift)
			}
			want := now.Add(-10 * time.Minute)
			if !c.shifted && by != "relative" {
				want = taken
			}
			var list struct {
				Values []struct{ Start, End time.Time }
			}
			get(t, l.URL, "/api/v1/profiles", ask(service, "cpu", "from", "-3h", "until", "+10m"), &list)
			if len(list.Values) != 1 || list.Values[0].Start.Sub(want).Abs() > 4*time.Second || list.Values[0].End.Sub(list.Values[0].Start) != 10*time.Second {
				t.Errorf("%s, clock off by %v: stored as %+v, want begin %v", by, c.off, list.Values, want)
			}
		}
	}
	l.refuse(t, 400, who("skew", "a"), cpu(time.Now(), 0, "main;s", 1), []string{"Inquest-Sent-At", "RFC 3339"}, "Inquest-Sent-At", "yesterday")
}

// A profile belongs to the window that contains its begin; the end of a window
// belongs to the next one.
func halfOpen(t *testing.T, l *lab) {
	const s = "halfopen"
	for _, at := range []float64{0, 60, 119.999999999, 120} {
		l.store(t, who(s, "a"), cpu(l.at(at), 10*time.Second, "main;h", time.Second))
	}
	for _, c := range []struct{ from, until, want float64 }{
		{0, 60, 1}, {60, 120, 2}, {120, 180, 1}, {0, 120, 3}, {1, 60, 0}, {0, 0.000000001, 1}, {60.000000001, 120, 1}, {5, 9, 0}, {119.999999999, 120, 1},
	} {
		window := ask(s, "cpu", "from", l.at(c.from).Format(time.RFC3339Nano), "until", l.at(c.until).Format(time.RFC3339Nano))
		if g := l.graph(t, window); float64(g.Coverage.Profiles) != c.want || g.Total != c.want*1e9 {
			t.Errorf("[%v, %v): %d profiles, %v ns, want %v", c.from, c.until, g.Coverage.Profiles, g.Total, c.want)
		}
	}
	a := l.series(t, ask(s, "cpu", "step", "60", "by", "service"))
	if got := l.values(t, a, "service", s); got[0] != 1e9 || got[60] != 2e9 || got[120] != 1e9 || len(got) != 3 {
		t.Errorf("series %v", got)
	}
}

func labelRules(t *testing.T, l *lab) {
	const s = "labels"
	body := cpu(l.at(0), time.Second, "main;l", time.Second)
	most := who(s, "most")
	for i := range 32 {
		most.Set(fmt.Sprintf("label.l%d", i), "v")
	}
	l.store(t, most, body)
	most.Set("label.one_more", "v")
	l.refuse(t, 400, most, body, []string{"33", "32"})
	l.store(t, who(s, "name", "label."+strings.Repeat("n", 128), "v"), body)
	l.refuse(t, 400, who(s, "name", "label."+strings.Repeat("n", 129), "v"), body, []string{"129", "128"})
	l.store(t, who(s, "value", "label.k", strings.Repeat("v", 1024)), body)
	l.refuse(t, 400, who(s, "value", "label.k", strings.Repeat("v", 1025)), body, []string{"1025", "1024"})
	l.refuse(t, 400, who(s, "value", "label.k", "\xff"), body, []string{"UTF-8"})
	l.refuse(t, 400, who(s, "value", "label.", "v"), body, []string{"no name"})
	l.refuse(t, 400, who(strings.Repeat("s", 1025), "a"), body, []string{"1025", "1024"})
	for _, name := range []string{"service", "instance", "release", "build"} {
		l.refuse(t, 400, who(s, "reserved", "label."+name, "x"), body, []string{name, "reserved"})
	}
	l.refuse(t, 400, url.Values{"service": {s, "other"}}, body, []string{"service", "once"})
	l.store(t, who(s, "text", "label.größe", "żółw 🐢 \"x\"\\"), body)
	a := l.store(t, who(s, "order", "label.zone", "z", "label.a", "1", "release", "v1", "build", "abcdef0123456789"), body)
	if want := `{a="1", build="abcdef0123456789", instance="order", release="v1", service="labels", zone="z"}`; a.Series != want {
		t.Errorf("series %s, want %s", a.Series, want)
	}
	if g := l.graph(t, url.Values{"query": {a.Series}, "type": {"cpu"}}); g.Coverage.Profiles != 1 {
		t.Errorf("what a push answers as its series selects %d profiles", g.Coverage.Profiles)
	}
	odd := url.Values{"query": {`{service="labels", "größe"=~"żółw .*"}`}, "type": {"cpu"}}
	if g := l.graph(t, odd); g.Coverage.Profiles != 1 {
		t.Errorf("a label of Unicode selects %d profiles", g.Coverage.Profiles)
	}
}

// A huge goroutine dump is cut to a bound: its total stays, and it is marked.
func hugeGoroutineDump(t *testing.T, l *lab) {
	const s, stacks, kept = "huge", 100_000, 65_536
	var samples []sample
	var want int64
	for i := range stacks {
		n := int64(1)
		if i < 100 {
			n = 1000
		}
		samples = append(samples, sample{stack: fmt.Sprintf("main;a%d;b%d", i%500, i/500), values: []int64{n}})
		want += n
	}
	a := l.store(t, who(s, "a", "interval", "60"), built(l.at(0), 0, "goroutine/count", samples...))
	if a.Samples != kept || a.Truncated != stacks-kept+1 {
		t.Errorf("%d samples, %d folded", a.Samples, a.Truncated)
	}
	g := l.graph(t, ask(s, "goroutine", "agg", "sum", "max_nodes", "1000000"))
	if int64(g.Total) != want || g.Coverage.Truncated != 1 || g.Coverage.Samples != kept {
		t.Errorf("total %v, want %d; coverage %+v", g.Total, want, g.Coverage)
	}
	self := g.self()
	if self["[truncated]"] != stacks-kept+1 {
		t.Errorf("%v are in the sample that stands for the rest", self["[truncated]"])
	}
	for i := range 100 {
		if stack := fmt.Sprintf("main;a%d;b0", i); self[stack] != 1000 {
			t.Errorf("%s has %v", stack, self[stack])
		}
	}
}

func protocolVersions(t *testing.T, l *lab) {
	ask := func(header string) (status int, message, spoken string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.URL+"/api/v1/types", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Inquest-Protocol", header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var a struct{ Error struct{ Message string } }
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, a.Error.Message, resp.Header.Get("Inquest-Protocol")
	}
	for header, want := range map[string]int{"": 200, "1": 200, "2": 400, "0": 400, "one": 400} {
		status, message, spoken := ask(header)
		if status != want || spoken != "1" {
			t.Errorf("protocol %q: status %d, answered in %q", header, status, spoken)
		}
		if status != 200 && (!strings.Contains(message, "version 1") || !strings.Contains(message, header)) {
			t.Errorf("protocol %q: %q does not name both versions", header, message)
		}
	}
	l.refuse(t, 400, who("protocol", "a"), cpu(time.Now(), 0, "main", 1), []string{"version 2"}, "Inquest-Protocol", "2")
	resp, err := http.Post(l.URL+"/api/v1/agents/old/report", "application/json", strings.NewReader(`{"protocol":3}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("a report of version 3: %s", resp.Status)
	}
	var v struct {
		Version, Revision, Go string
		Protocol              int
	}
	get(t, l.URL, "/api/v1/version", nil, &v)
	if v.Version == "" || !strings.HasPrefix(v.Go, "go1.") || v.Protocol != 1 {
		t.Errorf("version %+v", v)
	}
}
