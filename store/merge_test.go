package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// contents spells everything readers get from a store that does not depend on
// how profiles are divided into parts: each profile sample for sample, what is
// known of it, and sums.
func contents(tb testing.TB, s *store.Store) map[string]string {
	tb.Helper()
	ctx := context.Background()
	out := map[string]string{}
	for id, p := range exported(tb, s) {
		var samples []string
		for stack, v := range sampleSet(p) {
			samples = append(samples, fmt.Sprint(stack, v))
		}
		slices.Sort(samples)
		out[id] = fmt.Sprintf("%+v %x", headOf(p), sha256.Sum256([]byte(strings.Join(samples, "\n"))))
	}
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	if len(v.Damaged) > 0 {
		tb.Fatal(v.Damaged)
	}
	infos, sums := map[string]store.FuncInfo{}, map[string]map[string]int64{}
	for _, p := range v.Parts {
		if err := p.FuncInfo(ctx, infos); err != nil {
			tb.Fatal(err)
		}
		for i, sec := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				tb.Fatal(err)
			}
			for r := range rows.Start {
				id := p.Service + " " + rows.ID(r)
				out[id] += fmt.Sprint(sec.Kind, sec.Types, rows.LabelSets[rows.LabelSet[r]], rows.Processes[rows.Process[r]],
					rows.End[r], rows.Hold[r], rows.Samples[r], rows.Flags[r])
				for c := range rows.Totals {
					out[id] += fmt.Sprint(" ", rows.Totals[c][r])
				}
			}
			for c, typ := range sec.Types {
				keep := func(ls []store.SampleLabel) bool { return len(ls) > 0 && (ls[0].Num > 100 || ls[0].Str > "m") }
				for name, q := range map[string]store.SelfQuery{"all": {Section: i, Column: c}, "kept": {Section: i, Column: c, Keep: keep}} {
					id := fmt.Sprint("self ", name, " ", p.Service, sec.Kind, typ)
					sums[id] = addPaths(tb, sums[id], p, q)
				}
			}
			names, err := p.SampleLabelNames(ctx, i)
			if err != nil {
				tb.Fatal(err)
			}
			for _, n := range names {
				out[fmt.Sprint("label ", p.Service, sec.Kind, n)] = "there"
			}
		}
		if err := p.SampleLabels(ctx, func(l store.SampleLabel) { out[fmt.Sprint("label ", p.Service, l)] = "there" }); err != nil {
			tb.Fatal(err)
		}
	}
	for id, m := range sums {
		maps.DeleteFunc(m, func(_ string, v int64) bool { return v == 0 }) // sums of parts may cancel out
		out[id] = fmt.Sprint(m)
	}
	for name, info := range infos {
		out["function "+name] = info.File
	}
	services, err := s.Services(ctx, everything)
	if err != nil {
		tb.Fatal(err)
	}
	for _, si := range services {
		out["service "+si.Name] = fmt.Sprint(si.Sections)
	}
	return out
}

// sameContents compares with what a store had before.
func sameContents(tb testing.TB, when string, want map[string]string, s *store.Store) {
	tb.Helper()
	if diff := cmp.Diff(want, contents(tb, s)); diff != "" {
		tb.Fatalf("%s: %.3000s", when, diff)
	}
}

// mergeAll merges all there is and says how many blocks of each level are left.
func mergeAll(tb testing.TB, s *store.Store) [3]int {
	tb.Helper()
	if err := s.MarkRolled(); err != nil {
		tb.Fatal(err)
	}
	if err := s.Settle(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return s.Levels()
}

// appendMixed stores n profiles of everything: the corpus, odd ones, several
// layouts of a kind, processes, builds, late ones. Every now and then an epoch
// ends.
func appendMixed(tb testing.TB, s *store.Store, rnd *rand.Rand, from, n int) (sent []sentProfile) {
	tb.Helper()
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load()
	for i := from; i < from+n; i++ {
		var r *store.Record
		switch x := rnd.IntN(12); {
		case x >= 10:
			r = record(tb, d, i, "novel", inquest.KindCPU, encode(tb, novelProfile(rnd)))
			r.Meta.Start = t0.Add(time.Duration(i) * time.Second) // many in one group, which is sparse
		case x < 6:
			b := bodies[rnd.IntN(len(bodies))]
			r = record(tb, d, i, b.Program, kindOf(b.Kind), b.Data)
		case x < 9:
			p := oddProfile(i)
			p.Location[3].IsFolded = x == 7 // but for this some are the same
			if x == 8 {                     // another layout of the same kind
				p.SampleType = p.SampleType[:2]
				p.DefaultSampleType = "a"
				for _, smp := range p.Sample {
					smp.Value = smp.Value[:2]
				}
			}
			r = record(tb, d, i, fmt.Sprint("odd", rnd.IntN(3)), inquest.KindOther, encode(tb, p))
		default:
			r = record(tb, d, i, "empty", inquest.KindOther, encode(tb, &pprof.Profile{SampleType: oddProfile(0).SampleType}))
		}
		if rnd.IntN(8) == 0 { // late
			late := -time.Duration(rnd.IntN(5)) * time.Hour
			r.Meta.Start, r.Meta.End = r.Meta.Start.Add(late), r.Meta.End.Add(late)
		}
		if rnd.IntN(3) == 0 {
			r.Meta.Process = fmt.Sprint("other/", rnd.IntN(5))
			r.Meta.Truncated = true
			r.Meta.Labels = r.Meta.Labels.With("build", fmt.Sprint("b", rnd.IntN(4)))
		}
		a, err := s.Append(context.Background(), r)
		if err != nil {
			tb.Fatal(err)
		}
		sent = append(sent, sentProfile{a.ID, r.BodyHash})
		if rnd.IntN(30) == 0 {
			if err := s.Flush(context.Background()); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := s.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return sent
}

type sentProfile struct {
	id   string
	hash uint64 // of the body
}

// novelProfile has stacks that no other profile has, and a few that all have,
// in any order.
func novelProfile(rnd *rand.Rand) *pprof.Profile {
	p := &pprof.Profile{SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}, Period: 10}
	for i := range 40 {
		name := fmt.Sprint("common", i)
		if i >= 5 {
			name = fmt.Sprint("f", rnd.Uint64())
		}
		f := &pprof.Function{ID: uint64(i + 1), Name: name}
		l := &pprof.Location{ID: uint64(i + 1), Line: []pprof.Line{{Function: f, Line: 1}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		n := rnd.Int64N(1000)
		p.Sample = append(p.Sample, &pprof.Sample{Location: []*pprof.Location{l}, Value: []int64{n, 10 * n}})
	}
	rnd.Shuffle(len(p.Sample), func(i, j int) { p.Sample[i], p.Sample[j] = p.Sample[j], p.Sample[i] })
	return p
}

// TestMergeKeeps: merged blocks have what their sources had, sample for
// sample, whatever the sizes; profiles are found by id, and duplicates are
// known.
func TestMergeKeeps(t *testing.T) {
	t.Parallel()
	seeds := 6
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(uint64(seed), 7))
			dir := t.TempDir()
			options := func(o *store.Options) {
				o.CommitDelay = 1
				if o.MergeAge = 1; seed%2 == 1 {
					store.SmallMerges(o)
				}
				o.MergeBytes = []int64{0, 1, 1 << 20}[seed%3] // 1: a part for each source
			}
			s := open(t, dir, options)
			sent := appendMixed(t, s, rnd, 0, 250)
			want := contents(t, s)
			before := s.Levels()
			after := mergeAll(t, s)
			if before[0] < 3 || after[0] > before[0]/2 || after[1] == 0 || after[1] > 1 && seed%2 == 0 {
				t.Fatalf("blocks by level: %v, then %v", before, after)
			}
			sameContents(t, "merged", want, s)
			checkKeys(t, s, sent)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, options)
			sameContents(t, "opened again", want, s)
			checkKeys(t, s, sent)
			if files, _ := filepath.Glob(filepath.Join(dir, "blocks", "*")); len(files) != after[0]+after[1] {
				t.Fatalf("%d files for %v blocks", len(files), after)
			}
		})
	}
}

// checkKeys finds all profiles by id, and sends them again.
func checkKeys(t *testing.T, s *store.Store, sent []sentProfile) {
	t.Helper()
	for i, p := range sent {
		v, section, row, err := s.Find(context.Background(), p.id)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := v.Parts[0].Rows(context.Background(), section)
		if err != nil || rows.ID(row) != p.id || rows.Key[row] != key(i) {
			t.Fatalf("%s: found %s, %v", p.id, rows.ID(row), err)
		}
		want := store.Appended{ID: p.id, Duplicate: true, Samples: int(rows.Samples[row])}
		v.Close()
		if a, seen, err := s.Seen(key(i), p.hash); a != want || !seen || err != nil {
			t.Fatalf("seen %v, %v: %+v, want %+v", seen, err, a, want)
		}
		if _, _, err := s.Seen(key(i), p.hash+1); !errors.Is(err, inquest.ErrConflict) {
			t.Fatalf("%s: %v, want a conflict", p.id, err)
		}
	}
}

// TestMergeOrder: a merged block has its rows in the order of their starts,
// and row groups that do not overlap.
func TestMergeOrder(t *testing.T) {
	s := open(t, t.TempDir(), func(o *store.Options) { o.MergeAge = 1 })
	appendMixed(t, s, rand.New(rand.NewPCG(1, 1)), 0, 300)
	mergeAll(t, s)
	v, err := s.View(context.Background(), store.Selection{Window: everything})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, p := range v.Parts {
		for i := range p.Sections() {
			rows, err := p.Rows(context.Background(), i)
			if err != nil || !slices.IsSorted(rows.Start) {
				t.Fatalf("%s section %d: starts are not in order, %v", p.Service, i, err)
			}
		}
	}
}

// TestMergeWhileUsed: readers that hold a block finish, and keys are known,
// while it is merged.
func TestMergeWhileUsed(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, store.SmallMerges)
	sent := appendMixed(t, s, rand.New(rand.NewPCG(2, 1)), 0, 120)
	want := stored(t, s)
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		t.Fatal(err)
	}
	files := func() int {
		names, _ := filepath.Glob(filepath.Join(dir, "blocks", "*"))
		return len(names)
	}
	before := files()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := i % len(sent)
				if _, seen, err := s.Seen(key(n), sent[n].hash); !seen || err != nil {
					t.Errorf("key %d: seen %v, %v", n, seen, err)
				}
				if v, _, _, err := s.Find(ctx, sent[n].id); err != nil {
					t.Error(err)
				} else {
					v.Close()
				}
			}
		}()
	}
	levels := mergeAll(t, s)
	close(stop)
	wg.Wait()
	if n := files(); n != before+levels[1] {
		t.Errorf("%d files while a view holds the old ones, want %d", n, before+levels[1])
	}
	rows := 0
	for _, p := range v.Parts {
		for i := range p.Sections() {
			if err := p.Export(ctx, i, nil, func(*profile.Profile) error { rows++; return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	v.Close()
	if rows != len(sent) {
		t.Errorf("the view has %d profiles, want %d", rows, len(sent))
	}
	if n := files(); n != levels[0]+levels[1] {
		t.Errorf("%d files after the view, want %d", n, levels[0]+levels[1])
	}
	if diff := cmp.Diff(want, stored(t, s)); diff != "" {
		t.Fatal(diff)
	}
}

// TestMergeDamaged: a block that cannot be read in full stays, is not tried
// again, and the others are merged.
func TestMergeDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *store.Options) { o.MergeAge = 1 })
	d := profile.NewDecoder(profile.Limits{})
	bodies := corpus.Load("mutex")
	for i := range 12 {
		if _, err := s.Append(context.Background(), record(t, d, i, fmt.Sprint("svc", i%2), inquest.KindMutex, bodies[i%4].Data)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "blocks", "*.blk"))
	slices.Sort(names)
	good, err := os.ReadFile(names[2])
	if err != nil {
		t.Fatal(err)
	}
	for at := 10; at < len(good); at += len(good)/23 + 1 {
		cut := copyDir(t, dir)
		bad := slices.Clone(good)
		bad[at] ^= 0x40
		name := filepath.Join(cut, "blocks", filepath.Base(names[2]))
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, cut, func(o *store.Options) { o.MergeAge = 1; o.KeyAge = 1 }) // keys of blocks are not read at the start
		levels := mergeAll(t, s)
		kept, err := os.ReadFile(name)
		switch {
		case levels == [3]int{0, 1}: // what was hit is needed by nobody
		case levels != [3]int{1, 1}:
			t.Fatalf("byte %d: blocks by level %v", at, levels)
		case err != nil || !slices.Equal(kept, bad):
			t.Fatalf("byte %d: the damaged block changed: %v", at, err)
		case len(s.Stats().Quarantined) == 0:
			t.Fatalf("byte %d: damage is not reported", at)
		default:
			if again := mergeAll(t, s); again != levels {
				t.Fatalf("byte %d: %v, then %v", at, levels, again)
			}
		}
		v, err := s.View(context.Background(), store.Selection{Window: everything})
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for _, p := range v.Parts {
			rows += p.Sections()[0].Profiles
		}
		if rows+len(v.Damaged) < 12-1 {
			t.Fatalf("byte %d: %d profiles are left, damaged %v", at, rows, v.Damaged)
		}
		v.Close()
		if n, err := s.DropDamaged(); err != nil || n > 0 && len(s.CatalogDamage()) > 0 {
			t.Fatalf("byte %d: %v, the catalog says of blocks that went: %v", at, err, s.CatalogDamage())
		}
		_ = s.Close()
		os.RemoveAll(cut)
	}
}

// TestMergeFaults lets every file operation of a merge fail once: nothing is
// lost, nothing is there twice, and the next attempt succeeds.
func TestMergeFaults(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := open(t, base, store.SmallMerges)
	d := profile.NewDecoder(profile.Limits{})
	for i := range 15 {
		body := encode(t, oddProfile(i))
		if _, err := s.Append(context.Background(), record(t, d, i, fmt.Sprint("odd", i%3), inquest.KindOther, body)); err != nil {
			t.Fatal(err)
		}
		if i%5 == 4 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.MarkRolled(); err != nil {
		t.Fatal(err)
	}
	want := stored(t, s)
	files := &store.Faults{}
	step := 1
	if testing.Short() {
		step = 7
	}
	base = copyDir(t, base)
	_ = s.Close()
	early := 0
	for n := 0; ; n += step {
		dir := copyDir(t, base)
		files.Repair()
		s := open(t, dir, store.SmallMerges, store.WithFaults(files))
		files.Arm(store.FailOnce, n)
		err := s.Settle(context.Background())
		files.Repair()
		what, reads := files.Failed()
		hit := what != ""
		if !hit && n < 40 { // it had merged before a fault was set
			if early++; early > 20 {
				t.Fatalf("only %d operations", n)
			}
			n -= step
			_ = s.Close()
			os.RemoveAll(dir)
			continue
		}
		if !hit {
			t.Logf("%d operations", n)
			break
		}
		early = 0
		if reads {
			// Taken for damage until the next start.
			_ = s.Close()
			s = open(t, dir, store.SmallMerges)
		} else if diff := cmp.Diff(want, stored(t, s)); diff != "" {
			t.Fatalf("operation %d, %s: %v\n%s", n, what, err, diff)
		}
		if err := s.Settle(context.Background()); err != nil {
			t.Fatalf("operation %d, %s: %v", n, what, err)
		}
		levels := s.Levels()
		if levels[0] > 1 || levels[1] == 0 {
			t.Fatalf("operation %d, %s: blocks by level %v", n, what, levels)
		}
		if diff := cmp.Diff(want, stored(t, s)); diff != "" {
			t.Fatalf("operation %d, %s: %s", n, what, diff)
		}
		_ = s.Close()
		s = open(t, dir)
		if diff := cmp.Diff(want, stored(t, s)); diff != "" {
			t.Fatalf("operation %d, %s, opened again: %s", n, what, diff)
		}
		_ = s.Close()
		if names, _ := filepath.Glob(filepath.Join(dir, "blocks", "*")); len(names) != levels[0]+levels[1] {
			t.Fatalf("operation %d, %s: %d files, want %v", n, what, len(names), levels)
		}
		os.RemoveAll(dir)
	}
}
