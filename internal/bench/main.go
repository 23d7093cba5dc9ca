// Command bench measures a collector end to end on a fleet made from the
// corpus and prints what it costs, as ratios against baselines measured in
// the same run: gunzip of the same bodies, and google/pprof's Parse and Merge
// of the same profiles. It starts the collector it measures as a process of
// its own, on loopback with an empty data directory.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/term"
)

// options of one run.
type options struct {
	profiles  int
	writers   int
	services  int
	collector string
	data      string
	keepHeap  bool
	asJSON    bool
}

// result is what one run measured.
type result struct {
	Profiles         int     `json:"profiles"`
	BodyBytes        float64 `json:"mean_body_bytes"`
	PerSecond        float64 `json:"profiles_per_second"`
	P50Millis        float64 `json:"ack_p50_ms"`
	P99Millis        float64 `json:"ack_p99_ms"`
	CPUMillis        float64 `json:"collector_cpu_ms_per_profile"`
	GunzipMillis     float64 `json:"gunzip_cpu_ms_per_profile"`
	CPURatio         float64 `json:"cpu_ratio_to_gunzip"`
	PeakRSS          int64   `json:"peak_rss_bytes"`
	RawBytes         float64 `json:"stored_bytes_per_profile"`
	FlameProfiles    int64   `json:"flame_profiles"`
	FlameMillis      float64 `json:"flame_ms"`
	FlameBlockMillis float64 `json:"flame_from_blocks_ms"`
	PprofMillis      float64 `json:"pprof_merge_ms"`
	FlameRatio       float64 `json:"pprof_ratio_to_flame"`
	FlameEqual       bool    `json:"flame_total_equals_pprof"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.profiles, "profiles", 20_000, "profiles to send")
	fs.IntVar(&o.writers, "writers", 64, "connections that send one profile after another")
	fs.IntVar(&o.services, "services", 10, "services that send, four instances each")
	fs.StringVar(&o.collector, "collector", "", "collector binary to measure (default: build ./cmd/collector)")
	fs.StringVar(&o.data, "data", "", "data directory to use and keep (default: a temporary one)")
	fs.BoolVar(&o.keepHeap, "keep-heap", false, "leave heap values as real programs have them")
	fs.BoolVar(&o.asJSON, "json", false, "print the result as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "inquest-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	res, err := measure(ctx, o, dir, stderr)
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(stdout).Encode(res)
	}
	return res.print(stdout)
}

func (r *result) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `
%d profiles, %.1f KB each as sent
  accepted         %8.0f /s      acknowledged after fsync, p50 %.1f ms, p99 %.1f ms
  collector CPU    %8.3f ms/profile = %.2f × gunzip of the same bodies (%.3f ms)
  peak RSS         %8.0f MiB
  stored           %8.0f B/profile in blocks
  flame graph      %8.1f ms from the head, %.1f ms from blocks, over %d CPU profiles
  google/pprof     %8.0f ms for Parse + Merge of the same bodies = %.0f × (totals equal: %v)
`, r.Profiles, r.BodyBytes/1000, r.PerSecond, r.P50Millis, r.P99Millis, r.CPUMillis, r.CPURatio, r.GunzipMillis,
		float64(r.PeakRSS)/(1<<20), r.RawBytes, r.FlameMillis, r.FlameBlockMillis, r.FlameProfiles, r.PprofMillis, r.FlameRatio, r.FlameEqual)
	return err
}

// progress prints how far a step is: on a terminal in one line that is
// overwritten, elsewhere only when the step is done.
type progress struct {
	w    io.Writer
	what string
	last time.Time
}

func (p *progress) step(done, all int) {
	f, ok := p.w.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	if now := time.Now(); terminal && done < all && now.Sub(p.last) > 200*time.Millisecond {
		p.last = now
		fmt.Fprintf(p.w, "\r%s %d/%d", p.what, done, all)
	}
	if done == all {
		if terminal {
			fmt.Fprint(p.w, "\r")
		}
		fmt.Fprintf(p.w, "%s %d/%d\n", p.what, done, all)
	}
}
