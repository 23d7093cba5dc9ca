package calltree_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/calltree"
)

// stacks maps a stack, frames from the root joined by ";", to its value. It is
// the naive model all results are checked against.
type stacks map[string]int64

// tree merges the stacks as one tree without shared prefixes, so that the
// Builder has to find them.
func (s stacks) tree() *calltree.Tree {
	var b calltree.Builder
	s.addTo(&b)
	return b.Tree()
}

func (s stacks) addTo(b *calltree.Builder) {
	names, name, parent, self := []string{"root"}, []uint32{0}, []int32{-1}, []int64{s[""]}
	for stack, v := range s {
		at := int32(0)
		for _, f := range frames(stack) {
			i := slices.Index(names, f)
			if i < 0 {
				i = len(names)
				names = append(names, f)
			}
			name, parent, self = append(name, uint32(i)), append(parent, at), append(self, 0)
			at = int32(len(name) - 1)
		}
		self[at] = v
	}
	b.AddTree(names, name, parent, self)
}

func frames(stack string) []string {
	if stack == "" {
		return nil
	}
	return strings.Split(stack, ";")
}

// stacksOf is the inverse of tree.
func stacksOf(t *calltree.Tree) stacks {
	out := stacks{}
	path := make([]string, t.Len())
	for i := 0; i < t.Len(); i++ {
		if i > 0 {
			path[i] = strings.TrimPrefix(path[t.Parent[i]]+";"+t.Names[t.Name[i]], ";")
		}
		if t.Self[i] != 0 {
			out[path[i]] = t.Self[i]
		}
	}
	return out
}

// random makes stacks over few names, so that recursion is common.
func random(r *rand.Rand, n int) stacks {
	s := stacks{}
	for range n {
		var f []string
		for range r.IntN(9) {
			f = append(f, fmt.Sprintf("pkg%d.f%d", r.IntN(3), r.IntN(4)))
		}
		s[strings.Join(f, ";")] = r.Int64N(1 << (1 + r.IntN(30)))
	}
	for k, v := range s {
		if v == 0 {
			delete(s, k)
		}
	}
	return s
}

func sum(a, b stacks) stacks {
	out := stacks{}
	for _, s := range []stacks{a, b} {
		for k, v := range s {
			out[k] += v
		}
	}
	return out
}

func (s stacks) total() (v int64) {
	for _, x := range s {
		v += x
	}
	return v
}

// check verifies what the documentation of Tree promises.
func check(t *testing.T, tree *calltree.Tree, pruned bool) {
	t.Helper()
	n := tree.Len()
	if len(tree.Parent) != n || len(tree.Self) != n || len(tree.Cum) != n {
		t.Fatalf("columns of unequal length: %d %d %d %d", n, len(tree.Parent), len(tree.Self), len(tree.Cum))
	}
	if tree.Parent[0] != -1 || tree.Name[0] != 0 {
		t.Fatalf("root: parent %d name %d", tree.Parent[0], tree.Name[0])
	}
	sums := slices.Clone(tree.Self)
	last := make([]int32, n) // the previous child of a node
	used := uint32(0)
	for i := n - 1; i > 0; i-- {
		sums[tree.Parent[i]] += tree.Cum[i]
	}
	for i := range n {
		if sums[i] != tree.Cum[i] && (!pruned || sums[i] > tree.Cum[i]) {
			t.Fatalf("node %d: self and children have %d, cum is %d", i, sums[i], tree.Cum[i])
		}
		if i == 0 {
			continue
		}
		p := tree.Parent[i]
		if tree.Cum[i] > tree.Cum[p] {
			t.Fatalf("node %d: cum %d, its parent %d", i, tree.Cum[i], tree.Cum[p])
		}
		if p != int32(i-1) && tree.Parent[i-1] < p {
			t.Fatalf("node %d is not in pre-order", i)
		}
		if l := last[p]; l != 0 {
			a, b := tree.Names[tree.Name[l]], tree.Names[tree.Name[i]]
			if tree.Cum[l] < tree.Cum[i] || tree.Cum[l] == tree.Cum[i] && a >= b {
				t.Fatalf("siblings %d (%s, %d) and %d (%s, %d) out of order", l, a, tree.Cum[l], i, b, tree.Cum[i])
			}
		}
		last[p] = int32(i)
		if tree.Name[i] > used+1 || tree.Name[i] == 0 {
			t.Fatalf("node %d: name %d after %d: not in the order of first use", i, tree.Name[i], used)
		}
		used = max(used, tree.Name[i])
	}
	if int(used) != len(tree.Names)-1 {
		t.Fatalf("%d names, %d used", len(tree.Names)-1, used)
	}
}

const seeds = 100

func TestBuilderKeepsEveryStack(t *testing.T) {
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := random(r, r.IntN(60))
		tree := want.tree()
		check(t, tree, false)
		if d := cmp.Diff(want, stacksOf(tree)); d != "" {
			t.Fatalf("seed %d: -want +got\n%s", seed, d)
		}
		if tree.Total() != want.total() {
			t.Fatalf("seed %d: total %d, want %d", seed, tree.Total(), want.total())
		}
	}
}

func TestMergeIsFreeOfOrder(t *testing.T) {
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 2))
		a, b, c := random(r, 20), random(r, 30), random(r, 10)
		var ab, bc, left, right, trees calltree.Builder
		a.addTo(&left)
		b.addTo(&left)
		c.addTo(&left)
		c.addTo(&right)
		b.addTo(&right)
		a.addTo(&right)
		want := left.Tree()
		if d := cmp.Diff(want, right.Tree()); d != "" {
			t.Fatalf("seed %d: not commutative:\n%s", seed, d)
		}
		a.addTo(&ab)
		b.addTo(&ab)
		b.addTo(&bc)
		c.addTo(&bc)
		trees.Add(bc.Tree())
		trees.Add(a.tree())
		if d := cmp.Diff(want, trees.Tree()); d != "" {
			t.Fatalf("seed %d: a+(b+c): %s", seed, d)
		}
		again := ab.Tree()
		c.addTo(&ab)
		if d := cmp.Diff(want, ab.Tree()); d != "" {
			t.Fatalf("seed %d: (a+b)+c: %s", seed, d)
		}
		if d := cmp.Diff(sum(a, b).tree(), again); d != "" {
			t.Fatalf("seed %d: a tree changed after it was returned: %s", seed, d)
		}
	}
}

func TestBuilderLeavesOutWhatIsZero(t *testing.T) {
	tree := stacks{"a;b": 0, "a;c": 5, "d": 0}.tree()
	if d := cmp.Diff([]string{"total", "a", "c"}, tree.Names); d != "" {
		t.Error(d)
	}
	var b calltree.Builder
	stacks{"a;b": 3, "a": 1}.addTo(&b)
	stacks{"a;b": -3}.addTo(&b)
	if d := cmp.Diff(stacks{"a": 1}, stacksOf(b.Tree())); d != "" {
		t.Error(d)
	}
	var none calltree.Builder
	none.AddTree(nil, nil, nil, nil)
	want := &calltree.Tree{Names: []string{"total"}, Name: []uint32{0}, Parent: []int32{-1}, Self: []int64{0}, Cum: []int64{0}}
	if d := cmp.Diff(want, none.Tree()); d != "" {
		t.Error(d)
	}
}

func TestRootsNameIsNoFunction(t *testing.T) {
	tree := stacks{"total;total": 2, "total": 1, "": 4}.tree()
	check(t, tree, false)
	if d := cmp.Diff([]calltree.Row{{Name: "total", Self: 3, Cum: 3}}, tree.Top(nil)); d != "" {
		t.Error(d)
	}
	if tree.Total() != 7 {
		t.Errorf("total %d", tree.Total())
	}
}

func TestPrune(t *testing.T) {
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 3))
		tree := random(r, 80).tree()
		n := tree.Len()
		for _, max := range []int{1, 2, 3, n / 3, n / 2, n - 1, n, n + 1, 0} {
			got, left := tree.Prune(max)
			check(t, got, true)
			if max > 0 && got.Len() > max {
				t.Fatalf("seed %d: %d nodes, at most %d wanted", seed, got.Len(), max)
			}
			if got.Total() != tree.Total() {
				t.Fatalf("seed %d: root %d, was %d", seed, got.Total(), tree.Total())
			}
			var self int64
			for _, v := range got.Self {
				self += v
			}
			if got.Len()+left.Nodes != n || self+left.Value != tree.Total() {
				t.Fatalf("seed %d: %d + %d nodes of %d, value %d + %d of %d", seed, got.Len(), left.Nodes, n, self, left.Value, tree.Total())
			}
			whole := stacksOf(tree)
			for k, v := range stacksOf(got) {
				if whole[k] != v {
					t.Fatalf("seed %d: self of %q is %d, was %d", seed, k, v, whole[k])
				}
			}
		}
	}
}

func TestPruneKeepsLargeSelfAndLargeCum(t *testing.T) {
	s := stacks{"deep;1;2;3;4;5;6;7;hot": 60}
	for i := range 100 {
		s[fmt.Sprintf("wide;%d", i)] = 50 // wide has the largest Cum, hot the largest Self
	}
	got, left := s.tree().Prune(20)
	if got.Len() != 20 || left.Nodes != 110-20+1 {
		t.Errorf("%d nodes kept, %d left out", got.Len(), left.Nodes)
	}
	kept := stacksOf(got)
	if kept["deep;1;2;3;4;5;6;7;hot"] != 60 {
		t.Error("the stack with the largest self is gone")
	}
	if !slices.Contains(got.Names, "wide") {
		t.Error("the node with the largest cum is gone")
	}
}

// Without a limit on ancestors, Prune keeps the nodes a plain sort would.
func TestPruneKeepsTheLargestOfAFlatTree(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 8))
		s := stacks{}
		var values []int64
		for i := range 500 {
			v := 1 + r.Int64N(1<<(1+r.IntN(62)))
			values = append(values, v)
			s[fmt.Sprint("f", i)] = v
		}
		slices.Sort(values)
		got, _ := s.tree().Prune(101)
		kept := slices.Clone(got.Self[1:])
		slices.Sort(kept)
		if d := cmp.Diff(values[400:], kept); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// Values below zero, as a file of differences holds them, break nothing.
func TestNegativeValues(t *testing.T) {
	tree := stacks{"a;b": -5, "a;c": 3, "d": 1 << 62, "e": -1 << 63}.tree()
	if tree.Total() != 1<<62-1<<63-2 {
		t.Errorf("total %d", tree.Total())
	}
	for max := 1; max < 7; max++ {
		got, left := tree.Prune(max)
		if got.Len() > max || got.Len()+left.Nodes != tree.Len() {
			t.Errorf("%d nodes of at most %d, %d left out", got.Len(), max, left.Nodes)
		}
	}
}

func TestFocus(t *testing.T) {
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 4))
		s := random(r, 50)
		match := func(f string) bool { return strings.HasSuffix(f, "f1") }
		want := stacks{}
		for k, v := range s {
			if slices.ContainsFunc(frames(k), match) {
				want[k] = v
			}
		}
		whole := s.tree()
		got := whole.Focus(match)
		check(t, got, false)
		if d := cmp.Diff(want.tree(), got); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if got.Total() > whole.Total() {
			t.Fatalf("seed %d: focus has %d of %d", seed, got.Total(), whole.Total())
		}
		if d := cmp.Diff(got, got.Focus(match)); d != "" {
			t.Fatalf("seed %d: focus twice: %s", seed, d)
		}
	}
}

func TestTopCountsRecursionOnce(t *testing.T) {
	keys := map[string]func(string) string{
		"function": nil,
		"package":  calltree.PackageOf,
	}
	for label, key := range keys {
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 5))
			s := random(r, 50)
			want := map[string]calltree.Row{}
			for k, v := range s {
				seen := map[string]bool{}
				for i, f := range frames(k) {
					if key != nil {
						f = key(f)
					}
					row := want[f]
					row.Name = f
					if !seen[f] {
						row.Cum += v
					}
					if i == len(frames(k))-1 {
						row.Self += v
					}
					seen[f] = true
					want[f] = row
				}
			}
			rows := s.tree().Top(key)
			got := map[string]calltree.Row{}
			for i, row := range rows {
				got[row.Name] = row
				if i > 0 && rows[i-1].Self < row.Self {
					t.Fatalf("seed %d: rows out of order", seed)
				}
			}
			if d := cmp.Diff(want, got); d != "" || len(rows) != len(got) {
				t.Fatalf("%s, seed %d: -want +got\n%s", label, seed, d)
			}
		}
	}
}

func TestSandwich(t *testing.T) {
	const name = "pkg1.f1"
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 6))
		s := random(r, 50)
		wantUp, wantDown := stacks{}, stacks{}
		for k, v := range s {
			f := frames(k)
			i := slices.Index(f, name)
			if i < 0 {
				continue
			}
			up := slices.Clone(f[:i])
			slices.Reverse(up)
			wantUp[strings.Join(up, ";")] += v
			wantDown[strings.Join(f[i+1:], ";")] += v
		}
		tree := s.tree()
		callers, callees := tree.Sandwich(name)
		for _, c := range []struct {
			label string
			want  stacks
			got   *calltree.Tree
		}{{"callers", wantUp, callers}, {"callees", wantDown, callees}} {
			check(t, c.got, false)
			if d := cmp.Diff(c.want, stacksOf(c.got)); d != "" {
				t.Fatalf("seed %d: %s: -want +got\n%s", seed, c.label, d)
			}
			if c.got.Names[0] != name {
				t.Fatalf("root of %s is %q", c.label, c.got.Names[0])
			}
			for _, row := range tree.Top(nil) {
				if row.Name == name && c.got.Total() != row.Cum {
					t.Fatalf("seed %d: %s have %d, top says %d", seed, c.label, c.got.Total(), row.Cum)
				}
			}
		}
	}
	callers, callees := random(rand.New(rand.NewPCG(1, 1)), 9).tree().Sandwich("nowhere")
	if callers.Len() != 1 || callees.Len() != 1 {
		t.Errorf("a function that is nowhere has %d callers, %d callees", callers.Len()-1, callees.Len()-1)
	}
}

func TestDiff(t *testing.T) {
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 7))
		a, b := random(r, 30), random(r, 30)
		base, head := a.tree(), b.tree()
		d := calltree.Diff(base, head)
		// The skeleton is that of the merge; either side alone is the tree itself.
		skeleton := &calltree.Tree{Names: d.Names, Name: d.Name, Parent: d.Parent}
		skeleton.Self, skeleton.Cum = make([]int64, len(d.Name)), make([]int64, len(d.Name))
		for i := range d.Name {
			skeleton.Self[i] = d.BaseSelf[i] + d.HeadSelf[i]
			skeleton.Cum[i] = d.BaseCum[i] + d.HeadCum[i]
		}
		if x := cmp.Diff(sum(a, b).tree(), skeleton); x != "" {
			t.Fatalf("seed %d: skeleton: %s", seed, x)
		}
		for label, side := range map[string][3]any{
			"base": {base, d.BaseSelf, d.BaseCum}, "head": {head, d.HeadSelf, d.HeadCum},
		} {
			var again calltree.Builder
			again.AddTree(d.Names, d.Name, d.Parent, side[1].([]int64))
			if x := cmp.Diff(side[0], again.Tree()); x != "" {
				t.Fatalf("seed %d: %s: %s", seed, label, x)
			}
			if side[2].([]int64)[0] != side[0].(*calltree.Tree).Total() {
				t.Fatalf("seed %d: %s has another total", seed, label)
			}
		}
		same := calltree.Diff(base, base)
		if x := cmp.Diff(same.BaseSelf, same.HeadSelf) + cmp.Diff(same.BaseCum, same.HeadCum) + cmp.Diff(base.Cum, same.BaseCum); x != "" {
			t.Fatalf("seed %d: diff(a, a): %s", seed, x)
		}
	}
}

func TestPackageOf(t *testing.T) {
	for name, want := range map[string]string{
		"main.main":                                   "main",
		"main.main.func1":                             "main",
		"main.main.gowrap1":                           "main",
		"main.glob..func1":                            "main",
		"main.init.0":                                 "main",
		"runtime.mallocgc":                            "runtime",
		"runtime.(*mheap).alloc.func1":                "runtime",
		"encoding/json.(*Decoder).Decode":             "encoding/json",
		"encoding/json.Marshal":                       "encoding/json",
		"gopkg.in/yaml.v3.(*parser).peek":             "gopkg.in/yaml.v3",
		"gopkg.in/yaml.v3.Unmarshal":                  "gopkg.in/yaml.v3",
		"gopkg.in/yaml%2ev3.(*x).f":                   "gopkg.in/yaml.v3",
		"example.com/api.v1":                          "example.com/api",
		"example.com/api.v1.func1":                    "example.com/api",
		"github.com/nats-io/nats.go.(*Conn).readLoop": "github.com/nats-io/nats.go",
		"github.com/nats-io/nats%2ego.Connect":        "github.com/nats-io/nats.go",
		"github.com/nats-io/nats-server/v2/server.(*client).readLoop":            "github.com/nats-io/nats-server/v2/server",
		"slices.SortFunc[go.shape.[]github.com/x/y.T,go.shape.struct { a int }]": "slices",
		"example.com/a/b.(*Map[go.shape.string,go.shape.*uint8]).Load":           "example.com/a/b",
		"example.com/a/b.Map[...].Load":                                          "example.com/a/b",
		"type:.eq.github.com/x/y.T":                                              "github.com/x/y",
		"go.etcd.io/bbolt.(*DB).Update":                                          "go.etcd.io/bbolt",
		"go.etcd.io/etcd/server/v3/storage/wal.(*WAL).Save":                      "go.etcd.io/etcd/server/v3/storage/wal",
		"vendor/golang.org/x/net/http2/hpack.(*Decoder).Write":                   "vendor/golang.org/x/net/http2/hpack",
		"command-line-arguments.F":                                               "command-line-arguments",
		"malloc":                                                                 "",
		"__libc_start_main":                                                      "",
		"cfree.part.0":                                                           "",
		"_int_malloc.cold":                                                       "",
		"std::vector<int, std::allocator<int> >::push_back(int&&)":               "",
		"libc.so.6+0x28f3a":                                                      "",
		"/usr/lib/libc.so.6+0x28f3a":                                             "",
		"[truncated]":                                                            "",
		"":                                                                       "",
		".":                                                                      "",
		"a/":                                                                     "",
		"github.com/cockroachdb/pebble.(*DB).commitApply.func1.(*github.com/x/y.T).Close": "github.com/cockroachdb/pebble",
		"github.com/grpc-ecosystem/grpc-gateway/v2/runtime.(*ServeMux).ServeHTTP-fm":      "github.com/grpc-ecosystem/grpc-gateway/v2/runtime",
		"github.com/prometheus/prometheus/tsdb.(*Head).Init.(*WAL).func1.deferwrap1":      "github.com/prometheus/prometheus/tsdb",
		"example.com/%zz.f": "example.com/%zz",
	} {
		if got := calltree.PackageOf(name); got != want {
			t.Errorf("PackageOf(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzPackageOf(f *testing.F) {
	for _, s := range []string{"gopkg.in/yaml%2ev3.(*x).f", "a/b[c/d].e", "(/.", "%", "type:.eq."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := calltree.PackageOf(s); len(got) > len(s) {
			t.Errorf("PackageOf(%q) = %q", s, got)
		}
	})
}

// large makes a tree with the shape of a real service's: deep, with few
// children per node.
func large(nodes int) (names []string, name []uint32, parent []int32, self []int64) {
	r := rand.New(rand.NewPCG(1, uint64(nodes)))
	for i := range nodes/6 + 1 {
		names = append(names, fmt.Sprintf("github.com/example/service/internal/package%d.(*Type%d).Method", i%97, i))
	}
	name, parent, self = []uint32{0}, []int32{-1}, []int64{0}
	for i := 1; i < nodes; i++ {
		p := int32(i - 1)
		if r.IntN(3) == 0 {
			p = int32(r.IntN(i))
		}
		name = append(name, uint32(r.IntN(len(names))))
		parent = append(parent, p)
		self = append(self, 1+int64(r.ExpFloat64()*1e6))
	}
	return names, name, parent, self
}

func BenchmarkAddTree(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		names, name, parent, self := large(n)
		for _, label := range []string{"new", "again"} {
			b.Run(fmt.Sprintf("%s/%d", label, n), func(b *testing.B) {
				var builder calltree.Builder
				for range b.N {
					if label == "new" {
						builder = calltree.Builder{}
					}
					builder.AddTree(names, name, parent, self)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/node")
			})
		}
	}
}

func BenchmarkTree(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		var builder calltree.Builder
		builder.AddTree(large(n))
		tree := builder.Tree()
		for label, f := range map[string]func(){
			"tree":     func() { builder.Tree() },
			"prune":    func() { tree.Prune(8192) },
			"top":      func() { tree.Top(nil) },
			"focus":    func() { tree.Focus(func(s string) bool { return len(s)%2 == 0 }) },
			"sandwich": func() { tree.Sandwich(tree.Names[1]) },
			"diff":     func() { calltree.Diff(tree, tree) },
		} {
			b.Run(fmt.Sprintf("%s/%d", label, n), func(b *testing.B) {
				for range b.N {
					f()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/node")
			})
		}
	}
}

// TestFold compares what single trees add up to with the table of the merged
// tree, by function and by package.
func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		var all calltree.Builder
		self, cum := map[string]int64{}, map[string]int64{}
		key := func(name string) string { return name }
		if r.IntN(2) == 0 {
			key = func(name string) string { return name[:1] }
		}
		for range 1 + r.IntN(4) {
			tree := random(r, 1+r.IntN(40)).tree()
			all.Add(tree)
			ids, names := map[string]uint32{}, []string{}
			group := make([]uint32, len(tree.Names))
			for i, n := range tree.Names[1:] {
				k := key(n)
				if _, ok := ids[k]; !ok {
					ids[k] = uint32(len(names))
					names = append(names, k)
				}
				group[i+1] = ids[k]
			}
			s, c := calltree.Fold(group, len(names), tree.Name, tree.Parent, tree.Self)
			for i, n := range names {
				self[n] += s[i]
				cum[n] += c[i]
			}
		}
		for _, row := range all.Tree().Top(key) {
			if self[row.Name] != row.Self || cum[row.Name] != row.Cum {
				t.Fatalf("%s: self %d, cum %d, want %d and %d", row.Name, self[row.Name], cum[row.Name], row.Self, row.Cum)
			}
			delete(self, row.Name)
		}
		for n, v := range self {
			if v != 0 {
				t.Fatalf("%s: self %d, and the merged tree does not have it", n, v)
			}
		}
	}
}

// TestSingle: a tree that is not merged with another is what merging makes of it.
func TestSingle(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 100 {
		tree := random(r, r.IntN(40)).tree()
		var b calltree.Builder
		b.Add(tree)
		if d := cmp.Diff(b.Tree(), calltree.Single(tree.Names, tree.Name, tree.Parent, tree.Self)); d != "" {
			t.Fatal(d)
		}
	}
	if d := cmp.Diff(new(calltree.Builder).Tree(), calltree.Single(nil, nil, nil, nil)); d != "" {
		t.Fatal(d)
	}
}
