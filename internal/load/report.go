package load

import (
	"fmt"
	"time"
)

// Report is what a run has measured. Its JSON is `inquest load -json`; what a
// collector does not say is null or left out.
type Report struct {
	CollectorVersion string `json:"collector_version"`
	Fleet            Fleet  `json:"fleet"`
	Sent             *Sent  `json:"sent"` // null if nothing was sent
	// Found counts the simulated profiles the collector finds in the window, by
	// kind; Stored is all of them, Added how many more than before the run.
	Found     map[string]int64 `json:"found"`
	Stored    int64            `json:"stored"`
	Added     int64            `json:"added"`
	Collector Collector        `json:"collector"`
	Disk      Disk             `json:"disk"`
	Type      string           `json:"type"` // the questions were about
	Answers   []Answer         `json:"answers"`
}

// Fleet says what was simulated.
type Fleet struct {
	Collector       string    `json:"collector"`
	Services        int       `json:"services"`
	Instances       int       `json:"instances"`
	Kinds           []string  `json:"kinds"`
	IntervalSeconds float64   `json:"interval_seconds"`
	WindowSeconds   float64   `json:"window_seconds"`
	From            time.Time `json:"from"` // of the simulated window
	Until           time.Time `json:"until"`
	Novelty         float64   `json:"novelty"`
	KeepHeap        bool      `json:"keep_heap"`
	Releases        int       `json:"releases"`
	Encoding        string    `json:"encoding"` // gzip or zstd
}

// Collector is what the collector's process took, from before the first
// profile until everything was settled.
type Collector struct {
	CPUSeconds float64  `json:"cpu_seconds"`
	CPUMillis  *float64 `json:"cpu_ms_per_profile"` // null if nothing was sent
	RSS        int64    `json:"rss_bytes"`          // at the end
	MostRSS    int64    `json:"most_rss_bytes"`     // highest of all seconds
	PeakRSS    int64    `json:"peak_rss_bytes"`     // as the kernel has it, since the collector started; 0 unless it runs here
	GoHeap     int64    `json:"most_go_heap_bytes"` // highest of all seconds
	HeadBytes  int64    `json:"most_head_bytes"`    // profiles in memory, highest of all seconds
}

// Disk is what the collector has on its disk at the end. Amounts per profile
// are of what this run added; of all there is if it sent nothing.
type Disk struct {
	Blocks       int64   `json:"blocks"`
	BlockBytes   int64   `json:"block_bytes"`
	RollupBytes  *int64  `json:"rollup_bytes"` // null if the collector does not say
	LogBytes     int64   `json:"log_bytes"`
	CatalogBytes int64   `json:"catalog_bytes"`
	LogWritten   float64 `json:"log_written_bytes_per_profile"`
	// Heads is how many services have profiles in memory (and the log) that are
	// not in blocks. The amounts per profile are null until there are none.
	Heads            int64    `json:"heads"`
	Pending          *int64   `json:"pending_blocks"` // to be merged or rolled up; null if the collector does not say
	BlocksPerProfile *float64 `json:"block_bytes_per_profile"`
	RollupPerProfile *float64 `json:"rollup_bytes_per_profile"`
}

// measure fills in what the collector's metrics say; most are the highest
// values of all seconds.
func (r *Report) measure(before, after, most Metrics) {
	added := func(name string) float64 { return after[name] - before[name] }
	profiles := float64(r.Added)
	if r.Sent == nil {
		profiles, before = float64(r.Stored), Metrics{}
	}
	r.Collector = Collector{
		CPUSeconds: added(metricCPU), RSS: int64(after[metricRSS]), MostRSS: int64(max(most[metricRSS], after[metricRSS])),
		GoHeap: int64(max(most[metricGoHeap], after[metricGoHeap])), HeadBytes: int64(max(most[metricHeadBytes], after[metricHeadBytes])),
	}
	r.Disk = Disk{
		Blocks: int64(after[metricBlocks]), BlockBytes: int64(after[MetricBlockBytes]), LogBytes: int64(after[metricLogBytes]),
		CatalogBytes: int64(after[metricCatalog]), Heads: int64(after[metricHeads]),
		RollupBytes: after.whole(MetricRollupBytes), Pending: after.whole(metricPending),
	}
	if profiles <= 0 {
		return
	}
	if r.Sent != nil {
		cpu := r.Collector.CPUSeconds * 1000 / profiles
		r.Collector.CPUMillis = &cpu
		r.Disk.LogWritten = added(metricLogWritten) / profiles
	}
	if r.Disk.Heads > 0 {
		return
	}
	blocks := added(MetricBlockBytes) / profiles
	r.Disk.BlocksPerProfile = &blocks
	if r.Disk.RollupBytes != nil {
		rollups := added(MetricRollupBytes) / profiles
		r.Disk.RollupPerProfile = &rollups
	}
}

// whole is a value as a whole number, nil if there is none of the name.
func (m Metrics) whole(name string) *int64 {
	v, ok := m[name]
	if !ok {
		return nil
	}
	n := int64(v)
	return &n
}

// Problem is what went wrong although the run came to its end, nil if nothing
// did.
func (r *Report) Problem() error {
	if s := r.Sent; s != nil {
		if s.Lost > 0 {
			return fmt.Errorf("%d of %d profiles were refused for good", s.Lost, s.Profiles)
		}
		if want := s.Accepted - s.Duplicates; r.Added != want {
			return fmt.Errorf("the collector acknowledged %d new profiles and finds %d", want, r.Added)
		}
	}
	for _, a := range r.Answers {
		if a.Error != "" {
			return fmt.Errorf("%s: %s", a.Name, a.Error)
		}
	}
	return nil
}
