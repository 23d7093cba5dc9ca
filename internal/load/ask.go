package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goinquest/inquest/internal/remote"
)

// Answer is how a question was answered.
type Answer struct {
	Name       string  `json:"name"`
	Profiles   int64   `json:"profiles"`   // it covers, of the last service asked about; 0 of lists and pprof
	Resolution string  `json:"resolution"` // as the answer says, "" if it does not
	Bytes      float64 `json:"mean_bytes"` // of the answer
	// Cold is the first time each is asked, once per service; what the collector
	// still has in memory from before makes it less cold.
	Cold Spread `json:"cold"`
	Warm Spread `json:"warm"`
	// Refused is how often the collector was too busy; those are asked again and
	// not in the times.
	Refused int64  `json:"refused"`
	Error   string `json:"error,omitempty"` // why there is no answer
}

// Every question is asked warm until one of the two is reached, and at least
// leastWarm times.
const (
	mostWarm  = 50
	leastWarm = 3
	warmFor   = 3 * time.Second
)

// Ask asks all questions, first each of them cold and then again and again.
// One that is refused or fails says so in its Answer; the error is ctx's.
func (c *Client) Ask(ctx context.Context, questions []Question, s Subject, progress func(done, total int)) ([]Answer, error) {
	answers := make([]Answer, len(questions))
	for i, q := range questions {
		var cold Durations
		answers[i].Name = q.Name
		for _, service := range q.services(s) {
			if err := c.ask(ctx, q, service, s, &answers[i], &cold); err != nil {
				return nil, err
			}
		}
		answers[i].Cold = cold.Spread()
		progress(i+1, 2*len(questions))
	}
	for i, q := range questions {
		var warm Durations
		services := q.services(s)
		began := time.Now()
		for n := 0; n < mostWarm && answers[i].Error == "" && (n < leastWarm || time.Since(began) < warmFor); n++ {
			if err := c.ask(ctx, q, services[n%len(services)], s, &answers[i], &warm); err != nil {
				return nil, err
			}
		}
		answers[i].Warm = warm.Spread()
		if n := answers[i].Cold.N + answers[i].Warm.N; n > 0 {
			answers[i].Bytes /= float64(n)
		}
		progress(len(questions)+i+1, 2*len(questions))
	}
	return answers, nil
}

func (q Question) services(s Subject) []string {
	if q.PerService {
		return s.Services
	}
	return []string{""}
}

// ask asks once; again, after a pause, while the collector is too busy.
func (c *Client) ask(ctx context.Context, q Question, service string, s Subject, a *Answer, times *Durations) error {
	if a.Error != "" {
		return nil
	}
	for try := 0; ; try++ {
		took, err := c.askOnce(ctx, q, service, s, a)
		if err == nil {
			times.Add(took)
			return nil
		}
		var r *remote.Refusal
		if !errors.As(err, &r) {
			return err
		}
		if !r.Passing() || try == 10 {
			a.Error = strings.TrimPrefix(fmt.Sprintf("%s: %v", service, err), ": ")
			return nil
		}
		a.Refused++
		if !sleep(ctx, max(firstPause, r.After)) {
			return context.Cause(ctx)
		}
	}
}

func (c *Client) askOnce(ctx context.Context, q Question, service string, s Subject, a *Answer) (time.Duration, error) {
	var took time.Duration
	var got coverage
	for _, r := range q.requests(service, s) {
		began := time.Now()
		body, err := c.Get(ctx, r.path, r.params)
		if err != nil {
			return 0, err
		}
		took += time.Since(began)
		a.Bytes += float64(len(body))
		var one coverage
		one.read(body)
		got.Coverage.Profiles += one.Coverage.Profiles
		got.Coverage.Resolution = one.Coverage.Resolution
	}
	a.Profiles, a.Resolution = got.Coverage.Profiles, got.Coverage.Resolution
	return took, nil
}
