package agent

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/goinquest/inquest"
)

// The modes of CaptureConfig beside those of package corepattern.
const (
	captureAuto = "auto"
	captureOff  = "off"
)

var captureModes = []string{captureAuto, "socket", "pipe", "directory", "systemd", captureOff}

// CaptureConfig says how the agent gets at the cores of dying Go processes,
// and what it keeps of them. The zero value touches nothing of the host.
type CaptureConfig struct {
	// Mode is auto (the best the host allows; a core handler that is there
	// already stays), socket, pipe, directory, systemd or off, the default here.
	Mode string `yaml:"mode,omitempty"`
	// Directories with core files, besides those that the host's pattern names.
	Directories []string `yaml:"directories,omitempty"`

	Tier    inquest.Tier `yaml:"tier,omitempty"`     // where neither services nor the collector say anything; default mini
	MaxTier inquest.Tier `yaml:"max_tier,omitempty"` // whatever the collector says; default full
	// Services are rules that go before the collector's; the first that matches
	// counts.
	Services []CaptureService `yaml:"services,omitempty"`

	// AllowEnv are patterns (path.Match) for names of environment variables whose
	// values are not blanked in cores, besides harmless ones. AllowArgs are such
	// for names of flags, without dashes. KeepArgs keeps all arguments but the
	// values of flags that look like secrets.
	AllowEnv  []string `yaml:"allow_env,omitempty"`
	AllowArgs []string `yaml:"allow_args,omitempty"`
	KeepArgs  bool     `yaml:"keep_args,omitempty"`

	PerPlace   CaptureRate   `yaml:"per_place,omitempty"`   // cores of one place in one service; default 3 at once, one more every 10m
	PerService CaptureRate   `yaml:"per_service,omitempty"` // cores of one service; default 10 at once, one more every 1m
	Concurrent int           `yaml:"concurrent,omitempty"`  // processes copied at a time; default 2
	Hold       time.Duration `yaml:"max_hold,omitempty"`    // of one process, before the rest is left out; default 60s
	Stop       time.Duration `yaml:"max_stop,omitempty"`    // of a live process for a snapshot; default 250ms
}

// CaptureService says what is kept of the services whose names match.
type CaptureService struct {
	Name string       `yaml:"name"` // a pattern of * and ?
	Tier inquest.Tier `yaml:"tier"` // none, text, mini, full
}

// CaptureRate bounds how many there are: so many at once, and one more every
// so often.
type CaptureRate struct {
	Burst int           `yaml:"burst,omitempty"`
	Every time.Duration `yaml:"every,omitempty"`
}

// CrashTextConfig says from where the agent reads what processes write while
// they die. The zero value reads nothing.
type CrashTextConfig struct {
	// Socket is where programs with package client tell how they die: a path, or
	// "@name" for an abstract one.
	Socket string `yaml:"socket,omitempty"`
	// Files are patterns (path/filepath.Match) of log files of services and
	// containers.
	Files []string `yaml:"files,omitempty"`
	// Journal has the journal read, of Units if there are some, else of all.
	Journal bool     `yaml:"journal,omitempty"`
	Units   []string `yaml:"units,omitempty"`
	// Stderr has the files read that are the standard error of targets.
	Stderr bool `yaml:"stderr,omitempty"`
}

// watches reports whether anything is to be read but the socket.
func (c *CrashTextConfig) watches() bool { return len(c.Files) > 0 || c.Journal || c.Stderr }

func (c *CaptureConfig) check() error {
	setDefault(&c.Mode, captureOff)
	if !slices.Contains(captureModes, c.Mode) {
		return invalid("capture.mode", "%q: want one of %v", c.Mode, captureModes)
	}
	setDefault(&c.Tier, inquest.TierMini)
	setDefault(&c.MaxTier, inquest.TierFull)
	for at, t := range map[string]inquest.Tier{"capture.tier": c.Tier, "capture.max_tier": c.MaxTier} {
		if !t.Valid() {
			return invalid(at, "%q: want none, text, mini or full", t)
		}
	}
	for i, s := range c.Services {
		at := fmt.Sprintf("capture.services[%d]", i)
		if s.Name == "" {
			return invalid(at+".name", "is missing; give a service's name or a pattern such as shop-*")
		}
		if !s.Tier.Valid() {
			return invalid(at+".tier", "%q: want none, text, mini or full", s.Tier)
		}
	}
	for i, d := range c.Directories {
		if !filepath.IsAbs(d) {
			return invalid(fmt.Sprintf("capture.directories[%d]", i), "%q: want an absolute path", d)
		}
	}
	for at, list := range map[string][]string{"capture.allow_env": c.AllowEnv, "capture.allow_args": c.AllowArgs} {
		for i, p := range list {
			if _, err := path.Match(p, "x"); err != nil || p == "" {
				return invalid(fmt.Sprintf("%s[%d]", at, i), "%q: want a name, which may have * and ?", p)
			}
		}
	}
	for at, r := range map[string]CaptureRate{"capture.per_place": c.PerPlace, "capture.per_service": c.PerService} {
		if r.Burst < 0 || r.Every < 0 {
			return invalid(at, "want a positive burst and every, for example burst: 3, every: 10m")
		}
	}
	switch {
	case c.Concurrent < 0:
		return invalid("capture.concurrent", "%d: want at least 1", c.Concurrent)
	case c.Hold < 0:
		return invalid("capture.max_hold", "%v: want a positive duration, for example 60s", c.Hold)
	case c.Stop < 0:
		return invalid("capture.max_stop", "%v: want a positive duration, for example 250ms", c.Stop)
	}
	return nil
}

// policy is the collector's policy with the file's rules before it.
func (c *CaptureConfig) policy(of inquest.CapturePolicy) inquest.CapturePolicy {
	rules := make([]inquest.CaptureRule, 0, len(c.Services)+len(of.Rules))
	for _, s := range c.Services {
		rules = append(rules, inquest.CaptureRule{Service: s.Name, Tier: s.Tier})
	}
	of.Rules = append(rules, of.Rules...)
	return of
}

func (c *CrashTextConfig) check() error {
	if c.Socket != "" && c.Socket[0] != '@' && !filepath.IsAbs(c.Socket) {
		return invalid("crash_texts.socket", "%q: want an absolute path, or @name", c.Socket)
	}
	for i, f := range c.Files {
		at := fmt.Sprintf("crash_texts.files[%d]", i)
		if !filepath.IsAbs(f) {
			return invalid(at, "%q: want an absolute path, which may have * and ?", f)
		}
		if _, err := filepath.Match(f, "/"); err != nil {
			return invalid(at, "%q: %w", f, err)
		}
	}
	for i, u := range c.Units {
		if u == "" || !c.Journal {
			return invalid(fmt.Sprintf("crash_texts.units[%d]", i), "%q: want the name of a unit such as shop.service, beside journal: true", u)
		}
	}
	return nil
}
