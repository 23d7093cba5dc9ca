package settings

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/goinquest/inquest/internal/buildinfo"
)

func sorted(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// answer writes what the asked flags ask for.
func (s *Set) answer(stdout io.Writer) (done bool, err error) {
	switch a := s.asked; {
	case a.help:
		return true, s.WriteHelp(stdout, Colours(stdout))
	case a.version:
		return true, buildinfo.Write(stdout, s.name, a.json)
	case a.completion != "":
		return true, s.writeCompletion(stdout, a.completion)
	}
	return false, nil
}

// Colours reports whether w is a terminal whose user did not say NO_COLOR.
func Colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// WriteHelp writes the usage of the program: its commands, and every setting
// with its default and its environment variable, by group.
func (s *Set) WriteHelp(w io.Writer, bold bool) error {
	var b strings.Builder
	heading := func(text string) {
		if bold {
			text = "\x1b[1m" + text + "\x1b[0m"
		}
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	fmt.Fprintf(&b, "%s\n", s.summary)
	heading("Usage")
	fmt.Fprintf(&b, "  %s [flags]", s.name)
	if s.args != nil {
		b.WriteString(" " + s.args.spelled)
	}
	b.WriteByte('\n')
	for _, c := range s.commands {
		fmt.Fprintf(&b, "  %s %s %s\n        %s\n", s.name, c.Name, c.Args, c.Summary)
	}
	group := ""
	for _, st := range s.settings {
		if st.Group != group {
			group = st.Group
			heading(group)
		}
		st.writeHelp(&b)
	}
	s.writeGeneral(&b, heading)
	_, err := io.WriteString(w, b.String())
	return err
}

func (st *Setting) writeHelp(b *strings.Builder) {
	fmt.Fprintf(b, "  -%s", st.Name)
	if st.Arg != "" {
		fmt.Fprintf(b, " %s", st.Arg)
	}
	text := st.Usage
	if st.Choices != nil {
		text += ": " + strings.Join(st.Choices, ", ")
	}
	if st.Default != "" && st.Default != "false" {
		text += fmt.Sprintf(" (default %s)", st.Default)
	}
	fmt.Fprintf(b, "\n%s", wrap(text+" [$"+st.Env()+"]", 8, 88))
}

func (s *Set) writeGeneral(b *strings.Builder, heading func(string)) {
	heading("General")
	b.WriteString("  -help\n        show this text\n")
	if !s.main() {
		return
	}
	b.WriteString("  -version [-json]\n        show version, revision, Go version and platform\n")
	b.WriteString("  -completion bash|zsh|fish\n        write a completion script for the shell\n")
	if s.config == nil {
		return
	}
	b.WriteString("\n" + wrap("Every flag can also be given by the environment variable named beside it and, with underscores "+
		"for dashes, as a key of the configuration file. A flag beats the environment, which beats the file.", 0, 88))
	keys := make([]string, 0, len(s.sections))
	for _, sec := range s.sections {
		if sec.key != "" {
			keys = append(keys, fmt.Sprintf("%s (%s)", sec.key, sec.usage))
			continue
		}
		keys = append(keys, slices.Sorted(maps.Keys(fields(elem(sec.target))))...)
	}
	if len(keys) > 0 {
		b.WriteString(wrap("The file may also hold: "+strings.Join(keys, ", ")+".", 0, 88))
	}
}

// wrap breaks text into lines of at most width characters, each indented and
// ended by a newline.
func wrap(text string, indent, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column > 0 && column+1+len(word) > width {
			b.WriteByte('\n')
			column = 0
		}
		if column == 0 {
			b.WriteString(strings.Repeat(" ", indent))
			column = indent
		} else {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
