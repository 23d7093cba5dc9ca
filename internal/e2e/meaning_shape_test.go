package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/goinquest/inquest/internal/proc"
)

func timeForms(t *testing.T, l *lab) {
	const s = "times"
	now := time.Now()
	for i, age := range []time.Duration{30 * time.Minute, 90 * time.Minute, 26 * time.Hour} {
		l.store(t, who(s, "a"), cpu(now.Add(-age), 0, "main", time.Second<<i))
	}
	unix := func(age time.Duration) string { return fmt.Sprint(now.Add(-age).Unix()) }
	for _, c := range []struct {
		from, until string
		want        float64
	}{
		{"", "", 1}, // the last hour
		{"-1h", "", 1},
		{"-2h", "now", 3},
		{"-2h", "-1h", 2},
		{"now-2h", "now-60m", 2},
		{"-2d", "", 7},
		{"-1d12h", "-1d", 4},
		{"-5400.5s", "", 3},
		{unix(2 * time.Hour), unix(time.Hour), 2},
		{unix(2*time.Hour) + ".25", "now", 3},
		{now.Add(-2 * time.Hour).UTC().Format(time.RFC3339), "now", 3},
		{now.Add(-2 * time.Hour).In(time.FixedZone("", 5*3600)).Format(time.RFC3339Nano), "now", 3},
		{"", "-1h", 2}, // the hour before that
		{"-2h", "+1h", 3},
	} {
		q := ask(s, "cpu")
		for k, v := range map[string]string{"from": c.from, "until": c.until} {
			if v != "" {
				q.Set(k, v)
			}
		}
		var g graph
		get(t, l.URL, "/api/v1/flamegraph", q, &g)
		if g.Total != c.want*1e9 {
			t.Errorf("from=%q until=%q: %v s, want %v", c.from, c.until, g.Total/1e9, c.want)
		}
	}
	for _, c := range [][2]string{
		{"yesterday", "now"}, {"-1x", "now"}, {"now", "now"}, {"now", "-1h"}, {"2026-13-01T00:00:00Z", "now"}, {"-", "now"}, {"--1h", "now"},
		{"2026-01-02", "now"}, {"1e9", "now"}, {"NaN", "now"},
	} {
		for _, path := range []string{"/api/v1/flamegraph", "/api/v1/labels", "/api/v1/services", "/api/v1/profiles"} {
			if status, kind, msg := l.status(t, path, url.Values{"from": {c[0]}, "until": {c[1]}}); status != 400 || kind != "invalid" {
				t.Errorf("%s from=%s until=%s: %d %s %s", path, c[0], c[1], status, kind, msg)
			}
		}
	}
}

func refusals(t *testing.T, l *lab) {
	for _, c := range []struct {
		path, query string
		status      int
		kind, says  string
	}{
		{"/api/v1/flamegraph", "typ=cpu", 400, "invalid", "type"},
		{"/api/v1/flamegraph", "type=cpu&limit=5", 400, "invalid", "limit"},
		{"/api/v1/flamegraph", "type=cpu&max_nodes=0", 400, "invalid", "max_nodes"},
		{"/api/v1/flamegraph", "type=cpu&max_nodes=many", 400, "invalid", "max_nodes"},
		{"/api/v1/flamegraph", "type=cpu&type=samples", 400, "invalid", "once"},
		{"/api/v1/flamegraph", "type=nonsense", 404, "not_found", "inuse_space"},
		{"/api/v1/top", "type=cpu&by=colour", 400, "invalid", "function"},
		{"/api/v1/top", "type=cpu&limit=-1", 400, "invalid", "limit"},
		{"/api/v1/series", "type=cpu&step=0.5", 400, "invalid", "1s"},
		{"/api/v1/series", "type=cpu&step=-5", 400, "invalid", "step"},
		{"/api/v1/series", "type=cpu&step=1&from=-7d", 400, "invalid", "step"},
		{"/api/v1/series", "type=cpu&max_nodes=5", 400, "invalid", "max_nodes"},
		{"/api/v1/profile", "type=cpu&agg=avg", 400, "invalid", "agg"},
		{"/api/v1/profile", "type=cpu&rate=true", 400, "invalid", "rate"},
		{"/api/v1/profile", "id=x&type=cpu", 400, "invalid", "id"},
		{"/api/v1/labels", "by=x", 400, "invalid", "by"},
		{"/api/v1/services", "service=x", 400, "invalid", "service"},
		{"/api/v1/version", "x=y", 0, "", ""},
		{"/api/v1/flamegraf", "", 404, "not_found", "/api/v1/flamegraph"},
		{"/api/v2/flamegraph", "", 404, "not_found", ""},
	} {
		if c.status == 0 {
			continue
		}
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		if status, kind, msg := l.status(t, c.path, q); status != c.status || kind != c.kind || !strings.Contains(msg, c.says) {
			t.Errorf("%s?%s: %d %s %q, want %d %s and %q", c.path, c.query, status, kind, msg, c.status, c.kind, c.says)
		}
	}
	l.refuse(t, 400, who("refused", "a", "servise", "x"), cpu(l.at(0), 0, "main", 1), []string{"servise", "service"})
	l.refuse(t, 400, who("refused", "a", "interval", "-5"), cpu(l.at(0), 0, "main", 1), []string{"interval"})
	resp, err := http.Post(l.URL+"/api/v1/flamegraph", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST of a flame graph: %s", resp.Status)
	}
}

// keys is the names of fields of a JSON object, "a.b" for those of an object
// in it, "a[].b" for those of objects in a list.
func keys(v any) []string {
	set := map[string]bool{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				name := strings.TrimPrefix(prefix+"."+k, ".")
				set[name] = true
				walk(name, e)
			}
		case []any:
			for _, e := range v {
				walk(prefix+"[]", e)
			}
		}
	}
	walk("", v)
	return slices.Sorted(maps.Keys(set))
}

// shapes checks the names of fields that the outside relies on.
func shapes(t *testing.T, l *lab) {
	const s = "shapes"
	l.store(t, who(s, "a"), cpu(l.at(0), 10*time.Second, "main;work", time.Second))
	coverage := []string{
		"coverage", "coverage.from", "coverage.observed_process_seconds", "coverage.present_process_seconds", "coverage.processes", "coverage.profiles",
		"coverage.pruned", "coverage.pruned.nodes", "coverage.pruned.value", "coverage.resolution", "coverage.samples", "coverage.unsymbolized", "coverage.until",
	}
	for path, want := range map[string][]string{
		"/api/v1/flamegraph": {"agg", "names", "nodes", "nodes.cum", "nodes.name", "nodes.parent", "nodes.self", "total", "type", "unit"},
		"/api/v1/top":        {"agg", "by", "count", "rows", "rows[].cum", "rows[].file", "rows[].line", "rows[].name", "rows[].self", "total", "type", "unit"},
		"/api/v1/series":     {"agg", "series", "series[].labels", "series[].labels.service", "series[].points", "step", "type", "unit"},
		"/api/v1/profiles":   {"values", "values[].end", "values[].id", "values[].kind", "values[].labels", "values[].labels.instance", "values[].labels.service", "values[].process", "values[].samples", "values[].start", "values[].total"},
	} {
		q := ask(s, "cpu")
		if path == "/api/v1/series" {
			q.Set("by", "service")
		}
		var a any
		l.ofHour(t, path, q, &a)
		want = slices.Sorted(slices.Values(append(want, coverage...)))
		if diff := cmp.Diff(want, keys(a)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	g := l.graph(t, ask(s, "cpu"))
	if c := g.Coverage; !c.From.Equal(l.at(0)) || !c.Until.Equal(l.at(3600)) || c.Resolution != "raw" || c.Profiles != 1 || c.Processes != 1 || c.Samples != 1 ||
		c.ObservedProcessSeconds != 10 || c.PresentProcessSeconds != 10 || c.Unsymbolized != 0 {
		t.Errorf("coverage %+v", c)
	}
	if g.Nodes.Parent[0] != -1 || g.Nodes.Cum[0] != 1e9 || g.Total != 1e9 || g.Unit != "nanoseconds" || g.Type != "cpu" || g.Agg != "sum" {
		t.Errorf("flame graph %+v", g)
	}
	a := l.top(t, ask(s, "cpu"))
	if len(a.Rows) != 2 || a.Rows[0].Name != "work" || a.Rows[0].Self != 1e9 || a.Rows[0].File != "/src/work.go" || a.Rows[0].Line != 1 || a.Rows[1].Self != 0 || a.Rows[1].Cum != 1e9 {
		t.Errorf("top %+v", a)
	}
	// Nothing selected has the same shape: empty lists, not null.
	for path, field := range map[string]string{"/api/v1/flamegraph": "nodes", "/api/v1/top": "rows", "/api/v1/series": "series", "/api/v1/profiles": "values"} {
		var a map[string]any
		l.ofHour(t, path, ask("nobody", "cpu"), &a)
		if a[field] == nil || a["coverage"] == nil {
			t.Errorf("%s of nothing: %v", path, a)
		}
	}
	// A frame without a name is counted.
	l.store(t, who(s+"-addresses", "a"), addresses(t, l.at(0)))
	if g := l.graph(t, ask(s+"-addresses", "cpu")); g.Coverage.Unsymbolized != 3e9 || g.Total != 4e9 {
		t.Errorf("unsymbolized %v of %v", g.Coverage.Unsymbolized, g.Total)
	}
	// An error.
	resp, err := http.Get(l.URL + "/api/v1/flamegraph?typ=cpu")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e any
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		t.Fatal(err)
	}
	if got := keys(e); !slices.Contains(got, "error.kind") || !slices.Contains(got, "error.message") || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("error %v of type %s", e, resp.Header.Get("Content-Type"))
	}
}

func lists(t *testing.T, l *lab) {
	const s = "listed"
	l.store(t, who(s, "a", "release", "v1", "label.region", "eu"), cpu(l.at(0), time.Second, "main", time.Second))
	l.store(t, who(s, "b", "release", "v2", "label.region", "us"), heap(l.at(60), "main", 1, 1, 1, 1))
	for _, c := range []struct {
		path string
		q    url.Values
		want []string
	}{
		{"/api/v1/labels", ask(s, ""), []string{"instance", "region", "release", "service"}},
		{"/api/v1/labels/region/values", ask(s, ""), []string{"eu", "us"}},
		{"/api/v1/labels/region/values", ask(s, "cpu"), []string{"eu"}},
		{"/api/v1/labels/region/values", ask(s, "inuse_space"), []string{"us"}},
		{"/api/v1/labels/region/values", ask(s, "", "from", l.at(30).Format(time.RFC3339)), []string{"us"}},
		{"/api/v1/labels/release/values", url.Values{"query": {`{service="listed", region="eu"}`}}, []string{"v1"}},
		{"/api/v1/labels/none/values", ask(s, ""), []string{}},
		{"/api/v1/labels/service/values", ask(s, ""), []string{s}},
	} {
		var a struct{ Values []string }
		l.ofHour(t, c.path, c.q, &a)
		if diff := cmp.Diff(c.want, a.Values); diff != "" {
			t.Errorf("%s?%s (-want +got):\n%s", c.path, c.q.Encode(), diff)
		}
	}
	var services struct {
		Values []struct {
			Name            string
			Types, Releases []string
			Instances       int
			Last            time.Time
		}
	}
	l.ofHour(t, "/api/v1/services", nil, &services)
	found := false
	for _, v := range services.Values {
		if v.Name != s {
			continue
		}
		found = true
		if !cmp.Equal(v.Types, []string{"cpu", "samples", "alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}) ||
			!cmp.Equal(v.Releases, []string{"v1", "v2"}) || v.Instances != 2 || !v.Last.Equal(l.at(60)) {
			t.Errorf("service %+v", v)
		}
	}
	if !found {
		t.Errorf("%s is not among %+v", s, services.Values)
	}
	var types struct {
		Values []struct{ Name, Kind, Unit, Temporality string }
	}
	l.ofHour(t, "/api/v1/types", ask(s, ""), &types)
	want := []struct{ Name, Kind, Unit, Temporality string }{
		{"cpu", "cpu", "nanoseconds", "delta"}, {"samples", "cpu", "count", "delta"},
		{"alloc_objects", "heap", "count", "delta"}, {"alloc_space", "heap", "bytes", "delta"},
		{"inuse_objects", "heap", "count", "instant"}, {"inuse_space", "heap", "bytes", "instant"},
	}
	if diff := cmp.Diff(want, types.Values); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// TestMeaningOfTokens checks the scopes at the collector, and that an agent
// with a token gets through.
func TestMeaningOfTokens(t *testing.T) {
	dir := t.TempDir()
	hash := func(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }
	config := filepath.Join(dir, "collector.yml")
	if err := os.WriteFile(config, []byte(`tokens:
  - {name: agents, hash: `+hash("in-token")+`, scopes: [ingest]}
  - {name: people, hash: `+hash("read-token")+`, scopes: [read]}
  - {name: root, hash: `+hash("admin-token")+`, scopes: [admin]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	// All addresses: only because there are tokens.
	addr := freeAddr(t)
	c, err := proc.StartCollector(t.Context(), output(t, "collector"), binary(t, "collector"), strings.Replace(addr, "127.0.0.1", "0.0.0.0", 1), t.TempDir(), "-config", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	base := "http://" + addr
	l := newLab(t, &proc.Collector{Process: c.Process, URL: base})

	body := cpu(l.at(0), time.Second, "main", time.Second)
	for token, want := range map[string]int{"": 401, "wrong": 401, "in-token": 200, "read-token": 403, "admin-token": 200} {
		var header []string
		if token != "" {
			header = []string{"Authorization", "Bearer " + token}
		}
		a, err := l.push(t.Context(), who("tokens", "a"), body, header...)
		if err != nil || a.Status != want {
			t.Errorf("push with %q: %d %v (%s), want %d", token, a.Status, err, a.Error.Message, want)
		}
	}
	none, in, read, admin := "", "in-token", "read-token", "admin-token"
	for path, may := range map[string][]string{
		"/api/v1/version":                        {none, in, read, admin},
		"/healthz":                               {none, in, read, admin},
		"/readyz":                                {none, in, read, admin},
		"/api/v1/flamegraph?type=cpu":            {read, admin},
		"/api/v1/top?type=cpu":                   {read, admin},
		"/api/v1/series?type=cpu":                {read, admin},
		"/api/v1/profiles?type=cpu":              {read, admin},
		"/api/v1/profile?type=cpu&from=-7h":      {read, admin},
		"/api/v1/labels":                         {read, admin},
		"/api/v1/labels/service/values":          {read, admin},
		"/api/v1/services":                       {read, admin},
		"/api/v1/types":                          {read, admin},
		"/api/v1/agents":                         {read, admin},
		"/api/v1/targets":                        {read, admin},
		"/metrics":                               {read, admin},
		"/explore":                               {read, admin},
		"/targets":                               {read, admin},
		"/debug/pprof/":                          {admin},
		"/api/v1/agents/nobody/commands?wait=0s": {in, admin},
	} {
		for _, token := range []string{none, in, read, admin, "wrong"} {
			want := 403
			switch {
			case slices.Contains(may, token):
				want = 200
			case token == none || token == "wrong":
				want = 401
			}
			if token == "wrong" && slices.Contains(may, none) {
				continue // whether a token that does not exist spoils what needs none is not promised
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if token != none {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			resp, err := http.DefaultTransport.RoundTrip(req) // no redirects
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("GET %s with %q: %s, want %d", path, token, resp.Status, want)
			}
		}
	}
	agentWithToken(t, l, dir)
}

// agentWithToken runs an agent whose token is in a file.
func agentWithToken(t *testing.T, l *lab, dir string) {
	t.Helper()
	token, config := filepath.Join(dir, "token"), filepath.Join(dir, "agent.yml")
	for name, text := range map[string]string{token: "in-token\n", config: "host: {enabled: false}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startAgent(t, l.URL, t.TempDir(), "-config", config, "-token-file", token, "-self-profile=false")
	eventually(t, 10*time.Second, "the agent reports", func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.URL+"/api/v1/agents", nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth("x", "read-token")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var a struct{ Values []struct{ ID string } }
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			return err
		}
		if len(a.Values) != 1 {
			return fmt.Errorf("%d agents", len(a.Values))
		}
		return nil
	})
	// Without a token an address that others reach is not served.
	p, err := proc.Start(output(t, "open collector"), nil, binary(t, "collector"), "-listen", "0.0.0.0:0", "-data", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	select {
	case <-p.Ended():
	case <-time.After(10 * time.Second):
		t.Error("a collector without tokens serves all addresses")
	}
}

// addresses is a CPU profile of which one stack of 3 s ends in a bare address
// and one of 1 s does not.
func addresses(t *testing.T, at time.Time) []byte {
	t.Helper()
	p, err := profile.ParseData(built(at, 10*time.Second, "samples/count cpu/nanoseconds",
		sample{stack: "main;nameless", values: []int64{300, 3e9}}, sample{stack: "main", values: []int64{100, 1e9}}))
	if err != nil {
		t.Fatal(err)
	}
	p.Sample[0].Location[0].Line = nil
	return written(p)
}
