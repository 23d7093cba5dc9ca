package load

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest/internal/settings"
)

// table writes lines for people.
type table struct {
	w    io.Writer
	bold bool
	err  error
}

func (t *table) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *table) heading(text string) {
	if t.bold {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	t.printf("\n%s\n", text)
}

func (t *table) line(name, format string, args ...any) {
	t.printf("  %-14s %s\n", name, fmt.Sprintf(format, args...))
}

// Write writes the report for people; headings in bold where that shows.
func (r *Report) Write(w io.Writer, bold bool) error {
	t := &table{w: w, bold: bold}
	f := r.Fleet
	t.printf("%d services × %d instances × %s, every %s for %s, from %s\n", f.Services, f.Instances, strings.Join(f.Kinds, ", "),
		seconds(f.IntervalSeconds), seconds(f.WindowSeconds), f.From.Format(time.RFC3339))
	t.line("collector", "%s, version %s", f.Collector, r.CollectorVersion)
	t.line("found", "%d profiles of this fleet in the window", r.Stored)
	if r.Sent != nil {
		r.Sent.write(t, f.Encoding)
	}
	r.writeCollector(t)
	r.writeDisk(t)
	writeAnswers(t, r.Type, r.Answers)
	return t.err
}

func seconds(s float64) string {
	return settings.FormatDuration(time.Duration(s * float64(time.Second)))
}

func (s *Sent) write(t *table, encoding string) {
	t.heading("Sent")
	t.line("accepted", "%d of %d profiles in %.1f s: %.0f/s", s.Accepted, s.Profiles, s.Seconds, s.PerSecond)
	if s.Duplicates > 0 {
		t.line("duplicates", "%d of them the collector had already", s.Duplicates)
	}
	t.line("acknowledged", "p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, at most %.1f ms", s.Ack.P50, s.Ack.P90, s.Ack.P99, s.Ack.Max)
	t.line("body", "%.1f KB on average, %s", s.BodyBytes/1000, encoding)
	if s.Accepted > 0 && s.OwnCPUSeconds > 0 {
		t.line("to make them", "%.3f CPU-ms per profile, in this process", s.OwnCPUSeconds*1000/float64(s.Accepted))
	}
	for _, r := range s.Refusals {
		status := ""
		if r.Status != 0 {
			status = fmt.Sprintf(" (%d)", r.Status)
		}
		t.line("refused", "%s%s: %d times, %d profiles for good; the last: %s", r.Kind, status, r.Times, r.Lost, r.Message)
	}
	if len(s.Refusals) == 0 {
		t.line("refused", "never")
	}
}

func (r *Report) writeCollector(t *table) {
	c := r.Collector
	t.heading("Collector")
	if c.CPUMillis != nil {
		t.line("CPU", "%.1f s, %.3f ms per profile", c.CPUSeconds, *c.CPUMillis)
	}
	peak := ""
	if c.PeakRSS > 0 {
		peak = fmt.Sprintf(", %.0f MiB at most since its start", mib(c.PeakRSS))
	}
	t.line("memory", "%.0f MiB, %.0f MiB at most while measured%s", mib(c.RSS), mib(c.MostRSS), peak)
	t.line("of it", "at most %.0f MiB Go heap, %.0f MiB profiles not in blocks", mib(c.GoHeap), mib(c.HeadBytes))
}

func (r *Report) writeDisk(t *table) {
	d := r.Disk
	t.heading("Disk")
	perProfile := func(v *float64) string {
		if v == nil {
			return ""
		}
		return fmt.Sprintf(", %.0f B per profile", *v)
	}
	t.line("blocks", "%d, %.1f MB%s", d.Blocks, mb(d.BlockBytes), perProfile(d.BlocksPerProfile))
	if d.RollupBytes != nil {
		t.line("rollups", "%.1f MB%s", mb(*d.RollupBytes), perProfile(d.RollupPerProfile))
	}
	written := ""
	if d.LogWritten > 0 {
		written = fmt.Sprintf(", %.0f B written per profile", d.LogWritten)
	}
	t.line("log", "%.1f MB%s", mb(d.LogBytes), written)
	t.line("catalog", "%.1f MB", mb(d.CatalogBytes))
	if d.Heads > 0 {
		t.line("not in blocks", "profiles of %d services; their blocks come when the epoch ends", d.Heads)
	}
	if d.Pending != nil && *d.Pending > 0 {
		t.line("not merged", "%d blocks; they take less space when they are", *d.Pending)
	}
}

// writeAnswers writes the table of questions, times in ms. A line ends with the
// resolution the answer was made from, where it says one.
func writeAnswers(t *table, typ string, answers []Answer) {
	t.heading("Questions about " + typ + ", ms")
	const name, number = "  %-34s", " %8s"
	t.printf(name+strings.Repeat(number, 8)+"  %s\n", "", "cold", "p50", "p90", "p99", "max", "KB", "times", "profiles", "from")
	for _, a := range answers {
		if a.Error != "" {
			t.printf(name+number+"\n", a.Name, "failed")
			continue
		}
		covers := ""
		if a.Profiles > 0 {
			covers = strconv.FormatInt(a.Profiles, 10)
		}
		t.printf(name, a.Name)
		for _, v := range []float64{a.Cold.P50, a.Warm.P50, a.Warm.P90, a.Warm.P99, a.Warm.Max, a.Bytes / 1000} {
			t.printf(" %8.1f", v)
		}
		t.printf(" %8d %8s  %s\n", a.Warm.N, covers, a.Resolution)
	}
	for _, a := range answers {
		if a.Error != "" {
			t.printf("%s: %s\n", a.Name, a.Error)
		}
		if a.Refused > 0 {
			t.printf("%s: the collector was too busy %d times\n", a.Name, a.Refused)
		}
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
func mb(bytes int64) float64  { return float64(bytes) / 1e6 }
