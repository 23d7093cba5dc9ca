package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// flipBase makes a store with files of every sort: blocks of epochs, with and
// without rollups, merged blocks, rollups of several days, merged and not, and a
// log. It returns a copy of it as a power cut would leave it.
func flipBase(t *testing.T) (v *survivor, dir string) {
	v = newSurvivor(t)
	v.open()
	n := 0
	put := func(count int, at time.Time) {
		for range count {
			if err := v.send(v.make(n, fmt.Sprint("s", n%3), at.Add(time.Duration(n)*3*time.Minute))); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if err := v.s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	settle := func() {
		if err := v.s.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		put(8, t0)
		settle()
	}
	v.later(30 * time.Hour) // rollups of that day are merged, blocks were before
	settle()
	v.later(-29 * time.Hour)
	put(8, t0.Add(-24*time.Hour)) // too young to be merged
	settle()
	put(6, t0) // not rolled up
	for range 7 {
		if err := v.send(v.make(n, fmt.Sprint("s", n%3), t0.Add(time.Duration(n)*time.Minute))); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if levels := v.s.Levels(); levels[0] < 2 || levels[1] == 0 || levels[2] < 2 {
		t.Fatalf("blocks by level: %v", levels)
	}
	return v, copyFast(t, v.dir)
}

// answers is numbers that a store answers with, by "scope|service|what".
type answers map[string]int64

// again asks until everything that is damaged is known to be.
func again(t *testing.T, when string, ask func() (answers, error)) answers {
	t.Helper()
	for range 50 {
		a, err := ask()
		if err == nil {
			return a
		}
		if !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("%s: %v", when, err)
		}
	}
	t.Fatalf("%s: it never ends", when)
	return nil
}

// askAll asks a store everything.
func askAll(t *testing.T, when string, s *store.Store) answers {
	t.Helper()
	out := again(t, when, func() (answers, error) { return askRaw(t, s) })
	for name, sel := range map[string]store.Selection{
		"rolled": {Rollups: true}, "fleet": {Rollups: true, Fleet: true}, "processes": {Rollups: true, PerProcess: true}, "digests": {Digests: true},
	} {
		maps.Copy(out, again(t, when, func() (answers, error) { return askRolled(s, name, sel) }))
	}
	services, err := s.Services(context.Background(), everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, si := range services {
		out["services|"+si.Name+"|"] = 1
	}
	return out
}

// askRaw spells every sample of every profile, and the sums over trees.
func askRaw(t *testing.T, s *store.Store) (answers, error) {
	ctx := context.Background()
	view, err := s.View(ctx, store.Selection{})
	if err != nil {
		return nil, err
	}
	defer view.Close()
	out := answers{}
	for _, p := range view.Parts {
		if err := askTrees(ctx, out, "raw", p); err != nil {
			return nil, err
		}
		if err := p.FuncInfo(ctx, map[string]store.FuncInfo{}); err != nil {
			return nil, err
		}
		for i := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				return nil, err
			}
			at := 0
			err = p.Export(ctx, i, nil, func(x *profile.Profile) error {
				id := "raw|" + p.Service + "|" + rows.ID(at)
				if _, twice := out[id]; twice {
					t.Fatalf("%s is there twice", id)
				}
				out[id] = 1
				for stack, v := range sampleSet(parse(t, x.AppendPprof(nil))) {
					for c := range v {
						out[fmt.Sprint(id, " ", c, " ", stack)] = v[c]
					}
				}
				at++
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// askRolled spells what a view of rollups adds up to.
func askRolled(s *store.Store, scope string, sel store.Selection) (answers, error) {
	ctx := context.Background()
	view, err := s.View(ctx, sel)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	sums := map[string]int64{}
	if err := addTotals(ctx, view, sums); err != nil {
		return nil, err
	}
	out := answers{}
	if sel.Fleet {
		for what, v := range ofFleet(sums) {
			out[scope+"||"+what] = v
		}
		sums = nil
	}
	for k, v := range sums {
		service, what, _ := strings.Cut(k, " ")
		out[scope+"|"+service+"|"+what] = v
	}
	for _, p := range view.Parts {
		if sel.PerProcess {
			continue
		}
		if !sel.Digests {
			if err := askTrees(ctx, out, scope, p); err != nil {
				return nil, err
			}
			continue
		}
		for i := range p.Sections() {
			n := int64(0)
			if err := p.Digests(ctx, i, func(_ int, d *store.Digest) error { n += int64(len(d.Name)); return nil }); err != nil {
				return nil, err
			}
			out[scope+"|"+p.Service+"|functions"] = min(n, 1)
		}
	}
	return out, nil
}

// askTrees adds up the rows that count over the function tree, by path, or of
// the fleet by function.
func askTrees(ctx context.Context, out answers, scope string, p *store.Part) error {
	service, fleet := p.Service, scope == "fleet"
	if fleet { // those of all services come and go
		service = ""
	}
	tree, err := p.FuncTree(ctx)
	if err != nil {
		return err
	}
	paths := make([]string, len(tree.Parent))
	for n := 1; n < len(paths); n++ {
		paths[n] = ";" + tree.Names[tree.Name[n]]
		if !fleet {
			paths[n] = paths[tree.Parent[n]] + paths[n]
		}
	}
	for i, sec := range p.Sections() {
		rows, err := p.Rows(ctx, i)
		if err != nil {
			return err
		}
		counts := make([]bool, len(rows.Start))
		for r, start := range rows.Start {
			counts[r] = slices.ContainsFunc(sec.Spans, func(s store.Span) bool { return s.Contains(start) })
		}
		for t, typ := range sec.Types {
			if fleet && !store.InFleet(sec.Kind, typ.Name) {
				continue
			}
			res, err := p.Self(ctx, store.SelfQuery{Section: i, Column: sec.Column[t], Rows: counts})
			if err != nil {
				return err
			}
			for n, v := range res.Int {
				if v != 0 {
					out[scope+"|"+service+"|"+typ.Name+paths[n]] += v
				}
			}
		}
	}
	return nil
}

// TestFlip flips bytes in every file of a store: every answer is right, or the
// damage is reported and what lies in other parts is served all the same. A
// damaged catalog may be refused, and is whole again after a repair.
// INQUEST_LONG=1 flips more.
func TestFlip(t *testing.T) {
	t.Parallel()
	v, base := flipBase(t)
	want := askAll(t, "before", v.s)
	parts := store.PartServices(t, v.s)
	flush(t, v.s)
	settle(t, v.s)
	wantSettled := askAll(t, "before", v.s)
	if err := v.s.Close(); err != nil {
		t.Fatal(err)
	}
	each := 40
	switch {
	case os.Getenv("INQUEST_LONG") != "":
		each = 2000
	case testing.Short():
		each = 3
	}
	for name, good := range readFiles(t, base) {
		if name == "lock" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flipper{t: t, v: v, base: base, name: name, want: want, wantSettled: wantSettled, parts: parts}
			step := max(1, len(good)/each)
			for i := 0; i*step < len(good); i++ {
				at := min(i*step+i%step, len(good)-1)
				bad := bytes.Clone(good)
				bad[at] ^= 1 << (i % 8)
				f.flip(fmt.Sprintf("%s, byte %d of %d", name, at, len(good)), bad)
			}
			t.Logf("%d bytes: %d times all was right, %d times some was lost", len(good), f.whole, f.lost)
			if f.lost == 0 && filepath.Dir(name) == "blocks" && !testing.Short() {
				t.Error("nothing was ever damaged")
			}
		})
	}
}

type flipper struct {
	t           *testing.T
	v           *survivor
	base, name  string
	want        answers
	wantSettled answers // when all is rolled up
	parts       map[string][]store.PartService
	whole, lost int
}

// flip looks at a store of which one file is as given.
func (f *flipper) flip(when string, bad []byte) {
	f.t.Helper()
	dir := copyFast(f.t, f.base)
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, f.name), bad, 0o600); err != nil {
		f.t.Fatal(err)
	}
	v := &survivor{t: f.t, d: profile.NewDecoder(profile.Limits{}), dir: dir, clock: f.v.clock, options: f.v.options, records: f.v.records,
		model: map[inquest.Key]string{}, ids: map[inquest.Key]string{}}
	err := v.tryOpen()
	if errors.Is(err, store.ErrCatalog) && f.name == "catalog.db" {
		if r := check(f.t, dir, true, false); r.Left() > 0 {
			f.t.Fatalf("%s: %s", when, spellProblems(r))
		}
		err = v.tryOpen()
	}
	if err != nil {
		f.t.Fatalf("%s: %v", when, err)
	}
	waitReady(f.t, v.s)
	got := askAll(f.t, when, v.s)
	reported := v.s.Stats().Quarantined
	if len(reported) == 0 { // what was damaged is made again in the background: then nothing is missing any more
		got = askAll(f.t, when, v.s)
		reported = v.s.Stats().Quarantined
	}
	f.judge(when, got, f.want, reported)
	view, err := v.s.View(context.Background(), store.Selection{})
	if err != nil {
		f.t.Fatalf("%s: %v", when, err)
	}
	view.Close()
	if len(got) < len(f.want) && len(view.Damaged) == 0 && filepath.Dir(f.name) == "blocks" {
		if again := askAll(f.t, when, v.s); len(again) < len(f.want) {
			f.t.Fatalf("%s: answers lack something, and views say nothing of damage", when)
		}
	}
	f.resend(when, v, got, reported)
	flush(f.t, v.s)
	settle(f.t, v.s)
	f.settled(when, v.s, reported)
	if err := v.s.Close(); err != nil {
		f.t.Fatalf("%s: %v", when, err)
	}
}

// resend finds what is served by id, and sends everything again: what is there
// is known, whatever is damaged, but for what keys that cannot be read had.
func (f *flipper) resend(when string, v *survivor, got answers, reported []string) {
	f.t.Helper()
	forgot := slices.ContainsFunc(reported, func(r string) bool { return strings.Contains(r, ": keys: ") || strings.HasPrefix(r, "log/") })
	for k, id := range f.v.ids {
		meta := v.records[k].meta
		if _, served := got["raw|"+meta.Service()+"|"+id]; served {
			view, _, _, err := v.s.Find(context.Background(), id)
			if err != nil {
				f.t.Fatalf("%s: find %s: %v, %v", when, id, err, reported)
			}
			view.Close()
			v.ids[k] = id
		}
		if forgot {
			continue
		}
		if err := v.send(k); err != nil { // it checks the answer
			f.t.Fatalf("%s: %v", when, err)
		}
	}
}

// settled looks at what is left of damage once all is done that can be: rollups
// are made again, as their profiles are there.
func (f *flipper) settled(when string, s *store.Store, reported []string) {
	f.t.Helper()
	got := askAll(f.t, when+", settled", s)
	left := s.Stats().Quarantined
	f.judge(when+", settled", got, f.wantSettled, append(reported, left...))
	id, _, _ := strings.Cut(filepath.Base(f.name), ".")
	if parts := f.parts[id]; len(parts) > 0 && parts[0].Rollup {
		if diff := cmp.Diff(f.wantSettled, got); diff != "" || len(left) > 0 {
			f.t.Fatalf("%s: rollups are not made again, reported %v: %.3000s", when, left, diff)
		}
	}
}

// judge compares answers with what they must be.
func (f *flipper) judge(when string, got, want answers, reported []string) {
	f.t.Helper()
	may := f.concerned(reported)
	if len(may) == 0 {
		// The end of a log that cannot be read is taken for one that was never
		// finished.
		may = map[string]bool{"*": filepath.Dir(f.name) == "log" && len(got) < len(want)}
	}
	if f.whole++; len(got) < len(want) {
		f.whole--
		f.lost++
	}
	for k, n := range got {
		if w, ok := want[k]; !ok || n > w {
			f.t.Fatalf("%s: %s is %d, want %d: %v", when, k, n, w, reported)
		}
	}
	for k, n := range want {
		if got[k] == n {
			continue
		}
		scope, rest, _ := strings.Cut(k, "|")
		service, _, _ := strings.Cut(rest, "|")
		if !may["*"] && !may[scope+"|"+service] {
			f.t.Fatalf("%s: %s is %d, want %d: reported %v", when, k, got[k], n, reported)
		}
	}
}

// concerned lists the scopes and services of which answers may lack something.
func (f *flipper) concerned(reported []string) map[string]bool {
	f.t.Helper()
	may := map[string]bool{}
	for _, r := range reported {
		rest, ok := strings.CutPrefix(r, "block ")
		if !ok {
			if !strings.HasPrefix(r, "catalog: ") {
				may["*"] = true // of the log
			}
			continue
		}
		id, _, _ := strings.Cut(rest, ":")
		if id, part, one := strings.Cut(id, "/"); one {
			n := 0
			if _, err := fmt.Sscan(part, &n); err != nil || n >= len(f.parts[id]) {
				f.t.Fatalf("there is no part %s", rest)
			}
			f.allow(may, f.parts[id][n])
			continue
		}
		if strings.HasPrefix(rest, id+": keys: ") {
			continue // they are no answers
		}
		if f.parts[id] == nil && f.name == "catalog.db" {
			continue // the name in a row; the block has got another row
		}
		if f.parts[id] == nil {
			f.t.Fatalf("there is no block %s: %s", id, cmp.Diff(f.parts, nil))
		}
		for _, p := range f.parts[id] {
			f.allow(may, p)
		}
	}
	return may
}

// allow says that answers may lack what a part has. Profiles do not need
// rollups.
func (f *flipper) allow(may map[string]bool, p store.PartService) {
	scopes := []string{"raw", "services", "rolled", "fleet", "processes", "digests"}
	if p.Rollup {
		scopes = scopes[1:]
	}
	for _, scope := range scopes {
		for _, service := range []string{"s0", "s1", "s2"} {
			if p.Service == service || p.Service == "" {
				may[scope+"|"+service] = true
			}
		}
		if scope == "fleet" {
			may["fleet|"] = true // tables of all services
		}
	}
}
