package main

import (
	"fmt"
	"io"
	"strings"
)

// write prints one table with a column for each workload.
func write(w io.Writer, results []*result) error {
	var b strings.Builder
	row := func(name string, value func(r *result) string) {
		fmt.Fprintf(&b, "%-44s", name)
		for _, r := range results {
			fmt.Fprintf(&b, " %20s", value(r))
		}
		b.WriteByte('\n')
	}
	number := func(name, format string, value func(r *result) float64) {
		row(name, func(r *result) string { return fmt.Sprintf(format, value(r)) })
	}
	row("", func(r *result) string { return r.Workload })
	number("profiles", "%.0f", func(r *result) float64 { return float64(r.Sent.Profiles) })
	number("body, KB gzip", "%.1f", func(r *result) float64 { return r.Sent.BodyBytes / 1000 })
	number("accepted/s, sender on the same machine", "%.0f", func(r *result) float64 { return r.Sent.PerSecond })
	number("acknowledged, p50 ms", "%.1f", func(r *result) float64 { return r.Sent.Ack.P50 })
	number("acknowledged, p99 ms", "%.1f", func(r *result) float64 { return r.Sent.Ack.P99 })
	number("CPU, ms/profile, to merged blocks and rollups", "%.3f", func(r *result) float64 { return r.CPUMillis })
	number("  of it until acknowledged", "%.3f", func(r *result) float64 { return r.AckMillis })
	number("  of it until in blocks", "%.3f", func(r *result) float64 { return r.BlockMillis })
	number("gunzip of the same bodies, CPU-ms", "%.3f", func(r *result) float64 { return r.GunzipMillis })
	number("CPU ÷ gunzip", "%.2f", func(r *result) float64 { return r.CPURatio })
	number(fmt.Sprintf("peak RSS, MiB, %d connections", few), "%.0f", func(r *result) float64 { return float64(r.PeakRSS) / (1 << 20) })
	number(fmt.Sprintf("peak RSS, MiB, %d connections", many), "%.0f", func(r *result) float64 { return float64(r.PeakRSSMany) / (1 << 20) })
	number("blocks, B/profile", "%.0f", func(r *result) float64 { return r.BlockBytes })
	perProfile := func(n int64, r *result) float64 { return float64(n) / float64(r.Sent.Profiles) }
	number("rollups, B/profile", "%.0f", func(r *result) float64 { return perProfile(r.Space.Rollups(), r) })
	number("  of it dictionaries", "%.0f", func(r *result) float64 { return perProfile(r.Space.RollupNames, r) })
	number("digests, B/profile", "%.0f", func(r *result) float64 { return perProfile(r.Space.Digests, r) })
	row("google/pprof Parse + Merge, ms", func(r *result) string { return fmt.Sprintf("%.0f for %d", r.PprofMillis, r.PprofProfiles) })
	row("total of the service equals google/pprof's", func(r *result) string { return fmt.Sprint(r.Equal) })
	b.WriteString("\nwarm p50 in ms, and what part of google/pprof's time that is\n")
	for i, a := range results[0].Answers {
		name := a.Name
		if a.Resolution != "" {
			name += ", " + a.Resolution
		}
		row(name, func(r *result) string {
			p50 := r.Answers[i].Warm.P50
			return fmt.Sprintf("%.1f = 1/%.0f", p50, r.PprofMillis/p50)
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}
