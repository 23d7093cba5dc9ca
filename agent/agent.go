// Package agent finds Go services, takes their profiles, keeps them on disk
// and ships them to the collector.
//
// Targets are named in the configuration, or in files in Prometheus' format,
// or found without any: the processes of this machine that were built by Go
// and serve /debug/pprof/ (see the rooms host and spool beside this one).
// Every target has a loop of its own, so that one that hangs holds up no
// other; kinds are taken one after another, and never two CPU profiles of one
// process. What Go counts from the start of a process (heap, mutex, block)
// becomes the difference to the profile before; the state for that moves
// together with the spooled profile, so that nothing is counted twice or not
// at all over any restart. The uploader sends what is spooled, oldest first,
// with a key that stays the same over retries. Executables that the collector
// lacks are read beside their processes and uploaded one at a time, slowly.
//
// The agent only dials out: to its targets and to the collector. It listens
// nowhere. An Agent is safe for use by several goroutines; the ones it starts
// have ended when Stop returns.
package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corespool"
	"github.com/goinquest/inquest/agent/spool"
	"github.com/goinquest/inquest/profile"
	"github.com/prometheus/client_golang/prometheus"
)

// Options are what an agent needs to work. Collector and SpoolDir must be
// given; every other zero value is a default.
type Options struct {
	Collector       string        // base URL, may have a path
	HTTPClient      *http.Client  // to the collector; default: a client of its own that honours proxies
	Token           string        // bearer token for the collector
	TokenFile       string        // file that holds it, read for every request; wins over Token
	SpoolDir        string        // made if it is not there
	SpoolQuotaBytes int64         // default 1 GiB
	SpoolMaxAge     time.Duration // older profiles are dropped; default 24 h
	UploadRateBytes int64         // of binaries, a second; default 10 MiB
	CoresDir        string        // where the kernel finds the agent; default corepattern.DefaultDir
	CoreQuotaBytes  int64         // cores, crashes and their texts may take in SpoolDir; default 4 GiB
	CoreMinFree     int64         // bytes of the disk that cores leave free; default 1 GiB, negative: none
	CoreRateBytes   int64         // of cores uploaded, a second; default 10 MiB
	AgentID         string        // default: made at random, kept in SpoolDir
	Host            string        // name of this machine; default: as the kernel says
	Version         string        // of the agent, for reports and User-Agent
	Config          Config
	Limits          profile.Limits // on the profiles of targets
	Logger          *slog.Logger   // default: none
	Registerer      prometheus.Registerer
	Now             func() time.Time // default time.Now

	// TargetTransport, if set, is the way to all targets: their credentials
	// are added, tls_config does not count. For tests.
	TargetTransport http.RoundTripper
	// Observe is called with every profile that was spooled and the body as
	// the target sent it, before any difference was made. It must not keep
	// body and not block. For tests and the demo.
	Observe func(h spool.Header, body []byte)
}

// dirCrashes is where in the spool's directory the core spool is.
const dirCrashes = "crashes"

// drainTime is how long Stop lets what is spooled be shipped.
const drainTime = 5 * time.Second

// Agent is a running agent.
type Agent struct {
	opts       Options
	log        *slog.Logger
	now        func() time.Time
	host       string
	userAgent  string
	started    time.Time
	local      localAddresses
	self       selfIdentity
	selfClient *http.Client
	spool      *spool.Spool
	collector  *collector
	uploader   *uploader
	channel    *channel
	binaries   *binaries
	cores      *corespool.Pool
	held       *heldExes
	capture    *capturing
	texts      *crashTexts
	crashes    *crashShipper
	metrics    *metrics
	unregister func()

	codecs   chan *codec
	light    chan struct{} // slots of requests, see lightAtOnce
	doubtful chan struct{}
	cpu      keyedLocks
	dirty    chan struct{} // signalled when targets should be found anew

	cumMu sync.Mutex
	cums  map[string]*cumulative

	reloadMu  sync.Mutex // held while the configuration changes
	mu        sync.Mutex
	config    Config
	discovery *discovery
	targets   map[string]*target
	ended     endedTargets
	running   bool
	stopping  bool
	looking   bool // nothing is scraped, see Look

	scrapeCtx  context.Context // of everything that takes profiles
	stopScrape context.CancelFunc
	scrapers   sync.WaitGroup
	shipCtx    context.Context // of everything that talks to the collector
	stopShip   context.CancelFunc
	shippers   sync.WaitGroup
}

// New makes an agent and opens its spool. Errors in Options are of kind
// inquest.ErrInvalid; a spool that another agent uses is an
// inquest.ErrConflict. Stop releases what it holds, started or not.
func New(o Options) (*Agent, error) {
	base, err := url.Parse(o.Collector)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "collector URL %q: want one such as http://collector:7070", o.Collector)
	}
	if o.SpoolDir == "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "no spool directory is given")
	}
	a, err := newAgent(o)
	if err != nil {
		return nil, err
	}
	if a.codecs, err = newCodecs(o.Limits); err != nil {
		return nil, err
	}
	a.spool, err = spool.Open(spool.Options{
		Dir: o.SpoolDir, QuotaBytes: o.SpoolQuotaBytes, MaxAge: o.SpoolMaxAge, AgentID: o.AgentID, Logger: a.log, Now: a.now,
	})
	if err != nil {
		return nil, err
	}
	a.cores, err = corespool.Open(corespool.Options{
		Dir: filepath.Join(o.SpoolDir, dirCrashes), QuotaBytes: o.CoreQuotaBytes, MinFreeBytes: o.CoreMinFree, Logger: a.log, Now: a.now,
	})
	if err != nil {
		return nil, errors.Join(err, a.spool.Close())
	}
	a.collector = &collector{
		base: base, client: o.HTTPClient, token: o.Token, tokenFile: o.TokenFile, userAgent: a.userAgent, now: a.now,
	}
	if a.collector.client == nil {
		a.collector.client = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSHandshakeTimeout: connectTimeout,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: uploadersAtOnce + 2, // reports and commands
			IdleConnTimeout:     90 * time.Second,
		}}
	}
	a.uploader = &uploader{spool: a.spool, collector: a.collector, agent: a}
	a.binaries = newBinaries(a)
	a.crashes, a.held, a.capture, a.texts = newCrashShipper(a), newHeldExes(a), newCapturing(a), &crashTexts{agent: a}
	a.channel = &channel{agent: a, told: map[string]time.Time{}, missing: map[string]bool{}, trouble: map[string]string{}}
	if a.unregister, err = a.register(o.Registerer); err != nil {
		return nil, errors.Join(err, a.cores.Close(), a.spool.Close())
	}
	return a, nil
}

// newAgent makes the part of an agent that finds targets.
func newAgent(o Options) (*Agent, error) {
	conf, err := o.Config.checked()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		opts: o, log: o.Logger, now: o.Now, host: o.Host, userAgent: userAgentName + o.Version, config: conf,
		metrics: newMetrics(), self: newSelfIdentity(), selfClient: newTargetClient(selfTransport{}, nil),
		light: make(chan struct{}, lightAtOnce), doubtful: make(chan struct{}, doubtfulAtOnce), cpu: keyedLocks{locks: map[string]*keyedLock{}},
		dirty: make(chan struct{}, 1), cums: map[string]*cumulative{}, targets: map[string]*target{}, ended: endedTargets{specs: map[string]*spec{}},
	}
	a.defaults()
	return a, nil
}

func (a *Agent) defaults() {
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	name, err := os.Hostname()
	if a.host == "" {
		a.host = "localhost"
		if err == nil && name != "" {
			a.host = name
		}
	}
	if a.opts.Version == "" {
		a.userAgent += "devel"
	}
	a.local = newLocalAddresses(name, a.host)
	a.started = a.now()
}

// Start begins to find, scrape and ship. The end of ctx ends all that, but
// Stop must still be called.
func (a *Agent) Start(ctx context.Context) error {
	a.reloadMu.Lock()
	defer a.reloadMu.Unlock()
	a.mu.Lock()
	if a.running || a.stopping {
		a.mu.Unlock()
		return inquest.Errorf(inquest.ErrConflict, "the agent was started before")
	}
	a.running = true
	a.mu.Unlock()
	a.scrapeCtx, a.stopScrape = context.WithCancel(ctx)
	a.shipCtx, a.stopShip = context.WithCancel(ctx)
	if err := a.discover(a.config); err != nil {
		a.stopScrape()
		a.stopShip()
		return err
	}
	for i := range uploadersAtOnce {
		a.shippers.Go(func() { a.uploader.run(a.shipCtx, i) })
	}
	a.shippers.Go(func() { a.crashes.run(a.shipCtx) })
	a.shippers.Go(func() { a.channel.reports(a.shipCtx) })
	a.shippers.Go(func() { a.channel.listen(a.scrapeCtx) })
	a.scrapers.Go(func() { a.housekeeping(a.scrapeCtx) })
	a.scrapers.Go(func() { a.binaries.run(a.scrapeCtx) })
	a.scrapers.Go(func() { a.held.run(a.scrapeCtx) })
	a.scrapers.Go(func() { a.capture.watch(a.scrapeCtx) })
	return nil
}

// discover replaces what finds targets by what conf says.
func (a *Agent) discover(conf Config) error {
	d, err := a.newDiscovery(conf)
	if err != nil {
		return err
	}
	var before *hostFinder
	if old := a.discovery; old != nil {
		old.stop()
		before = old.hosts
		d.settling = true
	}
	d.hosts = newHostFinder(&d.conf.Host, a.transport(nil), before)
	a.mu.Lock()
	a.config, a.discovery = conf, d
	a.mu.Unlock()
	a.capture.apply(&conf.Capture)
	a.texts.apply(&conf.CrashTexts)
	return d.start(a.scrapeCtx, a)
}

// housekeeping lets go of what belongs to targets that are gone.
func (a *Agent) housekeeping(ctx context.Context) {
	for sleep(ctx, time.Hour) {
		a.forgetBaselines()
	}
}

// Reload replaces the configuration; on an error of kind inquest.ErrInvalid
// the old one stays. Targets that are in both go on as they are.
func (a *Agent) Reload(c Config) error {
	conf, err := c.checked()
	if err != nil {
		return err
	}
	a.reloadMu.Lock()
	defer a.reloadMu.Unlock()
	a.mu.Lock()
	running := a.running && !a.stopping
	if !running {
		a.config = conf
	}
	a.mu.Unlock()
	if !running {
		return nil
	}
	return a.discover(conf)
}

// Stop ends the agent: scrapes under way are given up, what is spooled is
// shipped as far as that goes within five seconds and ctx, the rest stays in
// the spool for the next start.
func (a *Agent) Stop(ctx context.Context) {
	a.reloadMu.Lock()
	defer a.reloadMu.Unlock()
	a.mu.Lock()
	if a.stopping {
		a.mu.Unlock()
		return
	}
	a.stopping = true
	running := a.running
	a.mu.Unlock()
	if running {
		a.stopScrape()
		if a.discovery != nil {
			a.discovery.stop()
		}
		a.scrapers.Wait()
		a.capture.stop()
		a.texts.stop()
		a.drain(ctx)
		a.stopShip()
		a.shippers.Wait()
		a.collector.client.CloseIdleConnections()
	}
	a.unregister()
	a.held.close()
	if err := errors.Join(a.cores.Close(), a.spool.Close()); err != nil {
		a.log.Error("close spool", inquest.LogErr, err)
	}
}

// drain waits until profiles and crashes are shipped, unless the collector does
// not take anything. Cores wait for the next start.
func (a *Agent) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	crashes := func() bool {
		s := a.cores.Stats()
		return s.Events+s.Texts > 0 && !a.crashes.failing()
	}
	for a.shipCtx.Err() == nil && (a.spool.Stats().Profiles > 0 && !a.uploader.failing() || crashes()) {
		if !sleep(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// list returns the targets there are.
func (a *Agent) list() []*target {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*target, 0, len(a.targets))
	for _, t := range a.targets {
		out = append(out, t)
	}
	return out
}

// Targets are the places the agent scrapes, and those it does not with the
// reason, by service and instance. The result belongs to the caller.
func (a *Agent) Targets() []inquest.Target {
	out := []inquest.Target{}
	for _, t := range a.list() {
		out = append(out, t.report())
	}
	slices.SortFunc(out, func(x, y inquest.Target) int {
		return cmp.Or(strings.Compare(x.Service, y.Service), strings.Compare(x.Instance, y.Instance), strings.Compare(x.ID, y.ID))
	})
	return out
}

// ID is the agent's id.
func (a *Agent) ID() string { return a.spool.AgentID() }

// Report is what the agent says of itself now, with every build it knows.
func (a *Agent) Report() inquest.AgentReport {
	r := inquest.AgentReport{
		ID: a.ID(), Host: a.host, Version: a.opts.Version, Protocol: inquest.ProtocolVersion,
		Started: a.started.UTC(), Clock: a.now().UTC(), Targets: a.Targets(), Spool: a.spool.Stats(), Refuses: a.refuses(),
		Upload: a.binaries.state(), Capture: a.capture.state(),
	}
	seen := map[string]bool{}
	for _, t := range a.list() {
		if b := t.current().build; b != nil && b.ID != "" && !seen[b.ID] {
			seen[b.ID] = true
			r.Builds = append(r.Builds, *b)
		}
	}
	r.Builds = mergeBuilds(r.Builds, a.held.builds())
	return r
}

// refuses are the commands the configuration refuses, and perhaps uploads.
func (a *Agent) refuses() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config.Refuse
}
