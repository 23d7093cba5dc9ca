package query

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// budget admits queries: a bounded number runs at a time, in the order in
// which they came, and all together take a bounded amount of memory. A query
// asks for more of it as it learns what it needs, and waits if others have it.
//
// That cannot lock up: when every query waits for memory that others hold, the
// youngest gives up, its memory goes to the others, and it begins again, first
// in line, when as much is free as it wanted. Queries that wait for more go
// before those that have not begun.
type budget struct {
	total   int64
	running int // at a time
	maxLine int // that wait to begin

	mu      sync.Mutex
	used    int64
	slots   int            // taken
	line    []*place       // waiting to begin, oldest first
	holders []*reservation // with a slot or with memory, oldest first

	refused [3]int64 // by refusedBusy …
}

// Why queries were refused.
const (
	refusedBusy  = iota // the line is full
	refusedYield        // gave up for others again and again
	refusedLarge        // needs more than there is
)

// place is one query in the line.
type place struct {
	bytes int64             // it begins with
	turn  chan *reservation // has room for one
}

// reservation is the memory of one query.
type reservation struct {
	b       *budget
	ctx     context.Context
	slot    bool
	bytes   int64
	ahead   int64 // of it, reserved before it was asked for
	kept    int64 // of it for the answer, see keep
	workers int   // goroutines that work on it in the place of the one that began it; 0: that one does
	waits   []*wait
}

// wait is one goroutine that waits for memory.
type wait struct {
	bytes int64
	done  chan error // has room for one
}

// firstBytes is what a query holds from its begin on: what is not estimated
// step by step.
const firstBytes = 256 << 10

func newBudget(total int64, running, maxLine int) *budget {
	return &budget{total: total, running: running, maxLine: maxLine}
}

// errYield is that a query gave up for others.
type errYield struct {
	error
	bytes int64 // it had and wanted
}

func (e errYield) Unwrap() error { return e.error }

// mostRestarts is how often a query begins again.
const mostRestarts = 5

// run calls f in the memory it is admitted with, again if it had to give up
// for others.
func (b *budget) run(ctx context.Context, f func(ctx context.Context, mem *reservation) error) error {
	mem, err := b.admit(ctx, firstBytes, false)
	for restarts := 0; err == nil; restarts++ {
		err = f(store.WithReserve(ctx, mem.grow), mem)
		var yield errYield
		if !errors.As(err, &yield) {
			mem.finish(ctx)
			return err
		}
		mem.release()
		if restarts == mostRestarts {
			b.mu.Lock()
			b.refused[refusedYield]++
			b.mu.Unlock()
			return err
		}
		mem, err = b.admit(ctx, yield.bytes, true)
	}
	return err
}

// admit waits for a turn, in order or, if first, before all others. The
// reservation must be released.
func (b *budget) admit(ctx context.Context, bytes int64, first bool) (*reservation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	p := &place{bytes: bytes, turn: make(chan *reservation, 1)}
	if first {
		b.line = slices.Insert(b.line, 0, p)
	} else {
		b.line = append(b.line, p)
	}
	b.settle()
	if !first && len(b.line) > b.maxLine && slices.Contains(b.line, p) {
		b.line = b.line[:len(b.line)-1]
		b.refused[refusedBusy]++
		running, waiting := b.slots, len(b.line)
		b.mu.Unlock()
		return nil, inquest.Errorf(inquest.ErrBusy, "%d queries run and %d wait already; try again after a pause", running, waiting)
	}
	b.mu.Unlock()
	select {
	case r := <-p.turn:
		r.ctx = ctx
		return r, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	i := slices.Index(b.line, p)
	if i >= 0 {
		b.line = slices.Delete(b.line, i, i+1)
	}
	b.settle() // those behind may go
	b.mu.Unlock()
	if i < 0 {
		(<-p.turn).release()
	}
	return nil, ctx.Err()
}

// grow reserves more bytes, waiting for them until the query's context ends,
// or gives some back if bytes is negative. The caller must not hold a lock that
// another goroutine of the query waits for. The error is of kind ErrTooLarge
// if there will never be as much, ErrBusy if the query gives up for others.
func (r *reservation) grow(bytes int64) error {
	if bytes == 0 {
		return nil
	}
	b := r.b
	b.mu.Lock()
	w := &wait{bytes: bytes, done: make(chan error, 1)}
	if ahead := min(bytes, r.ahead); ahead > 0 {
		r.ahead -= ahead
		bytes -= ahead
		w.bytes = bytes
	}
	if bytes <= 0 {
		r.bytes += bytes
		b.used += bytes
		w.done <- nil
	} else {
		r.waits = append(r.waits, w)
	}
	b.settle()
	b.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-r.ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(r.waits, w); i >= 0 {
		r.waits = slices.Delete(r.waits, i, i+1)
		b.settle()
	}
	return r.ctx.Err() // what was given meanwhile is released with the rest
}

// upTo sees to it that bytes are reserved for something that grows; held is
// what it has. It asks for more than a little at a time. Nobody may hold a lock that others of the query's goroutines wait for: they
// would count as being at work.
func (r *reservation) upTo(held *atomic.Int64, bytes int64) error {
	for {
		has := held.Load()
		if bytes <= has {
			return nil
		}
		more := max(bytes-has, has/8, 64<<10)
		if held.CompareAndSwap(has, has+more) {
			return r.grow(more)
		}
	}
}

// work says that n goroutines more, or less, work on the query, for which the
// one that began it waits.
func (r *reservation) work(n int) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.workers += n
	r.b.settle()
}

// keep reserves memory that the answer takes, until it is written.
func (r *reservation) keep(bytes int64) error {
	if err := r.grow(bytes); err != nil {
		return err
	}
	r.keeps(bytes)
	return nil
}

// keeps says that so much of what is reserved is the answer's.
func (r *reservation) keeps(bytes int64) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.kept += bytes
}

// answered gives back everything but the answer's memory, and the slot.
func (r *reservation) answered() {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free(r, r.bytes-r.kept)
}

// release gives everything back.
func (r *reservation) release() {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free(r, r.bytes)
}

// free gives bytes and the slot back. b.mu is held, as it is in all below.
func (b *budget) free(r *reservation, bytes int64) {
	r.bytes -= bytes
	b.used -= bytes
	if r.slot {
		r.slot = false
		b.slots--
	}
	if r.bytes == 0 {
		if i := slices.Index(b.holders, r); i >= 0 {
			b.holders = slices.Delete(b.holders, i, i+1)
		}
	}
	b.settle()
}

// settle gives memory and turns to those who wait, as far as they go.
func (b *budget) settle() {
	for {
		waiting := b.serve()
		if !waiting {
			break
		}
		victim, kind := b.stuck()
		if victim == nil {
			return // somebody is at work, and will give back
		}
		b.giveUp(victim, kind)
	}
	for len(b.line) > 0 && b.slots < b.running && (b.used+b.line[0].bytes <= b.total || len(b.holders) == 0) {
		n := b.line[0].bytes
		r := &reservation{b: b, slot: true, bytes: n, ahead: n - firstBytes}
		b.slots++
		b.used += n
		b.holders = append(b.holders, r)
		b.line[0].turn <- r
		b.line = slices.Delete(b.line, 0, 1)
	}
}

// serve grants what fits, to the oldest query first, and says whether anybody
// still waits.
func (b *budget) serve() (waiting bool) {
	for _, r := range b.holders {
		for len(r.waits) > 0 && b.used+r.waits[0].bytes <= b.total {
			w := r.waits[0]
			r.waits = slices.Delete(r.waits, 0, 1)
			r.bytes += w.bytes
			b.used += w.bytes
			w.done <- nil
		}
		waiting = waiting || len(r.waits) > 0
	}
	return waiting
}

// stuck finds the query that has to give up: one that can never have what it
// waits for, or the youngest if all wait and nobody will give anything back.
func (b *budget) stuck() (victim *reservation, kind int) {
	busy := false
	for _, r := range b.holders {
		switch {
		case !r.slot || len(r.waits) < max(1, r.workers):
			busy = true // at work, or its answer is being written
		case r.bytes+r.waits[0].bytes > b.total:
			return r, refusedLarge
		default:
			victim = r
		}
	}
	if busy {
		return nil, 0
	}
	return victim, refusedYield
}

// giveUp refuses what a query waits for.
func (b *budget) giveUp(r *reservation, kind int) {
	wanted := r.bytes
	for _, w := range r.waits {
		wanted += w.bytes
	}
	var err error
	if kind == refusedLarge {
		b.refused[kind]++
		err = inquest.Errorf(inquest.ErrTooLarge, "the query needs more than %d MiB of memory, of %d MiB there are for all queries: "+
			"ask for less time or fewer services, with a longer step or fewer labels, or give the collector more with -memory",
			(r.bytes+r.waits[0].bytes)>>20, b.total>>20)
	} else {
		err = errYield{inquest.Errorf(inquest.ErrBusy, "other queries take the %d MiB of memory there are for queries; try again after a pause", b.total>>20),
			min(wanted, b.total)}
	}
	for _, w := range r.waits {
		w.done <- err
	}
	// It has stopped waiting and is at work on its end.
	r.waits = nil
}

// Budget is the state of an engine's admission.
type Budget struct {
	TotalBytes, UsedBytes int64 // of the memory for queries
	Running, Waiting      int
	Busy, Yielded, Large  int64 // refused since the start: the line was full, memory went to others, there is not as much
}

func (b *budget) state() Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Budget{b.total, b.used, b.slots, len(b.line), b.refused[refusedBusy], b.refused[refusedYield], b.refused[refusedLarge]}
}

type holdKey struct{}

// hold collects the reservations of answers that are still being written.
type hold struct {
	mu   sync.Mutex
	held []*reservation
}

// Hold returns a context under which the memory of answers stays reserved
// until release is called, once they are written.
func Hold(ctx context.Context) (held context.Context, release func()) {
	h := &hold{}
	return context.WithValue(ctx, holdKey{}, h), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range h.held {
			r.release()
		}
		h.held = nil
	}
}

// finish ends a query that has answered: the answer's memory goes to the hold
// of the context if there is one.
func (r *reservation) finish(ctx context.Context) {
	h, ok := ctx.Value(holdKey{}).(*hold)
	if !ok {
		r.release()
		return
	}
	r.answered()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, r)
}
