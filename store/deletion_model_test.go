package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// kept is what the model knows of a profile.
type kept struct {
	service string
	start   time.Time
	samples int64
	deleted bool
	old     bool // some policy would have let it go
}

// keptModel drives a store and a map side by side.
type keptModel struct {
	t      *testing.T
	rnd    *rand.Rand
	c      *clock
	dir    string
	s      *store.Store
	m      *marks
	policy store.Retention
	have   map[inquest.Key]*kept
	old    map[string]time.Time // by service: what began earlier may have been hidden
}

// TestKeptModel does random things to a store and a map: appends, deletions,
// time passing, other policies, background work, restarts and power cuts. What
// must be there is there once, what must be gone is in no answer and, at the
// end, in no file; without retention rollups have the same sums.
func TestKeptModel(t *testing.T) {
	seeds, steps := uint64(1), 120
	if os.Getenv("INQUEST_LONG") != "" {
		seeds, steps = 20, 400
	}
	for seed := range seeds {
		for _, aged := range []bool{false, true} {
			t.Run(fmt.Sprint(seed, aged), func(t *testing.T) { newKeptModel(t, seed).run(steps, aged) })
		}
	}
}

func newKeptModel(t *testing.T, seed uint64) *keptModel {
	x := &keptModel{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), c: newClock(), dir: t.TempDir(), have: map[inquest.Key]*kept{}, old: map[string]time.Time{}}
	x.open()
	x.m = newMarks(t, x.s, x.c)
	return x
}

func (x *keptModel) open() {
	x.s = open(x.t, x.dir, func(o *store.Options) {
		o.Now, o.Retention, o.Epoch, o.RollupDelay = x.c.now, x.policy, 1000*time.Hour, time.Nanosecond
		o.CommitDelay = time.Millisecond
	})
	waitReady(x.t, x.s)
	if x.m != nil {
		x.m.s = x.s
	}
}

func (x *keptModel) age(service string) time.Duration {
	age := x.policy.Raw
	for _, r := range x.policy.Services {
		if r.Match == service && r.Raw != 0 {
			age = r.Raw
		}
	}
	if age == 0 {
		return store.Forever
	}
	return age
}

func (x *keptModel) run(steps int, aged bool) {
	for range steps {
		switch r := x.rnd.IntN(100); {
		case r < 50:
			x.put()
		case r < 60:
			x.m.flush()
		case r < 70:
			x.c.advance(time.Duration(x.rnd.Int64N(int64(5 * time.Hour))))
		case r < 76:
			x.delete()
		case r < 82:
			settle(x.t, x.s)
		case r < 86 && aged:
			x.policy = store.Retention{Raw: time.Duration(5+x.rnd.IntN(60)) * time.Hour, FiveMinutes: 100 * time.Hour, Hour: 200 * time.Hour, Day: 400 * time.Hour}
			if x.rnd.IntN(2) == 0 {
				x.policy.Services = []store.ServiceRetention{{Match: "a", Raw: time.Duration(1+x.rnd.IntN(90)) * time.Hour}}
			}
			if err := x.s.SetRetention(x.policy); err != nil {
				x.t.Fatal(err)
			}
		case r < 90:
			if x.rnd.IntN(2) == 0 {
				cut := copyDir(x.t, x.dir)
				_ = x.s.Close()
				x.dir = cut
			} else if err := x.s.Close(); err != nil {
				x.t.Fatal(err)
			}
			x.open()
		default:
			x.check(aged)
		}
		for _, service := range []string{"a", "b", "c"} {
			if old := x.c.now().Add(-x.age(service)); old.After(x.old[service]) {
				x.old[service] = old
			}
		}
		for _, p := range x.have {
			p.old = p.old || !p.start.After(x.old[p.service])
		}
	}
	settle(x.t, x.s)
	settle(x.t, x.s)
	x.check(aged)
	ds, err := x.s.Deletions()
	if err != nil {
		x.t.Fatal(err)
	}
	for _, d := range ds {
		if d.Done.IsZero() {
			x.t.Fatalf("not done: %+v", d)
		}
	}
	if err := x.s.Close(); err != nil {
		x.t.Fatal(err)
	}
	for k, p := range x.have {
		if in := found(x.t, x.dir, word(k)); p.deleted && len(in) > 0 {
			x.t.Fatalf("%s, deleted, is in %v", word(k), in)
		}
	}
}

func word(k inquest.Key) string { return fmt.Sprintf("word%05dx", int(k[15])|int(k[14])<<8) }

func (x *keptModel) put() {
	service := []string{"a", "b", "c"}[x.rnd.IntN(3)]
	start := x.c.now().Add(-time.Duration(x.rnd.Int64N(int64(3 * time.Hour))))
	if x.rnd.IntN(5) == 0 {
		start = x.c.now().Add(-time.Duration(x.rnd.Int64N(int64(50 * time.Hour))))
	}
	n := x.m.n
	k := x.m.put(service, word(key(n)), start)
	x.have[k] = &kept{service: service, start: start, samples: int64(n%7+1) + 3}
}

func (x *keptModel) delete() {
	d := store.Deletion{Service: []string{"a", "b", "c", ""}[x.rnd.IntN(4)]}
	if d.Service == "" || x.rnd.IntN(4) > 0 {
		from := x.c.now().Add(-time.Duration(x.rnd.Int64N(int64(40 * time.Hour))))
		d.Window = inquest.Window{From: from, Until: from.Add(1 + time.Duration(x.rnd.Int64N(int64(4*time.Hour))))}
	}
	got, err := x.s.Delete(context.Background(), d)
	if err != nil {
		if errors.Is(err, inquest.ErrUnavailable) {
			return
		}
		x.t.Fatal(err)
	}
	n := int64(0)
	for _, p := range x.have {
		in := d.Window.From.IsZero() || !p.start.Before(d.Window.From) && p.start.Before(d.Window.Until)
		if in && !p.deleted && (d.Service == "" || d.Service == p.service) {
			p.deleted = true
			n++
		}
	}
	if got.Profiles > n {
		x.t.Fatalf("%+v: %d profiles, there were %d at most", d, got.Profiles, n)
	}
}

func (x *keptModel) check(aged bool) {
	x.t.Helper()
	got := seen(x.t, x.s, store.Selection{})
	for k, p := range x.have {
		age := x.c.now().Sub(p.start)
		switch limit := x.age(p.service); {
		case got[k] && p.deleted:
			x.t.Fatalf("%v of %s at %v was deleted and is there", word(k), p.service, p.start)
		case got[k] && limit != store.Forever && age > limit+5*time.Minute:
			x.t.Fatalf("%v of %s is %v old and there, want %v", word(k), p.service, age, limit)
		case !got[k] && !p.deleted && !p.old:
			x.t.Fatalf("%v of %s at %v is lost", word(k), p.service, p.start)
		}
		delete(got, k)
	}
	if len(got) > 0 {
		x.t.Fatalf("%d profiles from nowhere", len(got))
	}
	if !aged {
		x.checkSums(store.Selection{Rollups: true})
		x.checkSums(store.Selection{Rollups: true, Fleet: true})
		for range 5 {
			from := x.c.now().Add(-time.Duration(x.rnd.Int64N(int64(60 * time.Hour))))
			w := inquest.Window{From: from, Until: from.Add(time.Duration(1 + x.rnd.Int64N(int64(40*time.Hour))))}
			x.checkSums(store.Selection{Rollups: true, Fleet: x.rnd.IntN(2) == 0, Window: w})
		}
	}
}

// checkSums compares the sums of rows that count with those of the model.
func (x *keptModel) checkSums(sel store.Selection) {
	x.t.Helper()
	ctx := context.Background()
	var want, got int64
	for _, p := range x.have {
		w := sel.Window
		if !p.deleted && (w.From.IsZero() || !p.start.Before(w.From) && p.start.Before(w.Until)) {
			want += p.samples
		}
	}
	v, err := x.s.View(ctx, sel)
	if err != nil {
		x.t.Fatal(err)
	}
	defer v.Close()
	for _, p := range v.Parts {
		for i, sec := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				x.t.Fatal(err)
			}
			for r, start := range rows.Start {
				for _, s := range sec.Spans {
					switch {
					case !s.Contains(start):
					case sec.Fleet: // it has the time instead, of 10 ms each
						got += rows.Totals[0][r] / 10_000_000
					default:
						got += rows.Totals[0][r]
					}
				}
			}
		}
	}
	if got != want {
		x.t.Fatalf("%+v: sum %d, want %d", sel.Window, got, want)
	}
}
