package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	pprofile "github.com/google/pprof/profile"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait far more than they work.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if childDir != "" {
			_ = os.RemoveAll(childDir) // a temporary directory
		}
		os.Exit(code)
	}))
}

// received is one profile as the collector got it.
type received struct {
	Query url.Values
	Prof  *pprofile.Profile
}

func (r received) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.Query.Get(name))
	if err != nil {
		panic(err) // a test's own mistake, or the agent's: the test ends
	}
	return t
}

// total adds up one sample type.
func (r received) total(typ string) (sum int64) {
	for i, st := range r.Prof.SampleType {
		if st.Type == typ {
			for _, s := range r.Prof.Sample {
				sum += s.Value[i]
			}
		}
	}
	return sum
}

// fakeCollector is the collector's side of the protocol: it takes profiles
// once by their key and complains of keys that come with another body.
type fakeCollector struct {
	t    *testing.T
	mu   sync.Mutex
	keys map[string]string // key → query and body
	got  []received
	dups int

	intercept func(w http.ResponseWriter, r *http.Request) bool // may answer instead
	afterSave func(w http.ResponseWriter) bool                  // may answer after it was stored
	reports   []inquest.AgentReport
	missing   []string // builds asked for in answers to reports
	policy    inquest.CapturePolicy
	commands  chan inquest.Command
	results   chan inquest.CommandResult
	server    *httptest.Server
}

func newCollector(t *testing.T) *fakeCollector {
	c := &fakeCollector{
		t: t, keys: map[string]string{},
		commands: make(chan inquest.Command, 10), results: make(chan inquest.CommandResult, 10),
	}
	c.server = httptest.NewServer(c)
	t.Cleanup(c.server.Close)
	return c
}

func (c *fakeCollector) set(intercept func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intercept = intercept
}

func (c *fakeCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body)) // for whoever answers instead
	c.mu.Lock()
	intercept := c.intercept
	c.mu.Unlock()
	if !strings.HasPrefix(r.URL.Path, "/base/") {
		http.NotFound(w, r) // another agent of this machine looks for profiles
		return
	}
	if intercept != nil && intercept(w, r) {
		return
	}
	w.Header().Set(inquest.HeaderProtocol, "1")
	path, ok := strings.CutPrefix(r.URL.Path, "/base/api/v1/")
	if ok && (r.Header.Get(inquest.HeaderProtocol) != "1" || r.Header.Get(inquest.HeaderSentAt) == "") {
		c.t.Errorf("%s %s without protocol or time: %v", r.Method, r.URL.Path, r.Header)
	}
	switch {
	case !ok:
		http.NotFound(w, r)
	case path == "profiles":
		c.profile(w, r, body)
	case strings.HasSuffix(path, "/report"):
		c.report(w, body)
	case strings.HasSuffix(path, "/commands"):
		c.poll(w, r)
	case strings.Contains(path, "/commands/"):
		var res inquest.CommandResult
		if err := json.Unmarshal(body, &res); err != nil {
			c.t.Error(err)
		}
		c.results <- res
	default:
		http.NotFound(w, r)
	}
}

func (c *fakeCollector) profile(w http.ResponseWriter, r *http.Request, body []byte) {
	key := r.Header.Get(inquest.HeaderIdempotencyKey)
	if _, err := inquest.ParseKey(key); err != nil || r.Header.Get("Content-Encoding") != "zstd" {
		c.t.Errorf("profile with key %q, encoding %q", key, r.Header.Get("Content-Encoding"))
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		c.t.Error(err)
		return
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(body, nil)
	if err != nil {
		c.t.Error(err)
	}
	p, err := pprofile.ParseUncompressed(plain)
	if err != nil {
		c.t.Errorf("profile is not what pprof reads: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	content := r.URL.RawQuery + "\x00" + string(body)
	if old, ok := c.keys[key]; ok {
		c.dups++
		if old != content {
			c.t.Errorf("key %s came again with something else", key)
		}
	} else {
		c.keys[key] = content
		c.got = append(c.got, received{r.URL.Query(), p})
	}
	if c.afterSave != nil && c.afterSave(w) {
		return
	}
	fmt.Fprintf(w, `{"id":"id-%s"}`, key)
}

func (c *fakeCollector) report(w http.ResponseWriter, body []byte) {
	var r inquest.AgentReport
	if err := json.Unmarshal(body, &r); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	c.reports = append(c.reports, r)
	answer := inquest.ReportAnswer{Protocol: inquest.ProtocolVersion, MissingBuilds: c.missing, Capture: c.policy}
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(answer)
}

func (c *fakeCollector) poll(w http.ResponseWriter, r *http.Request) {
	list := []inquest.Command{}
	select {
	case cmd := <-c.commands:
		list = append(list, cmd)
	case <-time.After(2 * time.Second):
	case <-r.Context().Done():
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"values": list})
}

// profiles are those received so far, of one kind if given.
func (c *fakeCollector) profiles(kind inquest.Kind) []received {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []received
	for _, r := range c.got {
		if kind == "" || r.Query.Get("kind") == string(kind) {
			out = append(out, r)
		}
	}
	return out
}

func (c *fakeCollector) options(t *testing.T) agent.Options {
	return agent.Options{Collector: c.server.URL + "/base", SpoolDir: t.TempDir(), Host: "testhost", Version: "v0", Logger: testLogger(t)}
}

// testLogger writes to the test's log until the test ends.
func testLogger(t *testing.T) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done = true
	})
	return slog.New(slog.NewTextHandler(w, nil))
}

type testWriter struct {
	mu   sync.Mutex
	t    *testing.T
	done bool
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// start runs an agent until the test ends or stop is called.
func start(t *testing.T, o agent.Options) (a *agent.Agent, stop func()) {
	t.Helper()
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { a.Stop(context.Background()) })
	t.Cleanup(stop)
	return a, stop
}

// eventually waits until ok, for things that other processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(25 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// static is a configuration that scrapes the servers every second.
func static(kinds []inquest.Kind, targets ...string) agent.Config {
	return agent.Config{ScrapeConfigs: []agent.ScrapeConfig{{
		JobName:       "job",
		Schedule:      agent.Schedule{Interval: time.Second, Kinds: kinds, Timeout: time.Second},
		StaticConfigs: []agent.StaticConfig{{Targets: targets}},
	}}}
}

func addr(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func byService(targets []inquest.Target, service string) *inquest.Target {
	for i := range targets {
		if targets[i].Service == service {
			return &targets[i]
		}
	}
	return nil
}

var children atomic.Int32 // started so far

var childDir string // where buildChild built, once it has

var buildChild = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "inquest-agent-test")
	if err != nil {
		return "", err
	}
	childDir = dir
	exe := filepath.Join(dir, fmt.Sprintf("inqchild%d", os.Getpid()))
	out, err := exec.Command("go", "build", "-o", exe, "./testdata/child").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build child: %w: %s", err, out)
	}
	return exe, nil
})

// child is a run of the test program.
type child struct {
	cmd    *exec.Cmd
	exe    string
	line   string // its first line of output: the ports it listens on
	stderr *lockedBuffer
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func runChild(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	c, err := startChild(t, nil, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func startChild(t *testing.T, attr *syscall.SysProcAttr, env []string, args ...string) (*child, error) {
	t.Helper()
	built, err := buildChild()
	if err != nil {
		t.Fatal(err)
	}
	// A name of its own, by which one test finds it and no other.
	exe := fmt.Sprintf("%s-%d", built, children.Add(1))
	if err := os.Link(built, exe); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe, args...), exe: filepath.Base(exe), stderr: &lockedBuffer{}}
	c.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	c.cmd.Stderr, c.cmd.SysProcAttr = c.stderr, attr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.line = strings.TrimSpace(line)
	return c, nil
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // killed
}
