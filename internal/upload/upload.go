// Package upload sends a binary to a collector: in parts, going on where an
// earlier attempt ended, and again after what may pass. It knows the protocol
// of PUT /api/v1/builds/ID and nothing of credentials: requests are made by
// its caller's Do. A Sender has no state of its own, so it is safe for use by
// several goroutines.
package upload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/goinquest/inquest"
)

const (
	partBytes    = 32 << 20 // sent in one request: what a proxy may hold back, and a token lives for
	stallTime    = time.Minute
	answerTime   = 15 * time.Minute // for a whole file to be checked and compressed
	firstPause   = time.Second
	longestPause = time.Minute
	mostAnswer   = 1 << 20
)

// Binary is a file to be sent. The file must stay as it is until Send returns.
type Binary struct {
	ID     string // inquest.Build.ID
	SHA256 string // of the whole, in hex
	Bytes  int64  // of the whole
	Agent  string // id of the agent that sends it; "" for a person or a pipeline
	File   io.ReaderAt
}

// Stored is what the collector says of a binary it has.
type Stored struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Here   bool   `json:"-"` // nothing had to be sent
}

// Sender sends binaries to one collector.
type Sender struct {
	Base *url.URL // of the collector
	// Do makes a request with credentials. An answer that is neither 2xx nor 308
	// is an error; errors.Is finds its inquest kind, if it has one. An error with
	// a method RetryAfter() time.Duration says how long to wait.
	Do func(*http.Request) (*http.Response, error)
	// RateBytes is how many bytes a second are sent at most; 0: no bound.
	RateBytes int64
	// Tries is how often in a row it is tried without any progress; default 6.
	Tries int
	// Progress is told how many bytes the collector has, or will have once what
	// is on the way arrives. It may be nil, and must not block.
	Progress func(have int64)
	// Retrying is told why it is tried again, and when. It may be nil.
	Retrying func(err error, pause time.Duration)
}

// Send sends what the collector does not have of b, and returns when it is
// stored. It waits and tries again after errors that may pass; other errors,
// and the last of those, are returned.
func (s *Sender) Send(ctx context.Context, b Binary) (*Stored, error) {
	tries, best := max(s.Tries, 0), int64(-1)
	if tries == 0 {
		tries = 6
	}
	for fails := 0; ; {
		stored, have, err := s.attempt(ctx, b)
		if err == nil {
			return stored, nil
		}
		if have > best {
			best, fails = have, 0
		}
		if fails++; ctx.Err() != nil || !Passing(err) || fails >= tries {
			return nil, err
		}
		pause := min(firstPause<<min(fails-1, 10), longestPause)
		pause = pause/2 + rand.N(pause/2+1)
		var later interface{ RetryAfter() time.Duration }
		if errors.As(err, &later) && later.RetryAfter() > 0 {
			pause = later.RetryAfter()
		}
		if s.Retrying != nil {
			s.Retrying(err, pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// Passing says whether an error may pass: what the collector refuses for good
// has a kind that says so.
func Passing(err error) bool {
	for _, kind := range []error{
		inquest.ErrInvalid, inquest.ErrNotFound, inquest.ErrTooLarge, inquest.ErrConflict, inquest.ErrUnauthorized, inquest.ErrForbidden,
	} {
		if errors.Is(err, kind) {
			return false
		}
	}
	return true
}

// attempt asks how much of b is there and sends the rest. have is how much is
// there at least.
func (s *Sender) attempt(ctx context.Context, b Binary) (stored *Stored, have int64, err error) {
	stored, have, err = s.put(ctx, b, -1)
	if err != nil {
		return nil, -1, err
	}
	if stored != nil {
		stored.Here = true
		s.progress(b.Bytes)
		return stored, b.Bytes, nil
	}
	for {
		next := int64(0)
		stored, next, err = s.put(ctx, b, have)
		if errors.Is(err, inquest.ErrConflict) {
			// Somebody else may have sent some of it since it was asked.
			if there, now, e := s.put(ctx, b, -1); e == nil && there == nil && now > have {
				next, err = now, nil
			}
		}
		if err != nil || stored != nil {
			return stored, have, err
		}
		if next <= have {
			return nil, have, inquest.Errorf(inquest.ErrUnavailable, "the collector took nothing of what follows byte %d", have)
		}
		have = next
	}
}

func (s *Sender) progress(have int64) {
	if s.Progress != nil {
		s.Progress(have)
	}
}

// put sends the part of b from offset on; a negative offset asks how much is
// there.
func (s *Sender) put(ctx context.Context, b Binary, offset int64) (stored *Stored, have int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stallTime, func() {
		cancel(inquest.Errorf(inquest.ErrUnavailable, "the collector took nothing for %v", stallTime))
	})
	defer watch.Stop()
	content, body, size := fmt.Sprintf("bytes */%d", b.Bytes), io.Reader(http.NoBody), int64(0)
	if offset >= 0 {
		size = min(partBytes, b.Bytes-offset)
		content = fmt.Sprintf("bytes %d-%d/%d", offset, offset+size-1, b.Bytes)
		part := io.NewSectionReader(b.File, offset, size)
		body = NewPacer(s.RateBytes).Reader(ctx, part, func(n int64) {
			s.progress(offset + n)
			watch.Reset(stallTime)
			if offset+n == b.Bytes {
				watch.Reset(answerTime)
			}
		})
	} else {
		watch.Reset(answerTime) // all may be there but the answer: then it is checked now
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.Base.JoinPath("api/v1/builds", b.ID).String(), body)
	if err != nil {
		return nil, 0, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Range", content)
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(inquest.HeaderSHA256, b.SHA256)
	if b.Agent != "" {
		req.Header.Set(inquest.HeaderAgent, b.Agent)
	}
	resp, err := s.Do(req)
	if err == nil {
		stored, have, err = readAnswer(resp)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return stored, have, err
}

// readAnswer reads the answer to an upload that was not refused.
func readAnswer(resp *http.Response) (stored *Stored, have int64, err error) {
	defer func() { _ = resp.Body.Close() }() // read to its end, or broken anyway
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, 0, fmt.Errorf("read the collector's answer: %w", err)
	}
	if resp.StatusCode == http.StatusPermanentRedirect {
		var state struct {
			Received *int64 `json:"received"`
		}
		if err := json.Unmarshal(body, &state); err != nil || state.Received == nil {
			return nil, 0, inquest.Errorf(inquest.ErrInvalid, "the answer to the upload is not a collector's (status %d): is a proxy or login page between?", resp.StatusCode)
		}
		return nil, *state.Received, nil
	}
	stored = &Stored{}
	if err := json.Unmarshal(body, stored); err != nil || stored.SHA256 == "" {
		return nil, 0, inquest.Errorf(inquest.ErrInvalid, "the answer to the upload is not a collector's (status %d): is a proxy or login page between?", resp.StatusCode)
	}
	return stored, stored.Bytes, nil
}
