package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/web"
)

// report sends the report of an agent with one target t1, changed by change.
func (w *world) report(id string, change func(*inquest.AgentReport)) answer {
	w.t.Helper()
	r := &inquest.AgentReport{
		ID: id, Host: "h1", Version: "v1", Protocol: inquest.ProtocolVersion, Clock: time.Now().UTC(),
		Targets: []inquest.Target{{ID: "t1", Service: "shop", Instance: "h1:80", Source: "static", State: inquest.TargetUp}},
	}
	if change != nil {
		change(r)
	}
	return w.post("/api/v1/agents/"+id+"/report", r)
}

func (w *world) post(path string, v any) answer {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.do("POST", path, bytes.NewReader(b))
}

func TestAgentsChannel(t *testing.T) {
	w := newWorld(t, web.Options{})
	a := w.report("a1", nil)
	var reported inquest.ReportAnswer
	if err := json.Unmarshal(a.body, &reported); err != nil || a.StatusCode != 200 || reported.Protocol != 1 || reported.MissingBuilds == nil {
		t.Fatalf("report: %s %s", a.Status, a.body)
	}
	wantError(t, w.report("a1", func(r *inquest.AgentReport) { r.Protocol = 7 }), 400, "invalid", "upgrade the collector")
	wantError(t, w.report("a1", func(r *inquest.AgentReport) { r.ID = "a2" }), 400, "invalid", "names agent")
	wantError(t, w.do("POST", "/api/v1/agents/a1/report", strings.NewReader("{")), 400, "invalid", "JSON")

	var agents struct{ Values []ingest.Agent }
	w.getJSON("/api/v1/agents", &agents)
	if len(agents.Values) != 1 || agents.Values[0].ID != "a1" || agents.Values[0].Remote != "127.0.0.1" || agents.Values[0].Silent {
		t.Errorf("agents = %+v", agents)
	}
	var targets struct{ Values []map[string]any }
	w.getJSON("/api/v1/targets", &targets)
	if len(targets.Values) != 1 {
		t.Fatalf("targets = %v", targets)
	}
	got := map[string]any{}
	for _, k := range []string{"id", "service", "agent", "host", "version", "silent"} {
		got[k] = targets.Values[0][k]
	}
	want := map[string]any{"id": "t1", "service": "shop", "agent": "a1", "host": "h1", "version": "v1", "silent": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
}

func TestProfileTarget(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.report("a1", nil)
	start := time.Date(2026, 11, 21, 12, 0, 0, 5e8, time.UTC)
	agent := make(chan error, 1)
	go func() {
		a := w.get("/api/v1/agents/a1/commands?wait=10s")
		var list struct{ Values []inquest.Command }
		if err := json.Unmarshal(a.body, &list); err != nil || len(list.Values) != 1 {
			t.Errorf("commands: %s %s", a.Status, a.body)
			agent <- err
			return
		}
		c := list.Values[0]
		if diff := cmp.Diff(inquest.Command{ID: c.ID, Verb: "profile", Target: "t1", Kind: "heap", Seconds: 3}, c); diff != "" {
			t.Errorf("command (-want +got):\n%s", diff)
		}
		a = w.post("/api/v1/agents/a1/commands/"+c.ID, inquest.CommandResult{Service: "shop", Kind: "heap", Start: start, Profile: "k-1"})
		if a.StatusCode != 200 {
			t.Errorf("result: %s %s", a.Status, a.body)
		}
		wantError(t, w.post("/api/v1/agents/a1/commands/"+c.ID, inquest.CommandResult{}), 404, "not_found", "nobody waits")
		agent <- nil
	}()
	a := w.post("/api/v1/targets/profile", map[string]any{"agent": "a1", "target": "t1", "kind": "inuse_space", "seconds": 3})
	<-agent
	var got struct {
		inquest.CommandResult
		Link       string
		ProfileURL string `json:"profile_url"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil || a.StatusCode != 200 {
		t.Fatalf("profile: %s %s", a.Status, a.body)
	}
	if got.Profile != "k-1" || got.ProfileURL != "/api/v1/profile?id=k-1" ||
		got.Link != "/explore?"+values("agg", "last", "from", "2026-11-21T11:59:59Z", "query", `{service="shop"}`, "type", "inuse_space", "until", "2026-11-21T12:00:02Z") {
		t.Errorf("answer = %+v", got)
	}
	if log := w.log.String(); !strings.Contains(log, "audit") || !strings.Contains(log, "target=t1") {
		t.Errorf("no audit entry: %s", log)
	}

	for _, tt := range []struct {
		body          map[string]any
		status        int
		kind, message string
	}{
		{map[string]any{}, 400, "invalid", "agent and target"},
		{map[string]any{"agent": "a9", "target": "t1"}, 404, "not_found", "no agent"},
		{map[string]any{"agent": "a1", "target": "t9"}, 404, "not_found", "no target"},
		{map[string]any{"agent": "a1", "target": "t1", "kind": "gpu"}, 400, "invalid", "known kinds"},
		{map[string]any{"agent": "a1", "target": "t1", "seconds": 1000}, 400, "invalid", "1 to 120"},
	} {
		wantError(t, w.post("/api/v1/targets/profile", tt.body), tt.status, tt.kind, tt.message)
	}
}

func TestProfileTargetFails(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.report("a1", nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		commands, err := w.fleet.Next(context.Background(), "a1", 10*time.Second)
		if err != nil || len(commands) != 1 {
			t.Errorf("Next: %v, %v", commands, err)
			return
		}
		if err := w.fleet.Done("a1", commands[0].ID, &inquest.CommandResult{Error: "connection refused"}); err != nil {
			t.Error(err)
		}
	}()
	wantError(t, w.post("/api/v1/targets/profile", map[string]any{"agent": "a1", "target": "t1"}), 503, "unavailable", "connection refused")
	<-done
	w.report("a1", func(r *inquest.AgentReport) { r.Refuses = []string{"profile"} })
	wantError(t, w.post("/api/v1/targets/profile", map[string]any{"agent": "a1", "target": "t1"}), 403, "forbidden", "refuses")
}

// The collector's own parts need no network and no token.
func TestLocalClient(t *testing.T) {
	w := newWorld(t, web.Options{Tokens: tokens()})
	client := w.server.LocalClient()
	do := func(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, method, "http://collector.invalid"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(r)
	}
	resp, err := do(t.Context(), "POST", "/api/v1/profiles?service=collector&instance=self", bytes.NewReader(cpuBody(recent())))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), `"samples":2`) {
		t.Errorf("push: %s %s, %v", resp.Status, b, err)
	}
	if resp, err = do(t.Context(), "GET", "/debug/pprof/goroutine", nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("pprof: %v, %v", resp, err)
	}
	if b, err = io.ReadAll(resp.Body); err != nil || len(b) == 0 {
		t.Errorf("pprof: %d bytes, %v", len(b), err)
	}
	_ = resp.Body.Close()
	// A body that is not read to its end does not hold the handler up.
	if resp, err = do(t.Context(), "GET", "/debug/pprof/goroutine?debug=2", nil); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()

	w.reportBy(client, "self")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if resp, err := do(ctx, "GET", "/api/v1/agents/self/commands?wait=30s", nil); err == nil {
		_ = resp.Body.Close()
		t.Error("a canceled long poll was answered")
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("a canceled long poll took %v", d)
	}
}

// reportBy reports through another client.
func (w *world) reportBy(client *http.Client, id string) {
	w.t.Helper()
	b, err := json.Marshal(inquest.AgentReport{ID: id, Protocol: inquest.ProtocolVersion})
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := client.Post("http://collector/api/v1/agents/"+id+"/report", "application/json", bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		w.t.Fatal(resp.Status)
	}
}
