package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

const maxAnswerBytes = 4 << 20

// collector is the agent's way to the collector's API.
type collector struct {
	base      *url.URL
	client    *http.Client
	token     string
	tokenFile string // read for every request
	userAgent string
	now       func() time.Time
}

// call is one request to the API.
type call struct {
	method, path string
	query        url.Values
	header       map[string]string
	body         []byte
}

// refusal is what the collector answers instead of doing it. errors.Is finds
// the kind that belongs to the status.
type refusal struct {
	status     int
	message    string
	retryAfter time.Duration // 0: not said
	protocol   string        // the protocol the collector speaks, "" if it does not say
}

func (r *refusal) Error() string {
	switch {
	case r.protocol != "" && r.protocol != strconv.Itoa(inquest.ProtocolVersion):
		return fmt.Sprintf("collector speaks protocol %s, this agent %d: update the older one (%d: %s)", r.protocol, inquest.ProtocolVersion, r.status, r.message)
	case r.status == http.StatusUnauthorized:
		return fmt.Sprintf("collector does not know the agent's token: check -token or -token-file (401: %s)", r.message)
	case r.status == http.StatusForbidden:
		return fmt.Sprintf("the agent's token may not do this: it needs the scope ingest (403: %s)", r.message)
	}
	return fmt.Sprintf("collector answers %d: %s", r.status, r.message)
}

func (r *refusal) Unwrap() error { return inquest.StatusError(r.status) }

// RetryAfter is how long the collector wants to be left alone; 0: not said.
func (r *refusal) RetryAfter() time.Duration { return r.retryAfter }

// do makes a call and decodes the JSON answer into answer, if that is not nil.
func (c *collector) do(ctx context.Context, cl call, answer any) error {
	u := c.base.JoinPath(cl.path)
	u.RawQuery = cl.query.Encode()
	req, err := http.NewRequestWithContext(ctx, cl.method, u.String(), bytes.NewReader(cl.body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	for k, v := range cl.header {
		req.Header.Set(k, v)
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or broken anyway
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("read collector's answer: %w", err)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("collector's answer to %s %s is not ours (is a proxy or login page between?): %w", cl.method, cl.path, err)
	}
	return nil
}

// send makes a request with the agent's credentials. An answer that is neither
// 2xx nor asks for the rest of an upload is a *refusal.
func (c *collector) send(req *http.Request) (*http.Response, error) {
	token := c.token
	if c.tokenFile != "" {
		var err error
		if token, err = readSecret(c.tokenFile); err != nil {
			return nil, fmt.Errorf("read token file: %w", err)
		}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set(inquest.HeaderProtocol, strconv.Itoa(inquest.ProtocolVersion))
	req.Header.Set(inquest.HeaderSentAt, c.now().UTC().Format(time.RFC3339Nano))
	resp, err := c.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL may be told by who logs it
		}
		return nil, fmt.Errorf("reach collector: %w", err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusPermanentRedirect {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()                         // as above
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes)) // what came of it will do
	return nil, newRefusal(resp, body, c.now())
}

func newRefusal(resp *http.Response, body []byte, now time.Time) *refusal {
	r := &refusal{status: resp.StatusCode, protocol: resp.Header.Get(inquest.HeaderProtocol)}
	var doc struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	r.message = http.StatusText(resp.StatusCode)
	if json.Unmarshal(body, &doc) == nil && doc.Error.Message != "" {
		r.message = doc.Error.Message
	} else if text := strings.TrimSpace(string(body[:min(len(body), maxErrorText)])); text != "" && !strings.HasPrefix(text, "<") {
		r.message = strings.ToValidUTF8(text, "")
	}
	if v := resp.Header.Get("Retry-After"); v != "" {
		if n, err := strconv.Atoi(v); err == nil && n > 0 {
			r.retryAfter = time.Duration(n) * time.Second
		} else if at, err := http.ParseTime(v); err == nil {
			r.retryAfter = max(0, at.Sub(now))
		}
		r.retryAfter = min(r.retryAfter, maxBackoff)
	}
	return r
}
