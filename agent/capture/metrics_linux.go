package capture

import (
	"errors"
	"sync"

	"github.com/goinquest/inquest"
	"github.com/prometheus/client_golang/prometheus"
)

// What became of a death, as metrics name it.
const (
	outcomeCore     = "core"
	outcomeRejected = "rejected"
	outcomeFailed   = "failed"
	outcomeForeign  = "foreign"
)

// metrics are what is counted of captures, all named inquest_agent_capture_….
type metrics struct {
	deaths   *prometheus.CounterVec
	held     *prometheus.HistogramVec
	memory   prometheus.Counter
	stored   prometheus.Counter
	folded   prometheus.Counter
	oomKills prometheus.Counter

	mu    sync.Mutex
	state inquest.CaptureState
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "inquest_agent_capture_" + name, Help: help})
	}
	return &metrics{
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inquest_agent_capture_deaths_total", Help: "Processes that dumped core, by what became of the core.",
		}, []string{"outcome"}),
		held: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inquest_agent_capture_held_seconds", Help: "Time that processes were kept from ending, or stopped for a snapshot.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 17),
		}, []string{"tier"}),
		memory:   counter("memory_bytes_total", "Bytes of memory copied."),
		stored:   counter("stored_bytes_total", "Bytes of cores written, packed."),
		folded:   counter("folded_total", "Deaths that were told together with others alike."),
		oomKills: counter("oom_kills_total", "Processes that the kernel killed for memory."),
	}
}

// register adds the metrics to a registry; unregister takes them out.
func (m *metrics) register(r prometheus.Registerer) (unregister func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	all := []prometheus.Collector{m.deaths, m.held, m.memory, m.stored, m.folded, m.oomKills}
	unregister = func() {
		for _, c := range all {
			r.Unregister(c)
		}
	}
	for _, c := range all {
		err = errors.Join(err, r.Register(c))
	}
	if err != nil {
		unregister()
	}
	return unregister, err
}

// count counts what became of a death; err is why it failed.
func (m *metrics) count(outcome string, err error) {
	m.deaths.WithLabelValues(outcome).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch outcome {
	case outcomeForeign:
		m.state.Foreign++
		return
	case outcomeCore:
		m.state.Cores++
	case outcomeRejected:
		m.state.Rejected++
	case outcomeFailed:
		m.state.Failed++
	}
	m.state.Deaths++
	if err != nil {
		m.state.Error = clip(err.Error())
	}
}

// State is what the agent tells of captures: counts, and the last error. How
// cores are got and what waits for shipping is for others to add.
func (c *Capturer) State() inquest.CaptureState {
	c.metrics.mu.Lock()
	defer c.metrics.mu.Unlock()
	return c.metrics.state
}
