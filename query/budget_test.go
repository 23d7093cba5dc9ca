package query_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

const mib = 1 << 20

// TestQueriesGoInOrder: one runs, the others wait in the order in which they
// came; one that goes away leaves its place, and beyond the line queries are
// refused.
func TestQueriesGoInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := query.NewAdmission(64*mib, 1, 4)
		end := make(chan bool)
		var order []int
		var wg sync.WaitGroup
		ctxs := make([]context.CancelFunc, 5)
		for i := range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctxs[i] = cancel
			wg.Go(func() {
				err := a.Run(ctx, func(context.Context, *query.Memory) error {
					order = append(order, i)
					<-end
					return nil
				})
				if i == 2 && !errors.Is(err, context.Canceled) || i != 2 && err != nil {
					t.Errorf("query %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		err := a.Run(t.Context(), func(context.Context, *query.Memory) error { return nil })
		if !errors.Is(err, inquest.ErrBusy) {
			t.Errorf("beyond the line: %v", err)
		}
		ctxs[2]()
		synctest.Wait()
		if s := a.State(); s.Running != 1 || s.Waiting != 3 || s.Busy != 1 {
			t.Errorf("%+v", s)
		}
		close(end)
		wg.Wait()
		if d := cmp.Diff([]int{0, 1, 3, 4}, order); d != "" {
			t.Error(d)
		}
		idle(t, a)
	})
}

func idle(t *testing.T, a *query.Admission) {
	t.Helper()
	if s := a.State(); s.UsedBytes != 0 || s.Running != 0 || s.Waiting != 0 {
		t.Errorf("left over: %+v", s)
	}
}

// TestMemoryIsWaitedFor: a query waits for what another has, and goes on when
// that gives back.
func TestMemoryIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := query.NewAdmission(10*mib, 4, 4)
		back := make(chan bool)
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = a.Run(t.Context(), func(_ context.Context, m *query.Memory) error {
				err := m.Grow(7 * mib)
				<-back
				if err == nil {
					err = m.Grow(-7 * mib)
				}
				<-back
				return err
			})
		})
		synctest.Wait()
		waited := false
		wg.Go(func() {
			err := a.Run(t.Context(), func(_ context.Context, m *query.Memory) error {
				err := m.Grow(6 * mib)
				waited = true
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if waited {
			t.Error("more was given than there is")
		}
		back <- true
		synctest.Wait()
		if !waited {
			t.Error("memory that was given back is not given on")
		}
		// One that does not wait for ever.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hold := make(chan bool)
		wg.Go(func() {
			_ = a.Run(t.Context(), func(_ context.Context, m *query.Memory) error { _ = m.Grow(6 * mib); <-hold; return nil })
		})
		synctest.Wait()
		err := a.Run(ctx, func(_ context.Context, m *query.Memory) error { return m.Grow(6 * mib) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(hold)
		back <- true
		wg.Wait()
		idle(t, a)
	})
}

// TestTheYoungerGivesWay: two queries that want what the other has do not wait
// for ever. The younger begins again when there is room, and both succeed.
func TestTheYoungerGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := query.NewAdmission(10*mib, 4, 4)
		both := make(chan bool)
		var runs [2]int
		var done []int
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				err := a.Run(t.Context(), func(_ context.Context, m *query.Memory) error {
					runs[i]++
					if err := m.Grow(4 * mib); err != nil {
						return err
					}
					if runs[i] == 1 {
						<-both
					}
					if err := m.Grow(4 * mib); err != nil {
						return err
					}
					done = append(done, i)
					return nil
				})
				if err != nil {
					t.Errorf("query %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		close(both)
		wg.Wait()
		if d := cmp.Diff([]int{0, 1}, done); d != "" || runs != [2]int{1, 2} {
			t.Errorf("done %v, begun %v", done, runs)
		}
		idle(t, a)
	})
}

func TestTooLargeForEver(t *testing.T) {
	a := query.NewAdmission(10*mib, 4, 4)
	err := a.Run(t.Context(), func(_ context.Context, m *query.Memory) error {
		if err := m.Grow(6 * mib); err != nil {
			return err
		}
		return m.Grow(5 * mib)
	})
	if !errors.Is(err, inquest.ErrTooLarge) || a.State().Large != 1 {
		t.Errorf("%v, %+v", err, a.State())
	}
	idle(t, a)
}

// TestHeldAnswers: the memory of an answer stays reserved until it is written,
// and no more than that.
func TestHeldAnswers(t *testing.T) {
	a := query.NewAdmission(10*mib, 1, 4)
	ctx, release := query.Hold(t.Context())
	err := a.Run(ctx, func(_ context.Context, m *query.Memory) error {
		return errors.Join(m.Grow(5*mib), m.Keep(2*mib))
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := a.State(); s.UsedBytes != 2*mib || s.Running != 0 {
		t.Errorf("%+v", s)
	}
	release()
	idle(t, a)
}

// TestMemoryOfMany has queries of several goroutines take and give back at
// random: never is more given than there is, and all come to an end.
func TestMemoryOfMany(t *testing.T) {
	const total = 20 * mib
	a := query.NewAdmission(total, 6, 100)
	var taken, finished, refused atomic.Int64
	var wg sync.WaitGroup
	for q := range 60 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(q), 1))
			err := a.Run(t.Context(), func(_ context.Context, m *query.Memory) error {
				workers := 1 + rnd.IntN(3)
				errs := make([]error, workers)
				m.Work(workers)
				var inner sync.WaitGroup
				for w := range workers {
					rnd := rand.New(rand.NewPCG(rnd.Uint64(), 2))
					inner.Go(func() {
						defer m.Work(-1)
						have := int64(0)
						for range rnd.IntN(20) {
							n := rnd.Int64N(2 * mib)
							if errs[w] = m.Grow(n); errs[w] != nil {
								break
							}
							have += n
							if now := taken.Add(n); now > total {
								t.Errorf("%d bytes are given", now)
							}
							if rnd.IntN(3) == 0 {
								taken.Add(-have)
								_ = m.Grow(-have)
								have = 0
							}
						}
						taken.Add(-have) // before it is given back
					})
				}
				inner.Wait()
				return errors.Join(errs...)
			})
			switch {
			case err == nil:
				finished.Add(1)
			case errors.Is(err, inquest.ErrBusy), errors.Is(err, inquest.ErrTooLarge):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	idle(t, a)
	if finished.Load() == 0 {
		t.Error("no query was answered")
	}
	t.Logf("%d answered, %d refused; %+v", finished.Load(), refused.Load(), a.State())
}

// TestQueriesInLittleMemory asks an engine for more and more: what does not
// fit is refused as too large, what does is the same as with plenty of memory,
// and nothing stays reserved.
func TestQueriesInLittleMemory(t *testing.T) {
	f := newFleet(t)
	for s := range 8 {
		for n := range 20 {
			b := load("heap", "")[(s*5+n)%20]
			f.put(b.Data, inquest.ProfileMeta{Kind: inquest.KindHeap, Start: at(float64(n * 60)), End: at(float64(n*60 + 30)), Hold: time.Minute},
				on(fmt.Sprint("service-", s), fmt.Sprint("host-", n)))
		}
	}
	if err := f.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := query.Request{Type: "inuse_space", Window: hour}
	queries := map[string]func(e *query.Engine, w io.Writer) error{
		"flame graph": func(e *query.Engine, w io.Writer) error {
			g, err := e.FlameGraph(t.Context(), r, -1)
			if err != nil {
				return err
			}
			return g.WriteJSON(w)
		},
		"top": func(e *query.Engine, w io.Writer) error {
			a, err := e.Top(t.Context(), r, "function", 0)
			fmt.Fprintf(w, "%+v", a)
			return err
		},
		"export": func(e *query.Engine, w io.Writer) error { return e.Profile(t.Context(), r, w) },
		"series": func(e *query.Engine, w io.Writer) error {
			a, err := e.Series(t.Context(), r, time.Minute, []string{"instance", "service"})
			fmt.Fprintf(w, "%+v", a)
			return err
		},
		"values": func(e *query.Engine, w io.Writer) error {
			v, err := e.LabelValues(t.Context(), query.Request{Window: hour}, "bytes", 0)
			fmt.Fprint(w, v)
			return err
		},
		"profiles": func(e *query.Engine, w io.Writer) error {
			v, _, err := e.Profiles(t.Context(), r, 0)
			fmt.Fprint(w, v)
			return err
		},
	}
	for name, ask := range queries {
		var want bytes.Buffer
		if err := ask(f.engine, &want); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s := f.engine.Budget(); s.UsedBytes != 0 {
			t.Errorf("%s: %d bytes stay reserved", name, s.UsedBytes)
		}
		refused := 0
		for memory := int64(query.FirstBytes); ; memory = memory * 5 / 4 {
			e := query.New(query.Options{Store: f.store, MemoryBytes: memory, Now: func() time.Time { return at(3600) }})
			var got bytes.Buffer
			err := ask(e, &got)
			if s := e.Budget(); s.UsedBytes != 0 {
				t.Errorf("%s: %d bytes stay reserved", name, s.UsedBytes)
			}
			if errors.Is(err, inquest.ErrTooLarge) {
				refused++
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if name != "export" && !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("%s: another answer with %d bytes of memory", name, memory)
			}
			break
		}
		if refused == 0 {
			t.Errorf("%s fits any memory", name)
		}
	}
}
