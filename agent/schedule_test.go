package agent_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/prometheus/client_golang/prometheus"
)

// network is a fleet in memory: it notes when what was asked for.
type network struct {
	t      *testing.T
	mu     sync.Mutex
	asked  map[string][]time.Time // host/kind → times
	active map[string]int         // host → requests under way
	bodies map[inquest.Kind][]byte
}

func newNetwork(t *testing.T) *network {
	n := &network{t: t, asked: map[string][]time.Time{}, active: map[string]int{}, bodies: map[inquest.Kind][]byte{}}
	for _, k := range []inquest.Kind{inquest.KindCPU, inquest.KindHeap, inquest.KindGoroutine} {
		n.bodies[k] = body(t, k, 5)
	}
	return n
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	host, kind := r.URL.Hostname(), kindOf(r)
	n.mu.Lock()
	n.asked[host+"/"+string(kind)] = append(n.asked[host+"/"+string(kind)], time.Now())
	if n.active[host]++; n.active[host] > 1 {
		n.t.Errorf("%s is asked for %s while something else is taken of it", host, kind)
	}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.active[host]--
		n.mu.Unlock()
	}()
	switch {
	case strings.HasPrefix(host, "hang"):
		<-r.Context().Done()
		return nil, r.Context().Err()
	case strings.HasPrefix(host, "broken"):
		return answer(r, http.StatusInternalServerError, []byte("broken")), nil
	case kind == inquest.KindCPU:
		seconds, _ := strconv.Atoi(r.URL.Query().Get("seconds")) // 0 fails the test by itself
		time.Sleep(time.Duration(seconds) * time.Second)
	}
	return answer(r, http.StatusOK, n.bodies[kind]), nil
}

func (n *network) times(host string, kind inquest.Kind) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[host+"/"+string(kind)]
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var targets []string
		for i := range 8 {
			targets = append(targets, fmt.Sprintf("h%d:1", i))
		}
		targets = append(targets, "hang:1", "broken:1")
		a, err := agent.New(agent.Options{
			Collector: "http://collector", SpoolDir: dir, Host: "test", TargetTransport: n,
			HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/commands") {
					time.Sleep(20 * time.Second)
				}
				return answer(r, http.StatusOK, []byte(`{"protocol":1}`)), nil
			})},
			Config: agent.Config{ScrapeConfigs: []agent.ScrapeConfig{{
				JobName: "job", StaticConfigs: []agent.StaticConfig{{Targets: targets}},
				Schedule: agent.Schedule{Kinds: []inquest.Kind{inquest.KindCPU, inquest.KindHeap, inquest.KindGoroutine}},
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Minute + 30*time.Second)
		a.Stop(t.Context())

		phases := map[time.Duration]bool{}
		for i := range 8 {
			host := fmt.Sprintf("h%d", i)
			for _, k := range []inquest.Kind{inquest.KindCPU, inquest.KindHeap, inquest.KindGoroutine} {
				got := n.times(host, k)
				if len(got) < 20 || len(got) > 22 {
					t.Errorf("%s: %d times %s in 20 minutes", host, len(got), k)
				}
				for j := 2; j < len(got); j++ {
					if d := got[j].Sub(got[j-1]); d < 59*time.Second || d > 61*time.Second {
						t.Errorf("%s: %s after %v, want a minute", host, k, d)
					}
				}
			}
			heap := n.times(host, inquest.KindHeap)
			if first := heap[0].Sub(n.times("h0", inquest.KindHeap)[0]).Abs(); first > time.Minute {
				t.Errorf("%s waits %v for its first profile", host, first)
			}
			phases[heap[2].Sub(heap[2].Truncate(time.Minute)).Truncate(time.Millisecond)] = true
		}
		if len(phases) < 7 {
			t.Errorf("8 targets have only %d phases", len(phases))
		}
		for _, host := range []string{"hang", "broken"} {
			got := n.times(host, inquest.KindHeap)
			if len(got) < 5 || len(got) > 9 {
				t.Errorf("%s was tried %d times in 20 minutes, want backoff up to 5 minutes", host, len(got))
			}
			for j := 1; j < len(got); j++ {
				if d := got[j].Sub(got[j-1]); d > 5*time.Minute+time.Second {
					t.Errorf("%s: %v without a try", host, d)
				}
			}
		}
		if asked := n.times("hang", inquest.KindCPU); len(asked) > 0 {
			t.Errorf("after the first kind hung, cpu was asked %d times", len(asked))
		}
	})
}

// TestPhaseSurvivesRestart: two agents one after another ask at the same
// second of the minute.
func TestPhaseSurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		for range 2 {
			a, err := agent.New(agent.Options{
				Collector: "http://collector", SpoolDir: dir, Host: "test", TargetTransport: n,
				HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				})},
				Config: static([]inquest.Kind{inquest.KindHeap}, "h:1"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Second + 300*time.Millisecond)
			a.Stop(t.Context())
		}
		got := n.times("h", inquest.KindHeap)
		want := got[0].Sub(got[0].Truncate(time.Second))
		for i, at := range got {
			if d := at.Sub(at.Truncate(time.Second)) - want; d.Abs() > 10*time.Millisecond {
				t.Errorf("scrape %d is off its phase by %v", i, d)
			}
		}
		if len(got) < 18 {
			t.Errorf("%d scrapes in two times ten seconds", len(got))
		}
	})
}

// TestManyThatHangHoldUpNobody: a hundred targets never answer.
func TestManyThatHangHoldUpNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		conf := static([]inquest.Kind{inquest.KindHeap}, "good:1")
		conf.ScrapeConfigs[0].Interval, conf.ScrapeConfigs[0].Timeout = 10*time.Second, 10*time.Second
		for i := range 100 {
			conf.ScrapeConfigs[0].StaticConfigs[0].Targets = append(conf.ScrapeConfigs[0].StaticConfigs[0].Targets, fmt.Sprintf("hang%d:1", i))
		}
		a, err := agent.New(agent.Options{
			Collector: "http://collector", SpoolDir: dir, TargetTransport: n, Config: conf,
			HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		a.Stop(t.Context())
		if got := len(n.times("good", inquest.KindHeap)); got < 27 {
			t.Errorf("the good target was asked %d times in five minutes, want about 30", got)
		}
	})
}

func TestMetricsDoNotClash(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	o := c.options(t)
	reg := prometheus.NewRegistry()
	o.Registerer = reg
	_, stop := start(t, o)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
	other := c.options(t)
	other.Registerer = reg
	if _, err := agent.New(other); err == nil {
		t.Error("two agents in one registry: no error")
	}
	stop()
	_, stop = start(t, other)
	stop()
}
