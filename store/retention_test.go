package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(t0.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func settle(tb testing.TB, s *store.Store) {
	tb.Helper()
	if err := s.Settle(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// shelf appends profiles at the clock's time.
type shelf struct {
	tb testing.TB
	s  *store.Store
	c  *clock
	d  *profile.Decoder
	n  int
}

func (h *shelf) put(service string, kind inquest.Kind, at time.Time) inquest.Key {
	h.tb.Helper()
	bodies := corpus.Load(string(kind))
	r := record(h.tb, h.d, h.n, service, kind, bodies[h.n%len(bodies)].Data)
	r.Meta.Start, r.Meta.End = at, at.Add(5*time.Second)
	h.n++
	if _, err := h.s.Append(context.Background(), r); err != nil {
		h.tb.Fatal(err)
	}
	return r.Key
}

func (h *shelf) flush() {
	h.tb.Helper()
	if err := h.s.Flush(context.Background()); err != nil {
		h.tb.Fatal(err)
	}
}

// seen lists the keys whose rows count in a view of everything.
func seen(tb testing.TB, s *store.Store, sel store.Selection) map[inquest.Key]bool {
	tb.Helper()
	ctx := context.Background()
	v, err := s.View(ctx, sel)
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	out := map[inquest.Key]bool{}
	for _, p := range v.Parts {
		for i, sec := range p.Sections() {
			if sec.Resolution != store.Raw {
				continue
			}
			rows, err := p.Rows(ctx, i)
			if err != nil {
				tb.Fatal(err)
			}
			for r, k := range rows.Key {
				for _, span := range sec.Spans {
					if span.Contains(rows.Start[r]) {
						if out[k] {
							tb.Fatalf("%v is there twice", k)
						}
						out[k] = true
					}
				}
			}
		}
	}
	return out
}

// TestRetentionByAge: what is too old is hidden at once and its files go;
// exceptions and kinds have their own ages; what shares a file with younger
// rows goes when it is worth it. A longer policy brings nothing back.
func TestRetentionByAge(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	policy := store.Retention{
		Raw: 10 * time.Hour, FiveMinutes: 10 * time.Hour, Hour: 10 * time.Hour, Day: 10 * time.Hour,
		Kinds: map[inquest.Kind]time.Duration{inquest.KindMutex: 2 * time.Hour},
		Services: []store.ServiceRetention{
			{Match: "long", Raw: 100 * time.Hour}, {Match: "sh?rt*", Raw: 5 * time.Hour, FiveMinutes: 5 * time.Hour, Hour: 5 * time.Hour, Day: 5 * time.Hour},
		},
	}
	with := func(o *store.Options) { o.Now, o.Retention, o.Epoch = c.now, policy, 1000*time.Hour }
	h := &shelf{tb: t, s: open(t, dir, with), c: c, d: profile.NewDecoder(profile.Limits{})}
	type stored struct {
		key inquest.Key
		age time.Duration
		at  time.Time
	}
	var all []stored
	put := func(service string, kind inquest.Kind, age time.Duration) {
		all = append(all, stored{h.put(service, kind, c.now()), age, c.now()})
	}
	check := func(when string) {
		t.Helper()
		got := seen(t, h.s, store.Selection{})
		for i, p := range all {
			age := c.now().Sub(p.at)
			switch {
			case age < p.age && !got[p.key]:
				t.Fatalf("%s: %d, %v old, is gone, want it for %v", when, i, age, p.age)
			case age >= p.age+5*time.Minute && got[p.key]:
				t.Fatalf("%s: %d, %v old, is there, want it for %v", when, i, age, p.age)
			}
		}
	}
	for hour := range 14 {
		put("usual", inquest.KindCPU, 10*time.Hour)
		put("usual", inquest.KindMutex, 2*time.Hour)
		put("long", inquest.KindCPU, 100*time.Hour)
		put("short-1", inquest.KindCPU, 5*time.Hour)
		check(fmt.Sprint(hour, " head"))
		h.flush()
		check(fmt.Sprint(hour, " block"))
		c.advance(time.Hour)
		check(fmt.Sprint(hour, " later"))
		if hour%3 == 0 {
			settle(t, h.s)
			check(fmt.Sprint(hour, " settled"))
		}
		if hour%4 == 1 {
			if err := h.s.Close(); err != nil {
				t.Fatal(err)
			}
			h.s = open(t, dir, with)
			check(fmt.Sprint(hour, " opened"))
		}
	}
	settle(t, h.s)
	check("end")
	before := seen(t, h.s, store.Selection{})
	if err := h.s.SetRetention(store.Retention{}); err != nil {
		t.Fatal(err)
	}
	settle(t, h.s)
	after := seen(t, h.s, store.Selection{})
	for k := range after {
		if !before[k] {
			t.Fatalf("%v came back", k)
		}
	}
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	policy = store.Retention{}
	h.s = open(t, dir, with)
	for k := range seen(t, h.s, store.Selection{}) {
		if !before[k] {
			t.Fatalf("%v came back after a restart", k)
		}
	}
	policy = store.Retention{Raw: time.Minute, FiveMinutes: time.Minute, Hour: time.Minute, Day: time.Minute}
	if err := h.s.SetRetention(policy); err != nil {
		t.Fatal(err)
	}
	c.advance(72 * time.Hour)
	settle(t, h.s)
	if n := len(blockFiles(t, dir)); n != 0 {
		t.Fatalf("%d files are left", n)
	}
}

// TestRetentionBySize: the oldest go until the rest fits, and no more.
func TestRetentionBySize(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	files := &store.FaultyFiles{}
	with := func(o *store.Options) { o.Now, o.Epoch = c.now, 1000*time.Hour }
	h := &shelf{tb: t, s: open(t, dir, with, store.WithFiles(files)), c: c, d: profile.NewDecoder(profile.Limits{})}
	for range 20 {
		h.put("svc", inquest.KindCPU, c.now())
		h.flush()
		c.advance(2 * time.Hour)
	}
	c.advance(24 * time.Hour) // what waits for rollups waits no longer
	bound := h.s.Stats().BlockBytes / 2
	if err := h.s.SetRetention(store.Retention{RawMaxBytes: bound}); err != nil {
		t.Fatal(err)
	}
	settle(t, h.s)
	if n := h.s.Stats().BlockBytes; n > bound {
		t.Fatalf("%d bytes, want %d at most", n, bound)
	}
	got := seen(t, h.s, store.Selection{})
	for i := range 20 {
		if n := len(got); n < 7 || n > 10 || got[key(i)] != (i >= 20-n) {
			t.Fatalf("%d profiles are left, and %d is there: %v", n, i, got[key(i)])
		}
	}
	// The disk runs short: what is younger than a day stays.
	files.FreeNow.Store(50 << 20)
	if err := h.s.SetRetention(store.Retention{KeepFree: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	h.put("svc", inquest.KindCPU, c.now())
	h.flush()
	settle(t, h.s)
	if got := seen(t, h.s, store.Selection{}); len(got) != 1 || !got[key(20)] {
		t.Fatalf("%d profiles are left, want the newest", len(got))
	}
}
