// Command bench measures a collector end to end on a fleet made from the
// corpus and prints what it costs, as ratios against baselines measured in
// the same run: gunzip of the same bodies, and google/pprof's Parse and Merge
// of the CPU profiles of one service. It starts the collectors it measures as
// processes of their own, on loopback with an empty data directory, and sends
// and asks as `inquest load` does.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/goinquest/inquest/internal/load"
)

// options of one run.
type options struct {
	profiles  int
	services  int
	instances int
	collector string
	pgo       string // profile that the programs are optimized by
	recorder  *recorder
	args      string // of the collector, separated by spaces
	dir       string

	// Of the workload capture.
	heapMiB, bigMiB int
	rejections      int
	whole           bool
	workload        string
	asJSON          bool
	progress        *load.Progress
	log             io.Writer // what the collectors write
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) == 4 && os.Args[1] == settleCommand {
		if err := settleStore(ctx, os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: settle:", err)
			os.Exit(1)
		}
		return
	}
	if is, err := guardian(os.Args); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := options{log: stderr, progress: load.NewProgress(stderr)}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.profiles, "profiles", 20_000, "profiles to send, of each workload")
	fs.IntVar(&o.services, "services", 10, "services that send; the tenth is the one asked about")
	fs.IntVar(&o.instances, "instances", 32, "instances of each service; each sends a CPU and a heap profile a minute")
	fs.StringVar(&o.workload, "workload", "all", "steady, standard, novelty or all of them, or capture: what it costs to take cores, as root")
	fs.IntVar(&o.heapMiB, "heap", 1024, "MiB of the heap whose minicore is compared (capture)")
	fs.IntVar(&o.bigMiB, "big", 10<<10, "MiB of the full core while which the agent's memory is measured (capture)")
	fs.IntVar(&o.rejections, "rejections", 10_000, "deaths that are rejected (capture)")
	fs.BoolVar(&o.whole, "whole", false, "let the pipe handler that is compared with read all it is given (capture)")
	fs.StringVar(&o.collector, "collector", "", "collector binary to measure (default: build ./cmd/collector)")
	fs.StringVar(&o.args, "args", "", "further flags of the collector, as in -args '-memory 256MiB'")
	fs.StringVar(&o.pgo, "pgo", "cmd/collector/default.pgo", "CPU profile to build by")
	record := fs.String("record", "", "write a CPU profile of all that the collector does to this file, for -pgo")
	fs.BoolVar(&o.asJSON, "json", false, "print the results as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *record != "" {
		o.recorder = &recorder{}
	}
	dir, err := os.MkdirTemp("", "inquest-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	if o.workload == "capture" {
		return measureCapture(ctx, o, stdout)
	}
	results, err := measure(ctx, o)
	o.progress.Done()
	if err != nil {
		return err
	}
	if o.recorder != nil {
		if err := o.recorder.write(*record); err != nil {
			return err
		}
	}
	if o.asJSON {
		return json.NewEncoder(stdout).Encode(results)
	}
	return write(stdout, results)
}
