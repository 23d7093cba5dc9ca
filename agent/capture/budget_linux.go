package capture

import (
	"sync"
	"time"
)

// bucket is a token bucket; its tokens may be owed.
type bucket struct {
	tokens float64
	at     time.Time
}

// fill brings a bucket up to now.
func (b *bucket) fill(now time.Time, most, perSecond float64) {
	if b.at.IsZero() {
		b.tokens = most
	} else if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens = min(most, b.tokens+d*perSecond)
	}
	b.at = now
}

// perSecond is how fast a rate gives tokens.
func (r Rate) perSecond() float64 {
	if r.Every <= 0 {
		return 0
	}
	return 1 / r.Every.Seconds()
}

// rates are token buckets by name, all of one rate.
type rates struct {
	Rate
	buckets map[string]*bucket
}

// maxBuckets bounds how many names are remembered: whoever controls the names
// could else fill the memory.
const maxBuckets = 4096

func newRates(r, standard Rate) rates {
	if r == (Rate{}) {
		r = standard
	}
	return rates{r, map[string]*bucket{}}
}

// get is the bucket of a name, as of now.
func (r *rates) get(name string, now time.Time) *bucket {
	b := r.buckets[name]
	if b == nil {
		if len(r.buckets) >= maxBuckets {
			r.forget(now)
		}
		b = &bucket{}
		r.buckets[name] = b
	}
	b.fill(now, float64(r.Burst), r.perSecond())
	return b
}

// forget drops the buckets that are full again, or all if none is.
func (r *rates) forget(now time.Time) {
	for name, b := range r.buckets {
		if b.fill(now, float64(r.Burst), r.perSecond()); b.tokens >= float64(r.Burst) {
			delete(r.buckets, name)
		}
	}
	if len(r.buckets) >= maxBuckets {
		clear(r.buckets)
	}
}

// may reports whether the name has a token.
func (r *rates) may(name string, now time.Time) bool {
	return r.Burst < 0 || r.get(name, now).tokens >= 1
}

// take takes one, which there may not be.
func (r *rates) take(name string, now time.Time) {
	if r.Burst >= 0 {
		r.get(name, now).tokens--
	}
}

// budget is what all copies together may cost. It is safe for concurrent use.
type budget struct {
	mu       sync.Mutex
	keys     rates // by service and key
	services rates
	events   rates // by service and key
	bytes    bucket
	rate     float64 // bytes a second; negative: any
}

// The budget of bytes is for so long at once.
const bytesOver = time.Minute

func newBudget(o *Options) *budget {
	return &budget{
		keys:     newRates(o.PerKey, Rate{3, 10 * time.Minute}),
		services: newRates(o.PerService, Rate{10, time.Minute}),
		events:   newRates(o.Events, Rate{10, 10 * time.Second}),
		rate:     float64(o.RateBytes),
	}
}

func place(service, key string) string { return service + "\x00" + key }

// core takes the tokens of one core; without reason it may be taken.
func (b *budget) core(service, key string, now time.Time) (reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reason = b.refuse(service, key, now); reason == "" {
		b.keys.take(place(service, key), now)
		b.services.take(service, now)
	}
	return reason
}

// mayCore says why a core could not be taken, without taking a token.
func (b *budget) mayCore(service, key string, now time.Time) (reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refuse(service, key, now)
}

func (b *budget) refuse(service, key string, now time.Time) string {
	switch {
	case !b.keys.may(place(service, key), now):
		return "enough cores of deaths at this place were taken lately"
	case !b.services.may(service, now):
		return "enough cores of this service were taken lately"
	case b.rate >= 0 && b.owed(now):
		return "enough memory was copied on this host lately"
	}
	return ""
}

// owed reports whether more bytes were copied than the budget had.
func (b *budget) owed(now time.Time) bool {
	b.bytes.fill(now, b.rate*bytesOver.Seconds(), b.rate)
	return b.bytes.tokens <= 0
}

// room is how many bytes may be copied now without owing any.
func (b *budget) room(now time.Time) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate < 0 {
		return 1 << 62
	}
	b.bytes.fill(now, b.rate*bytesOver.Seconds(), b.rate)
	return int64(b.bytes.tokens)
}

// copied takes the bytes of a copy. They may be more than the budget has: the
// copies to come wait for them.
func (b *budget) copied(n int64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate >= 0 {
		b.bytes.fill(now, b.rate*bytesOver.Seconds(), b.rate)
		b.bytes.tokens -= float64(n)
	}
}

// event reports whether a death may be told by itself.
func (b *budget) event(service, key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.events.may(place(service, key), now) {
		return false
	}
	b.events.take(place(service, key), now)
	return true
}
