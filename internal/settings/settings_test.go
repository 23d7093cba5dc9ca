package settings_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/settings"
)

// options is what the tests' program can be told.
type options struct {
	Listen   string
	Insecure bool
	Body     int64
	Keep     time.Duration
	Level    string
	Workers  int
	Hosts    []string
	Tokens   []token
	Scrape   scrape
	Top      top
}

type token struct {
	Name   string   `yaml:"name"`
	Scopes []string `yaml:"scopes"`
}

type scrape struct {
	Interval time.Duration     `yaml:"interval"`
	Labels   map[string]string `yaml:"labels"`
	Static   []struct {
		Targets []string `yaml:"targets"`
	} `yaml:"static"`
	On *bool `yaml:"on"`
}

type top struct {
	Discover bool `yaml:"discover"`
	Depth    int  `yaml:"depth"`
}

func define(o *options) *settings.Set {
	s := settings.New("prog", "prog does things.", settings.Command{Name: "token", Args: "-name NAME", Summary: "make a token"})
	s.Group("Serving")
	s.String(&o.Listen, "listen", "127.0.0.1:7070", "`ADDRESS` to serve on")
	s.Bool(&o.Insecure, "insecure", false, "serve anybody")
	s.Size(&o.Body, "max-body", 32<<20, 1, "largest body, in `BYTES`")
	s.List(&o.Hosts, "hosts", "`NAMES` the program is reached by")
	s.Group("Keeping")
	s.Duration(&o.Keep, "retention", 15*24*time.Hour, time.Minute, "how long raw profiles are kept, a `DURATION`")
	s.Int(&o.Workers, "workers", 4, 1, 64, "`NUMBER` of workers")
	s.Choice(&o.Level, "log-level", "info", []string{"debug", "info"}, "least `LEVEL` that is logged")
	s.Config()
	s.Section("tokens", "who may do what", &o.Tokens)
	s.Section("scrape", "what to scrape", &o.Scrape)
	s.Inline(&o.Top)
	return s
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "prog.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := write(t, "listen: file:1\nmax_body: 1MB\nretention: 1d12h\nhosts: [a, b]\nlog_level: debug\ninsecure: true\n")
	var got options
	s := define(&got)
	done, err := s.Parse(
		[]string{"-config", file, "-listen", "flag:1", "-hosts", "x", "-hosts", "y,z", "-insecure=false"},
		[]string{"INQUEST_LISTEN=env:1", "INQUEST_MAX_BODY=2MiB", "INQUEST_SPOOL=/elsewhere", "OTHER=1"}, nil)
	if done || err != nil {
		t.Fatal(done, err)
	}
	want := options{Listen: "flag:1", Body: 2 << 20, Keep: 36 * time.Hour, Level: "debug", Workers: 4, Hosts: []string{"x", "y", "z"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	sources := map[string]string{"listen": "flag -listen", "max-body": "environment variable INQUEST_MAX_BODY", "retention": "prog.yaml:3: retention", "workers": "default"}
	for name, want := range sources {
		if got := s.Lookup(name).Source(); got != want {
			t.Errorf("source of %s = %q, want %q", name, got, want)
		}
	}
	if s.Warnings() != nil {
		t.Errorf("warnings = %q, want none", s.Warnings())
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	var got options
	if _, err := define(&got).Parse(nil, []string{"INQUEST_CONFIG=" + write(t, "listen: file:1\n")}, nil); err != nil || got.Listen != "file:1" {
		t.Errorf("listen = %q, %v; want it from the file the environment names", got.Listen, err)
	}
}

func TestSections(t *testing.T) {
	file := write(t, `
tokens:
  - name: ci
    scopes: [ingest]
scrape: &s
  interval: 10s
  labels: {anything: goes}
  static:
    - targets: [a:1]
discover: true
depth: 3
`)
	var got options
	if _, err := define(&got).Parse([]string{"-config", file}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]token{{"ci", []string{"ingest"}}}, got.Tokens); diff != "" {
		t.Error(diff)
	}
	if got.Scrape.Interval != 10*time.Second || got.Scrape.Static[0].Targets[0] != "a:1" || got.Scrape.Labels["anything"] != "goes" {
		t.Errorf("scrape = %+v", got.Scrape)
	}
	if want := (top{true, 3}); got.Top != want {
		t.Errorf("inlined = %+v, want %+v", got.Top, want)
	}
}

// TestRefused has every kind of mistake with the whole message: these are
// what a person has to work with.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, file string
		args, env  []string
		want       string
	}{
		{name: "flag", args: []string{"-listne", "x"}, want: "unknown flag -listne; did you mean -listen?"},
		{name: "far flag", args: []string{"-zzzzzzz"}, want: "unknown flag -zzzzzzz; prog -help lists the flags"},
		{name: "argument", args: []string{"tokne"}, want: `unknown command "tokne"; did you mean "token"?`},
		{name: "late command", args: []string{"-insecure", "token"}, want: `unexpected argument "token" after flags; a command comes first: prog token …`},
		{name: "flag value", args: []string{"-max-body", "lots"}, want: `flag -max-body: "lots": want a size such as 512MB or 1GiB (units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)`},
		{name: "flag without value", args: []string{"-listen"}, want: "flag needs an argument: -listen"},
		{name: "bool", args: []string{"-insecure=perhaps"}, want: `flag -insecure: "perhaps": want true or false`},
		{name: "low", args: []string{"-retention=1s"}, want: `flag -retention: "1s": want at least 1m`},
		{name: "range", args: []string{"-workers=65"}, want: `flag -workers: "65": want a whole number from 1 to 64`},
		{name: "json alone", args: []string{"-json"}, want: "flag -json: only with -version"},
		{name: "environment", env: []string{"INQUEST_RETENTION=soon"}, want: `environment variable INQUEST_RETENTION: "soon": want a duration such as 90s, 1h30m or 15d`},
		{name: "key", file: "insecure: true\n\nlistne: x\n", want: "prog.yaml: unknown key `listne` at line 3; did you mean `listen`?"},
		{name: "key with dashes", file: "max-body: 1MB\n", want: "prog.yaml: unknown key `max-body` at line 1; did you mean `max_body`?"},
		{name: "section key", file: "scrape:\n  intervall: 3s\n", want: "prog.yaml: unknown key `intervall` at line 2; did you mean `interval`?"},
		{name: "deep key", file: "tokens:\n- name: x\n  scope: [read]\n", want: "prog.yaml: unknown key `scope` at line 3; did you mean `scopes`?"},
		{name: "far key", file: "scrape: {q: 1}\n", want: "prog.yaml: unknown key `q` at line 1; known here are interval, labels, on, static"},
		{name: "inlined key", file: "dept: 3\n", want: "prog.yaml: unknown key `dept` at line 1; did you mean `depth`?"},
		{name: "config in config", file: "config: x\n", want: "prog.yaml: unknown key `config` at line 1; known here are depth, discover, hosts, insecure, listen, log_level, max_body, retention, scrape, tokens, workers"},
		{name: "file value", file: "listen: x\nlog_level: loud\n", want: `prog.yaml:2: log_level: "loud": want one of debug, info`},
		{name: "no value", file: "listen:\n", want: "prog.yaml:1: listen: the value is missing"},
		{name: "list for a value", file: "listen: [a]\n", want: "prog.yaml:1: listen: want one value, not a list or a section"},
		{name: "twice", file: "listen: a\ninsecure: true\nlisten: b\n", want: "prog.yaml:3: key `listen` is there a second time, first at line 1"},
		{name: "section value", file: "scrape:\n  interval: soon\n", want: `prog.yaml:2: "soon": want a duration such as 10s or 1h30m`},
		{name: "inlined value", file: "listen: a\ndepth: deep\n", want: `prog.yaml:2: "deep": want a whole number`},
		{name: "section shape", file: "tokens: none\n", want: `prog.yaml:1: "none": want a list`},
		{name: "no mapping", file: "- a\n", want: `prog.yaml:1: want keys and values such as "listen: 127.0.0.1:7070"`},
		{name: "two documents", file: "listen: a\n---\nlisten: b\n", want: "prog.yaml: line 2: a second document begins; the file holds one"},
		{name: "no yaml", file: "listen: [a\n", want: "prog.yaml: line 1: did not find expected ',' or ']'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if c.file != "" {
				args = append(args, "-config", write(t, c.file))
			}
			var o options
			_, err := define(&o).Parse(args, c.env, nil)
			var usage *settings.Error
			if !errors.As(err, &usage) {
				t.Fatalf("error %v is not a *settings.Error", err)
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestFileMissing(t *testing.T) {
	var o options
	_, err := define(&o).Parse([]string{"-config", filepath.Join(t.TempDir(), "none.yaml")}, nil, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v, want one that the file does not exist", err)
	}
	if _, err := define(&o).Parse([]string{"-config", write(t, "# nothing\n")}, nil, nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestWarnsOfNearlyKnownVariable(t *testing.T) {
	var o options
	s := define(&o)
	if _, err := s.Parse(nil, []string{"INQUEST_LISTNE=x"}, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"environment variable INQUEST_LISTNE is no setting of prog; did you mean INQUEST_LISTEN?"}
	if diff := cmp.Diff(want, s.Warnings()); diff != "" {
		t.Error(diff)
	}
}

func TestChanged(t *testing.T) {
	var a, b options
	s, u := define(&a), define(&b)
	if _, err := s.Parse([]string{"-listen=a"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Parse([]string{"-listen=b", "-max-body=33554432", "-workers=5"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"listen"}, s.Changed(u, "workers")); diff != "" {
		t.Error(diff)
	}
}

// Arguments stand before, between and behind flags.
func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		args, want []string
		level      string
		err        string
	}{
		{args: []string{}, level: "info"},
		{args: []string{"a", "b"}, want: []string{"a", "b"}, level: "info"},
		{args: []string{"a", "-log-level", "debug", "b"}, want: []string{"a", "b"}, level: "debug"},
		{args: []string{"-log-level=debug", "--", "-x", "b"}, want: []string{"-x", "b"}, level: "debug"},
		{args: []string{"a", "b", "c"}, err: `unexpected argument "c"`},
		{args: []string{"a", "-levl", "debug"}, err: "unknown flag -levl"},
	} {
		var got []string
		var level string
		s := settings.New("prog do", "prog do does things.")
		s.Arguments(&got, "[A] [B]", 2)
		s.Choice(&level, "log-level", "info", []string{"debug", "info"}, "least `LEVEL` that is logged")
		_, err := s.Parse(tt.args, nil, nil)
		if tt.err != "" {
			var usage *settings.Error
			if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil || level != tt.level || !slices.Equal(got, tt.want) {
			t.Errorf("%q: arguments %q, level %s, error %v", tt.args, got, level, err)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"15d": 360 * time.Hour, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "90s": 90 * time.Second, "0": 0, "-1d1h": -25 * time.Hour,
	} {
		got, err := settings.ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
		if back, err := settings.ParseDuration(settings.FormatDuration(got)); back != want || err != nil {
			t.Errorf("FormatDuration(%v) = %q does not read back", want, settings.FormatDuration(got))
		}
	}
	for _, text := range []string{"", "d", "5", "1d-1h", "1w", "NaNd", "1e9d", "1h1d"} {
		if d, err := settings.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, d)
		}
	}
	for d, want := range map[time.Duration]string{90 * time.Minute: "1h30m", 20 * time.Millisecond: "20ms", 10 * time.Second: "10s", time.Hour: "1h", 24 * time.Hour: "1d", 0: "0s"} {
		if got := settings.FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"512MB": 512e6, "1GiB": 1 << 30, "1.5kib": 1536, "17": 17, "3 TB": 3e12, "0": 0, "1024": 1024,
	} {
		got, err := settings.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		if back, err := settings.ParseSize(settings.FormatSize(got)); back != want || err != nil {
			t.Errorf("FormatSize(%d) = %q does not read back", want, settings.FormatSize(got))
		}
	}
	for _, text := range []string{"", "MB", "-1MB", "1M", "1XB", "1e30TB", "1..5MB"} {
		if n, err := settings.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, n)
		}
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	var o options
	s := define(&o)
	if done, err := s.Parse([]string{"-help"}, nil, &out); !done || err != nil {
		t.Fatal(done, err)
	}
	for _, st := range s.Settings() {
		if !strings.Contains(out.String(), "  -"+st.Name) || !strings.Contains(out.String(), st.Env()) {
			t.Errorf("help lacks -%s or %s", st.Name, st.Env())
		}
	}
	for _, want := range []string{"prog token -name NAME", "  -listen ADDRESS\n        ADDRESS to serve on (default 127.0.0.1:7070) [$INQUEST_LISTEN]\n", "(default 32MiB)", "(default 15d)", "LEVEL that is logged: debug, info (default info)", "scrape (what to scrape)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("help has colours although it is not written to a terminal")
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 90 {
			t.Errorf("help has a line of %d characters: %s", len(line), line)
		}
	}
}

// TestBashCompletion asks a real bash what the script completes.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		proc.Missing(t, "bash is not installed")
	}
	var script bytes.Buffer
	var o options
	if done, err := define(&o).Parse([]string{"-completion", "bash"}, nil, &script); !done || err != nil {
		t.Fatal(done, err)
	}
	for _, c := range []struct {
		line string
		want []string
	}{
		{"prog -li", []string{"-listen"}},
		{"prog to", []string{"token"}},
		{"prog -log-level d", []string{"debug"}},
		{"prog -insecure to", nil},
		{"prog -completion f", []string{"fish"}},
	} {
		words := strings.Fields(c.line)
		program := script.String() + `COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _prog; printf '%s\n' "${COMPREPLY[@]}"`
		out, err := exec.Command(bash, append([]string{"-c", program, "bash"}, words...)...).CombinedOutput()
		if got := strings.Fields(string(out)); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("completing %q = %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

func TestOtherCompletions(t *testing.T) {
	for shell, wants := range map[string][]string{
		"zsh":  {"#compdef prog", `'-log-level[least LEVEL that is logged]:level:(debug info)'`, `token\:"make a token"`},
		"fish": {"complete -c prog -o log-level -d 'least LEVEL that is logged' -x -a 'debug info'", "-a token"},
	} {
		var out bytes.Buffer
		var o options
		if _, err := define(&o).Parse([]string{"-completion", shell}, nil, &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s script lacks %q:\n%s", shell, want, out.String())
			}
		}
	}
	var o options
	if _, err := define(&o).Parse([]string{"-completion", "csh"}, nil, nil); err == nil {
		t.Error("a script for csh was promised")
	}
}

func FuzzNearest(f *testing.F) {
	f.Add("listne", "listen")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, word, name string) {
		if len(word) > 64 || len(name) > 64 {
			return // the time is the product of the lengths, and keys are short
		}
		if got := settings.Nearest(word, []string{name}); got != "" && got != name {
			t.Errorf("Nearest(%q, %q) = %q", word, name, got)
		}
		if got := settings.Nearest(name, []string{name}); got != name {
			t.Errorf("a name is not nearest to itself: %q", name)
		}
	})
}
