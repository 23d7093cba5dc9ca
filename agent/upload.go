package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/spool"
)

const (
	uploadersAtOnce = 4
	mostOdd         = 3 // after so many in a row it is the collector that fails
	uploadTimeout   = time.Minute
	firstRetry      = 500 * time.Millisecond
	mostRetry       = time.Minute
	tokenRetry      = 30 * time.Second // after 401 or 403: only a person can help
)

// uploader ships the spool, oldest first. When the collector does not take
// profiles, one worker tries on, ever more slowly, and the others wait.
type uploader struct {
	spool     *spool.Spool
	collector *collector
	agent     *Agent

	mu        sync.Mutex
	fails     int       // failures of the collector in a row
	odd       int       // profiles in a row that it failed on, perhaps by their own fault
	notBefore time.Time // nothing is sent before
	told      string    // newest trouble that was logged
}

// stored is the collector's answer to a profile.
type stored struct {
	ID string `json:"id"`
}

// run ships with one worker until ctx ends.
func (u *uploader) run(ctx context.Context, worker int) {
	for ctx.Err() == nil {
		if wait := u.pause(worker); wait > 0 {
			sleep(ctx, wait)
			continue
		}
		it, wait, ok := u.spool.Claim()
		if ok {
			if h, _, err := u.ship(ctx, it); err != nil && ctx.Err() == nil {
				u.tell(&h, err)
			}
			continue
		}
		u.await(ctx, wait)
	}
}

// await waits for something to come into the spool, at most d if that is set.
func (u *uploader) await(ctx context.Context, d time.Duration) {
	var timeout <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-u.spool.Wake():
	case <-timeout:
	case <-ctx.Done():
	}
}

// pause is how long a worker must wait because of the collector.
func (u *uploader) pause(worker int) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	wait := u.notBefore.Sub(u.agent.now())
	if u.fails > 0 && worker != 0 {
		wait = max(wait, firstRetry)
	}
	return wait
}

// failing reports whether the collector does not take profiles now.
func (u *uploader) failing() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fails > 0
}

// ship sends one claimed profile and settles what becomes of it.
func (u *uploader) ship(ctx context.Context, it spool.Item) (h spool.Header, ack stored, err error) {
	h, body, err := u.spool.Read(it.Sequence)
	if err != nil {
		return h, ack, err // the spool has moved it aside
	}
	start := time.Now()
	sendCtx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	err = u.collector.do(sendCtx, profileCall(&h, body), &ack)
	u.agent.metrics.uploadSeconds.Observe(time.Since(start).Seconds())
	switch {
	case err == nil:
		u.spool.Done(it.Sequence)
		u.agent.metrics.uploadBytes.Add(float64(len(body)))
		u.healthy()
	case ctx.Err() != nil: // we stop: nothing is known to be wrong
		u.spool.Return(it.Sequence, time.Time{}, "")
	case final(err):
		u.spool.Refuse(it.Sequence, err.Error())
		u.healthy()
	default:
		u.retry(it, err)
	}
	return h, ack, err
}

// tell logs why a profile was not shipped: every refusal, and what may pass
// when it changes.
func (u *uploader) tell(h *spool.Header, err error) {
	if final(err) || errors.Is(err, inquest.ErrInvalid) {
		u.agent.log.Error("profile cannot be shipped, set aside", inquest.LogService, h.Service, inquest.LogKind, h.Kind, "sequence", h.Sequence, inquest.LogErr, err)
		return
	}
	u.mu.Lock()
	news := err.Error() != u.told
	u.told = err.Error()
	u.mu.Unlock()
	if news {
		u.agent.log.Warn("ship profiles, will try again", inquest.LogErr, err, "waiting", u.spool.Stats().Profiles)
	}
}

// final reports whether sending it again cannot help.
func final(err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusRequestTimeout,
		http.StatusProxyAuthRequired, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMisdirectedRequest, http.StatusTooEarly:
		// 404 and 405 say that this is not the collector's address, nothing of the profile.
		return false
	}
	return r.status >= 400 && r.status < 500
}

// retry gives a profile back after a failure that may pass.
func (u *uploader) retry(it spool.Item, err error) {
	u.agent.metrics.uploadRetries.Inc()
	now := u.agent.now()
	var r *refusal
	errors.As(err, &r)
	notBefore := time.Time{}
	u.mu.Lock()
	wait := jitter(min(firstRetry<<min(u.fails, 10), mostRetry))
	switch {
	case r != nil && r.status == http.StatusInternalServerError:
		// Perhaps only this one cannot be taken: others go on.
		notBefore = now.Add(jitter(min(firstRetry<<min(it.Attempts, 12), maxBackoff)))
		if u.odd++; u.odd <= mostOdd {
			wait = 0
		}
	case r != nil && (r.status == http.StatusUnauthorized || r.status == http.StatusForbidden):
		wait = jitter(tokenRetry)
	case r != nil && r.retryAfter > 0:
		wait = r.retryAfter + rand.N(r.retryAfter/10+1)
	}
	if wait > 0 {
		u.fails++
		u.notBefore = now.Add(wait)
	}
	u.mu.Unlock()
	u.spool.Return(it.Sequence, notBefore, err.Error())
}

// healthy notes that the collector takes profiles.
func (u *uploader) healthy() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.told != "" {
		u.agent.log.Info("collector takes profiles again", "was", u.told)
	}
	u.fails, u.odd, u.notBefore, u.told = 0, 0, time.Time{}, ""
}

// jitter spreads a pause over half to all of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// profileCall is the request that stores a profile.
func profileCall(h *spool.Header, body []byte) call {
	q := url.Values{
		"service":     {h.Service},
		"instance":    {h.Instance},
		"kind":        {string(h.Kind)},
		"temporality": {inquest.Delta.String()},
		"start":       {h.Start.UTC().Format(time.RFC3339Nano)},
		"end":         {h.End.UTC().Format(time.RFC3339Nano)},
	}
	for name, v := range map[string]string{"release": h.Release, "build": h.Build, "process": h.Process} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if h.Hold > 0 {
		q.Set("interval", h.Hold.String())
	}
	for name, v := range h.Labels {
		q.Set("label."+name, v)
	}
	return call{
		method: http.MethodPost, path: "api/v1/profiles", query: q, body: body,
		header: map[string]string{
			inquest.HeaderIdempotencyKey: h.KeyText,
			"Content-Encoding":           "zstd",
			"Content-Type":               "application/octet-stream",
		},
	}
}
