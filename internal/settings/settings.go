// Package settings reads the settings of a program from its configuration
// file, the environment and the command line, in that order of precedence
// (a flag beats the environment, which beats the file).
//
// Every setting is defined once, as a flag of the standard flag package. The
// flag -tls-cert is the key tls_cert of the YAML file and the environment
// variable INQUEST_TLS_CERT. The file may hold structured sections besides.
// What is unknown is refused with the nearest name that exists; what is wrong
// is reported with the place it came from. The package opens the named file
// and nothing else; it keeps no state outside a Set.
package settings

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// EnvPrefix begins the environment variable of every setting.
const EnvPrefix = "INQUEST_"

// Error is a mistake in how a program was called or configured: exit code 2.
type Error struct{ err error }

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Errorf makes an Error. %w works as in fmt.Errorf.
func Errorf(format string, args ...any) error {
	return &Error{fmt.Errorf(format, args...)}
}

// Command is one subcommand of a program, for help and completion.
type Command struct {
	Name    string // "token"
	Args    string // how its arguments look: "-name NAME"
	Summary string // what it does, a phrase
}

// Setting describes one setting: a flag, a key of the file, a variable.
type Setting struct {
	Name    string // of the flag, without dash: "tls-cert"
	Group   string // heading in the help text
	Usage   string // a sentence; the argument is not back-quoted any more
	Arg     string // what the argument is, in capitals; "" for a boolean
	Default string // as it would be written; "" if empty
	Choices []string
	Path    bool // the argument is a file or directory

	value  flag.Value
	source string // where the value came from; "" while it is the default
}

// Env is the environment variable of the setting.
func (s *Setting) Env() string { return EnvPrefix + strings.ToUpper(s.Key()) }

// Key is the setting's key in the configuration file.
func (s *Setting) Key() string { return strings.ReplaceAll(s.Name, "-", "_") }

// Value is the setting's present value, spelled as it would be written.
func (s *Setting) Value() string { return s.value.String() }

// Source says where the value came from: "flag -listen", "environment
// variable INQUEST_LISTEN", "collector.yaml:3", or "default".
func (s *Setting) Source() string {
	if s.source == "" {
		return "default"
	}
	return s.source
}

// Set is the settings of one program or subcommand. The zero value is not
// usable; see New. A Set is not safe for concurrent use.
type Set struct {
	name     string
	summary  string
	commands []Command
	group    string
	settings []*Setting
	sections []section
	args     *arguments
	config   *string // path of the file; nil if the program has no -config
	path     string  // of the file that was read, "" if none
	warnings []string
	asked    asked
}

// arguments are what stands on the command line beside flags.
type arguments struct {
	list    *[]string
	spelled string
	most    int // 0: no bound
}

// asked holds the flags that end in an answer instead of a run.
type asked struct {
	help, version, json bool
	completion          string
}

// New makes the Set of a program. name is how it is called ("collector" or
// "collector token"), summary a sentence on what it does.
func New(name, summary string, commands ...Command) *Set {
	return &Set{name: name, summary: summary, commands: commands}
}

// Rename makes the settings of a program those of one of its subcommands.
func (s *Set) Rename(name, summary string) { s.name, s.summary, s.commands = name, summary, nil }

// Group puts the settings defined from here on under a heading.
func (s *Set) Group(heading string) { s.group = heading }

// Var defines a setting. As in the flag package the first back-quoted word of
// usage names the argument. The value v has when defined is the default.
func (s *Set) Var(v flag.Value, name, usage string) *Setting {
	arg, usage := flag.UnquoteUsage(&flag.Flag{Name: name, Usage: usage, Value: v})
	if isBool(v) {
		arg = ""
	}
	st := &Setting{Name: name, Group: s.group, Usage: usage, Arg: arg, Default: v.String(), value: v}
	s.settings = append(s.settings, st)
	return st
}

// Config defines -config: the path of the YAML file that holds the settings.
func (s *Set) Config() {
	s.config = new(string)
	s.String(s.config, "config", "", "YAML `FILE` that holds settings and structured sections").Path = true
}

// Arguments lets the program have arguments beside its flags, before or behind
// them: at most so many, or with 0 any number. spelled is how the help shows
// them: "FILE…".
func (s *Set) Arguments(p *[]string, spelled string, most int) { s.args = &arguments{p, spelled, most} }

// Settings lists the settings in the order they were defined.
func (s *Set) Settings() []*Setting { return s.settings }

// File is the path of the configuration file that was read, "" if none was.
func (s *Set) File() string { return s.path }

// Warnings tells of what was found and left alone, after Parse.
func (s *Set) Warnings() []string { return s.warnings }

// Lookup finds a setting by the name of its flag, nil if there is none.
func (s *Set) Lookup(name string) *Setting {
	for _, st := range s.settings {
		if st.Name == name {
			return st
		}
	}
	return nil
}

// Changed names the settings whose values differ between two Sets of the same
// program, but for those in except.
func (s *Set) Changed(other *Set, except ...string) []string {
	var names []string
	for _, st := range s.settings {
		if o := other.Lookup(st.Name); o != nil && o.Value() != st.Value() && !slices.Contains(except, st.Name) {
			names = append(names, st.Name)
		}
	}
	return names
}

// Parse reads args, then the file they or the environment name, then applies
// file, environment and flags in that order. environ is as os.Environ gives
// it. When the call only asked for help, the version or a completion script,
// that is written to stdout and done is true. Every error is an *Error.
func (s *Set) Parse(args, environ []string, stdout io.Writer) (done bool, err error) {
	given, err := s.readFlags(args)
	if err != nil {
		return false, err
	}
	if done, err := s.answer(stdout); done || err != nil {
		return done, err
	}
	env := s.readEnvironment(environ)
	if s.config != nil {
		if err := s.readFile(configPath(given, env)); err != nil {
			return false, err
		}
	}
	for _, list := range [][]assignment{env, given} {
		for _, a := range list {
			if err := a.apply(); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// assignment is a value for a setting as it was written somewhere.
type assignment struct {
	setting *Setting
	text    string
	source  string
}

func (a assignment) apply() error {
	if l, ok := a.setting.value.(*list); ok && a.setting.source != a.source {
		l.reset() // a list given here replaces the one given elsewhere
	}
	if err := a.setting.value.Set(a.text); err != nil {
		return Errorf("%s: %q: %w", a.source, a.text, plain(err))
	}
	a.setting.source = a.source
	return nil
}

// plain takes the wrapping off errors of the strconv package, whose message
// repeats the input and names a function.
func plain(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

func configPath(given, env []assignment) string {
	for _, list := range [][]assignment{given, env} {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].setting.Name == "config" {
				return list[i].text
			}
		}
	}
	return ""
}

// recorder is the flag.Value that keeps what was written until the file has
// been read.
type recorder struct {
	setting *Setting
	out     *[]assignment
}

func (r recorder) String() string { return "" }

// IsBoolFlag tells the flag package that the flag needs no argument.
func (r recorder) IsBoolFlag() bool { return r.setting != nil && isBool(r.setting.value) }

func (r recorder) Set(text string) error {
	*r.out = append(*r.out, assignment{r.setting, text, "flag -" + r.setting.Name})
	return nil
}

func isBool(v flag.Value) bool {
	b, ok := v.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func (s *Set) readFlags(args []string) ([]assignment, error) {
	var given []assignment
	fs := flag.NewFlagSet(s.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, st := range s.settings {
		fs.Var(recorder{st, &given}, st.Name, st.Usage)
	}
	fs.BoolVar(&s.asked.help, "help", false, "")
	fs.BoolVar(&s.asked.help, "h", false, "")
	if s.main() {
		fs.BoolVar(&s.asked.version, "version", false, "")
		fs.StringVar(&s.asked.completion, "completion", "", "")
	}
	if s.Lookup("json") == nil {
		fs.BoolVar(&s.asked.json, "json", false, "")
	}
	if err := s.readArguments(fs, args); err != nil {
		return nil, err
	}
	if s.asked.json && !s.asked.version && !s.asked.help {
		return nil, Errorf("flag -json: only with -version")
	}
	return given, nil
}

// readArguments reads flags and what stands between them; behind "--" there are
// no flags.
func (s *Set) readArguments(fs *flag.FlagSet, args []string) error {
	for {
		if err := fs.Parse(args); err != nil {
			return s.flagError(err, fs)
		}
		if fs.NArg() == 0 {
			return nil
		}
		if s.args == nil {
			return s.argumentError(fs.Arg(0))
		}
		n := 1
		if read := len(args) - fs.NArg(); read > 0 && args[read-1] == "--" {
			n = fs.NArg()
		}
		*s.args.list = append(*s.args.list, fs.Args()[:n]...)
		if s.args.most > 0 && len(*s.args.list) > s.args.most {
			return s.argumentError((*s.args.list)[s.args.most])
		}
		args = fs.Args()[n:]
	}
}

// main reports whether the set is of the program itself and not of a
// subcommand.
func (s *Set) main() bool { return !strings.Contains(s.name, " ") }

// flagError adds the nearest flag to the flag package's message about one
// that does not exist.
func (s *Set) flagError(err error, fs *flag.FlagSet) error {
	const undefined = "flag provided but not defined: -"
	name, ok := strings.CutPrefix(err.Error(), undefined)
	if !ok {
		return Errorf("%w", err)
	}
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	if near := Nearest(name, names); near != "" {
		return Errorf("unknown flag -%s; did you mean -%s?", name, near)
	}
	return Errorf("unknown flag -%s; %s -help lists the flags", name, s.name)
}

func (s *Set) argumentError(arg string) error {
	var names []string
	for _, c := range s.commands {
		names = append(names, c.Name)
		if c.Name == arg {
			return Errorf("unexpected argument %q after flags; a command comes first: %s %s …", arg, s.name, arg)
		}
	}
	if near := Nearest(arg, names); near != "" {
		return Errorf("unknown command %q; did you mean %q?", arg, near)
	}
	return Errorf("unexpected argument %q; %s -help shows the usage", arg, s.name)
}

// readEnvironment finds the variables of settings. A variable with our prefix
// that nearly is one of them is worth a warning; others may belong to another
// program.
func (s *Set) readEnvironment(environ []string) []assignment {
	known := make(map[string]*Setting)
	var names []string
	for _, st := range s.settings {
		known[st.Env()] = st
		names = append(names, st.Env())
	}
	var found []assignment
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, EnvPrefix) {
			continue
		}
		if st := known[name]; st != nil {
			found = append(found, assignment{st, value, "environment variable " + name})
		} else if near := Nearest(name, names); near != "" {
			s.warnings = append(s.warnings, fmt.Sprintf("environment variable %s is no setting of %s; did you mean %s?", name, s.name, near))
		}
	}
	return found
}
