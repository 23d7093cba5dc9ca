package store_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// fastDir is a directory of which syncs cost nothing, if there is one.
func fastDir(tb testing.TB) string {
	tb.Helper()
	if _, err := os.Stat("/dev/shm"); err != nil {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "inquest-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// copyFast is copyDir into a fastDir.
func copyFast(tb testing.TB, from string) string {
	tb.Helper()
	to := fastDir(tb)
	copyInto(tb, from, to)
	return to
}

// bodyHash is the same in all processes.
func bodyHash(body []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(body) // never fails
	return h.Sum64()
}

// smallBody is a body of a few hundred bytes.
func smallBody(tb testing.TB, n int) (inquest.Kind, []byte) {
	tb.Helper()
	kind, types := inquest.KindCPU, []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
	switch n % 4 {
	case 1:
		kind, types = inquest.KindMutex, []*pprof.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}}
	case 2:
		kind, types = inquest.KindGoroutine, []*pprof.ValueType{{Type: "goroutine", Unit: "count"}}
	}
	p := &pprof.Profile{SampleType: types, PeriodType: types[0], Period: 10}
	for i := range 3 {
		f := &pprof.Function{ID: uint64(i + 1), Name: fmt.Sprint("f", (n+i)%5), Filename: "f.go", StartLine: int64(i)}
		l := &pprof.Location{ID: uint64(i + 1), Address: uint64(0x1000 + 16*i), Line: []pprof.Line{{Function: f, Line: int64(10 + i)}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		s := &pprof.Sample{Location: slices.Clone(p.Location), Value: make([]int64, len(types))}
		slices.Reverse(s.Location)
		for c := range s.Value {
			s.Value[c] = int64(1 + (n*7+i*3+c)%50)
		}
		if i == 1 {
			s.Label = map[string][]string{"k": {fmt.Sprint("v", n%3)}}
		}
		p.Sample = append(p.Sample, s)
	}
	return kind, encode(tb, p)
}

// survivor is a store that things happen to, and what it must have.
type survivor struct {
	t       *testing.T
	d       *profile.Decoder
	dir     string
	s       *store.Store
	clock   *atomic.Int64 // unix ns
	options []func(*store.Options)
	model   map[inquest.Key]string   // acknowledged, and what turned out to be there
	ids     map[inquest.Key]string   // of those that were acknowledged
	records map[inquest.Key]sendable // all that were sent and may be there
	maybe   map[inquest.Key]bool     // of the model, which may be gone
}

// sendable makes a record again.
type sendable struct {
	kind inquest.Kind
	body []byte
	meta inquest.ProfileMeta
}

func newSurvivor(t *testing.T, options ...func(*store.Options)) *survivor {
	return survivorIn(t, fastDir(t), options...)
}

func survivorIn(t *testing.T, dir string, options ...func(*store.Options)) *survivor {
	v := &survivor{
		t: t, d: profile.NewDecoder(profile.Limits{}), dir: dir, clock: &atomic.Int64{},
		model: map[inquest.Key]string{}, ids: map[inquest.Key]string{}, records: map[inquest.Key]sendable{}, maybe: map[inquest.Key]bool{},
	}
	v.clock.Store(t0.UnixNano())
	t.Cleanup(func() {
		if v.s != nil {
			_ = v.s.Close()
		}
	})
	v.options = append([]func(*store.Options){func(o *store.Options) {
		store.SmallMerges(o)
		o.Now = func() time.Time { return time.Unix(0, v.clock.Load()) }
		o.Epoch, o.KeyAge = 1<<62, 1<<62 // epochs end when asked to, and keys are known for ever
	}}, options...)
	return v
}

// tryOpen opens the store.
func (v *survivor) tryOpen() (err error) {
	v.t.Helper()
	o := store.Options{Dir: v.dir, MinFreeBytes: 1}
	for _, c := range v.options {
		c(&o)
	}
	v.s, err = store.Open(context.Background(), o)
	return err
}

func (v *survivor) open() {
	v.t.Helper()
	if err := v.tryOpen(); err != nil {
		v.t.Fatal(err)
	}
	waitReady(v.t, v.s)
}

// forget says that profiles are gone.
func (v *survivor) forget(keys ...inquest.Key) {
	for _, k := range keys {
		delete(v.model, k)
		delete(v.ids, k)
		delete(v.records, k)
		delete(v.maybe, k)
	}
}

// later moves the clock.
func (v *survivor) later(d time.Duration) { v.clock.Add(int64(d)) }

// make makes profile n, of a service and start.
func (v *survivor) make(n int, service string, start time.Time) inquest.Key {
	kind, body := smallBody(v.t, n)
	k := key(n)
	v.records[k] = sendable{kind, body, inquest.ProfileMeta{
		Kind: kind, Process: fmt.Sprintf("boot/%d", n%2), Start: start, End: start.Add(5 * time.Second), Hold: 10 * time.Second,
		Labels: inquest.NewLabels(map[string]string{"service": service, "instance": fmt.Sprintf("host-%d:80", n%2), "build": "b1"}),
	}}
	return k
}

// send sends a record that was made. What is acknowledged goes into the model.
func (v *survivor) send(k inquest.Key) error {
	v.t.Helper()
	err := v.sendAny(k)
	if err != nil && !errors.Is(err, inquest.ErrUnavailable) && !errors.Is(err, inquest.ErrDiskFull) {
		v.t.Fatalf("append: error of no kind a sender could act on: %v", err)
	}
	return err
}

// sendAny is send whatever the error.
func (v *survivor) sendAny(k inquest.Key) error {
	v.t.Helper()
	x := v.records[k]
	p, err := v.d.Decode(x.body)
	if err != nil {
		v.t.Fatal(err)
	}
	r := &store.Record{Key: k, BodyHash: bodyHash(x.body), Meta: x.meta, Profile: p}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := v.s.Append(ctx, r)
	if err != nil {
		return err
	}
	if v.ids[k] != "" && !a.Duplicate {
		v.t.Fatalf("%v was acknowledged before and is stored again", k)
	}
	if v.ids[k] != "" && a.ID != v.ids[k] {
		v.t.Fatalf("%v has the ids %s and %s", k, v.ids[k], a.ID)
	}
	v.ids[k] = a.ID
	v.model[k] = describe(r)
	return nil
}

// check compares everything that can be asked with the model.
func (v *survivor) check(when string) {
	v.t.Helper()
	got := stored(v.t, v.s)
	for k, want := range v.model {
		if got[k] != want && (got[k] != "" || !v.maybe[k]) {
			v.t.Fatalf("%s: %v: want %q, got %q", when, k, want, got[k])
		}
	}
	for k, g := range got {
		// What was refused may have come to life, but only as a whole.
		if v.model[k] != "" {
			continue
		}
		if _, sent := v.records[k]; !sent {
			v.t.Fatalf("%s: %v was never sent: %s", when, k, g)
		}
		v.model[k] = g
	}
	v.checkTotals(when)
	v.checkKeys(when)
}

// checkTotals compares what rollups and profiles add up to.
func (v *survivor) checkTotals(when string) {
	v.t.Helper()
	raw := totals(v.t, v.s, store.Selection{})
	for name, sel := range map[string]store.Selection{
		"rollups": {Rollups: true}, "fleet": {Rollups: true, Fleet: true}, "5 minutes": {Rollups: true, Step: 5 * time.Minute},
		"hours": {Rollups: true, Step: time.Hour}, "digests": {Rollups: true, PerProcess: true},
	} {
		got := totals(v.t, v.s, sel)
		want := raw
		if sel.PerProcess { // digests do not have all types
			want = maps.Clone(raw)
			for _, m := range []map[string]int64{want, got} {
				maps.DeleteFunc(m, func(k string, _ int64) bool {
					return !strings.HasSuffix(k, " cpu") && !strings.HasSuffix(k, " mutex_delay") && !strings.HasSuffix(k, " profiles")
				})
			}
		}
		if sel.Fleet {
			want, got = ofFleet(want), ofFleet(got)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			v.t.Fatalf("%s: %s (-raw +%s)\n%s", when, name, name, diff)
		}
	}
}

// ofFleet adds up totals of services, of what tables of the fleet have.
func ofFleet(m map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for key, v := range m {
		_, what, _ := strings.Cut(key, " ")
		if kind, typ, _ := strings.Cut(what, " "); typ == "profiles" || store.InFleet(inquest.Kind(kind), typ) {
			out[what] += v
		}
	}
	return out
}

// totals adds up the rows of a view by service, kind and type.
func totals(tb testing.TB, s *store.Store, sel store.Selection) map[string]int64 {
	tb.Helper()
	ctx := context.Background()
	view, err := s.View(ctx, sel)
	if err != nil {
		tb.Fatal(err)
	}
	defer view.Close()
	if len(view.Damaged) > 0 {
		tb.Fatalf("damaged: %v", view.Damaged)
	}
	out := map[string]int64{}
	if err := addTotals(ctx, view, out); err != nil {
		tb.Fatal(err)
	}
	return out
}

func addTotals(ctx context.Context, view *store.View, out map[string]int64) error {
	for _, p := range view.Parts {
		for i, sec := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				return err
			}
			for r, start := range rows.Start {
				if !slices.ContainsFunc(sec.Spans, func(sp store.Span) bool { return sp.Contains(start) }) {
					continue
				}
				id := rows.LabelSets[rows.LabelSet[r]].Get("service") + " " + string(sec.Kind) + " "
				n := int64(1)
				if rows.Profiles != nil {
					n = int64(rows.Profiles[r])
				}
				out[id+"profiles"] += n
				for t, typ := range sec.Types {
					out[id+typ.Name] += rows.Totals[sec.Column[t]][r]
				}
			}
		}
	}
	return nil
}

// checkKeys finds a few profiles by their ids, and sends them again.
func (v *survivor) checkKeys(when string) {
	v.t.Helper()
	n := 0
	for k, id := range v.ids {
		if v.maybe[k] {
			continue
		}
		if n++; n > 4 {
			break
		}
		view, section, row, err := v.s.Find(context.Background(), id)
		if err != nil {
			v.t.Fatalf("%s: find %s: %v", when, id, err)
		}
		rows, err := view.Parts[0].Rows(context.Background(), section)
		if err != nil || rows.Key[row] != k {
			v.t.Fatalf("%s: found another profile than %s, %v", when, id, err)
		}
		view.Close()
		if err := v.send(k); err != nil {
			v.t.Fatalf("%s: %v", when, err)
		}
	}
}

// checkFiles closes the store and looks for files that nobody needs.
func (v *survivor) checkFiles(when string) {
	v.t.Helper()
	if err := v.s.Close(); err != nil {
		v.t.Fatalf("%s: %v", when, err)
	}
	levels := v.s.Levels()
	v.s = nil
	blocks, _ := filepath.Glob(filepath.Join(v.dir, "blocks", "*"))
	if n := levels[0] + levels[1] + levels[2]; len(blocks) != n {
		v.t.Fatalf("%s: files %v for blocks %v", when, blocks, levels)
	}
	logs, _ := filepath.Glob(filepath.Join(v.dir, "log", "*"))
	if len(logs) > 0 {
		v.t.Fatalf("%s: log files %v after a clean end", when, logs)
	}
	rest, _ := filepath.Glob(filepath.Join(v.dir, "*"))
	for _, f := range rest {
		if base := filepath.Base(f); !slices.Contains([]string{"blocks", "binaries", "uploads", "texts", "cores", "log", "catalog.db", "deletions.jsonl", "horizon.json", "lock"}, base) && !strings.HasPrefix(base, "catalog.db.") {
			v.t.Fatalf("%s: file %s", when, base)
		}
	}
}
