package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corespool"
	"github.com/goinquest/inquest/internal/upload"
)

const (
	crashTimeout = time.Minute            // of one request
	crashGather  = 200 * time.Millisecond // crashes that come together are told together
	coreOffers   = 4                      // of one core in a row without a block taken
)

// crashShipper ships what the core spool holds, in one goroutine: crashes
// first, then texts, then cores. Crashes that come meanwhile go between two
// blocks of a core.
type crashShipper struct {
	agent *Agent
	pool  *corespool.Pool
	rate  int64 // of cores, bytes a second
	pacer *upload.Pacer

	mu    sync.Mutex
	fails int    // in a row
	told  string // newest trouble that was logged

	buf []byte // of one block
}

func newCrashShipper(a *Agent) *crashShipper {
	rate := cmp.Or(max(a.opts.CoreRateBytes, 0), defaultUploadRate)
	return &crashShipper{agent: a, pool: a.cores, rate: rate, pacer: upload.NewPacer(rate)}
}

// run ships until ctx ends.
func (s *crashShipper) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := s.round(ctx)
		if err != nil && ctx.Err() == nil {
			wait = s.trouble(err)
		}
		s.await(ctx, wait, err == nil)
	}
}

// await waits for d, or without one until something comes; woken says that
// what comes ends the pause.
func (s *crashShipper) await(ctx context.Context, d time.Duration, woken bool) {
	var timeout <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	wake := s.pool.Wake()
	if !woken {
		wake = nil
	}
	select {
	case <-wake:
		sleep(ctx, crashGather)
	case <-timeout:
	case <-ctx.Done():
	}
}

// round ships all that can be shipped now. wait is when there is more.
func (s *crashShipper) round(ctx context.Context) (wait time.Duration, err error) {
	for {
		if err := s.first(ctx); err != nil {
			return 0, err
		}
		c, wait := s.pool.Core()
		if c == nil {
			return wait, nil
		}
		if err := s.core(ctx, c); err != nil {
			return 0, err
		}
	}
}

// first ships what is before cores.
func (s *crashShipper) first(ctx context.Context) error {
	for {
		b := s.pool.Events()
		if b == nil {
			break
		}
		if err := s.crashes(ctx, b.Crashes); err != nil {
			return fmt.Errorf("tell crashes: %w", err)
		}
		s.pool.Told(b)
		s.healthy()
	}
	for {
		id, data := s.pool.NextText()
		if id == "" {
			return nil
		}
		err := s.do(ctx, call{
			method: http.MethodPut, path: "api/v1/crashes/" + id + "/text", body: data,
			header: map[string]string{"Content-Type": "text/plain; charset=utf-8"},
		}, nil)
		if err != nil && !settled(err) {
			return fmt.Errorf("ship crash text: %w", err)
		}
		if err != nil {
			s.agent.log.Error("crash text cannot be shipped, dropped", "crash", id, inquest.LogErr, err)
		}
		s.pool.TextDone(id, len(data), err == nil)
		s.healthy()
	}
}

// settled reports whether the collector will never take a text or a core: as
// final says, or what it goes with is gone.
func settled(err error) bool {
	var r *refusal
	return final(err) || errors.As(err, &r) && (r.status == http.StatusNotFound || r.status == http.StatusGone)
}

// crashes tells crashes. If the collector refuses them together each is told
// for itself, so that one that is wrong holds up no other.
func (s *crashShipper) crashes(ctx context.Context, list []inquest.Crash) error {
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	err = s.do(ctx, call{
		method: http.MethodPost, path: "api/v1/crashes", body: body, header: map[string]string{"Content-Type": "application/json"},
	}, nil)
	switch {
	case err == nil || !final(err):
		return err
	case len(list) == 1:
		s.agent.metrics.crashesRefused.Inc()
		s.agent.log.Error("crash cannot be told, dropped", "crash", list[0].ID, inquest.LogService, list[0].Service, inquest.LogErr, err)
		return nil
	}
	half := len(list) / 2
	if err := s.crashes(ctx, list[:half]); err != nil {
		return err
	}
	return s.crashes(ctx, list[half:])
}

// do makes a call within the time one may take.
func (s *crashShipper) do(ctx context.Context, cl call, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, crashTimeout)
	defer cancel()
	return s.agent.collector.do(ctx, cl, answer)
}

// core ships a claimed core and settles what becomes of it. The error is the
// collector's, not the core's.
func (s *crashShipper) core(ctx context.Context, c *corespool.Core) error {
	wanted, err := s.send(ctx, c)
	var bad *badCore
	switch {
	case err == nil:
		s.pool.Done(c, wanted)
		s.agent.log.Info("core shipped", "crash", c.Crash.ID, inquest.LogService, c.Crash.Service, "wanted", wanted, inquest.LogBytes, c.Crash.Core.StoredBytes)
		s.healthy()
	case ctx.Err() != nil:
		s.pool.Return(c, time.Time{}, "")
		return err
	case errors.As(err, &bad), final(err):
		s.pool.Refuse(c, err.Error())
	case status(err) == http.StatusInternalServerError:
		// Perhaps only this one cannot be taken: others go on.
		s.pool.Return(c, s.agent.now().Add(jitter(min(firstRetry<<min(c.Attempts, 12), maxBackoff))), err.Error())
	default:
		s.pool.Return(c, time.Time{}, err.Error())
		return fmt.Errorf("ship core: %w", err)
	}
	return nil
}

// badCore says that a core is damaged, here or on its way.
type badCore struct{ err error }

func (b *badCore) Error() string { return b.err.Error() }
func (b *badCore) Unwrap() error { return b.err }

func status(err error) int {
	var r *refusal
	if errors.As(err, &r) {
		return r.status
	}
	return 0
}

// send offers a core and sends what is asked for, again when the collector has
// lost the offer.
func (s *crashShipper) send(ctx context.Context, c *corespool.Core) (wanted bool, err error) {
	crash := c.Crash
	body, err := json.Marshal(inquest.CoreOffer{Crash: crash, Ledger: c.Ledger.Bytes()})
	if err != nil {
		return false, &badCore{err}
	}
	for idle := 0; ; {
		var a inquest.CoreAnswer
		err := s.do(ctx, call{
			method: http.MethodPost, path: "api/v1/cores", body: body, header: map[string]string{"Content-Type": "application/json"},
		}, &a)
		if err != nil {
			return false, err
		}
		if a.Core != nil || !a.Want.Cores() {
			return a.Core != nil, nil
		}
		sent, err := s.blocks(ctx, c, &a)
		if err == nil {
			err = s.do(ctx, call{method: http.MethodPost, path: "api/v1/cores/" + url.PathEscape(a.ID) + "/commit"}, &a)
			if err == nil {
				return true, nil
			}
		}
		if idle++; sent > 0 {
			idle = 0
		}
		if !lost(err) || idle >= coreOffers {
			return true, err
		}
	}
}

// lost reports whether the collector does not know an offer any more, or
// misses blocks of it.
func lost(err error) bool {
	switch status(err) {
	case http.StatusNotFound, http.StatusGone, http.StatusConflict:
		return true
	}
	return false
}

// blocks sends what is asked for, as far as it is here.
func (s *crashShipper) blocks(ctx context.Context, c *corespool.Core, a *inquest.CoreAnswer) (sent int, err error) {
	most := c.Blocks
	if a.Want == inquest.TierMini {
		most = min(most, c.Ledger.MiniBlocks())
	}
	for _, r := range a.Missing {
		for n := max(r[0], 0); n < min(r[1], most); n++ {
			if err := s.block(ctx, c, a.ID, n); err != nil {
				return sent, err
			}
			sent++
			s.healthy()
			if err := s.first(ctx); err != nil { // crashes that came meanwhile
				return sent, err
			}
		}
	}
	return sent, nil
}

// block sends one block. If the collector finds it damaged it is read and sent
// once more.
func (s *crashShipper) block(ctx context.Context, c *corespool.Core, id string, n int) error {
	for try := 0; ; try++ {
		data, err := c.Block(n, s.buf)
		if err != nil {
			return &badCore{err}
		}
		s.buf = data
		err = s.put(ctx, fmt.Sprintf("api/v1/cores/%s/blocks/%d", url.PathEscape(id), n), data)
		if status(err) != http.StatusBadRequest {
			return err
		}
		if try > 0 {
			return &badCore{fmt.Errorf("block %d of the core was sent twice and refused: %w", n, err)}
		}
	}
}

// put sends the bytes of a block, no faster than is allowed.
func (s *crashShipper) put(ctx context.Context, path string, data []byte) error {
	slow := time.Duration(float64(len(data)) / float64(s.rate) * float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, crashTimeout+2*slow)
	defer cancel()
	u := s.agent.collector.base.JoinPath(path)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), s.pacer.Reader(ctx, bytes.NewReader(data), nil))
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(data))
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := s.agent.collector.send(req)
	if err != nil {
		return err
	}
	s.agent.metrics.coreBytes.Add(float64(len(data)))
	return resp.Body.Close()
}

// trouble notes that the collector takes nothing, and says for how long it is
// left alone.
func (s *crashShipper) trouble(err error) time.Duration {
	s.agent.metrics.uploadRetries.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err.Error() != s.told {
		s.told = err.Error()
		s.agent.log.Warn("ship crashes and cores, will try again", inquest.LogErr, err)
	}
	wait := jitter(min(firstRetry<<min(s.fails, 10), mostRetry))
	s.fails++
	var r *refusal
	if !errors.As(err, &r) {
		return wait
	}
	if r.status == http.StatusUnauthorized || r.status == http.StatusForbidden {
		return jitter(tokenRetry)
	}
	return max(wait, r.retryAfter)
}

// healthy notes that the collector takes what is sent.
func (s *crashShipper) healthy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != "" {
		s.agent.log.Info("collector takes crashes and cores again", "was", s.told)
	}
	s.fails, s.told = 0, ""
}

// failing reports whether the collector takes nothing now.
func (s *crashShipper) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fails > 0
}
