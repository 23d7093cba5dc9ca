//go:build linux

package agent_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/internal/proc"
)

// hostConfig finds only the test's own child: other processes of the machine
// are none of our business.
func hostConfig(exes ...string) agent.Config {
	return agent.Config{Host: agent.HostConfig{
		Enabled: true, Every: time.Second, AllowNames: exes,
		Schedule: agent.Schedule{Interval: 2 * time.Second, CPUSeconds: 1},
	}}
}

func TestHostDiscoveryWithoutConfiguration(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	ch := runChild(t, []string{"OTEL_SERVICE_NAME=checkout", "SECRET_TOKEN=x"})
	mainPort, otherPort, _ := strings.Cut(ch.line, " ")
	o := c.options(t)
	o.Config = hostConfig(ch.exe)
	o.Config.Labels = map[string]string{"zone": "a"}
	a, _ := start(t, o)

	eventually(t, "profiles of all kinds", func() bool {
		for _, k := range []inquest.Kind{inquest.KindCPU, inquest.KindHeap, inquest.KindGoroutine, inquest.KindMutex, inquest.KindBlock} {
			if len(c.profiles(k)) == 0 {
				return false
			}
		}
		return true
	})
	tg := byService(a.Targets(), "checkout")
	if tg == nil {
		t.Fatalf("no target checkout in %+v", a.Targets())
	}
	if tg.Source != "host" || tg.Instance != "testhost:"+mainPort || tg.URL != "http://127.0.0.1:"+mainPort+"/debug/pprof/" {
		t.Errorf("target %+v", tg)
	}
	q := c.profiles(inquest.KindCPU)[0].Query
	if q.Get("service") != "checkout" || q.Get("process") != tg.Process || q.Get("build") == "" || q.Get("label.zone") != "a" {
		t.Errorf("profile sent as %v", q)
	}
	if err := a.Reload(o.Config); err != nil { // what was asked is not asked again
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if asked := askedByUs(ch); len(asked) > 1 || len(asked) == 1 && asked[0] != "asked /debug/pprof/ by inquest-agent/v0" {
		t.Errorf("port %s, which serves no profiles, was asked %q: want its index at most once", otherPort, asked)
	}
	rep := a.Report()
	if len(rep.Builds) != 1 || rep.Builds[0].ID != q.Get("build") || rep.Builds[0].GoVersion == "" || rep.Builds[0].Settings["GOARCH"] == "" {
		t.Errorf("builds %+v, profile has build %s", rep.Builds, q.Get("build"))
	}

	ch.kill()
	eventually(t, "target gone", func() bool { return byService(a.Targets(), "checkout") == nil })
}

func TestStaticTargetIsTheSameProcess(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	ch := runChild(t, nil)
	mainPort, _, _ := strings.Cut(ch.line, " ")
	o := c.options(t)
	o.Config = hostConfig(ch.exe)
	o.Config.ScrapeConfigs = static([]inquest.Kind{inquest.KindHeap}, "localhost:"+mainPort).ScrapeConfigs
	a, _ := start(t, o)
	eventually(t, "a profile", func() bool { return len(c.profiles("")) > 0 })
	if n := len(a.Targets()); n != 1 {
		t.Errorf("%d targets, want the named one alone: %+v", n, a.Targets())
	}
	tg := a.Targets()[0]
	if tg.Source != "static" || tg.Process == "" || tg.Build == "" || tg.Instance != "localhost:"+mainPort {
		t.Errorf("target %+v", tg)
	}
	if got := c.profiles("")[0].Query.Get("process"); got != tg.Process {
		t.Errorf("profile of process %q, target %q", got, tg.Process)
	}
}

func TestProcessesThatAreNotScraped(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	ch := runChild(t, []string{"SERVICE_NAME=denied"})
	o := c.options(t)
	o.Config = hostConfig(ch.exe)
	for port := range strings.FieldsSeq(ch.line) {
		n := 0
		for _, d := range port {
			n = 10*n + int(d-'0')
		}
		o.Config.Host.DenyPorts = append(o.Config.Host.DenyPorts, n)
	}
	a, _ := start(t, o)
	eventually(t, "the process is shown", func() bool { return byService(a.Targets(), "denied") != nil })
	tg := byService(a.Targets(), "denied")
	if tg.State != inquest.TargetSkipped || !strings.Contains(tg.Reason, "host.deny_ports") {
		t.Errorf("target %+v", tg)
	}
	if asked := askedByUs(ch); len(asked) > 0 {
		t.Errorf("a denied port was asked: %q", asked)
	}
}

func TestReasonsOfProcessesThatServeNoProfiles(t *testing.T) {
	t.Parallel()
	tests := []struct{ mode, want string }{
		{"forbidden", "answers 403: name it in scrape_configs with its credentials"},
		{"redirect", "redirects to \"https://elsewhere.example/\""},
		{"page", "something else than Go's pprof index"},
	}
	c := newCollector(t)
	var exes []string
	for _, tt := range tests {
		exes = append(exes, runChild(t, []string{"SERVICE_NAME=" + tt.mode}, tt.mode).exe)
	}
	o := c.options(t)
	o.Config = hostConfig(exes...)
	a, _ := start(t, o)
	for _, tt := range tests {
		eventually(t, tt.mode, func() bool {
			tg := byService(a.Targets(), tt.mode)
			return tg != nil && tg.State == inquest.TargetSkipped && strings.Contains(tg.Reason, tt.want)
		})
	}
}

func TestAnotherNetworkNamespace(t *testing.T) {
	t.Parallel()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER}
	ch, err := startChild(t, attr, []string{"SERVICE_NAME=contained"}, "silent")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		proc.Missing(t, "namespaces cannot be made here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	o := c.options(t)
	o.Config = hostConfig(ch.exe)
	a, _ := start(t, o)
	eventually(t, "the process is shown", func() bool {
		tg := byService(a.Targets(), "contained")
		return tg != nil && tg.State == inquest.TargetSkipped && strings.Contains(tg.Reason, "another network namespace")
	})
}

// askedByUs are the requests the child's other port got from this test's
// agent; other agents may run on the machine.
func askedByUs(c *child) (lines []string) {
	for line := range strings.Lines(c.stderr.String()) {
		if strings.HasSuffix(line, "/v0\n") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
