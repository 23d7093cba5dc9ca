// Package query is selectors and the read path: it selects stored profiles by
// labels, type and time, weighs them as their type asks for, adds them up, and
// answers with trees, tables, series and merged profiles.
//
// Answers are exact sums over the raw data; only the drawing of a tree is
// pruned. Every answer carries its Coverage. The rules by which values of
// different times and duty cycles are added up stand in weigh.go.
//
// An Engine is safe for concurrent use. It keeps nothing of what it
// read, and runs a bounded number of them at a time in a bounded amount of memory; more
// wait in a bounded line, then are refused with ErrBusy. A query that needs
// more memory than there is for all is refused with ErrTooLarge. See budget.go.
package query

import (
	"runtime"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// Options configures an Engine.
type Options struct {
	Store         *store.Store
	Now           func() time.Time // nil: time.Now
	MaxConcurrent int              // queries that run at a time; 0: 2×GOMAXPROCS
	MaxWaiting    int              // queries that wait for their turn; 0: 16×MaxConcurrent
	MemoryBytes   int64            // of all queries and their answers, about; 0: 256 MiB
	Symbols       store.Symbols    // names what is only an address; nil: nothing does
}

// Engine answers queries.
type Engine struct {
	store   *store.Store
	now     func() time.Time
	budget  *budget
	symbols store.Symbols

	encoders sync.Pool // *profile.Encoder
}

// New makes an Engine. The store is borrowed and must stay open.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = 2 * runtime.GOMAXPROCS(0)
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 16 * o.MaxConcurrent
	}
	if o.MemoryBytes <= 0 {
		o.MemoryBytes = 256 << 20
	}
	return &Engine{store: o.Store, now: o.Now, symbols: o.Symbols, budget: newBudget(o.MemoryBytes, o.MaxConcurrent, o.MaxWaiting)}
}

// Budget is the state of the admission of queries.
func (e *Engine) Budget() Budget { return e.budget.state() }

// Request selects values.
type Request struct {
	Query   string // Prometheus selector; "" or "{}" is the whole fleet
	Release string // one more matcher, release=Release, if not ""
	Type    string // name of a type, see inquest.Type
	Window  inquest.Window
	// Agg says how values of different times become one. Delta types have "sum".
	// Instants have "avg", the time-weighted total over the window; "sum" of all
	// profiles; "last", per process its last profile; "max", per process the one
	// with the largest total. "" is sum for deltas and avg for instants.
	Agg string
	// Rate, for delta types only, asks for an amount per second of the window,
	// scaled per service from the observed to the present time.
	Rate bool
	// Function, for series and for tables by service, release or build, asks for
	// what this function costs rather than for all: its exact name, or the begin
	// of names and a *. Series have its cumulative value, tables both.
	Function string

	build *string // one more matcher, build=*build, if not nil
}

// The values of Request.Agg.
const (
	AggSum  = "sum"
	AggAvg  = "avg"
	AggLast = "last"
	AggMax  = "max"
	aggRate = "rate" // how answers name a sum asked for with Rate
)

// defaultWindow is the length of a window that was not given.
const defaultWindow = time.Hour

// window resolves a request's window: a missing end is now, a missing begin
// defaultWindow before the end. An empty one is ErrInvalid.
func (e *Engine) window(w inquest.Window) (inquest.Window, error) {
	if w.Until.IsZero() {
		w.Until = e.now()
	}
	if w.From.IsZero() {
		w.From = w.Until.Add(-defaultWindow)
	}
	w.From, w.Until = w.From.UTC(), w.Until.UTC()
	if !w.From.Before(w.Until) {
		return w, inquest.Errorf(inquest.ErrInvalid, "the window is empty: from %s is not before until %s",
			w.From.Format(time.RFC3339Nano), w.Until.Format(time.RFC3339Nano))
	}
	if w.From.Year() < 1970 || w.Until.Year() > 2200 {
		return w, inquest.Errorf(inquest.ErrInvalid, "the window from %s until %s is not within the years 1970 to 2200", w.From.Format(time.RFC3339), w.Until.Format(time.RFC3339))
	}
	return w, nil
}

// agg checks how t can be added up and names what was chosen.
func (r *Request) agg(t inquest.Type) (string, error) {
	switch r.Agg {
	case "", AggSum, AggAvg, AggLast, AggMax:
	default:
		return "", inquest.Errorf(inquest.ErrInvalid, "unknown agg=%s: want avg, sum, last or max", r.Agg)
	}
	if t.Temporality == inquest.Instant {
		if r.Rate {
			return "", inquest.Errorf(inquest.ErrInvalid, "%s is a level, not an amount over time, so it has no rate: leave rate out", t.Name)
		}
		if r.Agg == "" {
			return AggAvg, nil
		}
		return r.Agg, nil
	}
	if r.Agg != "" && r.Agg != AggSum {
		return "", inquest.Errorf(inquest.ErrInvalid, "%s is an amount over time, so agg=%s does not apply: use agg=sum, or rate=true for an amount per second", t.Name, r.Agg)
	}
	if r.Rate {
		return aggRate, nil
	}
	return AggSum, nil
}
