package postmortem

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/goinquest/inquest"
)

// WriteAnalysis writes what is found out about a core, with its goroutines or
// only how many there are.
func WriteAnalysis(w io.Writer, a *inquest.CoreAnalysis, goroutines bool) error {
	r := a.Report
	if r == nil {
		_, err := fmt.Fprintln(w, strings.TrimSpace(a.State+"  "+plain(a.Reason)))
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, plain(value))
		}
	}
	line("class", r.Class)
	line("message", r.Message)
	for i := range r.Panics {
		line("panic", panicText(&r.Panics[i]))
	}
	if s := r.Signal; s != nil {
		line("signal", fmt.Sprintf("%s, code %d, address %#x, at %#x", s.Name, s.Code, s.Addr, s.PC))
	}
	if r.Goroutine != 0 {
		line("goroutine", fmt.Sprintf("%d died, of %d", r.Goroutine, r.Total))
	} else {
		line("goroutines", fmt.Sprint(r.Total))
	}
	line("go", strings.TrimPrefix(r.GoVersion, "go"))
	for _, p := range r.Problems {
		line("not read", p)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if err := writeFrames(w, r.Frames); err != nil || !goroutines {
		return err
	}
	for i := range r.Buckets {
		if err := writeBucket(w, &r.Buckets[i]); err != nil {
			return err
		}
	}
	if r.Truncated {
		_, err := fmt.Fprintln(w, "\nthere are more")
		return err
	}
	return nil
}

func panicText(p *inquest.Panic) string {
	s := strings.TrimPrefix(p.Type+": "+p.Value, ": ")
	if p.Goexit {
		s = "runtime.Goexit"
	}
	if p.Recovered {
		s += " [recovered]"
	}
	return s
}

func writeBucket(w io.Writer, b *inquest.GoroutineBucket) error {
	what := "goroutines"
	if b.Count == 1 {
		what = "goroutine"
	}
	s := fmt.Sprintf("\n%d %s [%s", b.Count, what, plain(b.State))
	if b.Wait > 0 {
		s += fmt.Sprintf(", up to %d minutes", b.Wait)
	}
	if b.First {
		s += ", died"
	}
	if _, err := fmt.Fprintln(w, s+"]:"); err != nil {
		return err
	}
	if err := writeFrames(w, b.Frames); err != nil || b.By == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "  created by %s\n", plain(b.By.Function))
	return err
}

func writeFrames(w io.Writer, frames []inquest.Frame) error {
	for i := range frames {
		f := &frames[i]
		if _, err := fmt.Fprintf(w, "  %s\n      %s:%d\n", plain(f.Function), plain(f.File), f.Line); err != nil {
			return err
		}
	}
	return nil
}
