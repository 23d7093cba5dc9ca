package settings

import (
	"fmt"
	"io"
	"strings"
)

// writeCompletion writes the script that makes a shell complete the program's
// commands, flags and the values of those flags that take one of a few words.
func (s *Set) writeCompletion(w io.Writer, shell string) error {
	var script string
	switch shell {
	case "bash":
		script = s.bash()
	case "zsh":
		script = s.zsh()
	case "fish":
		script = s.fish()
	default:
		return Errorf("flag -completion: %q: want one of bash, zsh, fish", shell)
	}
	_, err := io.WriteString(w, script)
	return err
}

// general are the flags every program has, for completion.
var general = []*Setting{
	{Name: "help", Usage: "show the usage"},
	{Name: "version", Usage: "show the version"},
	{Name: "completion", Usage: "write a completion script", Arg: "SHELL", Choices: []string{"bash", "zsh", "fish"}},
}

func (s *Set) all() []*Setting {
	return append(s.settings[:len(s.settings):len(s.settings)], general...)
}

func (s *Set) bash() string {
	var words, cases []string
	for _, st := range s.all() {
		words = append(words, "-"+st.Name)
		switch {
		case st.Choices != nil:
			cases = append(cases, fmt.Sprintf("    -%s) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", st.Name, strings.Join(st.Choices, " ")))
		case st.Path:
			cases = append(cases, fmt.Sprintf("    -%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", st.Name))
		case st.Arg != "":
			cases = append(cases, fmt.Sprintf("    -%s) COMPREPLY=(); return ;;\n", st.Name))
		}
	}
	var commands []string
	for _, c := range s.commands {
		commands = append(commands, c.Name)
	}
	return fmt.Sprintf(`# bash completion of %[1]s; load it with: source <(%[1]s -completion bash)
_%[1]s() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  case $prev in
%[2]s  esac
  local words=%[3]q
  if [ "$COMP_CWORD" -eq 1 ]; then words="$words %[4]s"; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _%[1]s %[1]s
`, s.name, strings.Join(cases, ""), strings.Join(words, " "), strings.Join(commands, " "))
}

func (s *Set) zsh() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %[1]s\n# zsh completion of %[1]s; load it with: source <(%[1]s -completion zsh)\n_%[1]s() {\n  _arguments", s.name)
	for _, st := range s.all() {
		action := ""
		switch {
		case st.Choices != nil:
			action = ":" + strings.ToLower(st.Arg) + ":(" + strings.Join(st.Choices, " ") + ")"
		case st.Path:
			action = ":file:_files"
		case st.Arg != "":
			action = ":" + strings.ToLower(st.Arg) + ":"
		}
		fmt.Fprintf(&b, " \\\n    %s", quote("-"+st.Name+"["+zshText(st.Usage)+"]"+action))
	}
	if len(s.commands) > 0 {
		b.WriteString(" \\\n    '1:command:((")
		for i, c := range s.commands {
			if i > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s\\:\"%s\"", c.Name, strings.ReplaceAll(zshText(c.Summary), "'", ""))
		}
		b.WriteString("))'")
	}
	fmt.Fprintf(&b, "\n}\ncompdef _%[1]s %[1]s\n", s.name)
	return b.String()
}

// zshText makes a description safe inside the brackets of _arguments.
func zshText(s string) string {
	return strings.NewReplacer("[", "(", "]", ")", ":", " -", `"`, "").Replace(s)
}

func (s *Set) fish() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion of %[1]s; load it with: %[1]s -completion fish | source\ncomplete -c %[1]s -f\n", s.name)
	for _, c := range s.commands {
		fmt.Fprintf(&b, "complete -c %s -n __fish_use_subcommand -a %s -d %s\n", s.name, c.Name, quote(c.Summary))
	}
	for _, st := range s.all() {
		fmt.Fprintf(&b, "complete -c %s -o %s -d %s", s.name, st.Name, quote(st.Usage))
		switch {
		case st.Choices != nil:
			fmt.Fprintf(&b, " -x -a %s", quote(strings.Join(st.Choices, " ")))
		case st.Path:
			b.WriteString(" -r -F")
		case st.Arg != "":
			b.WriteString(" -x")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// quote puts a text in single quotes for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
