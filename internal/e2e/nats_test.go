package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/agent/spool"
	"github.com/goinquest/inquest/internal/chromium"
	"github.com/goinquest/inquest/internal/proc"
)

// natsVersion is a release of a third party's server, built from the module
// proxy as its users build it.
const natsVersion = "v2.12.1"

// startNATS builds and runs nats-server with its profiling port, as root or
// not, and returns the address for clients and the one of the profiles.
func startNATS(t *testing.T) (clients, profiles string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "install", "github.com/nats-io/nats-server/v2@"+natsVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	cmd.Dir = dir // outside of this module
	if out, err := cmd.CombinedOutput(); err != nil {
		proc.Missing(t, "build nats-server: %v: %s", err, out)
	}
	clients, profiles = freeAddr(t), freeAddr(t)
	_, clientPort, _ := net.SplitHostPort(clients)
	_, profilePort, _ := net.SplitHostPort(profiles)
	p, err := proc.Start(output(t, "nats-server"), nil, filepath.Join(dir, "nats-server"),
		"-a", "127.0.0.1", "-p", clientPort, "--profile", profilePort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	eventually(t, 10*time.Second, "nats-server listens", func() error {
		c, err := net.Dial("tcp", clients)
		if err == nil {
			c.Close()
		}
		return err
	})
	return clients, profiles
}

// natsLoad publishes small messages with a subscriber that reads them, until
// the context ends; about half a core.
func natsLoad(ctx context.Context, t *testing.T, addr string) {
	connect := func(hello string) net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return nil
		}
		if _, err := c.Write([]byte("CONNECT {\"verbose\":false}\r\n" + hello)); err != nil {
			t.Error(err)
		}
		context.AfterFunc(ctx, func() { c.Close() })
		return c
	}
	var wg sync.WaitGroup
	if sub := connect("SUB work.> 1\r\n"); sub != nil {
		wg.Go(func() {
			r := bufio.NewReaderSize(sub, 1<<16)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(string(line), "PING") {
					if _, err := sub.Write([]byte("PONG\r\n")); err != nil {
						return
					}
				}
			}
		})
	}
	if pub := connect(""); pub != nil {
		wg.Go(func() {
			batch := []byte(strings.Repeat("PUB work.item 16\r\n0123456789abcdef\r\n", 500))
			for ctx.Err() == nil {
				if _, err := pub.Write(batch); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(wg.Wait)
}

// kept are the bodies an agent took of one service and kind.
type kept struct {
	mu     sync.Mutex
	bodies [][]byte
}

// TestFindsThirdPartyServer runs a server that knows nothing of us, and an
// agent without any configuration that finds it by itself. What the API and
// the page say of it must be what pprof says of the bodies the agent took.
func TestFindsThirdPartyServer(t *testing.T) {
	clients, _ := startNATS(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel) // before the load's own cleanup waits
	natsLoad(ctx, t, clients)
	c := startCollector(t, freeAddr(t), t.TempDir())

	// As without a file, except that other Go programs of the machine, which
	// are none of a test's business, are left alone.
	config := agent.DefaultConfig()
	config.Host.AllowNames = []string{"nats-server", "collector"}
	var cpu kept
	a, err := agent.New(agent.Options{
		Collector: c.URL, SpoolDir: t.TempDir(), Config: config,
		Observe: func(h spool.Header, body []byte) {
			if h.Service != "nats-server" || h.Kind != inquest.KindCPU {
				return
			}
			cpu.mu.Lock()
			defer cpu.mu.Unlock()
			cpu.bodies = append(cpu.bodies, slices.Clone(body))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var found struct {
		Values []struct {
			inquest.Target
			Agent string
		}
	}
	var target inquest.Target
	var by string
	eventually(t, 40*time.Second, "the agent finds nats-server", func() error {
		if err := tryGet(ctx, c.URL, "/api/v1/targets", nil, &found); err != nil {
			return err
		}
		for _, v := range found.Values {
			if v.Service == "collector" && (v.State != inquest.TargetSkipped || !strings.Contains(v.Reason, "profiles itself")) {
				t.Errorf("a collector is %s: %s", v.State, v.Reason)
			}
			if v.Service == "nats-server" && v.State != inquest.TargetSkipped {
				target, by = v.Target, v.Agent
				return nil
			}
		}
		return fmt.Errorf("%d targets, none of them", len(found.Values))
	})
	if target.Build == "" || target.Process == "" || target.Source != "host" {
		t.Errorf("target is not fully known: %+v", target)
	}
	// A CPU profile now and not at the next minute, as a person would ask.
	for range 2 {
		profileNow(t, c.URL, by, target.ID)
	}
	stopped, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	a.Stop(stopped) // ships what is spooled

	cpu.mu.Lock()
	defer cpu.mu.Unlock()
	var parsed []*profile.Profile
	for _, b := range cpu.bodies {
		p, err := profile.ParseData(b)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, p)
	}
	if len(parsed) < 2 {
		t.Fatalf("the agent took %d CPU profiles", len(parsed))
	}
	merged, err := profile.Merge(parsed)
	if err != nil {
		t.Fatal(err)
	}
	want, total := selfByFunction(merged)

	var top struct {
		Rows []struct {
			Name string
			Self float64
		}
		Total    float64
		Coverage struct{ Profiles int }
	}
	query := url.Values{"query": {`{service="nats-server"}`}, "type": {"cpu"}, "from": {"-15m"}, "until": {"now"}, "limit": {"100000"}}
	get(t, c.URL, "/api/v1/top", query, &top)
	got := map[string]int64{}
	for _, r := range top.Rows {
		if r.Self != 0 {
			got[r.Name] = int64(r.Self)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || int64(top.Total) != total || top.Coverage.Profiles != len(parsed) {
		t.Fatalf("top over %d profiles, total %v; pprof has %d, %d (-want +got):\n%s", top.Coverage.Profiles, top.Total, len(parsed), total, diff)
	}
	if total == 0 {
		t.Fatal("nats-server used no CPU, the test shows nothing")
	}
	if b, ok := target.Labels["release"]; ok {
		t.Errorf("release is a label of its own: %q", b)
	}
	if rel := releases(t, c.URL); !slices.Contains(rel, natsVersion) {
		t.Errorf("releases of nats-server are %q, want its module version %s", rel, natsVersion)
	}
	checkPage(t, c.URL, top.Rows[0].Name)
}

// profileNow asks for a CPU profile of one target and waits for it.
func profileNow(t *testing.T, base, agent, target string) {
	t.Helper()
	body := fmt.Sprintf(`{"agent":%q,"target":%q,"kind":"cpu","seconds":3}`, agent, target)
	eventually(t, 40*time.Second, "a profile is taken", func() error {
		resp, err := http.Post(base+"/api/v1/targets/profile", "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			answer, _ := bufio.NewReader(resp.Body).ReadString(0)
			return fmt.Errorf("%s: %s", resp.Status, answer)
		}
		return nil
	})
}

// selfByFunction adds up cpu ns by the function of the innermost frame.
func selfByFunction(p *profile.Profile) (self map[string]int64, total int64) {
	self = map[string]int64{}
	for _, s := range p.Sample {
		total += s.Value[1]
		if len(s.Location) > 0 && len(s.Location[0].Line) > 0 && s.Value[1] != 0 {
			self[s.Location[0].Line[0].Function.Name] += s.Value[1]
		}
	}
	return self, total
}

func releases(t *testing.T, base string) []string {
	t.Helper()
	var a struct{ Values []string }
	get(t, base, "/api/v1/labels/release/values", url.Values{"query": {`{service="nats-server"}`}, "type": {"cpu"}}, &a)
	return a.Values
}

// checkPage opens the explore page in a browser and looks for the hottest
// function in the first row of its table.
func checkPage(t *testing.T, base, hottest string) {
	t.Helper()
	path, err := chromium.Find()
	if err != nil {
		proc.Missing(t, "see it in a browser: %v", err)
	}
	ctx, stop, err := chromium.Start(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Logf("end browser: %v", err)
		}
	}()
	ctx, end := context.WithTimeout(ctx, 40*time.Second)
	defer end()
	q := url.Values{"query": {`{service="nats-server"}`}, "type": {"cpu"}}
	if err := chromedp.Do(ctx, chromedp.Navigate(base+"/explore?"+q.Encode())); err != nil {
		t.Fatalf("explore page: %v", err)
	}
	var title string
	eventually(t, 20*time.Second, "the table is filled", func() (err error) {
		title, err = chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("#table-pane tbody tr[data-i='0'] td.name").title`))
		return err
	})
	if name, _, _ := strings.Cut(title, "\n"); name != hottest {
		t.Errorf("the page's first row is %q, the hottest function is %q", name, hottest)
	}
}
