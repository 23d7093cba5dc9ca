package query

import (
	"context"
	"io"
	"math"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/calltree"
)

// DefaultMaxNodes is how many nodes of a flame graph are drawn unless the
// caller says otherwise.
const DefaultMaxNodes = 8192

// FlameGraph is a merged call tree. Values of the tree times Scale are in
// Unit; Scale is a power of ten, 1 for plain sums, which are exact.
type FlameGraph struct {
	Tree     *calltree.Tree
	Scale    float64
	Unit     string // nanoseconds, bytes, count, …; cores or "<unit>/s" with Rate
	Type     inquest.Type
	Agg      string // sum, avg, last, max or rate
	Coverage Coverage
}

// FlameGraph merges what r selects. The tree is pruned to maxNodes nodes (0:
// DefaultMaxNodes, negative: all of them), see calltree.Tree.Prune; its root
// keeps the total of all.
func (e *Engine) FlameGraph(ctx context.Context, r Request, maxNodes int) (g *FlameGraph, err error) {
	if maxNodes == 0 {
		maxNodes = DefaultMaxNodes
	}
	err = e.readTree(ctx, r, func(s *selection, t *calltree.Tree, c Coverage) error {
		t, left := t.Prune(maxNodes)
		c.Pruned = Pruned{left.Nodes, scaled(left.Value, s.dec)}
		g = &FlameGraph{Tree: withOwnNames(t), Scale: scaled(1, s.dec), Unit: s.unit, Type: s.typ, Agg: s.agg, Coverage: c}
		return s.mem.keep(g.bytes())
	})
	return g, err
}

// withOwnNames is t with a copy of its names: those of parts would keep the
// names of whole parts in memory until the answer is written.
func withOwnNames(t *calltree.Tree) *calltree.Tree {
	var b strings.Builder
	b.Grow(int(textBytes(t.Names)))
	for _, name := range t.Names {
		b.WriteString(name)
	}
	text, out := b.String(), *t
	out.Names = make([]string, len(t.Names))
	for i, name := range t.Names {
		out.Names[i], text = text[:len(name)], text[len(name):]
	}
	return &out
}

// bytes is about what the tree takes, with the columns of its JSON.
func (f *FlameGraph) bytes() int64 {
	return 96*int64(f.Tree.Len()) + 64*int64(len(f.Tree.Names)) + 2*textBytes(f.Tree.Names)
}

// WriteJSON writes the answer of GET /api/v1/flamegraph:
//
//	{"names":[…],"nodes":{"name":[…],"parent":[…],"self":[…],"cum":[…]},
//	 "total":…,"unit":…,"type":…,"agg":…,"coverage":{…}}
//
// Values are scaled, as exact decimals. The root is first and has the parent
// -1; parents come before their children.
func (f *FlameGraph) WriteJSON(w io.Writer) error {
	t := f.Tree
	j := jsonBuffer{dec: int(math.Round(-math.Log10(f.Scale)))}
	j.buf = make([]byte, 0, 64*len(t.Names)+32*t.Len()+1024)
	j.text(`{"names":`)
	j.strings(t.Names)
	j.text(`,"nodes":{"name":`)
	integers(&j, t.Name)
	j.text(`,"parent":`)
	integers(&j, t.Parent)
	j.text(`,"self":`)
	j.values(t.Self)
	j.text(`,"cum":`)
	j.values(t.Cum)
	j.text(`},"total":`)
	j.value(t.Total())
	j.text(`,"unit":`)
	j.string(f.Unit)
	j.text(`,"type":`)
	j.string(f.Type.Name)
	j.text(`,"agg":`)
	j.string(f.Agg)
	j.text(`,"coverage":`)
	if err := j.marshal(f.Coverage); err != nil {
		return err
	}
	j.text("}\n")
	_, err := w.Write(j.buf)
	return err
}
