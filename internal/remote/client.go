// Package remote makes requests to a collector's API, for commands that know it
// by that alone: address, token, trusted certificates, and what a refusal
// means. A Client is safe for use by several goroutines.
package remote

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

// Options say where a collector is.
type Options struct {
	URL         string // "http://127.0.0.1:7070"
	TokenFile   string // holds the token, "" if none is needed
	CAFile      string // PEM certificates to trust besides none else, "" for the system's
	Connections int    // kept open at most
	Scopes      string // what the token needs, as "ingest and read", for messages
}

// Client reaches one collector.
type Client struct {
	base   *url.URL
	token  string
	scopes string
	http   *http.Client
}

// New prepares a client; it does not connect. Errors are of kind
// inquest.ErrInvalid and about the options.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%q is not the address of a collector; want one as http://127.0.0.1:7070", o.URL)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	c := &Client{base: u, scopes: o.Scopes}
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

// Base is the collector's address. It must not be changed.
func (c *Client) Base() *url.URL { return c.base }

// Refusal is an answer that is not one to what was asked, or (status 0) that
// none came. errors.Is finds the kind of error that belongs to the status.
type Refusal struct {
	Status  int
	Kind    string // as in the API's JSON; "unreachable" without an answer
	Message string
	After   time.Duration // when to try again; 0: not said
	base    string
	scopes  string
}

func (r *Refusal) Error() string {
	switch r.Status {
	case 0:
		return fmt.Sprintf("cannot reach the collector at %s: %s. Is it running, and is that its address?", r.base, r.Message)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("the collector at %s wants a token with the %s: give -token-file FILE (%d: %s)", r.base, r.scopes, r.Status, r.Message)
	}
	return fmt.Sprintf("the collector answers %d: %s", r.Status, r.Message)
}

func (r *Refusal) Unwrap() error { return inquest.StatusError(r.Status) }

// RetryAfter is After, for those who do not know the type.
func (r *Refusal) RetryAfter() time.Duration { return r.After }

// Passing reports whether the same request may be answered later.
func (r *Refusal) Passing() bool {
	return r.Status == 0 || r.Status == http.StatusTooManyRequests || r.Status == http.StatusRequestTimeout || r.Status >= 500
}

// Get asks for a path below the collector's address and returns the answer. The
// error is that of Do.
func (c *Client) Get(ctx context.Context, path string, q url.Values) ([]byte, error) {
	u := c.base.String() + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	return c.Read(req)
}

// GetJSON asks for a path below the collector's address and decodes the answer.
func (c *Client) GetJSON(ctx context.Context, path string, q url.Values, into any) error {
	body, err := c.Get(ctx, path, q)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer to %s is not ours (is %s a collector?): %w", path, c.base, err)
	}
	return nil
}

// Read makes a request and returns the whole answer. The error is that of Do.
func (c *Client) Read(req *http.Request) ([]byte, error) {
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
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

// Do makes a request. An answer that is neither 2xx nor 308, which asks for the
// rest of an upload, is a *Refusal; other errors are those of the request's
// context.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set(inquest.HeaderProtocol, strconv.Itoa(inquest.ProtocolVersion))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(req.Context(), err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusPermanentRedirect {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, c.unreachable(req.Context(), err)
	}
	return nil, c.newRefusal(resp, body)
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
	return &Refusal{Kind: "unreachable", Message: message, base: c.base.String()}
}

func (c *Client) newRefusal(resp *http.Response, body []byte) error {
	r := &Refusal{Status: resp.StatusCode, Kind: "other", Message: http.StatusText(resp.StatusCode), base: c.base.String(), scopes: c.scopes}
	var doc struct {
		Error struct{ Kind, Message string }
	}
	if json.Unmarshal(body, &doc) == nil && doc.Error.Message != "" {
		r.Kind, r.Message = doc.Error.Kind, doc.Error.Message
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.After = min(time.Duration(seconds)*time.Second, mostRetryAfter)
	}
	return r
}
