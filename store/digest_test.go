package store_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// digestModel is what one process did in one step, exactly, by function.
type digestModel struct {
	total     []int64
	self, cum map[string][]int64
	profiles  uint32
}

// digestedTypes are the sample types that digests of a kind have.
func digestedTypes(kind inquest.Kind, all []string) []string {
	switch kind {
	case inquest.KindCPU:
		return []string{"cpu"}
	case inquest.KindHeap:
		return []string{"alloc_space", "inuse_space"}
	case inquest.KindMutex:
		return []string{"delay"}
	}
	return all[len(all)-1:]
}

// digestModels adds up profiles by process, labels and step.
func digestModels(list []*rolledProfile) map[string]*digestModel {
	out := map[string]*digestModel{}
	for _, r := range list {
		var all []string
		for _, t := range r.p.SampleType {
			all = append(all, t.Type)
		}
		types := digestedTypes(r.meta.Kind, all)
		ls := r.meta.Labels
		key := digestKey(r.meta.Service(), ls.Get("instance"), ls.Get("build"), ls.Get("release"), r.meta.ProcessKey(), r.meta.Kind,
			r.meta.Start.Truncate(5*time.Minute).UnixNano())
		m := out[key]
		if m == nil {
			m = &digestModel{make([]int64, len(types)), map[string][]int64{}, map[string][]int64{}, 0}
			out[key] = m
		}
		m.profiles++
		for _, s := range r.p.Sample {
			stack := frames(s)
			for i, name := range types {
				at := slices.Index(all, name)
				typ := inquest.TypeOf(r.meta.Kind, name, r.p.SampleType[at].Unit)
				v := s.Value[at]
				if typ.Temporality == inquest.Instant {
					v = heldValue(v, r.hold, typ)
				}
				m.total[i] += v
				seen := map[string]bool{}
				for k, f := range slices.Backward(stack) {
					if k == len(stack)-1 {
						addTo(m.self, f, i, v, len(types))
					}
					if !seen[f] {
						addTo(m.cum, f, i, v, len(types))
					}
					seen[f] = true
				}
			}
		}
	}
	return out
}

func addTo(m map[string][]int64, f string, col int, v int64, cols int) {
	if m[f] == nil {
		m[f] = make([]int64, cols)
	}
	m[f][col] += v
}

func digestKey(service, instance, build, release, process string, kind inquest.Kind, start int64) string {
	return fmt.Sprint(service, "|", instance, "|", build, "|", release, "|", process, "|", kind, "|", time.Unix(0, start).UTC())
}

// readDigests adds up the digests of a view by key, and counts rows.
func readDigests(t *testing.T, v *store.View, all bool) (map[string]*digestModel, map[string]int) {
	t.Helper()
	ctx := context.Background()
	out, rowsOf := map[string]*digestModel{}, map[string]int{}
	for _, p := range v.Parts {
		tree, err := p.FuncTree(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, sec := range p.Sections() {
			if !store.DigestSection(p, i) {
				if !all {
					t.Errorf("a view of digests has a section of %v", sec.Resolution)
				}
				continue
			}
			rows, err := p.Rows(ctx, i)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Digests(ctx, i, func(r int, d *store.Digest) error {
				ls := rows.LabelSets[rows.LabelSet[r]]
				key := digestKey(ls.Get("service"), ls.Get("instance"), ls.Get("build"), ls.Get("release"), rows.Processes[rows.Process[r]], sec.Kind, rows.Start[r])
				m := out[key]
				if m == nil {
					m = &digestModel{make([]int64, len(sec.Types)), map[string][]int64{}, map[string][]int64{}, 0}
					out[key] = m
				}
				rowsOf[key]++
				m.profiles += rows.Profiles[r]
				if len(d.Name) == 0 || d.Name[0] != 0 || !slices.IsSorted(d.Name) {
					t.Fatalf("names %v", d.Name)
				}
				for col := range sec.Types {
					sum := int64(0)
					for k, n := range d.Name {
						sum += d.Self[col][k]
						if k > 0 {
							addTo(m.self, tree.Names[n], col, d.Self[col][k], len(sec.Types))
							addTo(m.cum, tree.Names[n], col, d.Cum[col][k], len(sec.Types))
						}
					}
					if sum != rows.Totals[col][r] {
						t.Fatalf("%s: selves add up to %d, the total is %d", key, sum, rows.Totals[col][r])
					}
					m.total[col] += sum
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return out, rowsOf
}

// compareDigests checks what digests have of the profiles of one batch. strict
// says that there are no others.
func compareDigests(t *testing.T, label string, s *store.Store, list []*rolledProfile, slack float64) {
	t.Helper()
	v := store.RollupView(t, s)
	defer v.Close()
	got, _ := readDigests(t, v, true)
	want := digestModels(list)
	if len(got) != len(want) {
		t.Errorf("%s: %d digests, want %d", label, len(got), len(want))
	}
	for key, w := range want {
		g := got[key]
		if g == nil {
			t.Errorf("%s: digest %s is missing", label, key)
			continue
		}
		if g.profiles != w.profiles || !slices.Equal(g.total, w.total) {
			t.Errorf("%s: %s: %d profiles, totals %v, want %d, %v", label, key, g.profiles, g.total, w.profiles, w.total)
		}
		compareFunctions(t, label+" self of "+key, w.total, w.self, g.self, slack)
		compareFunctions(t, label+" cum of "+key, w.total, w.cum, g.cum, slack)
	}
}

// compareFunctions allows for rounding, and for slack × total, which is what
// pieces that came together later may lack.
func compareFunctions(t *testing.T, label string, total []int64, want, got map[string][]int64, slack float64) {
	t.Helper()
	for f, w := range want {
		for col := range w {
			exact, sum := float64(w[col]), math.Abs(float64(total[col]))
			g := got[f]
			if g == nil {
				if math.Abs(exact) >= (0.0005+slack)*sum && exact != 0 {
					t.Errorf("%s: %s with %v of %v is missing", label, f, exact, sum)
				}
				continue
			}
			allowed := math.Max(math.Abs(exact)/1024, sum/(1<<17)) + slack*sum
			if math.Abs(float64(g[col])-exact) > allowed {
				t.Errorf("%s: %s has %d, want %d of %v", label, f, g[col], w[col], sum)
			}
		}
	}
	for f, g := range got {
		if want[f] == nil && slices.ContainsFunc(g, func(v int64) bool { return v != 0 }) {
			t.Errorf("%s: there is a function %s", label, f)
		}
	}
}
