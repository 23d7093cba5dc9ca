package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/proc"
)

// target is a scraped service: the profiles of this test's own process, with
// a count of those that were served whole.
type target struct {
	addr string

	mu     sync.Mutex
	busy   int
	closed bool           // answer 503 from now on
	served map[string]int // by the last element of the path
}

func startTarget(t *testing.T) *target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tg := &target{addr: l.Addr().String(), served: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/profile", tg.count("profile", pprof.Profile))
	for _, kind := range []string{"goroutine", "threadcreate"} {
		mux.HandleFunc("/debug/pprof/"+kind, tg.count(kind, pprof.Handler(kind).ServeHTTP))
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return tg
}

func (tg *target) count(kind string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tg.mu.Lock()
		closed := tg.closed
		if !closed {
			tg.busy++
		}
		tg.mu.Unlock()
		if closed {
			http.Error(w, "closed by the test", http.StatusServiceUnavailable)
			return
		}
		h(w, r)
		tg.mu.Lock()
		defer tg.mu.Unlock()
		tg.busy--
		if r.Context().Err() == nil {
			tg.served[kind]++
		}
	}
}

// quiesce refuses new scrapes and waits for the running ones.
func (tg *target) quiesce(t *testing.T) {
	t.Helper()
	tg.mu.Lock()
	tg.closed = true
	tg.mu.Unlock()
	eventually(t, 10*time.Second, "the running scrapes end", func() error {
		tg.mu.Lock()
		defer tg.mu.Unlock()
		if tg.busy > 0 {
			return fmt.Errorf("%d scrapes run", tg.busy)
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond) // the agent reads the last answer and spools it
}

func (tg *target) reopen() {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.closed = false
}

// eventually repeats check until it returns nil, at most for the bound.
func eventually(t *testing.T, bound time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < bound; time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("waited %v until %s: %v", bound, what, err)
}

func startAgent(t *testing.T, collector, spool string, args ...string) *proc.Process {
	t.Helper()
	args = append([]string{"-collector", collector, "-spool", spool, "-capture-crashes=false"}, args...)
	p, err := proc.Start(output(t, "agent"), nil, binary(t, "agent"), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// TestOutage takes the collector away from a scraping agent, and the agent
// from its spool, by SIGTERM and by SIGKILL. Every profile the target served
// must be stored, once.
func TestOutage(t *testing.T) {
	tg := startTarget(t)
	addr, data, spool := freeAddr(t), t.TempDir(), t.TempDir()
	base := "http://" + addr
	config := filepath.Join(t.TempDir(), "agent.yml")
	if err := os.WriteFile(config, []byte(`
host:
  enabled: false
scrape_configs:
  - job_name: outage
    scrape_interval: 2s
    cpu_seconds: 1
    kinds: [cpu, goroutine, threadcreate]
    static_configs:
      - targets: ["`+tg.addr+`"]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(d time.Duration) {
		tg.reopen()
		time.Sleep(d)
		tg.quiesce(t)
	}

	c := startCollector(t, addr, data)
	agent := startAgent(t, base, spool, "-config", config)
	serve(6 * time.Second)
	c.Kill() // an outage: scrapes go on
	serve(6 * time.Second)
	agent.Kill() // with everything it took since in the spool
	agent = startAgent(t, base, spool, "-config", config)
	serve(5 * time.Second)
	c = startCollector(t, addr, data)
	serve(4 * time.Second)
	if err := agent.Stop(20 * time.Second); err != nil {
		t.Errorf("agent after SIGTERM: %v", err)
	}
	agent = startAgent(t, base, spool, "-config", config)
	serve(5 * time.Second)

	names := map[string]string{"profile": "cpu", "goroutine": "goroutine", "threadcreate": "threadcreate"}
	counts := func() (got map[string]int64, err error) {
		got = map[string]int64{}
		for path, typ := range names {
			var f flame
			if err := tryGet(context.Background(), base, "/api/v1/flamegraph", url.Values{
				"query": {`{service="outage"}`}, "type": {typ}, "agg": {"sum"},
			}, &f); err != nil {
				return nil, err
			}
			got[path] = f.Coverage.Profiles
		}
		return got, nil
	}
	eventually(t, 20*time.Second, "everything served is stored", func() error {
		got, err := counts()
		if err != nil {
			return err
		}
		var short []string
		for path := range names {
			if got[path] < int64(tg.served[path]) {
				short = append(short, fmt.Sprintf("%s: %d of %d", path, got[path], tg.served[path]))
			}
		}
		if short != nil {
			return fmt.Errorf("stored %s", strings.Join(short, ", "))
		}
		return nil
	})
	if err := agent.Stop(20 * time.Second); err != nil {
		t.Errorf("agent after SIGTERM: %v", err)
	}
	got, err := counts()
	if err != nil {
		t.Fatal(err)
	}
	for path := range names {
		if got[path] != int64(tg.served[path]) {
			t.Errorf("%s: %d profiles stored, %d served", path, got[path], tg.served[path])
		}
		if tg.served[path] < 5 {
			t.Errorf("%s: only %d scrapes, the test shows nothing", path, tg.served[path])
		}
	}
	if err := c.Stop(20 * time.Second); err != nil {
		t.Errorf("collector after SIGTERM: %v", err)
	}
}
