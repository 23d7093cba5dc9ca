package load

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
)

// Quantiles are those of the sorted durations, at most one step too large.
func TestDurations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var d Durations
	if got := d.Spread(); got != (Spread{}) {
		t.Errorf("without durations: %+v", got)
	}
	all := make([]time.Duration, 5000)
	for i := range all {
		all[i] = time.Duration(1000 + r.ExpFloat64()*5e6)
		d.Add(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
		want := all[max(0, int(q*float64(len(all)))-1)]
		if got := d.Quantile(q); got < want || float64(got) > 1.0201*float64(want) {
			t.Errorf("quantile %v is %v, want %v to 2 %% more", q, got, want)
		}
	}
	if d.Len() != int64(len(all)) || d.Spread().Max != millis(all[len(all)-1]) {
		t.Errorf("%d durations, at most %v", d.Len(), d.Spread().Max)
	}
	for _, odd := range []time.Duration{0, -time.Second, time.Nanosecond, 1000 * time.Hour} {
		var d Durations
		d.Add(odd)
		if got := d.Quantile(0.5); got > max(odd, 0) && got > time.Microsecond {
			t.Errorf("the median of %v alone is %v", odd, got)
		}
	}
}

const metricsPage = `# HELP inquest_store_blocks Block files.
# TYPE inquest_store_blocks gauge
inquest_store_blocks 12
inquest_ingest_profiles_total{kind="cpu",result="stored"} 3
inquest_ingest_profiles_total{kind="he}ap {",result="stored"} 4.5e+01
process_cpu_seconds_total 1.25 1732200000000

nonsense
{} 3
inquest_store_heads NaNsense
go_gc_duration_seconds{quantile="0"} 2e-05
`

func TestParseMetrics(t *testing.T) {
	want := Metrics{
		"inquest_store_blocks": 12, "inquest_ingest_profiles_total": 48, "process_cpu_seconds_total": 1.25, "go_gc_duration_seconds": 2e-05,
	}
	if diff := cmp.Diff(want, parseMetrics([]byte(metricsPage))); diff != "" {
		t.Error(diff)
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add([]byte(metricsPage))
	f.Add([]byte("a{ 1\n}b 2\na} {1"))
	f.Fuzz(func(t *testing.T, page []byte) {
		for name := range parseMetrics(page) {
			if name == "" || strings.ContainsAny(name, "{# \n") {
				t.Errorf("name %q", name)
			}
		}
	})
}

// The halves of a window are all of it.
func TestHalves(t *testing.T) {
	from := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, d := range []time.Duration{2 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 7 * 24 * time.Hour} {
		s := Subject{Window: inquest.Window{From: from, Until: from.Add(d)}}
		a, b := s.half(0), s.half(1)
		if a.From != from || a.Until != b.From || b.Until != s.Window.Until || a.Duration() <= 0 || b.Duration() <= 0 {
			t.Errorf("%v: %v and %v", d, a, b)
		}
	}
}

// Amounts per profile are of what a run added, and only said when all of it is
// in blocks.
func TestMeasure(t *testing.T) {
	before := Metrics{metricCPU: 1, MetricBlockBytes: 1000, metricLogWritten: 50}
	after := Metrics{metricCPU: 3, MetricBlockBytes: 5000, metricLogWritten: 450, MetricRollupBytes: 400, metricHeads: 0, metricPending: 2}
	r := Report{Sent: &Sent{Accepted: 4}, Added: 4}
	r.measure(before, after, Metrics{})
	if *r.Collector.CPUMillis != 500 || *r.Disk.BlocksPerProfile != 1000 || *r.Disk.RollupPerProfile != 100 || r.Disk.LogWritten != 100 || *r.Disk.Pending != 2 {
		t.Errorf("%+v %+v", r.Collector, r.Disk)
	}
	after[metricHeads] = 1
	delete(after, MetricRollupBytes)
	r.measure(before, after, Metrics{})
	if r.Disk.BlocksPerProfile != nil || r.Disk.RollupPerProfile != nil || r.Disk.RollupBytes != nil {
		t.Errorf("with profiles in memory: %+v", r.Disk)
	}
}

func TestProblem(t *testing.T) {
	for _, tt := range []struct {
		r    Report
		want string
	}{
		{Report{}, ""},
		{Report{Sent: &Sent{Profiles: 3, Accepted: 3, Duplicates: 1}, Added: 2}, ""},
		{Report{Sent: &Sent{Profiles: 3, Accepted: 2, Lost: 1}, Added: 2}, "1 of 3 profiles were refused"},
		{Report{Sent: &Sent{Profiles: 3, Accepted: 3}, Added: 2}, "acknowledged 3 new profiles and finds 2"},
		{Report{Answers: []Answer{{Name: "labels", Error: "503"}}}, "labels: 503"},
	} {
		got := ""
		if err := tt.r.Problem(); err != nil {
			got = err.Error()
		}
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}
