package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
)

// options are the settings of the agent.
type options struct {
	Collector       string
	TokenFile       string
	TLSCA           string
	Spool           string
	SpoolQuota      int64
	Hostname        string
	SelfProfile     bool
	UploadBinaries  bool
	UploadRate      int64
	Capture         bool
	CoresDir        string
	CoreRate        int64
	CoreQuota       int64
	CoreMinFree     int64
	ShutdownTimeout time.Duration
	Log             program.Logging
	Config          agent.Config

	args []string // as given, to read everything again on SIGHUP
	set  *settings.Set
}

// define makes the agent's settings.
func define(o *options) *settings.Set {
	s := settings.New("agent", "agent finds the Go services of a host, takes their profiles and ships them to a collector.",
		settings.Command{Name: "targets", Args: "[-json]", Summary: "show what would be scraped, and why not the rest, without scraping"},
		settings.Command{Name: "setup-cores", Args: "[-dry-run] [-mode MODE] [-json]", Summary: "say how core dumps would be got at, and try it with a program that dies"},
		settings.Command{Name: "doctor", Args: "[-json] [PID|SERVICE]", Summary: "say why a core, a crash text or a profile of a Go process would be missing, and what cures it"},
		settings.Command{Name: "restore-cores", Args: "[-cores-dir DIRECTORY]", Summary: "give the host back the core pattern that an agent which was killed has left changed"})
	s.Group("Collector")
	s.String(&o.Collector, "collector", "", "`URL` of the collector; required")
	s.String(&o.TokenFile, "token-file", "", "`FILE` that holds the token for the collector, read again for every request").Path = true
	s.String(&o.TLSCA, "tls-ca", "", "PEM `FILE` with certificates to trust the collector by, instead of the system's").Path = true
	s.Group("Scraping")
	s.Config()
	s.Bool(&o.SelfProfile, "self-profile", true, "take profiles of the agent itself, as service inquest-agent")
	s.String(&o.Hostname, "hostname", "", "`NAME` of this host; without it the one the kernel knows")
	s.Group("Executables")
	s.Bool(&o.UploadBinaries, "upload-binaries", true, "upload executables of running programs that the collector lacks, for it to name what has no names; false is the same as upload in the file's refuse")
	s.Size(&o.UploadRate, "upload-rate", 10<<20, 64<<10, "`BYTES` a second of executables to upload at most")
	s.Group("Cores and crash texts")
	s.Bool(&o.Capture, "capture-crashes", true, "take cores and crash texts of processes that die, as the file's sections capture and crash_texts say; without them, cores only, if the host allows it and nobody else takes them; false leaves the host's core pattern alone")
	coresDir(s, &o.CoresDir)
	s.Size(&o.CoreRate, "core-upload-rate", 10<<20, 64<<10, "`BYTES` a second of cores to upload at most")
	s.Size(&o.CoreQuota, "core-quota", 4<<30, 16<<20, "`BYTES` that cores, crashes and their texts may take below the spool's directory, beside -spool-quota; beyond, the oldest full cores become minicores, then cores, texts and at last crashes go")
	s.Size(&o.CoreMinFree, "core-min-free", 1<<30, 0, "`BYTES` of the disk that cores leave free")
	s.Group("Spool")
	s.String(&o.Spool, "spool", "", "`DIRECTORY` that holds what the collector does not have yet; without it $STATE_DIRECTORY, which systemd sets, else ~/.local/state/inquest/agent").Path = true
	s.Size(&o.SpoolQuota, "spool-quota", 1<<30, 1<<20, "`BYTES` the spool may take; beyond, the oldest profiles go")
	s.Duration(&o.ShutdownTimeout, "shutdown-timeout", 15*time.Second, time.Second, "longest `DURATION` from SIGTERM to the end")
	o.Log.Define(s)
	o.Config = agent.DefaultConfig()
	o.Config.Self = agent.SelfConfig{Enabled: true, Service: "inquest-agent"}
	s.Inline(&o.Config)
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
	if o.Collector == "" {
		return nil, false, settings.Errorf("where is the collector? give -collector URL, as in -collector http://127.0.0.1:7070")
	}
	if o.Spool == "" {
		if o.Spool, err = defaultSpool(); err != nil {
			return nil, false, err
		}
	}
	o.finish()
	return o, false, nil
}

// finish puts into the scrape configuration what other settings say of it.
func (o *options) finish() {
	if !o.SelfProfile {
		o.Config.Self.Enabled = false
	}
	if !o.Capture {
		o.Config.Capture.Mode, o.Config.CrashTexts = "off", agent.CrashTextConfig{}
	}
	if !o.UploadBinaries && !slices.Contains(o.Config.Refuse, inquest.RefuseUpload) {
		o.Config.Refuse = append(o.Config.Refuse, inquest.RefuseUpload)
	}
	o.Config.SetDirectory(filepath.Dir(o.set.File()))
}

// minFree is CoreMinFree as package agent takes it: 0 is a default there.
func (o *options) minFree() int64 {
	if o.CoreMinFree == 0 {
		return -1
	}
	return o.CoreMinFree
}

// defaultSpool is where the spool goes when nobody says: the directory systemd
// made for the service, else one of the user.
func defaultSpool() (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "inquest", "agent"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", settings.Errorf("where should the spool go? give -spool DIRECTORY (%w)", err)
	}
	return filepath.Join(home, ".local", "state", "inquest", "agent"), nil
}

// client is the way to the collector; nil if the agent's own will do.
func (o *options) client() (*http.Client, error) {
	if o.TLSCA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.TLSCA)
	if err != nil {
		return nil, settings.Errorf("-tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, settings.Errorf("-tls-ca: %s has no certificate in PEM form", o.TLSCA)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: t}, nil
}

// usage marks an error about what the user configured, for the exit code.
func (o *options) usage(err error) error {
	if errors.Is(err, inquest.ErrInvalid) {
		return settings.Errorf("%w", o.set.InSection("", err))
	}
	return err
}
