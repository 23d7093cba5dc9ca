package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

const (
	pageGroups   = 200                // on the page of all of them
	sparkSpan    = 7 * 24 * time.Hour // of the bars beside a group
	sparkStep    = 6 * time.Hour      // of one bar
	sparkBars    = int(sparkSpan / sparkStep)
	sparkHeight  = 20               // of the highest bar
	beforeDeath  = 10 * time.Minute // that the link to profiles shows
	pageCrashes  = 50               // of a group, on the page of one
	pageBuckets  = 100              // of goroutines
	shortCrashID = 12
	bucketFrames = 12
	bucketLabels = 8
)

// groupRow is a group as its page shows it.
type groupRow struct {
	store.CrashGroup
	Where string // the frame that says most
	Bars  []sparkBar
	Week  int64 // deaths in the span of the bars
}

// sparkBar is one bar of a week: drawn in units of its graph.
type sparkBar struct {
	X, Y, Height int
	Title        string
}

// crashesPage lists groups of crashes.
func (s *Server) crashesPage(c echo.Context) error {
	p := s.params(c, "service")
	service := p.text("service")
	if err := p.err(); err != nil {
		return err
	}
	until := s.o.Now().UTC()
	groups, err := s.o.Store.CrashGroups(store.CrashQuery{Service: service})
	if err != nil {
		return err
	}
	data := struct {
		Service string
		Groups  []groupRow
		More    int
		Deaths  int64
		Origin  string
	}{Service: service, Origin: origin(c), More: max(0, len(groups)-pageGroups)}
	for i := range groups {
		g := &groups[i]
		if data.Deaths += g.Count; i < pageGroups {
			row := groupRow{CrashGroup: *g, Where: telling(g.Frames)}
			row.Bars, row.Week = spark(g.Hours, until)
			data.Groups = append(data.Groups, row)
		}
	}
	return s.renderPage(c, http.StatusOK, "crashes", "Crashes", data)
}

// origin is where the reader reaches this collector.
func origin(c echo.Context) string { return c.Scheme() + "://" + c.Request().Host }

// telling is the innermost frame that is not of the runtime.
func telling(frames []inquest.Frame) string {
	for i := range frames {
		if f := frames[i].Function; !strings.HasPrefix(f, "runtime.") && !strings.HasPrefix(f, "panic") {
			return f
		}
	}
	if len(frames) > 0 {
		return frames[0].Function
	}
	return ""
}

// spark makes bars of the counts of the hours before a time.
func spark(hours []store.CrashHour, until time.Time) (bars []sparkBar, all int64) {
	var counts [sparkBars]int64
	end := until.Truncate(sparkStep).Add(sparkStep)
	most := int64(1)
	for _, h := range hours {
		n := int(h.At.Sub(end.Add(-sparkSpan)) / sparkStep)
		if h.At.Before(end.Add(-sparkSpan)) || n >= sparkBars {
			continue
		}
		counts[n] += h.Count
		most, all = max(most, counts[n]), all+h.Count
	}
	for i, n := range counts {
		if n == 0 {
			continue
		}
		height := max(2, int(n*sparkHeight/most))
		at := end.Add(-sparkSpan + time.Duration(i)*sparkStep)
		bars = append(bars, sparkBar{X: 4 * i, Y: sparkHeight - height, Height: height, Title: fmt.Sprintf("%d in the 6 hours from %s UTC", n, at.Format("2006-01-02 15:04"))})
	}
	return bars, all
}

// crashView is a crash as its page shows it.
type crashView struct {
	*store.StoredCrash
	Short    string
	Profiles string // link to the profiles before it
	Others   []store.StoredCrash
	Buckets  []inquest.GoroutineBucket
	Hidden   int // buckets beyond those
	Facts    []factLine
	Download string // command that brings the core here

	Analysis *inquest.CoreAnalysis // nil without a core
	Report   *inquest.CoreReport   // of it, may be nil
}

// factLine is one fact for people.
type factLine struct{ Name, Value string }

// crashPage shows one crash.
func (s *Server) crashPage(c echo.Context) error {
	crash, err := s.o.Store.Crash(pathParam(c, "id"))
	if err != nil {
		return err
	}
	v := &crashView{StoredCrash: crash, Short: crash.ID[:min(len(crash.ID), shortCrashID)], Profiles: profilesBefore(crash), Facts: factLines(crash)}
	if v.Others, _, err = s.o.Store.Crashes(store.CrashQuery{Group: crash.Group, Limit: pageCrashes}); err != nil {
		return err
	}
	if crash.Text != nil {
		v.show(crash.Text.Buckets)
	}
	if crash.Core != nil && crash.Core.ID != "" {
		if v.Analysis, err = s.analysis(c, crash.Core.ID); err != nil && !errors.Is(err, inquest.ErrNotFound) {
			return err
		}
		if v.Analysis != nil && v.Analysis.Report != nil {
			v.Report = v.Analysis.Report
			v.show(v.Report.Buckets)
		}
	}
	if crash.Core != nil && crash.Core.Complete {
		v.Download = "inquest core download -to " + origin(c) + " " + crash.Core.ID[:min(len(crash.Core.ID), shortCrashID)]
		if !s.auth.open() {
			v.Download += " -token-file FILE"
		}
	}
	return s.renderPage(c, http.StatusOK, "crash", "Crash "+v.Short, v)
}

// show has the page show these goroutines.
func (v *crashView) show(buckets []inquest.GoroutineBucket) {
	v.Buckets = buckets[:min(len(buckets), pageBuckets)]
	v.Hidden = len(buckets) - len(v.Buckets)
}

// Labels are those of the goroutines of a bucket, each with how many have it,
// the most common ones.
func (v *crashView) Labels(bucket int) (out []labelCount) {
	if v.Report == nil {
		return nil
	}
	counts := map[string]int{}
	for i := range v.Report.Goroutines {
		if g := &v.Report.Goroutines[i]; g.Bucket == bucket {
			for name, value := range g.Labels {
				counts[name+"="+value]++
			}
		}
	}
	for label, n := range counts {
		out = append(out, labelCount{label, n})
	}
	slices.SortFunc(out, func(a, b labelCount) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Label, b.Label)) })
	return out[:min(len(out), bucketLabels)]
}

// labelCount is a label that so many goroutines have.
type labelCount struct {
	Label string
	Count int
}

// Ms spells how long an analysis took.
func (v *crashView) Ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// profilesBefore links to the profiles of the instance before it died.
func profilesBefore(c *store.StoredCrash) string {
	match := map[string]string{inquest.LabelService: c.Service, inquest.LabelInstance: c.Instance}
	q := url.Values{
		"query": {inquest.NewLabels(match).String()}, "type": {"cpu"},
		"from": {c.At.Add(-beforeDeath).UTC().Format(time.RFC3339)}, "until": {c.At.Add(time.Second).UTC().Format(time.RFC3339)},
	}
	return "/explore?" + q.Encode()
}

// factLines spells what is known beside frames.
func factLines(c *store.StoredCrash) (out []factLine) {
	add := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			out = append(out, factLine{name, value})
		}
	}
	add("Instance", c.Instance)
	add("Release", c.Release)
	add("Host", c.Host)
	add("Executable", c.Exe)
	if c.PID != 0 {
		add("Process", fmt.Sprintf("%d of user %d", c.PID, c.UID))
	}
	if !c.Started.IsZero() {
		add("Lived", c.At.Sub(c.Started).Round(time.Second).String())
	}
	if c.Held > 0 {
		add("Held for", c.Held.Round(100*time.Microsecond).String())
	}
	add("Told by", strings.Join(c.Source, ", "))
	add("Reason", c.Reason)
	f := c.Facts
	if f == nil {
		return out
	}
	add("Pod", f.Namespace+" "+cmp.Or(f.Pod, f.PodUID))
	add("Container", f.Container[:min(len(f.Container), shortCrashID)]+" "+f.Runtime)
	add("Image", f.Image)
	add("Unit", f.Unit)
	add("Cgroup", f.Cgroup)
	if f.MemoryBytes > 0 || f.MemoryLimit > 0 {
		limit := "no limit"
		if f.MemoryLimit > 0 {
			limit = "a limit of " + mib(f.MemoryLimit)
		}
		add("Memory", fmt.Sprintf("%s, %s at most, %s", mib(f.MemoryBytes), mib(f.MemoryPeak), limit))
	}
	if f.OOMKills > 0 {
		add("Killed for memory", fmt.Sprintf("%d times in this cgroup", f.OOMKills))
	}
	if f.CPULimit > 0 {
		add("CPU limit", fmt.Sprintf("%.2g cores", f.CPULimit))
	}
	if f.FDs > 0 || f.Threads > 0 {
		add("Open files", fmt.Sprintf("%d, %d threads", f.FDs, f.Threads))
	}
	add("Kernel", f.Kernel)
	return out
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// Size spells bytes, for templates.
func (v *crashView) Size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return mib(n)
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// Some is the frames of a bucket that are drawn at once.
func (v *crashView) Some(frames []inquest.Frame) []inquest.Frame {
	return frames[:min(len(frames), bucketFrames)]
}

// Base is a file without its directories.
func (v *crashView) Base(file string) string { return file[strings.LastIndexByte(file, '/')+1:] }
