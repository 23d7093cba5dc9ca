package agent

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/spool"
	"github.com/goinquest/inquest/profile"
	"github.com/klauspost/compress/zstd"
)

// How many requests that do not take a time of their own are under way at
// once: of targets that answered last time, and of those that did not. Where
// many hang they hold up each other, and nobody else.
const (
	lightAtOnce    = 64
	doubtfulAtOnce = 16
)

// keptBytes is how large a codec's buffers may stay.
const keptBytes = 8 << 20

// onDemandHold is the hold of a profile taken on command. It lies in a time
// that the profiles of the schedule already stand for, so it must not count
// as another one; 0 would mean that it is to be guessed.
const onDemandHold = time.Nanosecond

// request says what is to be taken.
type request struct {
	kind    inquest.Kind
	seconds int           // of a CPU profile
	hold    time.Duration // how long an instant stands for
	claim   bool          // the caller ships it
	doubt   bool          // the target failed last time
}

// outcome is what became of a request.
type outcome struct {
	kind  inquest.Kind
	at    time.Time // when it began
	took  time.Duration
	bytes int64 // as received
	build string
	item  spool.Item
	head  spool.Header
	err   error
}

// codec is what one body needs to be worked on, used again for the next.
type codec struct {
	dec   *profile.Decoder
	zstd  *zstd.Encoder
	plain []byte
	wire  []byte
}

// codecs is a pool of as many codecs as there are processors.
func newCodecs(limits profile.Limits) (chan *codec, error) {
	n := runtime.GOMAXPROCS(0)
	pool := make(chan *codec, n)
	for range n {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("make zstd encoder: %w", err)
		}
		pool <- &codec{dec: profile.NewDecoder(limits), zstd: z}
	}
	return pool, nil
}

// take takes one profile and spools it. The caller has acquired the target.
func (a *Agent) take(ctx context.Context, s *spec, r request) outcome {
	out := outcome{kind: r.kind, at: a.now()}
	unlock, err := a.slot(ctx, s, r)
	if err != nil {
		out.err = err
		return out
	}
	out.at = a.now()
	body, err := a.fetch(ctx, s, r.kind, r.seconds)
	end := a.now()
	unlock()
	out.took, out.bytes, out.err = end.Sub(out.at), int64(len(body)), err
	if err == nil && !a.alive(s) {
		out.err = gone(s) // whose body it is, is not certain
		a.rediscover()
	}
	if out.err == nil {
		a.work(ctx, s, r, body, end, &out)
	}
	return out
}

// slot waits for the right to ask: one CPU profile at a time per process,
// a bounded number of the others.
func (a *Agent) slot(ctx context.Context, s *spec, r request) (unlock func(), err error) {
	if r.kind == inquest.KindCPU {
		key := s.process
		if key == "" {
			key = s.base.Host
		}
		return a.cpu.acquire(ctx, key)
	}
	slots := a.light
	if r.doubt {
		slots = a.doubtful
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// work checks a body, makes its delta and spools it.
func (a *Agent) work(ctx context.Context, s *spec, r request, body []byte, end time.Time, out *outcome) {
	var c *codec
	select {
	case c = <-a.codecs:
	case <-ctx.Done():
		out.err = ctx.Err()
		return
	}
	defer func() {
		c.release()
		a.codecs <- c
	}()
	start := time.Now()
	defer func() { a.metrics.workSeconds.Add(time.Since(start).Seconds()) }()

	p, err := c.dec.Decode(body)
	if err != nil {
		out.err = fmt.Errorf("decode profile: %w", err)
		return
	}
	if _, err := profile.KindOf(p, r.kind); err != nil {
		out.err = err
		return
	}
	out.head = header(s, r, p, out.at, end)
	out.build = out.head.Build
	if profile.Cumulative(r.kind) {
		out.err = a.putDelta(s, r, c, p, end, out)
	} else {
		out.item, out.err = a.spool.Put(out.head, c.encode(p), nil, r.claim)
	}
	if out.err == nil && a.opts.Observe != nil {
		a.opts.Observe(out.head, body)
	}
}

// release lets go of what only an outsized body needed.
func (c *codec) release() {
	c.dec.Release()
	if cap(c.plain) > keptBytes {
		c.plain, c.wire = nil, nil
	}
}

// encode makes the body as it goes to the collector.
func (c *codec) encode(p *profile.Profile) []byte {
	c.plain = p.AppendPprof(c.plain[:0])
	c.wire = c.zstd.EncodeAll(c.plain, c.wire[:0])
	return c.wire
}

// header says what is known of a profile that was just taken. begin and end
// are those of the request.
func header(s *spec, r request, p *profile.Profile, begin, end time.Time) spool.Header {
	h := spool.Header{
		Service: s.service, Instance: s.instance, Release: s.release, Process: s.process,
		Labels: s.labels, Kind: r.kind, Start: end.Round(0).UTC(), End: end.Round(0).UTC(), Hold: r.hold,
	}
	if len(p.Mappings) > 0 {
		h.Build = p.String(p.Mappings[0].BuildID)
	}
	if h.Build == "" && s.build != nil {
		h.Build = s.build.ID
	}
	if r.kind == inquest.KindCPU {
		// What the target says it observed, unless it cannot be.
		observed := time.Duration(p.DurationNanos)
		if observed <= 0 || observed > end.Sub(begin) {
			observed = min(time.Duration(r.seconds)*time.Second, end.Sub(begin))
		}
		h.Start, h.End = begin.Round(0).UTC(), begin.Round(0).Add(observed).UTC()
	}
	return h
}
