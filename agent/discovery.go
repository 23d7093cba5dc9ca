package agent

import (
	"context"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
)

// discovery is everything that follows from one configuration. A Reload makes
// a new one.
type discovery struct {
	conf       Config
	cancel     context.CancelFunc
	wg         sync.WaitGroup
	jobs       []*job
	hostClient *http.Client
	hosts      *hostFinder
	settling   bool // files may not be read yet: what was found before stays
}

// job is one ScrapeConfig at work.
type job struct {
	conf   *ScrapeConfig
	client *http.Client
	files  fileTargets
}

// settleTime is how long a new configuration waits for its files to be read
// before it takes targets away.
const settleTime = 2 * time.Second

// newDiscovery prepares what a configuration names; start makes it run.
func (a *Agent) newDiscovery(conf Config) (*discovery, error) {
	d := &discovery{conf: conf, hostClient: newTargetClient(a.transport(nil), nil)}
	for i := range d.conf.ScrapeConfigs {
		sc := &d.conf.ScrapeConfigs[i]
		tlsConf, err := sc.TLSConfig.load()
		if err != nil {
			return nil, invalid("scrape_configs["+strconv.Itoa(i)+"].tls_config", "%w", err)
		}
		d.jobs = append(d.jobs, &job{conf: sc, client: newTargetClient(a.transport(tlsConf), sc)})
	}
	return d, nil
}

func (d *discovery) start(ctx context.Context, a *Agent) error {
	ctx, d.cancel = context.WithCancel(ctx)
	if err := d.watchFiles(ctx, a); err != nil {
		return err
	}
	d.wg.Go(func() { d.run(ctx, a) })
	return nil
}

// watchFiles begins to read the files that name targets. After an error
// everything is stopped.
func (d *discovery) watchFiles(ctx context.Context, a *Agent) error {
	for _, j := range d.jobs {
		for _, sd := range j.conf.FileSDConfigs {
			if err := j.files.watch(ctx, &d.wg, sd, a); err != nil {
				d.stop()
				return err
			}
		}
	}
	return nil
}

func (d *discovery) stop() {
	d.cancel()
	d.wg.Wait()
	d.hostClient.CloseIdleConnections()
	d.hosts.client.CloseIdleConnections()
	for _, j := range d.jobs {
		j.client.CloseIdleConnections()
	}
}

// rediscover asks for the targets to be found anew, soon.
func (a *Agent) rediscover() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

// run finds targets until ctx ends: at once, at every interval, and when a
// file changed or a process was seen to end.
func (d *discovery) run(ctx context.Context, a *Agent) {
	ticker := time.NewTicker(d.conf.Host.Every)
	defer ticker.Stop()
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	for {
		d.round(ctx, a)
		select {
		case <-ctx.Done():
			return
		case <-settled.C:
			d.settling = false
		case <-ticker.C:
		case <-a.dirty:
		}
	}
}

// round finds targets once. Those that are named are there before ports of
// others are asked, which may take a while.
func (d *discovery) round(ctx context.Context, a *Agent) {
	named := d.named(a)
	ports := d.localPorts(a, named)
	if d.conf.Host.Enabled || len(ports) > 0 {
		d.hosts.scan(ctx, a, ports)
	}
	claimed := d.identify(a, named)
	if d.conf.Host.Enabled {
		a.apply(ctx, named, false)
		d.hosts.probeAll(ctx, a, &d.conf.Host, claimed)
		named = append(named, d.found(a, claimed)...)
	}
	a.apply(ctx, named, !d.settling)
}

// named are the targets that the configuration and its files name.
func (d *discovery) named(a *Agent) []*spec {
	var out []*spec
	if d.conf.Self.Enabled {
		out = append(out, a.selfSpec(&d.conf.Self, d.conf.Labels))
	}
	add := func(s *spec) {
		if s != nil {
			out = append(out, s)
		}
	}
	for _, j := range d.jobs {
		for _, st := range j.conf.StaticConfigs {
			for _, t := range st.Targets {
				add(j.conf.specOf(sourceStatic, t, st.Labels, d.conf.Labels, j.client))
			}
		}
		for _, t := range j.files.list() {
			add(j.conf.specOf(sourceFile, t.address, t.labels, d.conf.Labels, j.client))
		}
	}
	return out
}

// localPorts are the ports of this machine that named targets listen on.
func (d *discovery) localPorts(a *Agent, named []*spec) map[uint16]bool {
	ports := map[uint16]bool{}
	for _, s := range named {
		if s.base == nil || s.source == sourceSelf || len(a.local.of(s.base.Hostname())) == 0 {
			continue
		}
		if p, err := strconv.ParseUint(port(s.base), 10, 16); err == nil {
			ports[uint16(p)] = true
		}
	}
	return ports
}

// identify finds the processes behind the named targets of this machine, and
// returns which those are: they are not scraped a second time.
func (d *discovery) identify(a *Agent, named []*spec) (claimed map[string]bool) {
	claimed = map[string]bool{}
	if d.hosts.snap == nil {
		return claimed
	}
	for _, s := range named {
		if s.base == nil || s.source == sourceSelf {
			continue
		}
		p := d.behind(a, s)
		if p == nil {
			continue
		}
		s.process, s.build = p.ID, p.Build
		claimed[p.ID] = true
	}
	return claimed
}

func (d *discovery) behind(a *Agent, s *spec) *host.Process {
	n, err := strconv.ParseUint(port(s.base), 10, 16)
	if err != nil {
		return nil
	}
	for _, ip := range a.local.of(s.base.Hostname()) {
		if p := d.hosts.snap.ByPort(ip, uint16(n)); p != nil {
			return p
		}
	}
	return nil
}

// found are the targets of host discovery.
func (d *discovery) found(a *Agent, claimed map[string]bool) []*spec {
	specs := d.hosts.specs(a, &d.conf.Host, claimed, d.hostClient)
	for _, s := range specs {
		s.labels = joined(d.conf.Labels, s.labels)
	}
	return specs
}

// joined are both sets of labels; own ones win.
func joined(common, own map[string]string) map[string]string {
	all := make(map[string]string, len(common)+len(own))
	maps.Copy(all, common)
	maps.Copy(all, own)
	return all
}

// selfSpec is the agent's own process as a target.
func (a *Agent) selfSpec(conf *SelfConfig, common map[string]string) *spec {
	s := &spec{
		service: conf.Service, instance: conf.Instance, source: sourceSelf, schedule: conf.Schedule,
		labels: joined(common, conf.Labels), client: a.selfClient, base: selfURL,
	}
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	setDefault(&s.service, filepath.Base(exe))
	setDefault(&s.instance, a.host)
	s.process, s.build = a.self.id, a.self.build
	s.id = newID(sourceSelf, s.service, s.instance)
	return s
}

// apply makes the running targets those of specs; unless all of them are
// given, none is taken away. The first of equal ids counts.
func (a *Agent) apply(ctx context.Context, specs []*spec, complete bool) {
	wanted := make(map[string]*spec, len(specs))
	for _, s := range specs {
		if wanted[s.id] == nil {
			wanted[s.id] = s
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping || ctx.Err() != nil {
		return
	}
	for id, t := range a.targets {
		if complete && wanted[id] == nil {
			t.stop()
			delete(a.targets, id)
			a.ended.add(t.current(), a.now())
			a.log.Info("target gone", inquest.LogTarget, id, inquest.LogService, t.current().service)
		}
	}
	for id, s := range wanted {
		t := a.targets[id]
		if t != nil {
			if old := t.current(); old.process != s.process {
				a.ended.add(old, a.now())
			}
			t.update(s)
			continue
		}
		t = newTarget(s)
		a.targets[id] = t
		a.log.Info("target found", inquest.LogTarget, id, inquest.LogService, s.service, "instance", s.instance, "source", s.source, "skipped", s.skip)
		if !a.looking {
			a.runTarget(t)
		}
	}
}
