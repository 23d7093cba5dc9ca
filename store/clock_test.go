package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/goinquest/inquest/store"
)

// TestClockJumps: a clock that goes forward by a year and back again ends epochs
// early, and otherwise changes nothing: what is stored is there, keys are known,
// and what was written in the year that never was is rolled up and merged like
// everything else.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	v := newSurvivor(t, func(o *store.Options) {
		o.Epoch, o.KeyAge, o.RollupDelay, o.MergeAge = time.Hour, 25*time.Hour, time.Minute, 4*time.Hour
	})
	v.open()
	n := 0
	put := func(count int) {
		t.Helper()
		for range count {
			if err := v.send(v.make(n, "a", t0.Add(time.Duration(n)*time.Second))); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	waitBlocks := func(want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); v.s.Levels()[0] != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("blocks by level: %v, want %d of heads", v.s.Levels(), want)
			}
		}
	}
	put(5)
	v.check("at first")
	v.later(year)
	waitBlocks(1) // the epoch has ended, once
	put(5)
	flush(t, v.s)
	v.check("a year later")
	v.later(-year - 10*time.Minute)
	put(5)
	v.check("back again")
	if due := store.RollupDue(v.s); due != 2 {
		t.Errorf("%d blocks are due, want 2: one is of a time to come", due)
	}
	flush(t, v.s)
	settle(t, v.s)
	v.check("rolled up")
	if err := v.s.Close(); err != nil {
		t.Fatal(err)
	}
	v.open()
	v.check("opened again")
	// All keys, also those of a block that was written in a year.
	for k := range v.ids {
		if err := v.send(k); err != nil {
			t.Fatal(err)
		}
	}
	v.later(-24 * time.Hour)
	put(2)
	if err := v.s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	v.later(5 * time.Hour)
	settle(t, v.s)
	v.check("a day before")
	if levels := v.s.Levels(); levels[0] > 1 || levels[1] == 0 {
		t.Errorf("blocks by level: %v: those of a time to come are not merged", levels)
	}
	v.checkFiles("at the end")
}

// TestClockRest: a clock that jumps keeps nobody busy: without anything to do
// no block is written and nothing committed.
func TestClockRest(t *testing.T) {
	t.Parallel()
	v := newSurvivor(t, func(o *store.Options) { o.Epoch = time.Hour })
	v.open()
	for n := range 4 {
		if err := v.send(v.make(n, "a", t0)); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, v.s)
	settle(t, v.s)
	before := readFiles(t, v.dir)
	for _, jump := range []time.Duration{24 * time.Hour, -48 * time.Hour, 365 * 24 * time.Hour, -400 * 24 * time.Hour} {
		v.later(jump)
		settle(t, v.s)
		time.Sleep(300 * time.Millisecond) // the closer looks four times a second
		after := readFiles(t, v.dir)
		if len(after) != len(before) || string(after["catalog.db"]) != string(before["catalog.db"]) {
			t.Fatalf("after %v: %d files, before %d; or another catalog", jump, len(after), len(before))
		}
		v.check(jump.String())
	}
}
