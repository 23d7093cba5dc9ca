package query_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/calltree"
	"github.com/goinquest/inquest/query"
)

// answer is the shape the API promises.
type answer struct {
	Names []string `json:"names"`
	Nodes struct {
		Name   []uint32      `json:"name"`
		Parent []int32       `json:"parent"`
		Self   []json.Number `json:"self"`
		Cum    []json.Number `json:"cum"`
	} `json:"nodes"`
	Total    json.Number    `json:"total"`
	Unit     string         `json:"unit"`
	Type     string         `json:"type"`
	Agg      string         `json:"agg"`
	Coverage query.Coverage `json:"coverage"`
}

func decode(t *testing.T, g *query.FlameGraph) answer {
	t.Helper()
	var b bytes.Buffer
	if err := g.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var a answer
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestWriteJSON(t *testing.T) {
	tree := &calltree.Tree{
		Names: []string{"total", "a<b>", "c\"\\\n\x7f\u2028é\xff"}, Name: []uint32{0, 1, 2}, Parent: []int32{-1, 0, 1},
		Self: []int64{0, -1_234_567, 9_007_199_254_740_993}, Cum: []int64{1 << 62, 100, 1_000},
	}
	g := &query.FlameGraph{Tree: tree, Scale: 1, Unit: "bytes", Type: inquest.Type{Name: "inuse_space"}, Agg: "sum"}
	for scale, want := range map[float64][][]json.Number{
		1:    {{"0", "-1234567", "9007199254740993"}, {"4611686018427387904", "100", "1000"}},
		1e-3: {{"0", "-1234.567", "9007199254740.993"}, {"4611686018427387.904", "0.1", "1"}},
		1e-9: {{"0", "-0.001234567", "9007199.254740993"}, {"4611686018.427387904", "0.0000001", "0.000001"}},
	} {
		g.Scale = scale
		a := decode(t, g)
		if d := cmp.Diff(want, [][]json.Number{a.Nodes.Self, a.Nodes.Cum}); d != "" {
			t.Errorf("scale %v: -want +got\n%s", scale, d)
		}
		if a.Total != want[1][0] || a.Unit != "bytes" || a.Type != "inuse_space" || a.Agg != "sum" {
			t.Errorf("%+v", a)
		}
		if d := cmp.Diff([]string{"total", "a<b>", strings.ToValidUTF8(tree.Names[2], "\ufffd")}, a.Names); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(tree.Parent, a.Nodes.Parent) + cmp.Diff(tree.Name, a.Nodes.Name); d != "" {
			t.Error(d)
		}
	}
}

func TestFlameGraphIsPrunedAndSaysSo(t *testing.T) {
	f := newFleet(t)
	fill(f, "cpu", inquest.KindCPU)
	whole := f.flame(query.Request{Type: "cpu"})
	g, err := f.engine.FlameGraph(t.Context(), query.Request{Type: "cpu", Window: hour}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var drawn int64
	for _, v := range g.Tree.Self {
		drawn += v
	}
	p := g.Coverage.Pruned
	if g.Tree.Len() != 100 || p.Nodes != whole.Tree.Len()-100 || drawn+int64(p.Value) != whole.Tree.Total() || g.Tree.Total() != whole.Tree.Total() {
		t.Errorf("%d nodes, %+v of %d, %d of %d", g.Tree.Len(), p, whole.Tree.Len(), drawn, whole.Tree.Total())
	}
	a := decode(t, g)
	if d := cmp.Diff(g.Coverage, a.Coverage); d != "" {
		t.Error(d)
	}
}

// FuzzWriteJSON compares how names are spelled with encoding/json.
func FuzzWriteJSON(f *testing.F) {
	f.Add("a<b>&c")
	f.Add("\x00\x1f\x7f\"\\\n\t\b")
	f.Add("é\u2028\u2029\xff\xed\xa0\x80\U0001f600")
	f.Fuzz(func(t *testing.T, name string) {
		g := &query.FlameGraph{Scale: 1, Tree: &calltree.Tree{
			Names: []string{"total", name}, Name: []uint32{0, 1}, Parent: []int32{-1, 0}, Self: []int64{0, 1}, Cum: []int64{1, 1},
		}}
		b, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if got := decode(t, g).Names[1]; got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	})
}
