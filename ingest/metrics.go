package ingest

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goinquest/inquest"
)

// metrics are the numbers of an Ingest.
type metrics struct {
	requests *prometheus.CounterVec // by kind, outcome
	bytes    prometheus.Counter
	seconds  prometheus.Histogram
	queue    prometheus.Gauge
}

// newMetrics makes the metrics and shows them on reg, unless that is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inquest_ingest_profiles_total", Help: "Profiles received, by kind and by what became of them.",
		}, []string{"kind", "outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "inquest_ingest_bytes_total", Help: "Bytes of profile bodies, as received.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "inquest_ingest_seconds", Help: "Time from a received body to its being durable or refused.",
			Buckets: []float64{.001, .003, .01, .02, .03, .05, .1, .3, 1, 3, 10},
		}),
		queue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inquest_ingest_decode_queue", Help: "Bodies waiting to be decoded.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.bytes, m.seconds, m.queue)
	}
	return m
}

func (m *metrics) observe(kind inquest.Kind, outcome string, bytes int, dur time.Duration) {
	if kind == "" {
		kind = "unknown"
	}
	m.requests.WithLabelValues(string(kind), outcome).Inc()
	m.bytes.Add(float64(bytes))
	m.seconds.Observe(dur.Seconds())
}
