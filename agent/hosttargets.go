package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
)

const (
	maxProbesPerRound = 128
	probesAtOnce      = 8
	shownUnreadable   = 50               // the rest is told as a number
	shownWithoutPort  = 30 * time.Second // a program without a port is shown when it is older
	hostItself        = "host discovery" // service of the target that says why nothing can be found

	// collectorPath is the main package of the collector, which profiles itself.
	collectorPath = "github.com/goinquest/inquest/cmd/collector"
)

// probeKey names a listening port of one process.
type probeKey struct {
	process string
	port    uint16
}

// hostFinder makes targets out of the Go processes of this machine.
// It belongs to the discovery goroutine.
type hostFinder struct {
	scanner *host.Scanner
	snap    *host.Snapshot // newest that succeeded
	err     error          // of the newest scan
	probed  map[probeKey]probeResult
	seen    map[string]time.Time // when a process was first seen
	client  *http.Client

	exhausted bool // the newest round asked as many ports as one may
}

// newHostFinder makes the finder of a configuration. What the one before it
// was answered by ports still holds: they are not asked again.
func newHostFinder(conf *HostConfig, base http.RoundTripper, before *hostFinder) *hostFinder {
	want := func(string) bool { return false } // then only what listens on a port that is asked for
	if conf.Enabled {
		want = conf.wants
	}
	f := &hostFinder{
		scanner: host.NewScanner(host.Options{Want: want}),
		probed:  map[probeKey]probeResult{}, seen: map[string]time.Time{},
		client: &http.Client{
			Transport:     base,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if before != nil {
		f.probed, f.seen = before.probed, before.seen
	}
	return f
}

// scan looks at the processes; ports are those that static targets name.
func (f *hostFinder) scan(ctx context.Context, a *Agent, ports map[uint16]bool) {
	start := time.Now()
	snap, err := f.scanner.Scan(ctx, ports)
	if f.err = err; err == nil {
		f.snap = snap // else what was found before still counts
	}
	a.metrics.scanSeconds.Observe(time.Since(start).Seconds())
	if f.err != nil && !errors.Is(f.err, inquest.ErrUnavailable) && ctx.Err() == nil {
		a.log.Warn("look at the host's processes", inquest.LogErr, f.err)
	}
	if f.snap == nil {
		return
	}
	alive, now := map[string]bool{}, a.now()
	for _, p := range f.snap.Processes {
		alive[p.ID] = true
		if _, ok := f.seen[p.ID]; !ok {
			f.seen[p.ID] = now
		}
	}
	for id := range f.seen {
		if !alive[id] {
			delete(f.seen, id)
		}
	}
	for k := range f.probed {
		if !alive[k.process] {
			delete(f.probed, k)
		}
	}
}

// probeAll asks the ports that were not asked yet, of the processes that are
// not scraped by name.
func (f *hostFinder) probeAll(ctx context.Context, a *Agent, conf *HostConfig, claimed map[string]bool) {
	if f.snap == nil {
		return
	}
	denied := conf.denied()
	budget := make(chan struct{}, maxProbesPerRound)
	results := make(chan map[probeKey]probeResult)
	slots := make(chan struct{}, probesAtOnce)
	pending := 0
	for i := range f.snap.Processes {
		p := &f.snap.Processes[i]
		ports := f.unprobed(p, denied)
		if p.PID == os.Getpid() || claimed[p.ID] || isCollector(p) || len(ports) == 0 {
			continue
		}
		pending++
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results <- f.probeProcess(ctx, a, p, ports, budget)
		}()
	}
	for range pending {
		for k, r := range <-results {
			f.probed[k] = r
		}
	}
	f.exhausted = len(budget) == cap(budget)
}

// unprobed lists the ports of a process that may and should be asked; none
// once one of them is known to serve profiles.
func (f *hostFinder) unprobed(p *host.Process, denied map[int]bool) []netip.AddrPort {
	var out []netip.AddrPort
	seen := map[uint16]bool{}
	for _, l := range p.Listeners {
		if denied[int(l.Port())] || seen[l.Port()] {
			continue
		}
		seen[l.Port()] = true
		r, ok := f.probed[probeKey{p.ID, l.Port()}]
		if ok && r.base != nil {
			return nil
		}
		if !ok {
			out = append(out, l)
		}
	}
	return out
}

// probeProcess asks one port after another until one serves profiles.
func (f *hostFinder) probeProcess(ctx context.Context, a *Agent, p *host.Process, ports []netip.AddrPort, budget chan struct{}) map[probeKey]probeResult {
	out := map[probeKey]probeResult{}
	for _, l := range ports {
		select {
		case budget <- struct{}{}:
		default:
			return out // the rest waits for the next round
		}
		r := a.probe(ctx, f.client, l)
		if ctx.Err() != nil {
			return out // it was not the port's fault
		}
		out[probeKey{p.ID, l.Port()}] = r
		if r.base != nil {
			return out
		}
	}
	return out
}

// specs are the targets found, those not scraped with the reason.
func (f *hostFinder) specs(a *Agent, conf *HostConfig, claimed map[string]bool, client *http.Client) []*spec {
	if f.err != nil && f.snap == nil {
		return []*spec{{id: newID(sourceHost, hostItself), service: hostItself, instance: a.host, source: sourceHost, skip: f.err.Error()}}
	}
	if f.snap == nil {
		return nil
	}
	denied := conf.denied()
	var out []*spec
	for i := range f.snap.Processes {
		p := &f.snap.Processes[i]
		if p.PID == os.Getpid() || claimed[p.ID] || !conf.wants(baseName(p.Exe)) {
			continue
		}
		s := &spec{
			service: p.Name, instance: a.host, source: sourceHost, process: p.ID, build: p.Build,
			labels: conf.Labels, schedule: conf.Schedule, client: client,
		}
		if r := f.found(p); r != nil {
			s.base, s.schedule = r.base, r.offered(conf.Schedule, conf.kindsChosen)
			s.instance = net.JoinHostPort(a.host, r.base.Port())
			s.id = newID(sourceHost, s.base.String(), s.service, s.instance)
		} else {
			if s.skip = f.whyNot(p, denied, a.now()); s.skip == "" {
				continue
			}
			if len(p.Listeners) > 0 {
				s.instance = net.JoinHostPort(a.host, strconv.Itoa(int(p.Listeners[0].Port())))
			}
			s.id = newID(sourceHost, p.ID)
		}
		out = append(out, s)
	}
	return append(out, f.unreadable(a)...)
}

// isCollector says that a process is a collector: scraped here it would count
// twice in the fleet.
func isCollector(p *host.Process) bool { return p.Build != nil && p.Build.Path == collectorPath }

func baseName(exe string) string { return exe[strings.LastIndexByte(exe, '/')+1:] }

// found is the answer of the port that serves the process's profiles.
func (f *hostFinder) found(p *host.Process) *probeResult {
	for _, l := range p.Listeners {
		if r, ok := f.probed[probeKey{p.ID, l.Port()}]; ok && r.base != nil {
			return &r
		}
	}
	return nil
}

// whyNot says why a process is not scraped; empty if it is too young to be
// shown.
func (f *hostFinder) whyNot(p *host.Process, denied map[int]bool, now time.Time) string {
	switch {
	case p.Problem != "":
		return p.Problem
	case isCollector(p):
		return "a collector profiles itself, as service inquest-collector; name its address in scrape_configs if it runs with -self-profile=false"
	case p.Foreign:
		return "lives in another network namespace (a container?): run an agent in there, or name an address that is reachable from here in scrape_configs"
	case len(p.Listeners) == 0:
		if now.Sub(f.seen[p.ID]) < shownWithoutPort {
			return ""
		}
		return "listens on no TCP port, so it serves no profiles"
	}
	var why []string
	for _, l := range p.Listeners {
		text := fmt.Sprintf("port %d was not asked yet", l.Port())
		if denied[int(l.Port())] {
			text = fmt.Sprintf("port %d is never asked (host.deny_ports)", l.Port())
		} else if r, ok := f.probed[probeKey{p.ID, l.Port()}]; ok {
			text = fmt.Sprintf("port %d %s", l.Port(), r.reason)
		}
		if !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	if len(why) > 5 {
		why = append(why[:5], fmt.Sprintf("and %d more ports", len(why)-5))
	}
	return strings.Join(why, "; ")
}

// unreadable shows the processes that may not be looked at.
func (f *hostFinder) unreadable(a *Agent) []*spec {
	var out []*spec
	for i, u := range f.snap.Unreadable {
		s := &spec{id: newID(sourceHost, "pid", strconv.Itoa(u.PID), u.Comm), service: u.Comm, instance: a.host, source: sourceHost}
		s.skip = fmt.Sprintf("process %d: %s", u.PID, u.Reason)
		if i == shownUnreadable {
			s.id, s.service = newID(sourceHost, "more unreadable"), "more processes"
			s.skip = fmt.Sprintf("%d more processes cannot be read: run the agent as root or with CAP_SYS_PTRACE", len(f.snap.Unreadable)-i)
		}
		out = append(out, s)
		if i == shownUnreadable {
			break
		}
	}
	return out
}
