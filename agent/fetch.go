package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

const (
	maxRedirects   = 3
	idleTimeout    = 5 * time.Second
	connectTimeout = 5 * time.Second
	maxErrorText   = 300
	// maxTrustedLength is how much memory is taken on a target's word for it.
	maxTrustedLength = 1 << 20
	userAgentName    = "inquest-agent/"
)

// errUnreachable is wrapped by errors after which nothing else of the target
// need be tried now.
var errUnreachable = errors.New("target does not answer")

// errCPUBusy is wrapped when the target already runs a CPU profile.
var errCPUBusy = errors.New("cpu profiling already in use")

// transport makes the way to targets; the one of Options comes first.
func (a *Agent) transport(conf *tls.Config) http.RoundTripper {
	if a.opts.TargetTransport != nil {
		return a.opts.TargetTransport
	}
	return &http.Transport{
		// No proxy: a target's address is meant as it stands.
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: connectTimeout,
		DisableCompression:  true, // profiles are compressed already
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     idleTimeout,
		// A target that sends headers without end is cut off.
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// newTargetClient makes the client of a job; sc is nil for targets without
// credentials.
func newTargetClient(rt http.RoundTripper, sc *ScrapeConfig) *http.Client {
	if sc != nil && (sc.BearerTokenFile != "" || sc.BasicAuth != nil) {
		rt = &authTransport{next: rt, tokenFile: sc.BearerTokenFile, basic: sc.BasicAuth}
	}
	return &http.Client{Transport: rt, CheckRedirect: checkRedirect}
}

// checkRedirect follows a few redirects on the same host: a profile of
// another host would be stored under the wrong name.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects, the last to %s", maxRedirects, withoutQuery(req.URL))
	}
	if req.URL.Host != via[0].URL.Host {
		return fmt.Errorf("redirects to another host: %s", withoutQuery(req.URL))
	}
	return nil
}

// authTransport adds a job's credentials. Files are read for every request,
// so that a new secret counts at once.
type authTransport struct {
	next      http.RoundTripper
	tokenFile string
	basic     *BasicAuth
}

func (t *authTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	switch {
	case t.tokenFile != "":
		token, err := readSecret(t.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("bearer_token_file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	case t.basic != nil:
		password := t.basic.Password
		if t.basic.PasswordFile != "" {
			var err error
			if password, err = readSecret(t.basic.PasswordFile); err != nil {
				return nil, fmt.Errorf("basic_auth.password_file: %w", err)
			}
		}
		req.SetBasicAuth(t.basic.Username, password)
	}
	return t.next.RoundTrip(req)
}

func (t *authTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func readSecret(name string) (string, error) {
	data, err := os.ReadFile(name)
	return strings.TrimSpace(string(data)), err
}

// load reads the files of a TLS configuration; nil for none.
func (t *TLSConfig) load() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	conf := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		// Read again for every handshake: certificates are renewed.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &cert, err
		}
	}
	return conf, nil
}

// profileURL is where a kind of a target is.
func (s *spec) profileURL(kind inquest.Kind, seconds int) *url.URL {
	u := *s.base
	u.Path += endpoints[kind]
	if kind == inquest.KindCPU {
		q := u.Query()
		q.Set("seconds", strconv.Itoa(seconds))
		u.RawQuery = q.Encode()
	}
	return &u
}

// fetch asks a target for one profile and returns the body as received.
func (a *Agent) fetch(ctx context.Context, s *spec, kind inquest.Kind, seconds int) ([]byte, error) {
	limit := s.schedule.Timeout
	if kind == inquest.KindCPU {
		limit += time.Duration(seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.profileURL(kind, seconds).String(), nil)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "make request: %w", err)
	}
	req.Header.Set("User-Agent", a.userAgent)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, clientError(ctx, err, limit)
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it is wanted
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp)
	}
	body, err := readBody(resp, s.schedule.MaxBodyBytes)
	if err != nil {
		if ctx.Err() != nil {
			return nil, clientError(ctx, err, limit)
		}
		return nil, err
	}
	return body, checkContent(resp, body)
}

// clientError says why there was no answer.
func clientError(ctx context.Context, err error, limit time.Duration) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w within %v", errUnreachable, limit)
	}
	var ne net.Error
	var oe *net.OpError
	if errors.As(err, &oe) || errors.As(err, &ne) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return err
}

// statusError says what a target answered instead of a profile.
func statusError(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
	if err != nil && len(text) == 0 {
		text = []byte(err.Error())
	}
	what := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " ")
	if resp.StatusCode == http.StatusInternalServerError && strings.Contains(what, errCPUBusy.Error()) {
		return fmt.Errorf("%w: another profiler has the target's CPU profile", errCPUBusy)
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("the target refuses the credentials: %s", resp.Status)
	case http.StatusNotFound:
		return fmt.Errorf("the target does not serve it: %s", resp.Status)
	}
	if what == "" {
		return fmt.Errorf("the target answers %s", resp.Status)
	}
	return fmt.Errorf("the target answers %s: %s", resp.Status, what)
}

// readBody reads an answer up to the limit.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "answer of %d bytes, max_body_bytes is %d", resp.ContentLength, limit)
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(min(resp.ContentLength, maxTrustedLength)) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	switch {
	case n > limit:
		return nil, inquest.Errorf(inquest.ErrTooLarge, "answer exceeds max_body_bytes, %d", limit)
	case errors.Is(err, io.ErrUnexpectedEOF) && resp.ContentLength >= 0:
		return nil, inquest.Errorf(inquest.ErrInvalid, "answer ends after %d of the %d bytes it announced", n, resp.ContentLength)
	case err != nil:
		return nil, inquest.Errorf(inquest.ErrInvalid, "answer breaks off after %d bytes: %w", n, err)
	case n == 0:
		return nil, inquest.Errorf(inquest.ErrInvalid, "answer is empty")
	}
	return buf.Bytes(), nil
}

// checkContent refuses what is plainly no profile, with a hint at what it is.
func checkContent(resp *http.Response, body []byte) error {
	head := bytes.TrimSpace(body[:min(len(body), 256)])
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || bytes.HasPrefix(head, []byte("<")) {
		return inquest.Errorf(inquest.ErrInvalid, "the target answers HTML, not a profile: is path_prefix right, or a login page before it?")
	}
	if bytes.HasPrefix(head, []byte("{")) {
		return inquest.Errorf(inquest.ErrInvalid, "the target answers JSON, not a profile: %.80q", head)
	}
	return nil
}
