package agent

import (
	"errors"

	"github.com/goinquest/inquest"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the agent's own, all named inquest_agent_….
type metrics struct {
	scrapes       *prometheus.CounterVec
	failures      *prometheus.CounterVec
	scrapeBytes   *prometheus.CounterVec
	scrapeSeconds *prometheus.HistogramVec
	cpuBusy       prometheus.Counter
	workSeconds   prometheus.Counter
	scanSeconds   prometheus.Histogram
	probes        prometheus.Counter
	uploadBytes   prometheus.Counter
	uploadSeconds prometheus.Histogram
	uploadRetries prometheus.Counter

	crashesRefused prometheus.Counter
	coreBytes      prometheus.Counter
}

func newMetrics() *metrics {
	kind := []string{"kind"}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "inquest_agent_" + name, Help: help})
	}
	counters := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inquest_agent_" + name, Help: help}, kind)
	}
	seconds := prometheus.ExponentialBuckets(0.001, 4, 9)
	return &metrics{
		scrapes:     counters("scrapes_total", "Profiles asked of targets."),
		failures:    counters("scrape_failures_total", "Profiles asked of targets that did not come or could not be used."),
		scrapeBytes: counters("scrape_bytes_total", "Bytes of profiles as targets sent them."),
		scrapeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inquest_agent_scrape_duration_seconds", Help: "Time from asking for a profile to its last byte.", Buckets: seconds,
		}, kind),
		cpuBusy:     counter("cpu_busy_total", "CPU profiles tried again because somebody else was taking one."),
		workSeconds: counter("work_seconds_total", "Time spent on decoding, subtracting, encoding and spooling profiles."),
		scanSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "inquest_agent_host_scan_duration_seconds", Help: "Time to look at the processes of the host.", Buckets: seconds,
		}),
		probes:         counter("probes_total", "Listening ports that were asked for /debug/pprof/."),
		crashesRefused: counter("crashes_refused_total", "Crashes the collector refused for good."),
		coreBytes:      counter("core_upload_bytes_total", "Bytes of cores the collector took."),
		uploadBytes:    counter("upload_bytes_total", "Bytes of profiles the collector acknowledged, as sent."),
		uploadSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "inquest_agent_upload_duration_seconds", Help: "Time from sending a profile to the collector's answer.", Buckets: seconds,
		}),
		uploadRetries: counter("upload_retries_total", "Profiles to be sent again after a failure that may pass."),
	}
}

// observe counts what became of a scrape.
func (m *metrics) observe(out outcome) {
	kind := string(out.kind)
	m.scrapes.WithLabelValues(kind).Inc()
	m.scrapeBytes.WithLabelValues(kind).Add(float64(out.bytes))
	m.scrapeSeconds.WithLabelValues(kind).Observe(out.took.Seconds())
	if out.err != nil {
		m.failures.WithLabelValues(kind).Inc()
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.scrapes, m.failures, m.scrapeBytes, m.scrapeSeconds, m.cpuBusy, m.workSeconds,
		m.scanSeconds, m.probes, m.uploadBytes, m.uploadSeconds, m.uploadRetries, m.crashesRefused, m.coreBytes,
	}
}

// register adds the agent's metrics to reg; undo takes them out again.
func (a *Agent) register(reg prometheus.Registerer) (undo func(), err error) {
	if reg == nil {
		return func() {}, nil
	}
	var done []prometheus.Collector
	undo = func() {
		for _, c := range done {
			reg.Unregister(c)
		}
	}
	for _, c := range append(a.metrics.all(), stateCollector{a}) {
		if err := reg.Register(c); err != nil {
			undo()
			return nil, errors.Join(inquest.Errorf(inquest.ErrConflict, "register agent metrics"), err)
		}
		done = append(done, c)
	}
	return undo, nil
}

// stateCollector tells the state of targets and spool when it is asked.
type stateCollector struct{ a *Agent }

var (
	descTargets = prometheus.NewDesc("inquest_agent_targets", "Targets by state.", []string{"state"}, nil)
	descSpooled = prometheus.NewDesc("inquest_agent_spool_profiles", "Profiles waiting to be shipped.", nil, nil)
	descBytes   = prometheus.NewDesc("inquest_agent_spool_bytes", "Bytes the spool takes on disk.", nil, nil)
	descQuota   = prometheus.NewDesc("inquest_agent_spool_quota_bytes", "Most bytes the spool may take.", nil, nil)
	descShipped = prometheus.NewDesc("inquest_agent_shipped_total", "Profiles the collector acknowledged.", nil, nil)
	descDropped = prometheus.NewDesc("inquest_agent_dropped_total", "Profiles lost to the spool's quota or their age.", nil, nil)
	descRefused = prometheus.NewDesc("inquest_agent_refused_total", "Profiles the collector refused for good.", nil, nil)
	descDamaged = prometheus.NewDesc("inquest_agent_spool_damaged_total", "Spool files that could not be read and were moved aside.", nil, nil)
)

var (
	descCoreSpooled = prometheus.NewDesc("inquest_agent_core_spool_entries", "Crashes, texts, cores and executables of ended processes waiting to be shipped.", []string{"what"}, nil)
	descCoreBytes   = prometheus.NewDesc("inquest_agent_core_spool_bytes", "Bytes the core spool takes on disk.", nil, nil)
	descCoreQuota   = prometheus.NewDesc("inquest_agent_core_spool_quota_bytes", "Most bytes the core spool may take.", nil, nil)
	descCoreShipped = prometheus.NewDesc("inquest_agent_cores_shipped_total", "Cores the collector has, or did not want.", []string{"wanted"}, nil)
	descCoreDropped = prometheus.NewDesc("inquest_agent_core_spool_dropped_total", "What was lost unsent: for want of room, or refused by the collector.", []string{"what"}, nil)
	descCoreTrimmed = prometheus.NewDesc("inquest_agent_core_spool_trimmed_total", "Cores cut down to minicores for want of room.", nil, nil)
	descCoreDamaged = prometheus.NewDesc("inquest_agent_core_spool_damaged_total", "Files and records of the core spool that could not be read.", nil, nil)
)

// collectCores tells the state of the core spool.
func (s stateCollector) collectCores(ch chan<- prometheus.Metric) {
	st := s.a.cores.Stats()
	tell := func(desc *prometheus.Desc, kind prometheus.ValueType, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, float64(n), labels...)
	}
	tell(descCoreSpooled, prometheus.GaugeValue, int64(st.Events), "crash")
	tell(descCoreSpooled, prometheus.GaugeValue, int64(st.Texts), "text")
	tell(descCoreSpooled, prometheus.GaugeValue, int64(st.Cores), "core")
	tell(descCoreSpooled, prometheus.GaugeValue, int64(st.Exes), "executable")
	tell(descCoreBytes, prometheus.GaugeValue, st.Bytes)
	tell(descCoreQuota, prometheus.GaugeValue, st.Quota)
	tell(descCoreShipped, prometheus.CounterValue, st.Shipped-st.Unwanted, "true")
	tell(descCoreShipped, prometheus.CounterValue, st.Unwanted, "false")
	tell(descCoreDropped, prometheus.CounterValue, st.DroppedEvents, "crash")
	tell(descCoreDropped, prometheus.CounterValue, st.DroppedTexts, "text")
	tell(descCoreDropped, prometheus.CounterValue, st.DroppedCores, "core")
	tell(descCoreDropped, prometheus.CounterValue, st.DroppedExes, "executable")
	tell(descCoreTrimmed, prometheus.CounterValue, st.Trimmed)
	tell(descCoreDamaged, prometheus.CounterValue, st.Damaged)
}

func (s stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTargets, descSpooled, descBytes, descQuota, descShipped, descDropped, descRefused, descDamaged,
		descCoreSpooled, descCoreBytes, descCoreQuota, descCoreShipped, descCoreDropped, descCoreTrimmed, descCoreDamaged} {
		ch <- d
	}
}

func (s stateCollector) Collect(ch chan<- prometheus.Metric) {
	states := map[string]int{inquest.TargetUp: 0, inquest.TargetDown: 0, inquest.TargetPending: 0, inquest.TargetSkipped: 0}
	for _, t := range s.a.Targets() {
		states[t.State]++
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(descTargets, prometheus.GaugeValue, float64(n), state)
	}
	st := s.a.spool.Stats()
	for _, v := range []struct {
		desc *prometheus.Desc
		kind prometheus.ValueType
		n    int64
	}{
		{descSpooled, prometheus.GaugeValue, st.Profiles},
		{descBytes, prometheus.GaugeValue, st.Bytes},
		{descQuota, prometheus.GaugeValue, st.QuotaBytes},
		{descShipped, prometheus.CounterValue, st.Shipped},
		{descDropped, prometheus.CounterValue, st.Dropped},
		{descRefused, prometheus.CounterValue, st.Refused},
		{descDamaged, prometheus.CounterValue, s.a.spool.Damaged()},
	} {
		ch <- prometheus.MustNewConstMetric(v.desc, v.kind, float64(v.n))
	}
	s.collectCores(ch)
}
