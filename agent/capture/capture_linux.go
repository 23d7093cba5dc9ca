package capture

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest"
)

// Capturer takes what dying processes leave, see the package.
type Capturer struct {
	opts       Options
	log        *slog.Logger
	now        func() time.Time
	policy     *policy
	budget     *budget
	buffers    *buffers
	programs   *programs
	fold       *fold
	watcher    *watcher
	metrics    *metrics
	unregister func()

	slots   chan struct{} // one per copy
	waiting atomic.Int64

	stop    chan struct{}
	stopped sync.Once
	running sync.WaitGroup
}

// maxWaiting is how many processes are held for their turn at most; others
// get less at once.
const maxWaiting = 16

// New makes a Capturer. The error is of kind inquest.ErrInvalid if options
// are missing or wrong.
func New(o Options) (*Capturer, error) {
	if o.Sink == nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "capture: no sink")
	}
	o.setDefaults()
	if !o.Local.Valid() || !o.Most.Valid() {
		return nil, inquest.Errorf(inquest.ErrInvalid, "capture: tier %q, %q: want none, text, mini or full", o.Local, o.Most)
	}
	c := &Capturer{
		opts: o, log: o.Logger, now: o.Now,
		policy:   &policy{local: o.Local, most: o.Most, ask: o.Ask, timeout: o.AskTimeout, answers: map[string]answer{}},
		budget:   newBudget(&o),
		buffers:  newBuffers(o.MemBytes),
		programs: &programs{known: map[exeKey]*program{}},
		fold:     &fold{events: map[string]*inquest.Crash{}},
		watcher:  &watcher{processes: map[int]*watched{}, counters: map[string]*counter{}, dead: map[string]bool{}},
		metrics:  newMetrics(),
		slots:    make(chan struct{}, o.AtOnce),
		stop:     make(chan struct{}),
	}
	var err error
	c.unregister, err = c.metrics.register(o.Registerer)
	return c, err
}

// SetPolicy takes the policy that came with the collector's answer to a report.
func (c *Capturer) SetPolicy(p inquest.CapturePolicy) { c.policy.use(p) }

// Start begins to tell events that were gathered, and to look after watched
// processes.
func (c *Capturer) Start() {
	c.running.Go(func() { every(c.opts.Poll, c.stop, c.check) })
	c.running.Go(func() { every(c.opts.Fold, c.stop, c.flush) })
}

// Stop tells what was gathered and lets go of executables. Deaths and
// snapshots must have returned.
func (c *Capturer) Stop() {
	c.stopped.Do(func() { close(c.stop) })
	c.running.Wait()
	c.flush()
	c.watcher.close()
	c.programs.close()
	c.unregister()
}

// flush tells the events that were gathered.
func (c *Capturer) flush() {
	for _, e := range c.fold.flush() {
		c.tell(e)
	}
}

// tell gives an event to the sink.
func (c *Capturer) tell(e inquest.Crash) {
	if err := c.opts.Sink.Crash(e); err != nil {
		c.metrics.count(outcomeFailed, err)
		c.log.Error("crash could not be kept", "service", e.Service, "crash", e.ID, inquest.LogErr, err)
	}
}

// turn waits for one of the copies that may go on at once. Without one, reason
// says why.
func (c *Capturer) turn(wait time.Duration, cancelled <-chan struct{}) (release func(), reason string) {
	release = func() { <-c.slots }
	select {
	case c.slots <- struct{}{}:
		return release, ""
	default:
	}
	if c.waiting.Add(1) > maxWaiting {
		c.waiting.Add(-1)
		return nil, "too many processes died at once"
	}
	defer c.waiting.Add(-1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		return release, ""
	case <-timer.C:
		return nil, "other processes were being copied for too long"
	case <-cancelled:
		return nil, "the agent stopped"
	}
}
