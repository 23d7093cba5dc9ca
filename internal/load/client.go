// Package load sends the profiles of a simulated fleet to a collector and asks
// it the questions people ask, to learn what that takes. `inquest load` is this
// package with flags, and the benchmark measures with it.
//
// Bodies are made while they are sent and kept no longer, so memory does not
// grow with their number. It needs nothing but the collector's public API and
// its /metrics; of a collector on the same machine it also reads the peak of
// its memory from the kernel.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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
	mostAnswer     = 1 << 30          // bytes read of an answer
	mostRetryAfter = 30 * time.Second // longest pause a collector may ask for
)

// ClientOptions say where a collector is.
type ClientOptions struct {
	URL         string // "http://127.0.0.1:7070"
	TokenFile   string // holds the token, "" if none is needed
	CAFile      string // PEM certificates to trust besides none else, "" for the system's
	Connections int    // kept open at most
}

// Client reaches one collector. It is safe for use by several goroutines.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient prepares a client; it does not connect. Errors are of kind
// inquest.ErrInvalid and about the options.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%q is not the address of a collector; want one as http://127.0.0.1:7070", o.URL)
	}
	c := &Client{base: strings.TrimSuffix(u.String(), "/")}
	if o.TokenFile != "" {
		b, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "read the token: %w", err)
		}
		c.token = strings.TrimSpace(string(b))
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = 0, o.Connections, 0
	t.DisableCompression = true // answers are measured as they are
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "read the certificates: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, inquest.Errorf(inquest.ErrInvalid, "%s has no certificate in PEM form", o.CAFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	c.http = &http.Client{Transport: t}
	return c, nil
}

// Close gives the connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// refusal is an answer that is not 200, or (status 0) that none came.
// errors.Is finds the kind of error that belongs to the status.
type refusal struct {
	status     int
	kind       string // as in the API's JSON; "unreachable" without an answer
	message    string
	retryAfter time.Duration // 0: not said
	base       string
}

func (r *refusal) Error() string {
	switch r.status {
	case 0:
		return fmt.Sprintf("cannot reach the collector at %s: %s. Is it running, and is that its address?", r.base, r.message)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("the collector at %s wants a token with the scopes ingest and read: give -token-file FILE (%d: %s)", r.base, r.status, r.message)
	}
	return fmt.Sprintf("the collector answers %d: %s", r.status, r.message)
}

func (r *refusal) Unwrap() error { return inquest.StatusError(r.status) }

// passing reports whether the same request may be answered later.
func (r *refusal) passing() bool {
	return r.status == 0 || r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout || r.status >= 500
}

// get asks for a path below the collector's address and returns the answer.
func (c *Client) get(ctx context.Context, path string, q url.Values) ([]byte, error) {
	u := c.base + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

// GetJSON asks for a path below the collector's address and decodes the answer.
func (c *Client) GetJSON(ctx context.Context, path string, q url.Values, into any) error {
	body, err := c.get(ctx, path, q)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer to %s is not ours (is %s a collector?): %w", path, c.base, err)
	}
	return nil
}

// do makes a request. The error is ctx's, or a *refusal.
func (c *Client) do(req *http.Request) ([]byte, error) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set(inquest.HeaderProtocol, strconv.Itoa(inquest.ProtocolVersion))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(req.Context(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, c.unreachable(req.Context(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.newRefusal(resp, body)
	}
	return body, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // the address is named already
	}
	var op *net.OpError
	message := err.Error()
	if errors.As(err, &op) && op.Op == "dial" {
		message = op.Err.Error()
	}
	return &refusal{kind: "unreachable", message: message, base: c.base}
}

func (c *Client) newRefusal(resp *http.Response, body []byte) error {
	r := &refusal{status: resp.StatusCode, kind: "other", message: http.StatusText(resp.StatusCode), base: c.base}
	var doc struct {
		Error struct{ Kind, Message string }
	}
	if json.Unmarshal(body, &doc) == nil && doc.Error.Message != "" {
		r.kind, r.message = doc.Error.Kind, doc.Error.Message
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.retryAfter = min(time.Duration(seconds)*time.Second, mostRetryAfter)
	}
	return r
}
