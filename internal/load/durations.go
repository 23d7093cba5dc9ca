package load

import (
	"math"
	"time"
)

// Durations counts durations in logarithmic steps of 2 %, in bounded memory.
// The zero value is empty. It is not safe for concurrent use.
type Durations struct {
	counts [steps]int64
	n      int64
	max    time.Duration
}

// The first step ends at a microsecond, the last begins at about an hour.
const (
	steps  = 1112
	growth = 1.02
)

// Add counts one.
func (d *Durations) Add(v time.Duration) {
	i := int(math.Ceil(math.Log(float64(v)/float64(time.Microsecond)) / math.Log(growth)))
	d.counts[min(max(i, 0), steps-1)]++
	d.n++
	d.max = max(d.max, v)
}

// Len is how many were added.
func (d *Durations) Len() int64 { return d.n }

// Quantile is a duration that the share q of all is not above, at most 2 % too
// large; 0 if there are none.
func (d *Durations) Quantile(q float64) time.Duration {
	want, seen := int64(math.Ceil(q*float64(d.n))), int64(0)
	for i, n := range d.counts {
		if seen += n; seen >= max(want, 1) {
			return min(time.Duration(math.Pow(growth, float64(i))*float64(time.Microsecond)), d.max)
		}
	}
	return 0
}

// Spread is the usual quantiles, in ms.
type Spread struct {
	N   int64   `json:"n"`
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Spread returns the quantiles.
func (d *Durations) Spread() Spread {
	return Spread{d.n, millis(d.Quantile(0.5)), millis(d.Quantile(0.9)), millis(d.Quantile(0.99)), millis(d.max)}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
