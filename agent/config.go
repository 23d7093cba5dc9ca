package agent

import (
	"path/filepath"
	"time"

	"github.com/goinquest/inquest"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/model/relabel"
)

// Config is what an agent is to do, as its file says it. The zero value
// scrapes nothing; DefaultConfig looks for Go processes on the host.
// cmd decodes it (refusing unknown keys), New and Reload check it.
type Config struct {
	// ScrapeConfigs are places to scrape that are named here or in files.
	ScrapeConfigs []ScrapeConfig `yaml:"scrape_configs,omitempty"`
	// Host says how to find Go processes on this machine without any of that.
	Host HostConfig `yaml:"host,omitempty"`
	// Self says whether the agent profiles the process it runs in.
	Self SelfConfig `yaml:"self,omitempty"`
	// Labels are added to every target that does not have them itself.
	Labels map[string]string `yaml:"labels,omitempty"`
	// Capture says how the agent gets at the cores of dying processes, and what
	// it keeps of them.
	Capture CaptureConfig `yaml:"capture,omitempty"`
	// CrashTexts says from where it reads what processes write while they die.
	CrashTexts CrashTextConfig `yaml:"crash_texts,omitempty"`
	// Refuse lists what the agent does not do for the collector: profile, take
	// profiles on command; snapshot, copy the memory of processes on command;
	// upload, send executables that the collector lacks.
	Refuse []string `yaml:"refuse,omitempty"`
}

// defaultCrashSocket is where package client looks for an agent.
const defaultCrashSocket = "/run/inquest/crash.sock"

// DefaultConfig is the configuration of an agent without a file: it finds the
// Go processes of its host, and takes the cores and crash texts of those that
// die if the host lets it.
func DefaultConfig() Config {
	return Config{
		Host: HostConfig{Enabled: true}, Capture: CaptureConfig{Mode: captureAuto}, CrashTexts: CrashTextConfig{Socket: defaultCrashSocket},
	}
}

// Schedule says what is taken of a target, and how often.
type Schedule struct {
	Interval     time.Duration  `yaml:"scrape_interval,omitempty"` // default 60s
	CPUSeconds   int            `yaml:"cpu_seconds,omitempty"`     // length of a CPU profile; default 10
	Kinds        []inquest.Kind `yaml:"kinds,omitempty"`           // default cpu, heap, goroutine, mutex, block
	Timeout      time.Duration  `yaml:"timeout,omitempty"`         // of one request, beside cpu_seconds; default 10s
	MaxBodyBytes int64          `yaml:"max_body_bytes,omitempty"`  // of one answer as received; default 32 MiB
}

// ScrapeConfig is a job: places that are scraped alike.
type ScrapeConfig struct {
	JobName  string `yaml:"job_name"`
	Schedule `yaml:",inline"`

	Scheme     string `yaml:"scheme,omitempty"`      // http (default) or https
	PathPrefix string `yaml:"path_prefix,omitempty"` // default /debug/pprof

	StaticConfigs  []StaticConfig    `yaml:"static_configs,omitempty"`
	FileSDConfigs  []*file.SDConfig  `yaml:"file_sd_configs,omitempty"` // Prometheus' format
	RelabelConfigs []*relabel.Config `yaml:"relabel_configs,omitempty"` // Prometheus' format

	BearerTokenFile string     `yaml:"bearer_token_file,omitempty"` // read again for every request
	BasicAuth       *BasicAuth `yaml:"basic_auth,omitempty"`
	TLSConfig       *TLSConfig `yaml:"tls_config,omitempty"`
}

// StaticConfig is a list of addresses with common labels.
type StaticConfig struct {
	Targets []string          `yaml:"targets"` // host:port
	Labels  map[string]string `yaml:"labels,omitempty"`
}

// BasicAuth is a user and a password for targets.
type BasicAuth struct {
	Username     string `yaml:"username"`
	Password     string `yaml:"password,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"` // read again for every request
}

// TLSConfig says how targets are trusted and how they can trust the agent.
type TLSConfig struct {
	CAFile             string `yaml:"ca_file,omitempty"`
	CertFile           string `yaml:"cert_file,omitempty"`
	KeyFile            string `yaml:"key_file,omitempty"`
	ServerName         string `yaml:"server_name,omitempty"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify,omitempty"`
}

// HostConfig says how the Go processes of this machine are found.
type HostConfig struct {
	Enabled  bool          `yaml:"enabled"`
	Every    time.Duration `yaml:"interval,omitempty"` // between looks; default 15s
	Schedule `yaml:",inline"`

	// DenyPorts are never connected to; default: the ports where databases,
	// mail, name servers and their like listen. AllowPorts are taken out of
	// the default again.
	DenyPorts  []int `yaml:"deny_ports,omitempty"`
	AllowPorts []int `yaml:"allow_ports,omitempty"`
	// AllowNames and DenyNames are patterns (path.Match) for the base name of
	// the executable. No AllowNames: all. Nothing is read of a process whose
	// name is not allowed.
	AllowNames []string `yaml:"allow_names,omitempty"`
	DenyNames  []string `yaml:"deny_names,omitempty"`
	// Labels are added to every target found this way.
	Labels map[string]string `yaml:"labels,omitempty"`

	kindsChosen bool // Kinds was given, not filled in
}

// SelfConfig says whether and how the agent's own process is profiled: in the
// process, over no socket.
type SelfConfig struct {
	Enabled  bool   `yaml:"enabled"`
	Service  string `yaml:"service,omitempty"`  // default: the program's name
	Instance string `yaml:"instance,omitempty"` // default: the host's name
	Schedule `yaml:",inline"`
	Labels   map[string]string `yaml:"labels,omitempty"`
}

// SetDirectory makes the relative file names in c relative to dir, where the
// configuration file is.
func (c *Config) SetDirectory(dir string) {
	join := func(name *string) {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	for i := range c.ScrapeConfigs {
		sc := &c.ScrapeConfigs[i]
		join(&sc.BearerTokenFile)
		if sc.BasicAuth != nil {
			join(&sc.BasicAuth.PasswordFile)
		}
		if t := sc.TLSConfig; t != nil {
			join(&t.CAFile)
			join(&t.CertFile)
			join(&t.KeyFile)
		}
		for _, sd := range sc.FileSDConfigs {
			sd.SetDirectory(dir)
		}
	}
}

const (
	defaultInterval   = time.Minute
	defaultCPUSeconds = 10
	defaultTimeout    = 10 * time.Second
	defaultMaxBody    = 32 << 20
	defaultPathPrefix = "/debug/pprof"
	defaultHostEvery  = 15 * time.Second

	minInterval  = time.Second
	maxInterval  = 24 * time.Hour
	maxMaxBody   = 1 << 30
	minHostEvery = time.Second
)

// defaultKinds is what is taken of a target that says nothing else. allocs is
// the heap profile again, threadcreate says little.
var defaultKinds = []inquest.Kind{inquest.KindHeap, inquest.KindGoroutine, inquest.KindMutex, inquest.KindBlock, inquest.KindCPU}

// defaultDenyPorts are ports of programs that do not speak HTTP, or whose
// owners would not like an unasked request: ssh, smtp, dns, databases,
// brokers, coordination.
var defaultDenyPorts = []int{
	22, 25, 53, 110, 111, 143, 389, 445, 465, 514, 587, 636, 853, 873, 993, 995,
	1433, 1521, 1883, 2049, 2181, 2379, 2380, 3306, 3389, 4222, 5432, 5433, 5671, 5672, 5900, 6222,
	6379, 6380, 6432, 6443, 7000, 7001, 8883, 9042, 9092, 9093, 9094, 9160, 9300, 10250, 11211, 16379, 26257, 26379, 27017, 27018, 33060,
}
