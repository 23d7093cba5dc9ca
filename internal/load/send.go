package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/remote"
)

// SendOptions say how profiles are sent. Zero fields mean the defaults.
type SendOptions struct {
	Connections int                   // that send at the same time, default 64
	Rate        float64               // profiles a second at most, 0: no bound
	Progress    func(done, total int) // called after every one, by one goroutine at a time
	// Each, if not nil, is called with every Item before it is sent, by several
	// goroutines at the same time.
	Each func(*fleet.Item)
}

// Refusal is one way in which profiles were refused.
type Refusal struct {
	Kind    string `json:"kind"`    // as in the API's errors; "unreachable": there was no answer
	Status  int    `json:"status"`  // HTTP status, 0 without answer
	Times   int64  `json:"times"`   // requests refused
	Lost    int64  `json:"lost"`    // profiles not sent again, because it could not help
	Message string `json:"message"` // of the last
}

// Sent is what became of the profiles.
type Sent struct {
	Profiles   int64     `json:"profiles"`   // to be sent
	Accepted   int64     `json:"accepted"`   // acknowledged as durable
	Duplicates int64     `json:"duplicates"` // of those, how many the collector had already
	Lost       int64     `json:"lost"`
	Refusals   []Refusal `json:"refusals"`
	Seconds    float64   `json:"seconds"`
	PerSecond  float64   `json:"accepted_per_second"`
	BodyBytes  float64   `json:"mean_body_bytes"` // as sent, compressed
	// Ack is the time from a request to its acknowledgement, of those that were
	// accepted; pauses before another try are not in it.
	Ack Spread `json:"acknowledged"`
	// OwnCPUSeconds is what making and sending the profiles took in this
	// process; 0 where that is not known.
	OwnCPUSeconds float64 `json:"own_cpu_seconds"`
}

const (
	firstPause = 50 * time.Millisecond
	mostPause  = 5 * time.Second
	// patience is how long one profile is tried again and again before the run
	// ends: longer than a restart of the collector takes.
	patience = 2 * time.Minute
	// mostLost is how many profiles may be refused for good before the run ends.
	mostLost = 100
)

// Send sends the Items of the fleet's window. What is refused for the moment
// is sent again after the pause the collector asks for, or a growing one. The
// error says why the run ended early; Sent is what was done until then.
func (c *Client) Send(ctx context.Context, f *fleet.Fleet, o SendOptions) (Sent, error) {
	if o.Connections <= 0 {
		o.Connections = 64
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &sender{client: c, o: o, cancel: cancel, total: f.Len(), items: make(chan fleet.Item), refusals: map[string]*Refusal{}}
	s.began = time.Now()
	own := ownCPU()

	var makers, senders sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		makers.Go(func() { s.make(ctx, f.Clone()) })
	}
	for range o.Connections {
		senders.Go(func() {
			for it := range s.items {
				s.send(ctx, &it)
			}
		})
	}
	makers.Wait()
	close(s.items)
	senders.Wait()
	return s.result(own), context.Cause(ctx)
}

// sender is one run of Send.
type sender struct {
	client *Client
	o      SendOptions
	cancel context.CancelCauseFunc
	items  chan fleet.Item // without buffer: one per maker is in memory besides those on the way
	total  int
	began  time.Time

	made, paced atomic.Int64

	mu       sync.Mutex // guards what follows
	sent     Sent
	bytes    int64
	acks     Durations
	refusals map[string]*Refusal
}

// make makes items until there are no more.
func (s *sender) make(ctx context.Context, f *fleet.Fleet) {
	for {
		i := int(s.made.Add(1)) - 1
		if i >= s.total || ctx.Err() != nil {
			return
		}
		it, err := f.Item(i)
		if err != nil {
			s.cancel(fmt.Errorf("make profile %d: %w", i, err))
			return
		}
		if s.o.Each != nil {
			s.o.Each(&it)
		}
		select {
		case s.items <- it:
		case <-ctx.Done():
			return
		}
	}
}

// send sends one profile until it is accepted or refused for good.
func (s *sender) send(ctx context.Context, it *fleet.Item) {
	if s.o.Rate > 0 {
		due := s.began.Add(time.Duration(float64(s.paced.Add(1)-1) / s.o.Rate * float64(time.Second)))
		if !sleep(ctx, time.Until(due)) {
			return
		}
	}
	first := time.Now()
	for try := 0; ; try++ {
		began := time.Now()
		answer, err := s.push(ctx, it)
		if err == nil {
			s.accepted(it, answer, time.Since(began))
			return
		}
		pause, again := s.refused(err, try, began.Sub(first))
		if !again || !sleep(ctx, pause) {
			return
		}
	}
}

func (s *sender) push(ctx context.Context, it *fleet.Item) ([]byte, error) {
	req, err := it.Request(ctx, s.client.Base().String())
	if err != nil {
		return nil, err
	}
	return s.client.Read(req)
}

func (s *sender) accepted(it *fleet.Item, answer []byte, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent.Accepted++
	s.bytes += int64(len(it.Body))
	if bytes.Contains(answer, []byte(`"duplicate":true`)) {
		s.sent.Duplicates++
	}
	s.acks.Add(took)
	if s.o.Progress != nil {
		s.o.Progress(int(s.sent.Accepted), s.total)
	}
}

// refused notes a refusal and says whether to try again, and after which
// pause. tried is how long the profile has been tried before.
func (s *sender) refused(err error, try int, tried time.Duration) (pause time.Duration, again bool) {
	var r *remote.Refusal
	if !errors.As(err, &r) {
		s.cancel(err) // ctx's own, or no request could be made
		return 0, false
	}
	again = r.Passing()
	s.note(r, !again)
	switch {
	case r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
		s.cancel(r)
	case again && tried > patience:
		s.cancel(fmt.Errorf("a profile was refused for %v: %w", patience, r))
		return 0, false
	}
	pause = min(firstPause<<min(try, 10), mostPause)
	return max(pause/2+rand.N(pause/2), r.After), again
}

func (s *sender) note(r *remote.Refusal, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.refusals[r.Kind]
	if n == nil {
		n = &Refusal{Kind: r.Kind, Status: r.Status}
		s.refusals[r.Kind] = n
	}
	n.Times++
	n.Message = r.Message
	if !lost {
		return
	}
	n.Lost++
	if s.sent.Lost++; s.sent.Lost == mostLost {
		s.cancel(fmt.Errorf("%d profiles were refused for good; the last time %w", mostLost, r))
	}
}

func (s *sender) result(own time.Duration) Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.sent
	r.Profiles = int64(s.total)
	r.Seconds = time.Since(s.began).Seconds()
	r.PerSecond = float64(r.Accepted) / r.Seconds
	r.BodyBytes = float64(s.bytes) / float64(max(r.Accepted, 1))
	r.Ack = s.acks.Spread()
	r.OwnCPUSeconds = (ownCPU() - own).Seconds()
	r.Refusals = []Refusal{}
	for _, n := range s.refusals {
		r.Refusals = append(r.Refusals, *n)
	}
	slices.SortFunc(r.Refusals, func(a, b Refusal) int { return strings.Compare(a.Kind, b.Kind) })
	return r
}

// sleep waits; false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
