package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/corespool"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/coredump"
)

// watchEvery is how often what may be killed for memory is told anew.
const watchEvery = 2 * time.Second

// capturing gets at the deaths of processes and has them copied into the core
// spool. It goes along with the configuration.
type capturing struct {
	agent *Agent
	using sync.RWMutex // held for reading while a process is copied on command

	mu       sync.Mutex
	conf     *CaptureConfig // in force; nil before the first start
	policy   inquest.CapturePolicy
	capturer *capture.Capturer // nil: cannot be had here
	listener *corepattern.Listener
	problem  string
	again    bool // another agent is in the way
}

func newCapturing(a *Agent) *capturing { return &capturing{agent: a, policy: a.cores.Policy()} }

// apply makes a configuration hold. What is wrong with the host is logged and
// reported, and no error.
func (c *capturing) apply(conf *CaptureConfig) {
	c.mu.Lock()
	same := c.conf != nil && reflect.DeepEqual(*c.conf, *conf)
	c.mu.Unlock()
	if same {
		return
	}
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conf, c.problem = conf, ""
	problem := ""
	if err := c.start(conf); err != nil {
		problem = err.Error()
	}
	c.begun(problem)
}

// start makes the parts. Callers hold c.mu.
func (c *capturing) start(conf *CaptureConfig) error {
	a := c.agent
	rate := func(r CaptureRate) capture.Rate { return capture.Rate(r) }
	capturer, err := capture.New(capture.Options{
		Sink: coreSink{a}, Agent: a.ID(), Host: a.host, Target: a.captureTarget, Ask: a.askTier,
		Local: conf.Tier, Most: conf.MaxTier,
		Blank:  coredump.BlankOptions{AllowEnv: conf.AllowEnv, AllowArgs: conf.AllowArgs, KeepArgs: conf.KeepArgs},
		PerKey: rate(conf.PerPlace), PerService: rate(conf.PerService), AtOnce: conf.Concurrent, Hold: conf.Hold, Stop: conf.Stop,
		Logger: a.log, Registerer: a.opts.Registerer, Now: a.now,
	})
	if err != nil {
		return err
	}
	capturer.SetPolicy(conf.policy(c.policy))
	capturer.Start()
	c.capturer = capturer
	if conf.Mode == captureOff {
		return nil
	}
	return c.listen()
}

// listen begins to get deaths. Callers hold c.mu.
func (c *capturing) listen() (err error) {
	a, capturer := c.agent, c.capturer
	o := corepattern.Options{
		Mode: c.conf.Mode, Dir: a.opts.CoresDir, StateDir: filepath.Join(a.opts.SpoolDir, dirCrashes), Cores: c.conf.Directories, Logger: a.log,
		Handle: func(ctx context.Context, d *corepattern.Death) { a.death(ctx, capturer, d) },
	}
	less := "" // than the best
	if o.Mode == captureAuto {
		o.Mode = corepattern.ModeAuto
		if o.Mode, less, err = autoMode(o); err != nil {
			return err
		}
	}
	c.listener, err = corepattern.Start(o)
	if c.again = errors.Is(err, inquest.ErrConflict); err == nil {
		c.problem = less
	}
	return err
}

// retry tries again what another agent of this host was in the way of: perhaps
// it was the one before this one, on its way out. Callers hold c.mu.
func (c *capturing) retry() {
	if !c.again || c.capturer == nil {
		return
	}
	problem := ""
	if err := c.listen(); err != nil {
		problem = err.Error()
	}
	c.begun(problem)
}

// begun tells how it went. Callers hold c.mu.
func (c *capturing) begun(problem string) {
	switch {
	case problem == "" && c.listener != nil:
		c.agent.log.Info("cores of dying processes are taken", "mode", c.listener.State().Mode, "problem", c.problem)
	case problem != "" && problem != c.problem:
		c.problem = problem
		c.agent.log.Warn("cores of dying processes are not taken", "mode", c.conf.Mode, inquest.LogErr, problem)
	}
}

// autoMode is the mode for a host that nobody chose one for: a core handler
// that is there already stays.
func autoMode(o corepattern.Options) (mode, problem string, err error) {
	p, err := corepattern.Look(o)
	if err != nil {
		return "", "", err
	}
	if !strings.HasPrefix(p.Old, "|") || p.Other != "" {
		return corepattern.ModeAuto, p.Problem, nil
	}
	for _, m := range p.Modes {
		if m.Mode == corepattern.ModeSystemd && m.Usable {
			return m.Mode, "systemd-coredump has the host's cores, which are read once it has stored them; capture.mode: socket puts the agent before it", nil
		}
	}
	return "", "", inquest.Errorf(inquest.ErrUnavailable,
		"the host gives its cores to %q, which is left as it is; capture.mode: socket or pipe puts the agent before it, and it still gets what is not of Go", p.Old)
}

// stop gives the host its old core handler back and ends what is under way.
func (c *capturing) stop() {
	c.mu.Lock()
	listener, capturer := c.listener, c.capturer
	c.listener, c.capturer, c.again = nil, nil, false
	c.mu.Unlock()
	if listener != nil {
		if err := listener.Stop(); err != nil {
			c.agent.log.Error("give the host its core handler back", inquest.LogErr, err)
		}
	}
	if capturer != nil {
		c.using.Lock()
		defer c.using.Unlock()
		capturer.Stop()
	}
}

// watch tells which processes the kernel may kill for memory, until ctx ends.
func (c *capturing) watch(ctx context.Context) {
	for sleep(ctx, watchEvery) {
		pids := c.agent.processes()
		c.mu.Lock()
		c.retry()
		if c.capturer != nil && c.conf.Mode != captureOff {
			c.capturer.Watch(pids)
		}
		c.mu.Unlock()
	}
}

// processes are the pids of targets.
func (a *Agent) processes() []int {
	var pids []int
	for _, t := range a.list() {
		if pid, ok := processPID(t.current().process); ok && pid != os.Getpid() && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// setPolicy takes what came with the answer to a report, and keeps it for the
// next start.
func (c *capturing) setPolicy(p inquest.CapturePolicy) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reflect.DeepEqual(p, c.policy) {
		return nil
	}
	c.policy = p
	if c.capturer != nil {
		c.capturer.SetPolicy(c.conf.policy(p))
	}
	return c.agent.cores.SavePolicy(p)
}

// state is what the agent reports of it.
func (c *capturing) state() inquest.CaptureState {
	c.mu.Lock()
	defer c.mu.Unlock()
	var st inquest.CaptureState
	if c.capturer != nil {
		st = c.capturer.State()
	}
	st.Mode, st.Problem = corepattern.ModeOff, cmp.Or(st.Problem, c.problem)
	if c.listener != nil {
		l := c.listener.State()
		st.Mode, st.Foreign, st.Gaps = l.Mode, l.Foreign, l.Gaps
		st.Problem, st.Error = cmp.Or(l.Problem, st.Problem), cmp.Or(l.Error, st.Error)
	}
	s := c.agent.cores.Stats()
	st.Waiting, st.Bytes, st.Quota, st.Dropped = int64(s.Cores), s.Bytes, s.Quota, s.DroppedCores
	st.Error = cmp.Or(s.LastError, st.Error)
	c.agent.texts.state(&st)
	return st
}

// snapshot copies a target that goes on.
func (c *capturing) snapshot(ctx context.Context, cmd inquest.Command) (*inquest.Crash, error) {
	a := c.agent
	a.mu.Lock()
	t := a.targets[cmd.Target]
	a.mu.Unlock()
	if t == nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "this agent has no target %q", cmd.Target)
	}
	pid, ok := processPID(t.current().process)
	if !ok || !host.Alive(t.current().process) {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "the target is no process that is known to run on this host: only those can be copied")
	}
	if pid == os.Getpid() {
		return nil, inquest.Errorf(inquest.ErrInvalid, "an agent cannot copy itself")
	}
	c.using.RLock()
	defer c.using.RUnlock()
	c.mu.Lock()
	capturer := c.capturer
	c.mu.Unlock()
	if capturer == nil {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "this agent cannot copy processes: %s", cmp.Or(c.state().Problem, "it stops"))
	}
	return capturer.Snapshot(ctx, pid, cmp.Or(cmd.Tier, inquest.TierMini))
}

// processPID is the pid in a process's id.
func processPID(process string) (pid int, ok bool) {
	parts := strings.Split(process, ":")
	if len(parts) != 3 {
		return 0, false
	}
	pid, err := strconv.Atoi(parts[1])
	return pid, err == nil
}

// death takes one death. Nothing is read of a process whose name the
// configuration does not allow.
func (a *Agent) death(ctx context.Context, capturer *capture.Capturer, d *corepattern.Death) {
	exe := d.Told["EXE"]
	if d.Path == "" {
		exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", d.PID)) // without a name only "all" allows it
	}
	a.mu.Lock()
	conf := a.config.Host
	a.mu.Unlock()
	if exe != "" && !conf.wants(baseName(strings.TrimSuffix(exe, " (deleted)"))) {
		if err := d.Foreign(); err != nil {
			a.log.Warn("give a death away", "process", d.PID, inquest.LogErr, err)
		}
		return
	}
	capturer.Death(ctx, d)
}

// askTier asks the collector what to keep of a death.
func (a *Agent) askTier(ctx context.Context, service, build, key string) (inquest.Tier, error) {
	var answer struct {
		Tier inquest.Tier `json:"tier"`
	}
	err := a.collector.do(ctx, call{
		method: http.MethodGet, path: "api/v1/capture", query: url.Values{"service": {service}, "build": {build}, "key": {key}},
	}, &answer)
	if err == nil && !answer.Tier.Valid() {
		err = inquest.Errorf(inquest.ErrInvalid, "the collector answers tier %q", answer.Tier)
	}
	return answer.Tier, err
}

// coreSink is where captures go: the core spool. The executable of a process
// whose core is taken is held as well.
type coreSink struct{ agent *Agent }

// Crash, Room and Begin are those of capture.Sink.
func (s coreSink) Crash(c inquest.Crash) error { return s.agent.cores.Crash(c) }
func (s coreSink) Room() int64                 { return s.agent.cores.Room() }

func (s coreSink) Begin(c inquest.Crash) (capture.CoreFile, error) {
	if slices.Contains([]string{corepattern.ModeSocket, corepattern.ModePipe, "command"}, first(c.Source)) {
		s.agent.held.hold(c.Build, c.PID)
	}
	w, err := s.agent.cores.Begin(c)
	if err != nil {
		return nil, err
	}
	return coreFile{w}, nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// coreFile is a core that is being written.
type coreFile struct{ *corespool.Writer }

func (f coreFile) Abort() error { return f.Writer.Abort("the process could not be copied to the end") }
