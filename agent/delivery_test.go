package agent_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/google/go-cmp/cmp"
)

// contentions is what the collector has of a target whose counter began at
// 10: the first profile is a baseline and says nothing of it.
func contentions(c *fakeCollector) (sum int64) {
	for _, r := range c.profiles(inquest.KindMutex) {
		sum += r.total("contentions")
	}
	return sum
}

func TestNothingLostOrDoubledOverOutages(t *testing.T) {
	t.Parallel()
	target := &counter{t: t}
	srv := httptest.NewServer(target)
	defer srv.Close()
	c := newCollector(t)
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindMutex}, addr(srv))

	status := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			return true
		}
	}
	outages := []struct {
		name      string
		intercept func(http.ResponseWriter, *http.Request) bool
	}{
		{"503", status(http.StatusServiceUnavailable)},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return true
		}},
		{"token", status(http.StatusUnauthorized)},
		{"retry-after", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}},
	}
	// The collector stores every fourth profile, and fails to say so.
	var n atomic.Int32
	c.afterSave = func(w http.ResponseWriter) bool {
		if n.Add(1)%4 != 2 {
			return false
		}
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	a, stop := start(t, o)
	for i, out := range outages {
		eventually(t, "shipping before "+out.name, func() bool { return a.Report().Spool.Shipped > 0 })
		c.set(out.intercept)
		eventually(t, "spooled during "+out.name, func() bool {
			sp := a.Report().Spool
			return sp.Profiles > 0 && sp.LastError != ""
		})
		// The agent is restarted while the collector is away, or before.
		stop()
		if i%2 == 0 {
			c.set(nil)
		}
		a, stop = start(t, o)
		c.set(nil)
	}
	eventually(t, "everything shipped", func() bool {
		sp := a.Report().Spool
		return sp.Shipped > 0 && sp.Profiles == 0
	})
	stop()
	if got, want := contentions(c), target.total.Load()-10; got != want {
		t.Errorf("%d contentions arrived, the target counted %d", got, want)
	}
	if c.dups == 0 {
		t.Error("no profile was sent twice: the test has not seen a lost answer")
	}
	var last time.Time
	for i, r := range c.profiles(inquest.KindMutex) {
		if i > 0 && last.Before(r.time("start")) {
			t.Errorf("profile %d begins %v after the one before ended", i, r.time("start").Sub(last))
		}
		if e := r.time("end"); e.After(last) {
			last = e
		}
	}
}

func TestCounterThatFallsIsAReset(t *testing.T) {
	t.Parallel()
	served := []int64{10, 20, 30, 5, 15}
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := n.Load()
		if kindOf(r) != inquest.KindMutex || i == int64(len(served)) {
			http.NotFound(w, r)
			return
		}
		n.Add(1)
		_, _ = w.Write(body(t, inquest.KindMutex, served[i]))
	}))
	defer srv.Close()
	c := newCollector(t)
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindMutex}, addr(srv))
	start(t, o)
	eventually(t, "all of them", func() bool { return len(c.profiles(inquest.KindMutex)) == len(served) })
	var got []int64
	for _, r := range c.profiles(inquest.KindMutex) {
		got = append(got, r.total("contentions"))
		if observed := r.time("end").Sub(r.time("start")); (observed == 0) != (got[len(got)-1] == 0) {
			t.Errorf("%d contentions in %v", got[len(got)-1], observed)
		}
	}
	if d := cmp.Diff([]int64{0, 10, 10, 0, 10}, got); d != "" {
		t.Error(d)
	}
}

func TestRefusedProfilesAreSetAside(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&counter{t: t})
	defer srv.Close()
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/profiles") {
			return false
		}
		http.Error(w, `{"error":{"kind":"invalid","message":"too old"}}`, http.StatusBadRequest)
		return true
	})
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindHeap}, addr(srv))
	a, stop := start(t, o)
	eventually(t, "refused", func() bool { return a.Report().Spool.Refused > 0 })
	if sp := a.Report().Spool; !strings.Contains(sp.LastError, "too old") {
		t.Errorf("spool %+v", sp)
	}
	stop()
	names, err := filepath.Glob(filepath.Join(o.SpoolDir, "refused", "*.reason"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	if text, err := os.ReadFile(names[0]); err != nil || !strings.Contains(string(text), "too old") {
		t.Errorf("reason %q, %v", text, err)
	}
}

func TestOneBadProfileHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&counter{t: t})
	defer srv.Close()
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("kind") != "heap" {
			return false
		}
		http.Error(w, "panic", http.StatusInternalServerError)
		return true
	})
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindHeap, inquest.KindGoroutine}, addr(srv))
	start(t, o)
	eventually(t, "the others arrive", func() bool { return len(c.profiles(inquest.KindGoroutine)) >= 2 })
}

func TestQuotaDropsAreReported(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.server.Close() // away for good
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body(t, inquest.KindGoroutine, time.Now().UnixNano()))
	}))
	defer target.Close()
	o := c.options(t)
	o.SpoolQuotaBytes = 1500
	for i := range 4 {
		sc := job(fmt.Sprint("j", i), addr(target))
		sc.Kinds = []inquest.Kind{inquest.KindGoroutine}
		o.Config.ScrapeConfigs = append(o.Config.ScrapeConfigs, sc)
	}
	a, _ := start(t, o)
	eventually(t, "a drop is seen", func() bool {
		sp := a.Report().Spool
		return sp.Dropped > 0 && sp.Profiles > 0 && sp.Bytes <= sp.QuotaBytes && sp.LastError != ""
	})
}

func TestCommandTakesAProfileNow(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&counter{t: t})
	defer srv.Close()
	c := newCollector(t)
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindHeap}, addr(srv))
	o.Config.ScrapeConfigs[0].Interval = minute
	a, _ := start(t, o)
	eventually(t, "a first profile", func() bool { return len(c.profiles("")) > 0 })
	eventually(t, "a report", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.reports) > 0 && c.reports[0].ID == a.ID()
	})
	id := a.Targets()[0].ID
	tests := []struct {
		cmd       inquest.Command
		err, kind string
	}{
		{inquest.Command{ID: "1", Verb: "profile", Target: id, Kind: inquest.KindCPU, Seconds: 1}, "", "cpu"},
		{inquest.Command{ID: "2", Verb: "profile", Target: id, Kind: inquest.KindHeap}, "", "heap"},
		{inquest.Command{ID: "3", Verb: "profile", Target: "nobody"}, "has no target", ""},
		{inquest.Command{ID: "4", Verb: "dance", Target: id}, "does not know the command", ""},
		{inquest.Command{ID: "5", Verb: "profile", Target: id, Kind: inquest.KindOther}, "nothing that /debug/pprof serves", ""},
		{inquest.Command{ID: "6", Verb: "profile", Target: id, Kind: inquest.KindCPU, Seconds: 10_000}, "at most 300", ""},
	}
	for _, tt := range tests {
		c.commands <- tt.cmd
		select {
		case r := <-c.results:
			if tt.err != "" && !strings.Contains(r.Error, tt.err) || tt.err == "" && (r.Error != "" || r.Service != "job" || string(r.Kind) != tt.kind || !strings.HasPrefix(r.Profile, "id-") || r.Start.IsZero()) {
				t.Errorf("command %+v: result %+v", tt.cmd, r)
			}
		case <-time.After(15 * time.Second):
			t.Fatalf("no answer to %+v", tt.cmd)
		}
	}
	conf := o.Config
	conf.Refuse = []string{"profile"}
	if err := a.Reload(conf); err != nil {
		t.Fatal(err)
	}
	c.commands <- tests[0].cmd
	if r := <-c.results; !strings.Contains(r.Error, "refuses") {
		t.Errorf("result of a refused command: %+v", r)
	}
	if r := a.Report(); len(r.Refuses) != 1 {
		t.Errorf("report does not say what is refused: %+v", r)
	}
}

func TestStopIsQuickWhenTheCollectorHangs(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&counter{t: t})
	defer srv.Close()
	c := newCollector(t)
	c.set(func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return true
	})
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindHeap}, addr(srv))
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "something is spooled", func() bool { return a.Report().Spool.Profiles > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	a.Stop(ctx)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("Stop took %v", took)
	}
	a.Stop(ctx) // again does nothing
}
