package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// TestModel does random things to a store and compares it with a map: profiles
// of all sorts from all times, in no order, repeats, with the same body and with
// another, ended epochs, rollups, merging, clocks that jump, clean restarts,
// power cuts and, every other time, full disks and catalogs that cannot be
// written. INQUEST_LONG=1 does more of it.
func TestModel(t *testing.T) {
	seeds, steps := uint64(8), 250
	switch {
	case os.Getenv("INQUEST_LONG") != "":
		seeds, steps = 60, 600
	case testing.Short():
		seeds, steps = 2, 80
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed, steps)
		})
	}
}

// modelRun is one store under random operations.
type modelRun struct {
	*survivor
	rnd    *rand.Rand
	files  *store.Faults
	faults bool
	broken bool // the disk is full, or the catalog cannot be written
	days   []time.Time
	n      int

	// Where faults are off, what is where is known for certain.
	heads, blocks []*rolledProfile
	rollups       rollupModel
}

func runModel(t *testing.T, seed uint64, steps int) {
	files := &store.Faults{}
	files.Repair()
	m := &modelRun{
		rnd: rand.New(rand.NewPCG(seed, 1)), files: files, faults: seed%2 == 1, rollups: rollupModel{},
		survivor: newSurvivor(t, store.WithFaults(files), func(o *store.Options) { o.RollupDelay = 1 << 62 }),
		days: []time.Time{
			t0, t0, t0, t0, t0.Add(-24 * time.Hour), t0.Add(-24 * time.Hour), t0.Add(25 * time.Hour),
			time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 12, 31, 20, 0, 0, 0, time.UTC), time.Date(2261, 12, 30, 0, 0, 0, 0, time.UTC),
		},
	}
	m.open()
	for i := range steps {
		m.step(fmt.Sprintf("seed %d, step %d", seed, i))
	}
	m.repair()
	m.settle("at the end")
	m.compare("at the end")
	m.exports("at the end")
	m.checkFiles("at the end")
}

// step does one thing.
func (m *modelRun) step(when string) {
	m.t.Helper()
	switch x := m.rnd.IntN(100); {
	case x < 55:
		m.append(when)
	case x < 62:
		m.repeat(when)
	case x < 70:
		m.flush(when)
	case x < 78:
		m.settle(when)
	case x < 85:
		m.later(pick(m.rnd, time.Minute, 10*time.Minute, 5*time.Hour, 26*time.Hour, -time.Minute, -24*time.Hour, 366*24*time.Hour, -400*24*time.Hour))
	case x < 88:
		m.restart(when)
	case x < 91:
		m.powerCut(when)
	case x < 94 && m.faults:
		if m.broken {
			m.repair()
			return
		}
		m.broken = true
		m.files.Arm(pick(m.rnd, store.FullFrom, store.FullFrom, store.NoCatalog), m.rnd.IntN(4))
	case x < 97:
		m.compare(when)
	default:
		m.exports(when)
	}
}

// repair ends all faults.
func (m *modelRun) repair() {
	m.files.Repair()
	m.broken = false
}

// failed says that something failed, which it may while the disk does.
func (m *modelRun) failed(when string, err error) bool {
	m.t.Helper()
	if err == nil {
		return false
	}
	if !m.broken {
		m.t.Fatalf("%s: %v", when, err)
	}
	return true
}

// append sends a new profile of any sort.
func (m *modelRun) append(when string) {
	m.t.Helper()
	start := m.days[m.rnd.IntN(len(m.days))].Add(time.Duration(m.rnd.Int64N(int64(3 * time.Hour))))
	k := m.make(m.n, pick(m.rnd, "a", "b", "c", "c"), start)
	x := m.records[k]
	if m.rnd.IntN(6) == 0 {
		x.meta.Kind, x.body = inquest.KindOther, encode(m.t, oddProfile(m.n))
	}
	x.meta.Labels = inquest.NewLabels(map[string]string{
		"service": x.meta.Service(), "instance": pick(m.rnd, "", "i1", "i2"), "build": pick(m.rnd, "", "b1", "b2"), "release": pick(m.rnd, "", "", "v1"),
	})
	x.meta.Process = pick(m.rnd, "", "p1", "p2")
	x.meta.End = start.Add(pick(m.rnd, 0, 10*time.Second, time.Minute))
	x.meta.Hold = pick(m.rnd, 0, time.Minute, 10*time.Minute)
	m.records[k] = x
	m.n++
	if m.failed(when+", append", m.send(k)) {
		return
	}
	m.heads = append(m.heads, &rolledProfile{meta: x.meta, p: parse(m.t, x.body)})
}

// repeat sends a profile again, with its body or with another.
func (m *modelRun) repeat(when string) {
	m.t.Helper()
	if m.n == 0 {
		return
	}
	k := key(m.rnd.IntN(m.n))
	known := m.ids[k] != ""
	if !known && !m.faults {
		m.t.Fatalf("%s: %v was sent and not stored", when, k)
	}
	if m.rnd.IntN(3) > 0 {
		_ = m.failed(when+", repeat", m.send(k)) // it checks the answer
		return
	}
	if !known {
		return // what was refused may be there or not
	}
	good := m.records[k]
	other := good
	_, other.body = smallBody(m.t, m.n+1000)
	m.records[k] = other
	err := m.sendAny(k)
	m.records[k] = good
	if !errors.Is(err, inquest.ErrConflict) {
		m.t.Fatalf("%s: %v sent with another body: %v", when, k, err)
	}
}

func (m *modelRun) flush(when string) {
	m.t.Helper()
	if m.failed(when+", flush", m.s.Flush(context.Background())) {
		return
	}
	m.flushed()
}

// flushed says that what was in heads is in blocks.
func (m *modelRun) flushed() {
	m.blocks = append(m.blocks, m.heads...)
	m.heads = nil
}

// settle rolls up and merges what is in blocks.
func (m *modelRun) settle(when string) {
	m.t.Helper()
	if m.failed(when+", settle", m.s.Settle(context.Background())) || m.faults {
		return
	}
	m.rollups.addBatch(m.blocks)
	m.blocks = nil
	own, _ := readRollups(m.t, m.s, ownRows)
	compareModels(m.t, when, m.rollups, own, anyKey)
	fleet, _ := readRollups(m.t, m.s, fleetRows)
	compareModels(m.t, when+", fleet", m.rollups.fleet(), fleet, anyKey)
	compareTables(m.t, when, m.s, m.rollups)
}

// restart ends the store and opens it again.
func (m *modelRun) restart(when string) {
	m.t.Helper()
	m.repair()
	replayed := m.s.Ready() == nil
	if err := m.s.Close(); err != nil {
		m.t.Fatalf("%s: %v", when, err)
	}
	m.flushed()
	if err := m.tryOpen(); err != nil {
		m.t.Fatalf("%s: %v", when, err)
	}
	if err := m.s.Ready(); err != nil && replayed {
		m.t.Fatalf("%s: after a clean end: %v", when, err)
	}
	m.compare(when + ", restart")
}

// powerCut goes on with what is on the disk.
func (m *modelRun) powerCut(when string) {
	m.t.Helper()
	cut := copyFast(m.t, m.dir)
	m.repair()
	_ = m.s.Close()
	os.RemoveAll(m.dir)
	m.dir = cut
	m.open()
	m.compare(when + ", power cut")
	m.flush(when)
}

// compare compares everything that can be asked.
func (m *modelRun) compare(when string) {
	m.t.Helper()
	m.check(when)
	if q := m.s.Stats().Quarantined; len(q) > 0 {
		m.t.Fatalf("%s: %v", when, q)
	}
	if m.faults || len(m.records) == 0 {
		return
	}
	if want := len(m.records); len(m.model) != want {
		m.t.Fatalf("%s: %d profiles, want %d", when, len(m.model), want)
	}
}

// exports compares every profile with what was sent, sample for sample.
func (m *modelRun) exports(when string) {
	m.t.Helper()
	got := exported(m.t, m.s)
	for k, id := range m.ids {
		x := m.records[k]
		p := got[x.meta.Service()+" "+id]
		if p == nil {
			m.t.Fatalf("%s: %s is not exported", when, id)
		}
		want := parse(m.t, x.body)
		if diff := cmp.Diff(headOf(want), headOf(p)); diff != "" {
			m.t.Fatalf("%s: %s (-in +out)\n%s", when, id, diff)
		}
		if in, out := sampleSet(want), sampleSet(p); !reflect.DeepEqual(in, out) {
			m.t.Fatalf("%s: %s (-in +out)\n%.2000s", when, id, cmp.Diff(in, out))
		}
	}
	services, err := m.s.Services(context.Background(), everything)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, x := range m.records {
		known := slices.ContainsFunc(services, func(s store.ServiceInfo) bool { return s.Name == x.meta.Service() })
		if !known && !m.faults {
			m.t.Fatalf("%s: there is no service %s", when, x.meta.Service())
		}
	}
}
