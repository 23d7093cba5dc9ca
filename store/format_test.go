package store_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

var update = flag.Bool("update", false, "write testdata of the present format version anew; only for a new version")

// Data directories that a version wrote; formatDir is the present one's.
const (
	formatDir  = "testdata/format-v2"
	formatDirs = "testdata/format-v*"
)

// TestFormat opens data directories that each version wrote, blocks, a log
// and a catalog, and compares what it reads with what was stored.
func TestFormat(t *testing.T) {
	if *update {
		writeFormat(t)
	}
	dirs, err := filepath.Glob(formatDirs)
	if err != nil || len(dirs) < 2 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) { testFormat(t, dir) })
	}
}

func testFormat(t *testing.T, version string) {
	s := open(t, copyDir(t, version), func(o *store.Options) {
		o.KeyAge = 100 * 365 * 24 * time.Hour
		o.RollupDelay = 100 * 365 * 24 * time.Hour
	})
	waitReady(t, s)
	if q := s.Stats().Quarantined; len(q) > 0 {
		t.Fatal(q)
	}
	want, err := os.ReadFile(filepath.Join(version, "want.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), describeStore(t, s)+describeRollups(t, s)); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	// What was stored by that version is not stored again.
	d := profile.NewDecoder(profile.Limits{})
	for i, b := range formatBodies() {
		r := record(t, d, i, b.Program, inquest.Kind(b.Kind), b.Data)
		r.BodyHash = uint64(i)
		if a, err := s.Append(context.Background(), r); err != nil || !a.Duplicate {
			t.Errorf("profile %d: %+v, %v", i, a, err)
		}
	}
}

// formatBodies are the smallest bodies of each kind and a few more.
func formatBodies() []corpus.Body {
	var out []corpus.Body
	for _, kind := range []string{"cpu", "heap", "mutex", "goroutine"} {
		list := corpus.Load(kind)
		slices.SortStableFunc(list, func(a, b corpus.Body) int { return len(a.Data) - len(b.Data) })
		out = append(out, list[:3]...)
	}
	return out
}

func writeFormat(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *store.Options) { o.Now = func() time.Time { return t0 } })
	ctx := context.Background()
	d := profile.NewDecoder(profile.Limits{})
	for i, b := range formatBodies() {
		r := record(t, d, i, b.Program, inquest.Kind(b.Kind), b.Data)
		r.BodyHash = uint64(i)
		r.BaselineName, r.Baseline = fmt.Sprint("p", i%4), []byte{byte(i)}
		if _, err := s.Append(ctx, r); err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 { // one of each kind stays in the log
			if err := s.Flush(ctx); err != nil && i > 0 {
				t.Fatal(err)
			}
		}
		if i == 8 {
			settle(t, s)
		}
	}
	if err := s.PutBuilds([]inquest.Build{{ID: "b1", GoVersion: "go1.26.8"}}); err != nil {
		t.Fatal(err)
	}
	got := describeStore(t, s) + describeRollups(t, s)
	if err := os.RemoveAll(formatDir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(formatDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(formatDir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(formatDir, "lock"))
	if err := os.WriteFile(filepath.Join(formatDir, "want.golden"), []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}

// describeStore spells everything a store holds.
func describeStore(t *testing.T, s *store.Store) string {
	t.Helper()
	ctx := context.Background()
	var out []string
	for k, v := range stored(t, s) {
		out = append(out, fmt.Sprintf("%v %s", k, v))
	}
	for id, p := range exported(t, s) {
		var samples []string
		for stack, v := range sampleSet(p) {
			samples = append(samples, fmt.Sprint(stack, v))
		}
		slices.Sort(samples)
		out = append(out, fmt.Sprintf("%s %+v samples %x", id, headOf(p), sha256.Sum256([]byte(strings.Join(samples, "\n")))))
	}
	for i := range 4 {
		state, err := s.Baseline(fmt.Sprint("p", i))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("state p%d %v", i, state))
	}
	b, err := s.Build("b1")
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.View(ctx, store.Selection{Window: everything})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, p := range v.Parts {
		info := map[string]store.FuncInfo{}
		if err := p.FuncInfo(ctx, info); err != nil {
			t.Fatal(err)
		}
		for i := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				t.Fatal(err)
			}
			for r := range rows.Start {
				out = append(out, fmt.Sprintf("row %s %v %s %d %d %d %d", rows.ID(r), rows.LabelSets[rows.LabelSet[r]],
					rows.Processes[rows.Process[r]], rows.End[r]-rows.Start[r], rows.Hold[r], rows.Samples[r], rows.Flags[r]))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n") + fmt.Sprintf("\n%+v\n", *b)
}

// describeRollups spells every row of every rollup, and every digest.
func describeRollups(t *testing.T, s *store.Store) string {
	t.Helper()
	ctx := context.Background()
	v := store.RollupView(t, s)
	defer v.Close()
	var out []string
	for _, p := range v.Parts {
		info := map[string]store.FuncInfo{}
		if err := p.FuncInfo(ctx, info); err != nil {
			t.Fatal(err)
		}
		tree, err := p.FuncTree(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("part %q: %d functions with files, %d names, %d nodes", p.Service, len(info), len(tree.Names), len(tree.Name)))
		for i, sec := range p.Sections() {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				t.Fatal(err)
			}
			if store.DigestSection(p, i) {
				err := p.Digests(ctx, i, func(r int, d *store.Digest) error {
					out = append(out, fmt.Sprintf("digest %q %s %d %v %v %v %x", p.Service, sec.Kind, rows.Start[r], rows.LabelSets[rows.LabelSet[r]],
						rows.Processes[rows.Process[r]], len(d.Name), sha256.Sum256([]byte(fmt.Sprint(namesOf(tree, d.Name), d.Self, d.Cum)))))
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				continue
			}
			for r := range rows.Start {
				c := &cellModel{Values: map[string][]int64{}, Totals: make([]int64, len(rows.Totals)), Processes: map[string]bool{}}
				addRow(t, c, p, tree, i, r, rows, false)
				out = append(out, fmt.Sprintf("cell %q %s %v %d %v %v %x", p.Service, sec.Kind, sec.Resolution, rows.Start[r],
					rows.LabelSets[rows.LabelSet[r]], c.Totals, sha256.Sum256([]byte(fmt.Sprint(*c)))))
			}
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}

func namesOf(tree *store.FuncTree, ids []uint32) (out []string) {
	for _, id := range ids {
		out = append(out, tree.Names[id])
	}
	return out
}
