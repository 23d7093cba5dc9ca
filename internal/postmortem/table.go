package postmortem

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/settings"
)

// WriteGroups writes groups as a table.
func WriteGroups(w io.Writer, groups []Group, now time.Time) error {
	if len(groups) == 0 {
		_, err := fmt.Fprintln(w, "no crash is known")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "GROUP\tSERVICE\tCLASS\tWHERE\tDEATHS\tCORES\tFIRST\tLAST\tNEWEST")
	for i := range groups {
		g := &groups[i]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%.12s\n", g.ID, plain(g.Service), plain(g.Class), where(g.Frames), g.Count, g.Cores, settings.Ago(g.First, now), settings.Ago(g.Last, now), cmp.Or(g.Newest, "-"))
	}
	return tw.Flush()
}

// WriteCrashes writes crashes as a table.
func WriteCrashes(w io.Writer, crashes []Crash, now time.Time) error {
	if len(crashes) == 0 {
		_, err := fmt.Fprintln(w, "no crash is known")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CRASH\tSERVICE\tINSTANCE\tCLASS\tWHERE\tHERE\tDIED")
	for i := range crashes {
		c := &crashes[i]
		fmt.Fprintf(tw, "%.12s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, plain(c.Service), plain(cmp.Or(c.Instance, "-")), plain(c.Class), where(c.Frames), c.Tier, settings.Ago(c.At, now))
	}
	return tw.Flush()
}

// WriteCrash writes all that is known of a crash, but the goroutines.
func WriteCrash(w io.Writer, c *Crash, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" && value != "0" {
			fmt.Fprintf(tw, "%s\t%s\n", name, plain(value))
		}
	}
	line("crash", c.ID)
	line("died", c.At.Format(time.RFC3339)+"  "+settings.Ago(c.At, now))
	line("service", strings.TrimSpace(c.Service+"  "+c.Instance))
	line("build", c.Build)
	line("class", c.Class)
	line("message", c.Message)
	line("group", c.Group)
	line("host", strings.TrimSpace(fmt.Sprintf("%s  pid %d  %s", c.Host, c.PID, c.Exe)))
	if c.Held > 0 {
		line("held", c.Held.Round(100*time.Microsecond).String())
	}
	line("told by", strings.Join(c.Source, ", "))
	if f := c.Facts; f != nil {
		line("pod", strings.TrimSpace(f.Namespace+" "+f.Pod))
		line("container", strings.TrimSpace(f.Container+" "+f.Image))
		line("unit", f.Unit)
		if f.MemoryLimit > 0 {
			line("memory", fmt.Sprintf("%s of %s, killed for it %d times", settings.SizeText(f.MemoryBytes), settings.SizeText(f.MemoryLimit), f.OOMKills))
		}
	}
	if c.Text != nil && c.Text.Goroutines > 0 {
		line("goroutines", fmt.Sprint(c.Text.Goroutines))
	}
	if c.TextBytes > 0 {
		line("text", settings.SizeText(c.TextBytes))
	}
	switch k := c.Core; {
	case k != nil:
		line("core", fmt.Sprintf("%s  %s, %s here, %s as a file", k.ID, k.Tier, settings.SizeText(k.StoredBytes), settings.SizeText(k.VirtualBytes)))
		for _, m := range k.Missing {
			line("missing", m)
		}
	case c.CoreGone != "":
		line("core", "not here any more: "+c.CoreGone)
	default:
		line("core", strings.TrimSpace("none  "+c.Reason))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return writeFrames(w, c.Frames)
}

// WriteCores writes cores as a table.
func WriteCores(w io.Writer, cores []Core, now time.Time) error {
	if len(cores) == 0 {
		_, err := fmt.Fprintln(w, "no core is stored")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CORE\tSERVICE\tTIER\tSTORED\tAS A FILE\tGO\tDIED\tSTATE")
	for i := range cores {
		c := &cores[i]
		state := "whole"
		switch {
		case !c.Complete:
			state = "being sent"
		case c.Pinned:
			state = "pinned"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, plain(c.Service), c.Tier, settings.SizeText(c.StoredBytes), settings.SizeText(c.VirtualBytes),
			plain(cmp.Or(strings.TrimPrefix(c.GoVersion, "go"), "-")), settings.Ago(c.At, now), state)
	}
	return tw.Flush()
}

// where names the innermost frame that is not of the runtime.
func where(frames []inquest.Frame) string {
	for i := range frames {
		if !strings.HasPrefix(frames[i].Function, "runtime.") {
			return plain(frames[i].Function)
		}
	}
	return "-"
}

// plain leaves out what a terminal would take for a command: it comes of
// programs that may be hostile.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}
