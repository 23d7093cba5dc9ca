package agent_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
)

func TestHostileTargets(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(&counter{t: t})
	defer elsewhere.Close()
	done := make(chan struct{})
	good := body(t, inquest.KindHeap, 7)
	hostile := []struct {
		name, want string
		handler    http.HandlerFunc
	}{
		{"hang", "does not answer within", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-done:
			case <-r.Context().Done():
			}
		}},
		{"trickle", "does not answer within", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(good[:10])
			w.(http.Flusher).Flush()
			select {
			case <-done:
			case <-r.Context().Done():
			}
		}},
		{"redirect", "more than 3 redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}},
		{"away", "redirects to another host", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		}},
		{"short", "ends after", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)+100))
			_, _ = w.Write(good)
		}},
		{"cut", "decode profile", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(good[:len(good)/2])
		}},
		{"html", "answers HTML, not a profile", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<!doctype html><title>Log in</title>"))
		}},
		{"json", "answers JSON", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"error":"no"}`))
		}},
		{"huge", "max_body_bytes", func(w http.ResponseWriter, _ *http.Request) {
			for range 40 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}},
		{"hugeannounced", "max_body_bytes", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000000000")
		}},
		{"empty", "answer is empty", func(http.ResponseWriter, *http.Request) {}},
		{"forbidden", "refuses the credentials: 403", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}},
		{"missing", "does not serve it: 404", http.NotFound},
		{"broken", "answers 500 Internal Server Error: out of cheese", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "out of\ncheese", http.StatusInternalServerError)
		}},
		{"otherkind", "kind=heap was stated", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(body(t, inquest.KindGoroutine, 3))
		}},
	}
	c := newCollector(t)
	o := c.options(t)
	for _, h := range hostile {
		srv := httptest.NewServer(h.handler)
		defer srv.Close()
		o.Config.ScrapeConfigs = append(o.Config.ScrapeConfigs, job(h.name, addr(srv)))
	}
	defer close(done)
	srv := httptest.NewServer(&counter{t: t})
	defer srv.Close()
	o.Config.ScrapeConfigs = append(o.Config.ScrapeConfigs, job("good", addr(srv)))
	a, stop := start(t, o)

	for _, h := range hostile {
		eventually(t, h.name, func() bool {
			tg := byService(a.Targets(), h.name)
			return tg != nil && tg.State == inquest.TargetDown && len(tg.Scrapes) == 1 && strings.Contains(tg.Reason, h.want)
		})
	}
	eventually(t, "the good one is not held up", func() bool {
		tg := byService(a.Targets(), "good")
		return tg.State == inquest.TargetUp && tg.Scrapes[0].Scrapes >= 2
	})
	stop()
	for _, r := range c.profiles("") {
		if r.Query.Get("service") != "good" {
			t.Errorf("a profile of %v was shipped", r.Query)
		}
	}
}

func job(name, target string) agent.ScrapeConfig {
	sc := static([]inquest.Kind{inquest.KindHeap}, target).ScrapeConfigs[0]
	sc.JobName, sc.MaxBodyBytes = name, 1<<20
	return sc
}

func TestCPUBusyIsSaidAndRetried(t *testing.T) {
	t.Parallel()
	busy := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case busy <- struct{}{}:
		default:
		}
		http.Error(w, "Could not enable CPU profiling: cpu profiling already in use", http.StatusInternalServerError)
	}))
	defer srv.Close()
	c := newCollector(t)
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindCPU}, addr(srv))
	o.Config.ScrapeConfigs[0].Interval, o.Config.ScrapeConfigs[0].CPUSeconds = minute, 1
	a, _ := start(t, o)
	eventually(t, "the reason is shown after a retry", func() bool {
		tg := byService(a.Targets(), "job")
		return tg != nil && strings.Contains(tg.Reason, "another profiler has the target's CPU profile") &&
			len(busy) > int(tg.Scrapes[0].Scrapes)
	})
}

// TestRealEndpoints scrapes net/http/pprof of this very process.
func TestRealEndpoints(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	// Not where other agents of this machine would find it.
	srv := httptest.NewServer(http.StripPrefix("/hidden", mux))
	defer srv.Close()
	c := newCollector(t)
	o := c.options(t)
	o.Config = static(nil, addr(srv))
	o.Config.ScrapeConfigs[0].PathPrefix = "/hidden/debug/pprof"
	o.Config.ScrapeConfigs[0].Interval, o.Config.ScrapeConfigs[0].CPUSeconds = 2*second, 1
	o.Config.ScrapeConfigs[0].Kinds = append(inquest.Kinds[:5:5], inquest.KindThreadCreate)
	a, stop := start(t, o)
	eventually(t, "all kinds twice", func() bool {
		for _, k := range o.Config.ScrapeConfigs[0].Kinds {
			if len(c.profiles(k)) < 2 {
				return false
			}
		}
		return true
	})
	tg := byService(a.Targets(), "job")
	if tg.State != inquest.TargetUp || tg.Process == "" || tg.Build == "" {
		t.Errorf("target %+v", tg)
	}
	stop()
	heaps := c.profiles(inquest.KindHeap)
	if h := heaps[0]; !h.time("start").Equal(h.time("end")) || h.total("alloc_space") != 0 || h.total("inuse_space") == 0 || h.Query.Get("interval") != "" {
		t.Errorf("first heap profile: %v, alloc %d", h.Query, h.total("alloc_space"))
	}
	if h := heaps[1]; !h.time("start").Equal(heaps[0].time("end")) || h.total("alloc_space") == 0 {
		t.Errorf("second heap profile: %v, alloc %d; the first: %v", h.Query, h.total("alloc_space"), heaps[0].Query)
	}
	cpu := c.profiles(inquest.KindCPU)[0]
	if d := cpu.time("end").Sub(cpu.time("start")); d < second/2 || d > 2*second {
		t.Errorf("a CPU profile of one second observed %v", d)
	}
	g := c.profiles(inquest.KindGoroutine)[0]
	if !g.time("start").Equal(g.time("end")) || g.Query.Get("interval") == "" || g.Query.Get("temporality") != "delta" {
		t.Errorf("goroutine profile sent as %v", g.Query)
	}
}

func TestSelfScrape(t *testing.T) {
	c := newCollector(t)
	o := c.options(t)
	o.Config.Self = agent.SelfConfig{Enabled: true, Service: "me", Schedule: agent.Schedule{Interval: 2 * second, CPUSeconds: 1}}
	a, stop := start(t, o)
	eventually(t, "profiles of itself", func() bool {
		return len(c.profiles(inquest.KindCPU)) > 0 && len(c.profiles(inquest.KindHeap)) > 0
	})
	tg := byService(a.Targets(), "me")
	if tg == nil || tg.Source != "self" || tg.Instance != "testhost" {
		t.Errorf("targets %+v", a.Targets())
	}
	stop()
}
