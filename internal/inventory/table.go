package inventory

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goinquest/inquest/internal/settings"
)

const maxServices = 3 // named in one line

// Write writes builds as a table, with what affects them if that was asked for.
func Write(w io.Writer, builds []Build, now time.Time) error {
	if len(builds) == 0 {
		_, err := fmt.Fprintln(w, "no build is like that")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "BUILD\tSERVICES\tRELEASE\tREVISION\tGO\tFIRST SEEN\tLAST SEEN\tSTORED")
	for i := range builds {
		b := &builds[i]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", short(b.ID, 15), b.services(), dash(b.Release()), b.revision(),
			dash(strings.TrimPrefix(b.GoVersion, "go")), settings.Ago(b.first(), now), settings.Ago(b.LastSeen, now), b.stored())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i := range builds {
		if b := &builds[i]; len(b.Findings) > 0 {
			fmt.Fprintf(w, "\n%s  %s  %s\n", short(b.ID, 15), b.services(), dash(b.Release()))
			if err := b.writeFindings(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteOne writes all that is known of a build.
func WriteOne(w io.Writer, b *Build, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, value)
		}
	}
	line("build", b.ID)
	line("go build id", b.GoBuildID)
	line("program", b.Path)
	line("module", strings.TrimSpace(b.Module+" "+b.Version))
	line("revision", strings.TrimSpace(dirty(b.Revision, b.Modified)+"  "+b.Time))
	line("go", b.GoVersion)
	for _, s := range b.Services {
		line("service", fmt.Sprintf("%s  first seen %s, last %s", s.Service, settings.Ago(s.First, now), settings.Ago(s.Last, now)))
	}
	line("stored", b.stored())
	if b.Conflict {
		line("conflict", "files of this id differ in their code: one of them is not what ran")
	}
	for i := range b.Binaries {
		x := &b.Binaries[i]
		line("file", fmt.Sprintf("%s, %s, %s on disk %s, by %s (%s) %s, SHA-256 %s",
			x.Kind, x.Arch, settings.SizeText(x.Bytes), settings.SizeText(x.StoredBytes), dash(x.By), x.Source, settings.Ago(x.Uploaded, now), x.SHA256))
	}
	for _, k := range slices.Sorted(maps.Keys(b.Settings)) {
		line("setting", k+"="+b.Settings[k])
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(b.Modules) > 0 {
		fmt.Fprintf(w, "\nMODULES\n")
	}
	for i := range b.Modules {
		m := &b.Modules[i]
		fmt.Fprintf(tw, "%s\t%s", m.Path, dash(m.Version))
		if m.Replace != nil {
			fmt.Fprintf(tw, "\t=> %s %s", m.Replace.Path, m.Replace.Version)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(b.Findings) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nVULNERABILITIES\n")
	return b.writeFindings(w)
}

func (b *Build) writeFindings(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range b.Findings {
		f := &b.Findings[i]
		fixed := "no fix"
		if f.Fixed != "" {
			fixed = "fixed in " + f.Fixed
		}
		fmt.Fprintf(tw, "  %s\t%s %s\t%s\t%s\n", f.ID, f.Module, f.Version, fixed, cmp.Or(f.Summary, f.URL))
	}
	return tw.Flush()
}

func (b *Build) services() string {
	var names []string
	for _, s := range b.Services {
		names = append(names, s.Service)
	}
	if n := len(names); n > maxServices {
		names = append(names[:maxServices], fmt.Sprintf("and %d more", n-maxServices))
	}
	return dash(strings.Join(names, ", "))
}

func (b *Build) revision() string { return dash(dirty(short(b.Revision, 12), b.Modified)) }

func dirty(revision string, modified bool) string {
	if modified && revision != "" {
		return revision + "+dirty"
	}
	return revision
}

// first is when data first came of the build.
func (b *Build) first() time.Time {
	var first time.Time
	for _, s := range b.Services {
		if first.IsZero() || s.First.Before(first) {
			first = s.First
		}
	}
	return first
}

// stored says what there is of the code.
func (b *Build) stored() string {
	text := b.Code
	switch b.Code {
	case "missing":
		text = "no"
	case "debug":
		text = "debug only"
	}
	if b.Fetching {
		text += ", being fetched"
	}
	if b.Conflict {
		text += ", conflict"
	}
	return text
}

func short(s string, n int) string { return s[:min(len(s), n)] }

func dash(s string) string { return cmp.Or(s, "-") }
