package agent

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

// checked returns a copy of c with every default filled in. The error is of
// kind inquest.ErrInvalid and begins with the path in the file.
func (c Config) checked() (Config, error) {
	names := map[string]int{}
	c.ScrapeConfigs = slices.Clone(c.ScrapeConfigs)
	for i := range c.ScrapeConfigs {
		sc, at := &c.ScrapeConfigs[i], fmt.Sprintf("scrape_configs[%d]", i)
		if err := sc.check(at); err != nil {
			return c, err
		}
		if first, ok := names[sc.JobName]; ok {
			return c, invalid(at+".job_name", "%q is the name of scrape_configs[%d] already", sc.JobName, first)
		}
		names[sc.JobName] = i
	}
	if err := c.Host.check(); err != nil {
		return c, err
	}
	if err := c.Self.check(); err != nil {
		return c, err
	}
	if err := c.Capture.check(); err != nil {
		return c, err
	}
	if err := c.CrashTexts.check(); err != nil {
		return c, err
	}
	if err := checkLabels("labels", c.Labels, false); err != nil {
		return c, err
	}
	for at, own := range map[string]map[string]string{"host.labels": c.Host.Labels, "self.labels": c.Self.Labels} {
		if n := len(c.Labels) + len(own); n > inquest.MaxLabels {
			return c, invalid(at, "with labels they are %d, at most %d are allowed", n, inquest.MaxLabels)
		}
	}
	for i, v := range c.Refuse {
		if v != inquest.VerbProfile && v != inquest.VerbSnapshot && v != inquest.RefuseUpload {
			return c, invalid(fmt.Sprintf("refuse[%d]", i), "unknown command %q; known are %s, %s and %s", v, inquest.VerbProfile, inquest.VerbSnapshot, inquest.RefuseUpload)
		}
	}
	return c, nil
}

func invalid(at, format string, args ...any) error {
	return inquest.Errorf(inquest.ErrInvalid, "%s: "+format, append([]any{at}, args...)...)
}

func (sc *ScrapeConfig) check(at string) error {
	if sc.JobName == "" {
		return invalid(at+".job_name", "is missing; give the job a name")
	}
	if err := sc.Schedule.check(at); err != nil {
		return err
	}
	if sc.Scheme == "" {
		sc.Scheme = "http"
	}
	if sc.Scheme != "http" && sc.Scheme != "https" {
		return invalid(at+".scheme", "%q: want http or https", sc.Scheme)
	}
	if sc.PathPrefix == "" {
		sc.PathPrefix = defaultPathPrefix
	}
	if !strings.HasPrefix(sc.PathPrefix, "/") || strings.ContainsAny(sc.PathPrefix, "?#") {
		return invalid(at+".path_prefix", "%q: want a path such as %s", sc.PathPrefix, defaultPathPrefix)
	}
	for i, st := range sc.StaticConfigs {
		here := fmt.Sprintf("%s.static_configs[%d]", at, i)
		for j, t := range st.Targets {
			if u, err := url.Parse("http://" + t); err != nil || t == "" || u.Host != t {
				return invalid(fmt.Sprintf("%s.targets[%d]", here, j), "%q: want host:port", t)
			}
		}
		if err := checkLabels(here+".labels", st.Labels, true); err != nil {
			return err
		}
	}
	for i, sd := range sc.FileSDConfigs {
		if sd == nil || len(sd.Files) == 0 {
			return invalid(fmt.Sprintf("%s.file_sd_configs[%d].files", at, i), "is missing; name at least one file or pattern")
		}
	}
	if err := sc.checkRelabel(at); err != nil {
		return err
	}
	return sc.checkAuth(at)
}

func (sc *ScrapeConfig) checkRelabel(at string) error {
	rules := make([]*relabel.Config, len(sc.RelabelConfigs))
	for i, rc := range sc.RelabelConfigs {
		here := fmt.Sprintf("%s.relabel_configs[%d]", at, i)
		if rc == nil {
			return invalid(here, "is empty")
		}
		rule := *rc // Validate writes into it
		if err := rule.Validate(model.UTF8Validation); err != nil {
			return invalid(here, "%w", err)
		}
		rules[i] = &rule
	}
	sc.RelabelConfigs = rules
	return nil
}

func (sc *ScrapeConfig) checkAuth(at string) error {
	if b := sc.BasicAuth; b != nil {
		switch {
		case sc.BearerTokenFile != "":
			return invalid(at+".basic_auth", "cannot be given beside bearer_token_file")
		case b.Password != "" && b.PasswordFile != "":
			return invalid(at+".basic_auth.password", "cannot be given beside password_file")
		}
	}
	if t := sc.TLSConfig; t != nil && (t.CertFile == "") != (t.KeyFile == "") {
		return invalid(at+".tls_config", "cert_file and key_file belong together")
	}
	return nil
}

func (s *Schedule) check(at string) error {
	setDefault(&s.Interval, defaultInterval)
	setDefault(&s.Timeout, defaultTimeout)
	setDefault(&s.MaxBodyBytes, defaultMaxBody)
	if s.Interval < minInterval || s.Interval > maxInterval {
		return invalid(at+".scrape_interval", "%v: want %v to %v, for example 60s", s.Interval, minInterval, maxInterval)
	}
	if s.Timeout < 0 {
		return invalid(at+".timeout", "%v: want a positive duration, for example 10s", s.Timeout)
	}
	if s.MaxBodyBytes < 0 || s.MaxBodyBytes > maxMaxBody {
		return invalid(at+".max_body_bytes", "%d: want 1 to %d", s.MaxBodyBytes, maxMaxBody)
	}
	if err := s.checkKinds(at); err != nil {
		return err
	}
	return s.checkCPU(at)
}

func (s *Schedule) checkKinds(at string) error {
	given := s.Kinds
	if len(given) == 0 {
		given = defaultKinds
	}
	s.Kinds = nil // not the caller's
	for i, k := range given {
		here := fmt.Sprintf("%s.kinds[%d]", at, i)
		kind, err := inquest.ParseKind(string(k))
		if err != nil {
			return invalid(here, "%w", err)
		}
		if endpoints[kind] == "" {
			return invalid(here, "%q is nothing that /debug/pprof serves", k)
		}
		if !slices.Contains(s.Kinds, kind) {
			s.Kinds = append(s.Kinds, kind)
		}
	}
	return nil
}

// checkCPU makes sure that a CPU profile fits into the interval; the default
// adapts to a short one.
func (s *Schedule) checkCPU(at string) error {
	given := s.CPUSeconds
	if given == 0 {
		s.CPUSeconds = defaultCPUSeconds
		if s.Interval <= defaultCPUSeconds*time.Second {
			s.CPUSeconds = max(1, int(s.Interval/(2*time.Second)))
		}
	}
	switch fits := time.Duration(s.CPUSeconds)*time.Second < s.Interval; {
	case s.CPUSeconds > 0 && (fits || !slices.Contains(s.Kinds, inquest.KindCPU)):
		return nil
	case given != 0:
		return invalid(at+".cpu_seconds", "%d: want at least 1 and less than the scrape interval, %v", s.CPUSeconds, s.Interval)
	default:
		return invalid(at+".scrape_interval", "%v leaves no time for a CPU profile of a second; want more than 1s, or kinds without cpu", s.Interval)
	}
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (h *HostConfig) check() error {
	setDefault(&h.Every, defaultHostEvery)
	if h.Every < minHostEvery {
		return invalid("host.interval", "%v: want at least %v", h.Every, minHostEvery)
	}
	h.kindsChosen = len(h.Kinds) > 0
	if err := h.Schedule.check("host"); err != nil {
		return err
	}
	for _, list := range []struct {
		name  string
		ports []int
	}{{"deny_ports", h.DenyPorts}, {"allow_ports", h.AllowPorts}} {
		for i, p := range list.ports {
			if p < 1 || p > 65535 {
				return invalid(fmt.Sprintf("host.%s[%d]", list.name, i), "%d: want a port from 1 to 65535", p)
			}
		}
	}
	for _, list := range []struct {
		name     string
		patterns []string
	}{{"allow_names", h.AllowNames}, {"deny_names", h.DenyNames}} {
		for i, p := range list.patterns {
			if _, err := path.Match(p, "x"); err != nil {
				return invalid(fmt.Sprintf("host.%s[%d]", list.name, i), "%q: %w", p, err)
			}
		}
	}
	return checkLabels("host.labels", h.Labels, false)
}

// wants decides by the base name of an executable.
func (h *HostConfig) wants(exe string) bool {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			ok, _ := path.Match(p, exe) // the pattern was checked
			return ok
		})
	}
	return (len(h.AllowNames) == 0 || matches(h.AllowNames)) && !matches(h.DenyNames)
}

// denied is the set of ports that are never connected to.
func (h *HostConfig) denied() map[int]bool {
	ports := h.DenyPorts
	if ports == nil {
		ports = defaultDenyPorts
	}
	set := map[int]bool{}
	for _, p := range ports {
		set[p] = true
	}
	for _, p := range h.AllowPorts {
		delete(set, p)
	}
	return set
}

func (s *SelfConfig) check() error {
	if err := s.Schedule.check("self"); err != nil {
		return err
	}
	for name, v := range map[string]string{"service": s.Service, "instance": s.Instance} {
		if err := inquest.ValidateLabel(name, v); err != nil {
			return invalid("self."+name, "%w", err)
		}
	}
	return checkLabels("self.labels", s.Labels, false)
}

// checkLabels checks labels given in the file. Those of a job go through
// relabelling: they may be names that do not last, and name the service.
func checkLabels(at string, labels map[string]string, job bool) error {
	if len(labels) > inquest.MaxLabels {
		return invalid(at, "%d labels, at most %d are allowed", len(labels), inquest.MaxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if err := inquest.ValidateLabel(name, labels[name]); err != nil {
			return invalid(at, "%w", err)
		}
		if name == inquest.LabelBuild || inquest.Reserved(name) && !job {
			return invalid(at+"."+name, "the name is reserved: it says what the agent finds; use another name")
		}
	}
	return nil
}
