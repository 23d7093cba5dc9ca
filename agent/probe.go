package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

const (
	probeTimeout  = time.Second
	maxProbeBytes = 256 << 10
	probePath     = "/debug/pprof/"
)

// probeResult is what one port answered: the kinds that exist there, or why
// it is not scraped.
type probeResult struct {
	base   *url.URL
	kinds  []inquest.Kind // nil: the page does not list them
	reason string
}

// probe asks one listening port for its pprof index. It is the only URL that
// is asked for, once.
func (a *Agent) probe(ctx context.Context, client *http.Client, addr netip.AddrPort) probeResult {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	ip := addr.Addr()
	if ip.IsUnspecified() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	u := &url.URL{Scheme: "http", Host: net.JoinHostPort(ip.String(), strconv.Itoa(int(addr.Port()))), Path: probePath}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return probeResult{reason: err.Error()}
	}
	req.Header.Set("User-Agent", a.userAgent)
	a.metrics.probes.Inc()
	resp, err := client.Do(req)
	if err != nil {
		return probeResult{reason: "does not answer HTTP: " + brief(err)}
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it is wanted
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBytes))
	if reason := notIndex(resp, body, err); reason != "" {
		return probeResult{reason: reason}
	}
	return probeResult{base: u, kinds: indexKinds(body)}
}

// notIndex says why an answer is not Go's pprof index; empty if it is.
func notIndex(resp *http.Response, body []byte, err error) string {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Sprintf("answers %d: name it in scrape_configs with its credentials", code)
	case code >= 300 && code < 400:
		return fmt.Sprintf("redirects to %.200q", resp.Header.Get("Location"))
	case code == http.StatusBadRequest && bytes.Contains(body, []byte("HTTPS server")):
		return "speaks TLS: name it in scrape_configs with scheme: https"
	case code != http.StatusOK:
		return fmt.Sprintf("answers %d: it serves no %s", code, probePath)
	case err != nil:
		return "breaks off its answer: " + brief(err)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") ||
		!bytes.Contains(body, []byte("Types of profiles available")) && !bytes.Contains(body, []byte(probePath)) {
		return fmt.Sprintf("answers %s with something else than Go's pprof index", probePath)
	}
	return ""
}

// indexKinds reads which kinds a pprof index links to.
func indexKinds(body []byte) []inquest.Kind {
	var kinds []inquest.Kind
	for _, k := range inquest.Kinds {
		name := endpoints[k]
		if name == "" {
			continue
		}
		for _, quote := range []string{"'", `"`, "/"} {
			if bytes.Contains(body, []byte(quote+name+"?")) || bytes.Contains(body, []byte(quote+name+quote)) {
				kinds = append(kinds, k)
				break
			}
		}
	}
	return kinds
}

// offered narrows a schedule to the kinds that exist; what the index does not
// tell is tried. A leak profile is taken wherever it exists, unless the kinds
// were chosen.
func (r *probeResult) offered(s Schedule, chosen bool) Schedule {
	if len(r.kinds) == 0 {
		return s
	}
	kinds := slices.DeleteFunc(slices.Clone(s.Kinds), func(k inquest.Kind) bool { return !slices.Contains(r.kinds, k) })
	if !chosen && slices.Contains(r.kinds, inquest.KindGoroutineLeak) {
		kinds = append(kinds, inquest.KindGoroutineLeak)
	}
	if len(kinds) > 0 {
		s.Kinds = kinds
	}
	return s
}

// brief is an error of an HTTP client without the URL that everybody sees
// beside it.
func brief(err error) string {
	var ue *url.Error
	if errors.As(err, &ue) {
		if ue.Timeout() {
			return "no answer in time"
		}
		err = ue.Err
	}
	return err.Error()
}
