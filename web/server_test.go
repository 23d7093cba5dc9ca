package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"
	"go.uber.org/goleak"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump/analysis"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

// world is a whole collector behind a real listener.
type world struct {
	t        testing.TB
	url      string // http://127.0.0.1:port
	dir      string // of the store
	store    *store.Store
	fleet    *ingest.Fleet
	binaries *ingest.Binaries
	crashes  *ingest.Crashes
	analyses *ingest.Analyses
	server   *web.Server
	client   *http.Client // follows no redirect
	log      *lines       // of the server
}

// lines collects log output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld starts a collector; the rooms in o are filled in.
func newWorld(t testing.TB, o web.Options) *world {
	t.Helper()
	return newWorldOn(t, store.Options{CommitDelay: 2 * time.Millisecond}, o)
}

// newWorldOn is newWorld on a store of one's own.
func newWorldOn(t testing.TB, so store.Options, o web.Options) *world {
	t.Helper()
	return newWorldWith(t, so, ingest.BinariesOptions{}, o)
}

// newWorldWith is newWorldOn with binaries of one's own.
func newWorldWith(t testing.TB, so store.Options, bo ingest.BinariesOptions, o web.Options) *world {
	t.Helper()
	w := &world{t: t, log: &lines{}}
	var err error
	so.Dir = t.TempDir()
	w.dir = so.Dir
	w.store, err = store.Open(context.Background(), so)
	if err != nil {
		t.Fatal(err)
	}
	bo.Store = w.store
	w.binaries, err = ingest.NewBinaries(bo)
	if err != nil {
		t.Fatal(err)
	}
	o.Binaries = w.binaries
	if w.crashes, err = ingest.NewCrashes(ingest.CrashesOptions{Store: w.store}); err != nil {
		t.Fatal(err)
	}
	o.Crashes = w.crashes
	w.analyses = ingest.NewAnalyses(ingest.AnalysesOptions{Store: w.store, Binaries: w.binaries, Crashes: w.crashes, Logger: slog.New(slog.NewTextHandler(w.log, nil))})
	w.analyses.Start()
	o.Analyses = w.analyses
	w.fleet = ingest.NewFleet(ingest.FleetOptions{Builds: w.store.PutBuilds, Missing: w.binaries.Lease, Capture: w.crashes.Policy})
	o.Store, o.Fleet = w.store, w.fleet
	o.Ingest = ingest.New(ingest.Options{Store: w.store})
	o.Query = query.New(query.Options{Store: w.store, Symbols: w.binaries})
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	if w.server, err = web.New(o); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.server.Start(ln); err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if o.TLSCertFile != "" {
		scheme = "https://"
	}
	w.url = scheme + ln.Addr().String()
	w.client = &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.server.Stop(ctx); err != nil {
		w.t.Error(err)
	}
	if err := <-w.server.Done(); err != nil {
		w.t.Error(err)
	}
	w.analyses.Stop()
	w.binaries.Stop()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

// answer is a response that was read.
type answer struct {
	*http.Response
	body []byte
}

// do makes a request; headers are "Name: value".
func (w *world) do(method, path string, body io.Reader, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	resp, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp, b}
}

func (w *world) get(path string, headers ...string) answer {
	w.t.Helper()
	return w.do("GET", path, nil, headers...)
}

// getJSON makes a request that must succeed and decodes its answer.
func (w *world) getJSON(path string, into any) {
	w.t.Helper()
	a := w.get(path)
	if a.StatusCode != http.StatusOK {
		w.t.Fatalf("GET %s: %s: %s", path, a.Status, a.body)
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		w.t.Fatalf("GET %s: %v: %s", path, err, a.body)
	}
}

// push stores a profile.
func (w *world) push(params string, body []byte, headers ...string) ingest.Ack {
	w.t.Helper()
	a := w.do("POST", "/api/v1/profiles?"+params, bytes.NewReader(body), headers...)
	if a.StatusCode != http.StatusOK {
		w.t.Fatalf("push %s: %s: %s", params, a.Status, a.body)
	}
	var ack ingest.Ack
	if err := json.Unmarshal(a.body, &ack); err != nil {
		w.t.Fatal(err)
	}
	return ack
}

// wantError checks an error in the API's JSON.
func wantError(t testing.TB, a answer, status int, kind, message string) {
	t.Helper()
	var e struct {
		Error struct{ Kind, Message string }
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("%s: %v: %.300s", a.Status, err, a.body)
	}
	if a.StatusCode != status || e.Error.Kind != kind || !strings.Contains(e.Error.Message, message) {
		t.Errorf("got %s, kind %q, %q\nwant %d, kind %q, …%q…", a.Status, e.Error.Kind, e.Error.Message, status, kind, message)
	}
}

// cpuBody is a CPU profile of 10 s that begins at at: 30 ms in main.work
// called by main.main, 10 ms in main.main.
func cpuBody(at time.Time) []byte {
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1e7,
		TimeNanos: at.UnixNano(), DurationNanos: 10e9,
		Mapping: []*pprof.Mapping{{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/bin/shop", BuildID: "abcdef0123456789", HasFunctions: true}},
	}
	var locs []*pprof.Location
	for i, name := range []string{"main.main", "main.work"} {
		f := &pprof.Function{ID: uint64(i + 1), Name: name, Filename: "main.go", StartLine: int64(10 * i)}
		l := &pprof.Location{ID: uint64(i + 1), Mapping: p.Mapping[0], Address: 0x1000 + uint64(i), Line: []pprof.Line{{Function: f, Line: int64(10*i + 5)}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		locs = append(locs, l)
	}
	p.Sample = []*pprof.Sample{
		{Location: []*pprof.Location{locs[1], locs[0]}, Value: []int64{3, 30e6}},
		{Location: []*pprof.Location{locs[0]}, Value: []int64{1, 10e6}},
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// recent is a moment within every default window.
func recent() time.Time { return time.Now().Add(-time.Minute).Truncate(time.Second) }

func TestMain(m *testing.M) {
	sandbox.Main(analysis.Stage())
	if ran := loadClient(); ran {
		return
	}
	goleak.VerifyTestMain(m)
}

func TestVersionAndHealth(t *testing.T) {
	w := newWorld(t, web.Options{Version: "v9", Revision: "abc"})
	var v struct {
		Version, Revision, Go string
		Protocol              int
	}
	w.getJSON("/api/v1/version", &v)
	if v.Version != "v9" || v.Revision != "abc" || !strings.HasPrefix(v.Go, "go1.") || v.Protocol != inquest.ProtocolVersion {
		t.Errorf("version = %+v", v)
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": "inquest_http_requests_total", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile",
	} {
		if a := w.get(path); a.StatusCode != http.StatusOK || !strings.Contains(string(a.body), want) {
			t.Errorf("GET %s: %s: %.200s", path, a.Status, a.body)
		}
	}
	if a := w.do("HEAD", "/healthz", nil); a.StatusCode != http.StatusOK {
		t.Errorf("HEAD /healthz: %s", a.Status)
	}
	if a := w.get("/debug/pprof/cmdline"); a.StatusCode != http.StatusForbidden {
		t.Errorf("cmdline: %s", a.Status)
	}
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, web.Options{})
	for _, path := range []string{"/api/v1/version", "/api/v1/nothing", "/explore"} {
		h := w.get(path).Header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", inquest.HeaderProtocol: "1",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("GET %s: header %s = %q, want %q", path, name, got, want)
			}
		}
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") || len(h.Get("X-Request-Id")) != 16 {
			t.Errorf("GET %s: policy %q, request id %q", path, csp, h.Get("X-Request-Id"))
		}
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(t, web.Options{})
	wantError(t, w.get("/api/v1/flamegrap"), 404, "not_found", "did you mean /api/v1/flamegraph?")
	wantError(t, w.get("/api/v2/zzz"), 404, "not_found", "nothing at /api/v2/zzz")
	a := w.do("DELETE", "/api/v1/top", nil)
	wantError(t, a, 405, "method_not_allowed", "DELETE is not possible")
	if allow := a.Header.Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "HEAD") {
		t.Errorf("Allow = %q", allow)
	}
	wantError(t, w.get("/api/v1/top?tpye=cpu"), 400, "invalid", "did you mean type?")
	wantError(t, w.get("/api/v1/top?type=cpu&type=heap"), 400, "invalid", "2 times")
	wantError(t, w.get("/api/v1/top?x=%zz"), 400, "invalid", "query string")
	wantError(t, w.get("/api/v1/version", "Inquest-Protocol: 0"), 400, "invalid", "upgrade the agent or client")
	wantError(t, w.get("/api/v1/version", "Inquest-Protocol: 2"), 400, "invalid", "upgrade the collector")
	wantError(t, w.get("/api/v1/version", "Inquest-Protocol: x"), 400, "invalid", "not a number")
	// People get a page, programs elsewhere JSON.
	if a := w.get("/nowhere", "Accept: text/html"); a.StatusCode != 404 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a browser gets %s, %s", a.Status, a.Header.Get("Content-Type"))
	}
	wantError(t, w.get("/nowhere"), 404, "not_found", "/nowhere")
}

func TestGzip(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.push("service=shop", cpuBody(recent()))
	for path, want := range map[string]string{
		"/explore": "gzip", "/healthz": "", "/api/v1/profile?type=cpu": "",
	} {
		if got := w.get(path, "Accept-Encoding: gzip").Header.Get("Content-Encoding"); got != want {
			t.Errorf("GET %s: Content-Encoding %q, want %q", path, got, want)
		}
	}
}

// A fault of ours is answered without its insides and stands in the log.
func TestPanicIsAnswered(t *testing.T) {
	var log lines
	s, err := web.New(web.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}) // the rooms behind it are missing
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/api/v1/services", nil)
	r.Host = "localhost"
	s.Handler().ServeHTTP(rec, r)
	id := rec.Header().Get("X-Request-Id")
	wantError(t, answer{rec.Result(), rec.Body.Bytes()}, 500, "internal", id)
	if strings.Contains(rec.Body.String(), "nil pointer") {
		t.Errorf("the answer shows the inside: %s", rec.Body)
	}
	if !strings.Contains(log.String(), "nil pointer") || strings.Count(log.String(), "request failed") != 1 || !strings.Contains(log.String(), id) {
		t.Errorf("log: %s", log.String())
	}
}

// Stop ends long polls at once and waits for running requests.
func TestStop(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.report("a1", nil)
	polled := make(chan time.Duration)
	go func() {
		began := time.Now()
		a := w.get("/api/v1/agents/a1/commands?wait=30s")
		if a.StatusCode != 200 || string(bytes.TrimSpace(a.body)) != `{"values":[]}` {
			t.Errorf("long poll: %s %s", a.Status, a.body)
		}
		polled <- time.Since(began)
	}()
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := w.server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if d := <-polled; d > 3*time.Second {
		t.Errorf("a long poll held the server up for %v", d)
	}
	if _, err := http.Get(w.url + "/healthz"); err == nil {
		t.Error("a stopped server answers")
	}
	if err := w.server.Start(nil); err == nil {
		t.Error("a server was started twice")
	}
}

// A request that does not end is cut off when the bound is over.
func TestStopIsBounded(t *testing.T) {
	w := newWorld(t, web.Options{})
	pr, pw := io.Pipe()
	defer func() { _ = pw.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, _ := http.NewRequest("POST", w.url+"/api/v1/profiles?service=s", pr)
		resp, err := w.client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	_, _ = pw.Write([]byte("x"))
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w.server.Stop(ctx); err == nil {
		t.Error("Stop did not say that requests were cut off")
	}
	_ = pw.Close()
	<-done
}

func TestNewRefuses(t *testing.T) {
	token := web.Token{Name: "t", Hash: web.HashToken("x"), Scopes: []web.Scope{web.ScopeRead}}
	for name, o := range map[string]web.Options{
		"token without name":  {Tokens: []web.Token{{Hash: token.Hash, Scopes: token.Scopes}}},
		"token without scope": {Tokens: []web.Token{{Name: "t", Hash: token.Hash}}},
		"unknown scope":       {Tokens: []web.Token{{Name: "t", Hash: token.Hash, Scopes: []web.Scope{"write"}}}},
		"plain token as hash": {Tokens: []web.Token{{Name: "t", Hash: "secret", Scopes: token.Scopes}}},
		"hash too long":       {Tokens: []web.Token{{Name: "t", Hash: token.Hash + token.Hash, Scopes: token.Scopes}}},
		"host with port":      {Hosts: []string{"inquest.example:7070"}},
		"half of TLS":         {TLSCertFile: "x.pem"},
		"missing TLS files":   {TLSCertFile: "x.pem", TLSKeyFile: "y.pem"},
	} {
		if _, err := web.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func values(query ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		v.Set(query[i], query[i+1])
	}
	return v.Encode()
}
