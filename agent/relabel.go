package agent

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// Labels that relabelling can read and write, as in Prometheus; those that
// begin with two underscores do not outlive it.
const (
	labelAddress     = "__address__"
	labelScheme      = "__scheme__"
	labelPath        = "__pprof_path__"
	prefixParam      = "__param_"
	prefixMeta       = "__"
	labelJob         = "job"
	labelServiceName = "service_name"
)

// specOf makes the place to scrape out of an address of a job and its labels;
// nil if a rule drops it.
func (sc *ScrapeConfig) specOf(source, address string, given, common map[string]string, client *http.Client) *spec {
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, v := range common {
		b.Set(name, v)
	}
	b.Set(labelJob, sc.JobName)
	b.Set(labelScheme, sc.Scheme)
	b.Set(labelPath, sc.PathPrefix)
	for name, v := range given {
		b.Set(name, v)
	}
	if address != "" {
		b.Set(labelAddress, address)
	}
	if !relabel.ProcessBuilder(b, sc.RelabelConfigs...) || b.Get(labelAddress) == "" {
		return nil
	}
	s := &spec{source: source, schedule: sc.Schedule, client: client, labels: map[string]string{}}
	params := url.Values{}
	all := b.Labels().Map()
	for name, v := range all {
		if p, ok := strings.CutPrefix(name, prefixParam); ok {
			params.Set(p, v)
		}
		if !strings.HasPrefix(name, prefixMeta) && !inquest.Reserved(name) {
			s.labels[name] = v
		}
	}
	s.name(all, sc.JobName)
	s.base = &url.URL{
		Scheme: all[labelScheme], Host: all[labelAddress],
		Path: strings.TrimSuffix(all[labelPath], "/") + "/", RawQuery: params.Encode(),
	}
	s.id = newID(sc.JobName, s.base.String(), s.service, s.instance)
	s.skip = s.checkRelabelled()
	if s.skip != "" {
		s.base = nil
	}
	return s
}

// name takes what the target is called out of its labels, and leaves out
// those that would only say it again.
func (s *spec) name(all map[string]string, job string) {
	s.instance = all[inquest.LabelInstance]
	if s.instance == "" {
		s.instance = all[labelAddress]
	}
	s.release = all[inquest.LabelRelease]
	s.service = job
	for _, name := range []string{labelServiceName, inquest.LabelService} {
		if v := all[name]; v != "" {
			s.service = v
		}
	}
	for _, name := range []string{labelServiceName, labelJob} {
		if s.labels[name] == s.service || all[name] == job {
			delete(s.labels, name)
		}
	}
}

// checkRelabelled says what is wrong with a target, since rules and files can
// make anything; empty if nothing is.
func (s *spec) checkRelabelled() string {
	u := s.base
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Sprintf("%s is %q: want http or https", labelScheme, u.Scheme)
	}
	if again, err := url.Parse(u.String()); err != nil || again.Host != u.Host || !strings.HasPrefix(u.Path, "/") {
		return fmt.Sprintf("%s %q with %s %q makes no URL: want host:port and a path", labelAddress, u.Host, labelPath, u.Path)
	}
	if len(s.labels) > inquest.MaxLabels {
		return fmt.Sprintf("%d labels, at most %d are allowed", len(s.labels), inquest.MaxLabels)
	}
	all := maps.Clone(s.labels)
	all[inquest.LabelService], all[inquest.LabelInstance], all[inquest.LabelRelease] = s.service, s.instance, s.release
	for name, v := range all {
		if err := inquest.ValidateLabel(name, v); err != nil {
			return err.Error()
		}
	}
	return ""
}

// port is the TCP port of a URL.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// localAddresses are the addresses of this machine.
type localAddresses struct {
	names map[string]bool
	ips   []netip.Addr
}

func newLocalAddresses(names ...string) localAddresses {
	l := localAddresses{names: map[string]bool{}}
	for _, n := range names {
		if n != "" {
			l.names[strings.ToLower(n)] = true
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return l // loopback is known without them
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				l.ips = append(l.ips, ip.Unmap())
			}
		}
	}
	return l
}

// of returns the addresses a host name of this machine stands for; none if
// it is another machine. Names are not asked of a name server.
func (l *localAddresses) of(host string) []netip.Addr {
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		if ip.IsUnspecified() {
			return loopback
		}
		if ip.IsLoopback() || slices.Contains(l.ips, ip) {
			return []netip.Addr{ip}
		}
		return nil
	}
	switch {
	case host == "localhost":
		return loopback
	case l.names[host]:
		return append(loopback, l.ips...)
	}
	return nil
}
