package push

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/settings"
)

// Write writes the report for people, in colour if the terminal has any. With
// verbose it lists the source files that are missing.
func (r *Report) Write(w io.Writer, colour, verbose bool) error {
	paint := func(text, code string) string {
		if !colour {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var b strings.Builder
	wide := 0
	for i := range r.Files {
		wide = max(wide, len(r.Files[i].Path))
	}
	for i := range r.Files {
		f := &r.Files[i]
		state := paint(fmt.Sprintf("%-13s", f.State), map[string]string{stateRefused: "31", stateFailed: "31", stateStored: "32"}[f.State])
		fmt.Fprintf(&b, "%s  %-*s  %9s  %s\n", state, wide, f.Path, settings.SizeText(f.Bytes), f.what())
		if f.Error != "" {
			fmt.Fprintf(&b, "    %s\n", f.Error)
		}
		if f.Warning != "" {
			fmt.Fprintf(&b, "    %s %s\n", paint("warning:", "33"), f.Warning)
		}
		if f.Source != nil {
			f.Source.write(&b, verbose)
		}
	}
	if r.Skipped > 0 {
		fmt.Fprintf(&b, "%d ELF files have no build id and were left out\n", r.Skipped)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// what says what a file is: "Go executable with DWARF, amd64, go-1a2b…".
func (f *File) what() string {
	kind := map[string]string{
		inquest.BinaryExecutable: "executable", inquest.BinaryPIE: "executable", inquest.BinaryLibrary: "library", inquest.BinaryDebug: "debug companion",
	}[f.Kind]
	if f.Go != "" {
		kind = "Go " + kind
	}
	if f.DWARF && f.Kind != inquest.BinaryDebug {
		kind += " with DWARF"
	}
	id := f.ID
	if id == "" {
		id = "no build id"
	}
	return kind + ", " + f.Arch + ", " + id
}

// write writes a line or more: "    stored: 1,204 of 1,310 source files, 3.1 MB".
func (s *Source) write(b *strings.Builder, verbose bool) {
	fmt.Fprintf(b, "    %s: %s of %s source files, %s\n", s.State, grouped(s.Files), grouped(s.Named), settings.SizeText(s.Bytes))
	if s.Error != "" {
		fmt.Fprintf(b, "    source: %s\n", s.Error)
	}
	for _, note := range s.Notes {
		fmt.Fprintf(b, "    %s\n", note)
	}
	if !verbose {
		return
	}
	for _, a := range s.Missing {
		fmt.Fprintf(b, "    not sent: %s: %s\n", a.File, a.Why)
	}
}

// grouped spells a number with commas.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
