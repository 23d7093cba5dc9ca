package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/web"
)

// options are the settings of the collector.
type options struct {
	Listen          string
	Hosts           []string
	TLSCert, TLSKey string
	Insecure        bool
	MaxBody         int64
	QueryTimeout    time.Duration
	ShutdownTimeout time.Duration

	Data      string
	Retention time.Duration
	Keep      retention // of the file; Retention is its Raw
	Capture   capture
	Analysis  coreAnalysis
	Epoch     time.Duration

	MaxBinary    int64
	Debuginfod   debuginfod
	Vulns        string
	RollupLabels []string
	Memory       int64 // 0: by what there is
	budget       *budget

	SelfProfile bool
	Demo        bool
	Log         program.Logging

	Tokens []token
	Scrape agent.Config // of the agent in this process

	args []string // as given, to read everything again on SIGHUP
	set  *settings.Set
}

// token is one entry of the file's tokens.
type token struct {
	Name   string   `yaml:"name" json:"name"`
	Hash   string   `yaml:"hash" json:"hash"` // hex SHA-256 of the token
	Scopes []string `yaml:"scopes,flow" json:"scopes"`
}

// define makes the collector's settings.
func define(o *options) *settings.Set {
	s := settings.New("collector", "collector receives, stores and shows profiles of a fleet of Go services.",
		settings.Command{Name: "token", Args: "-name NAME -scope ingest,read", Summary: "make a token and what the configuration file needs to know of it"},
		settings.Command{Name: "check", Args: "[-data DIRECTORY | -url URL] [-deep] [-repair] [-json]", Summary: "verify what is stored, and repair what can be"},
		settings.Command{Name: "backup", Args: "[-data DIRECTORY | -url URL] -o PLACE", Summary: "copy what is stored, while the collector runs or not"},
		settings.Command{Name: "restore", Args: "-i PLACE [-data DIRECTORY] [-deletions FILE]", Summary: "make stored data of a backup"})
	s.Group("Start")
	s.Bool(&o.Demo, "demo", false, "show every view on a small live fleet: real services are built, put under load and scraped; everything is gone afterwards")
	s.Config()
	s.Group("Serving")
	s.String(&o.Listen, "listen", "127.0.0.1:7070", "`ADDRESS` to serve HTTP on, port 0 for any free one")
	s.List(&o.Hosts, "hosts", "further host `NAMES` people reach the collector by; others are refused, against DNS rebinding")
	s.String(&o.TLSCert, "tls-cert", "", "PEM `FILE` with the certificate chain; serves HTTPS").Path = true
	s.String(&o.TLSKey, "tls-key", "", "PEM `FILE` with the certificate's private key").Path = true
	s.Bool(&o.Insecure, "insecure", false, "serve a non-loopback address without tokens: everybody who reaches it may read and write everything")
	s.Size(&o.MaxBody, "max-body", 32<<20, 1<<10, "largest profile taken, in `BYTES` as received")
	s.Size(&o.MaxBinary, "max-binary", 2<<30, 1<<20, "largest executable taken, in `BYTES`")
	s.Duration(&o.QueryTimeout, "query-timeout", time.Minute, time.Second, "longest `DURATION` of one query")
	s.Duration(&o.ShutdownTimeout, "shutdown-timeout", 30*time.Second, time.Second, "longest `DURATION` from SIGTERM to the end")
	s.Group("Keeping")
	s.String(&o.Data, "data", "", "`DIRECTORY` for everything stored; without it $STATE_DIRECTORY, which systemd sets, else ~/.local/share/inquest/collector").Path = true
	s.Duration(&o.Retention, "retention", 15*24*time.Hour, time.Minute, "`DURATION` that single profiles are kept, and not taken beyond; the file says more under retention")
	s.List(&o.RollupLabels, "rollup-labels", "further `LABELS` of profiles by which old data can still be asked for, beside service, build and release; each value makes rollups larger")
	s.Duration(&o.Epoch, "epoch", 30*time.Minute, time.Second, "`DURATION` after which what is in memory becomes a block on disk")
	s.Size(&o.Memory, "memory", 0, leastMemory, "`BYTES` of memory the process may take, whatever is asked of it").Default = "80 % of its control group's, or half of the machine's if that is less"
	s.String(&o.Vulns, "vulns", "", "`FILE` with known vulnerabilities in the OSV format, or a zip archive or directory of such files, as vuln.go.dev publishes them: builds are shown with those of their modules").Path = true
	s.Group("Watching itself")
	s.Bool(&o.SelfProfile, "self-profile", true, "take profiles of the collector itself, as service inquest-collector")
	o.Log.Define(s)
	o.Keep = defaultRetention
	s.Section("retention", "how long what is kept, see How long things are kept", &o.Keep)
	s.Section("capture", "what is wanted of processes that die, see Crashes and cores", &o.Capture)
	s.Section("analysis", "how stored cores are looked at, see Crashes and cores", &o.Analysis)
	s.Section("debuginfod", "servers that are asked for executables nobody uploaded", &o.Debuginfod)
	s.Section("tokens", "who may do what, see collector token", &o.Tokens)
	o.Scrape.Self = agent.SelfConfig{Enabled: true, Service: "inquest-collector"}
	s.Section("scrape", "what the agent in this process scrapes, as in an agent's file", &o.Scrape)
	return s
}

// parse reads the settings. done is true if the call only asked for an answer
// such as -help, which has been written.
func parse(args, environ []string, stdout io.Writer) (o *options, done bool, err error) {
	o = &options{args: args}
	o.set = define(o)
	if done, err = o.set.Parse(args, environ, stdout); done || err != nil {
		return nil, done, err
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, false, settings.Errorf("-tls-cert and -tls-key belong together; only one of them is given")
	}
	if err := web.CheckExposure(o.Listen, len(o.Tokens), o.Insecure); err != nil {
		return nil, false, settings.Errorf("%w", err)
	}
	if o.Keep.Raw != 0 && o.set.Lookup("retention").Source() == "default" {
		o.Retention = time.Duration(o.Keep.Raw)
	}
	if policy := o.retention(); policy.Validate() != nil {
		return nil, false, settings.Errorf("%w", o.set.InSection("retention", policy.Validate()))
	}
	if o.budget, err = o.memory(); err != nil {
		return nil, false, err
	}
	if !o.SelfProfile {
		o.Scrape.Self.Enabled = false
	}
	o.Scrape.SetDirectory(filepath.Dir(o.set.File()))
	if o.Data == "" && !o.Demo {
		if o.Data, err = defaultData(); err != nil {
			return nil, false, err
		}
	}
	return o, false, nil
}

// defaultData is where data goes when nobody says: the directory systemd made
// for the service, else one of the user.
func defaultData() (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "inquest", "collector"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", settings.Errorf("where should data go? give -data DIRECTORY (%w)", err)
	}
	return filepath.Join(home, ".local", "share", "inquest", "collector"), nil
}

// webTokens are the tokens as room web has them.
func (o *options) webTokens() []web.Token {
	var out []web.Token
	for _, t := range o.Tokens {
		w := web.Token{Name: t.Name, Hash: t.Hash}
		for _, s := range t.Scopes {
			w.Scopes = append(w.Scopes, web.Scope(s))
		}
		out = append(out, w)
	}
	return out
}
