package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/load"
)

// runLoad runs inquest load and returns its report and exit code.
func runLoad(t *testing.T, args ...string) (*load.Report, int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t, "inquest"), append([]string{"load", "-json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r load.Report
	if stdout.Len() > 0 {
		dec := json.NewDecoder(&stdout)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			t.Fatalf("%v in the report; stderr: %s", err, &stderr)
		}
	}
	return &r, cmd.ProcessState.ExitCode(), stderr.String()
}

// smallFleet is 240 profiles: 3 services, one of them a large one's neighbour,
// for ten minutes.
var smallFleet = []string{"-services", "3", "-instances", "2", "-kinds", "cpu,heap,goroutine,mutex", "-window", "10m", "-end", "-30m"}

// covered is how many profiles the collector's own API finds.
func covered(t *testing.T, base, selector, typ string, f load.Fleet) int64 {
	t.Helper()
	var a flame
	get(t, base, "/api/v1/flamegraph", url.Values{
		"query": {selector}, "type": {typ}, "from": {f.From.Format(time.RFC3339)}, "until": {f.Until.Format(time.RFC3339)},
	}, &a)
	return a.Coverage.Profiles
}

// TestLoad runs the simulator against a collector: what its report says is
// what the collector's API says.
func TestLoad(t *testing.T) {
	c := startCollector(t, freeAddr(t), t.TempDir(), "-epoch", "1s")
	r, code, stderr := runLoad(t, append(smallFleet, "-to", c.URL, "-releases", "2", "-settle", "20s")...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	const want = 3 * 2 * 4 * 10
	if r.Sent == nil || r.Sent.Profiles != want || r.Sent.Accepted != want || r.Sent.Lost != 0 || len(r.Sent.Refusals) != 0 {
		t.Fatalf("sent: %+v", r.Sent)
	}
	if r.Stored != want || r.Added != want {
		t.Errorf("%d profiles stored, %d added, want %d", r.Stored, r.Added, want)
	}
	for kind, typ := range map[string]string{"cpu": "cpu", "heap": "inuse_space", "goroutine": "goroutine", "mutex": "mutex_delay"} {
		if got := covered(t, c.URL, "{}", typ, r.Fleet); got != want/4 || r.Found[kind] != got {
			t.Errorf("%s: a flame graph covers %d profiles, the report says %d, want %d", kind, got, r.Found[kind], want/4)
		}
	}
	for _, release := range []string{"v1", "v2"} {
		if got := covered(t, c.URL, `{service="svc-1", release="`+release+`"}`, "cpu", r.Fleet); got == 0 || got == 20 {
			t.Errorf("release %s of svc-1 has %d of 20 profiles", release, got)
		}
	}
	if s := r.Sent; s.PerSecond <= 0 || s.BodyBytes <= 0 || s.Ack.N != want || s.Ack.P50 <= 0 || s.Ack.P50 > s.Ack.P99 || s.Ack.P99 > s.Ack.Max*1.0001 {
		t.Errorf("sent: %+v", s)
	}
	if c := r.Collector; c.CPUSeconds <= 0 || c.CPUMillis == nil || c.RSS <= 0 || c.MostRSS < c.RSS || c.PeakRSS <= 0 {
		t.Errorf("collector: %+v", c)
	}
	if d := r.Disk; d.Heads != 0 || d.BlockBytes <= 0 || d.BlocksPerProfile == nil || *d.BlocksPerProfile != float64(d.BlockBytes)/want {
		t.Errorf("disk: %+v", d)
	}
	covers := map[string]int64{"flame graph, fleet": want / 4, "flame graph, service": 20, "flame graph, service, last 5m": 10, "top functions, fleet": want / 4}
	for _, a := range r.Answers {
		if a.Error != "" || a.Warm.N < 3 || a.Warm.P50 <= 0 || a.Cold.N == 0 || a.Bytes <= 0 {
			t.Errorf("answer: %+v", a)
		}
		if n, ok := covers[a.Name]; ok && a.Profiles != n {
			t.Errorf("%s covers %d profiles, want %d", a.Name, a.Profiles, n)
		}
		delete(covers, a.Name)
	}
	if len(covers) > 0 {
		t.Errorf("not asked: %v", covers)
	}

	// The same again: nothing is stored twice, and that is no problem.
	end := r.Fleet.Until.Add(time.Minute).Format(time.RFC3339)
	again, code, stderr := runLoad(t, append(smallFleet, "-to", c.URL, "-releases", "2", "-end", end)...)
	if code != 0 || again.Sent.Duplicates != want || again.Added != 0 || again.Stored != want {
		t.Errorf("sent again: exit code %d, %+v, %d added, %d stored: %s", code, again.Sent, again.Added, again.Stored, stderr)
	}
	asked, code, stderr := runLoad(t, append(smallFleet, "-to", c.URL, "-ask-only", "-end", end)...)
	if code != 0 || asked.Sent != nil || asked.Stored != want || len(asked.Answers) != len(r.Answers) {
		t.Errorf("asked only: exit code %d, %+v: %s", code, asked, stderr)
	}
}

// TestLoadRefused puts something in front of the collector that refuses: what
// passes is sent again until it is taken, what does not is counted as lost.
func TestLoadRefused(t *testing.T) {
	c := startCollector(t, freeAddr(t), t.TempDir())
	to, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	var posts, invalid atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, kind := 0, ""
		if r.Method == http.MethodPost {
			switch n := posts.Add(1); {
			case n%10 == 3:
				status, kind = http.StatusTooManyRequests, "busy"
			case n%10 == 6:
				status, kind = http.StatusInsufficientStorage, "disk_full"
			case n%10 == 9 && invalid.Add(1) <= 3:
				status, kind = http.StatusBadRequest, "invalid"
			}
		}
		if status == 0 {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error":{"kind":` + strconv.Quote(kind) + `,"message":"not this time"}}`))
	}))
	defer front.Close()
	r, code, stderr := runLoad(t, append(smallFleet, "-to", front.URL, "-connections", "4")...)
	if code != 1 || !strings.Contains(stderr, "3 of 240 profiles were refused for good") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if r.Sent.Accepted != 237 || r.Sent.Lost != 3 || r.Added != 237 {
		t.Errorf("sent %+v, %d added", r.Sent, r.Added)
	}
	times := map[string]load.Refusal{}
	for _, f := range r.Sent.Refusals {
		times[f.Kind] = f
	}
	if f := times["busy"]; f.Status != 429 || f.Times < 20 || f.Lost != 0 {
		t.Errorf("busy: %+v", f)
	}
	if f := times["disk_full"]; f.Status != 507 || f.Times < 20 || f.Lost != 0 {
		t.Errorf("disk full: %+v", f)
	}
	if f := times["invalid"]; f.Status != 400 || f.Times != 3 || f.Lost != 3 || f.Message != "not this time" {
		t.Errorf("invalid: %+v", f)
	}
}

// TestLoadEnds sees that a run that cannot go on says why and what to do.
func TestLoadEnds(t *testing.T) {
	c := startCollector(t, freeAddr(t), t.TempDir())
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing listens", []string{"-to", "http://" + freeAddr(t)}, 1, "cannot reach the collector at http://127.0.0.1:"},
		{"not a collector", []string{"-to", notOurs(t)}, 1, "is not ours"},
		{"too old", []string{"-to", c.URL, "-end", "-100d"}, 1, "100 profiles were refused for good; the last time the collector answers 400: the profile is too old"},
		{"no address", nil, 2, "-to http://127.0.0.1:7070"},
		{"wrong address", []string{"-to", "localhost:7070"}, 2, "is not the address of a collector"},
		{"unknown kind", []string{"-to", c.URL, "-kinds", "cpu,allocs"}, 2, `"allocs": want some of cpu, heap`},
		{"wrong share", []string{"-to", c.URL, "-novelty", "5"}, 2, "want a number from 0 to 1"},
		{"wrong time", []string{"-to", c.URL, "-end", "tomorrow"}, 2, "want now, a duration ago"},
		{"short window", []string{"-to", c.URL, "-window", "30s"}, 2, "less than the interval"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, code, stderr := runLoad(t, tt.args...)
			if code != tt.code || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, want %d: %s, want %q", code, tt.code, stderr, tt.want)
			}
		})
	}
}

// notOurs is the address of a server that is no collector.
func notOurs(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) }))
	t.Cleanup(s.Close)
	return s.URL
}
