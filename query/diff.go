package query

import (
	"context"
	"io"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/calltree"
)

// Diff is two merged call trees on one skeleton. Values are integers of
// 10^-decimals of Unit.
type Diff struct {
	Tree       *calltree.DiffTree
	Unit       string // as in FlameGraph
	Type       inquest.Type
	Agg        string
	Base, Head Coverage
	dec        int
}

// diffNodeBytes is the memory of one node of a side: its tree, its part of the
// merged one, and its JSON.
const diffNodeBytes = 256

// Diff merges what base and head select, two requests for the same type and
// aggregation. The tree is pruned as FlameGraph does: a node is drawn that
// would be in either.
func (e *Engine) Diff(ctx context.Context, base, head Request, maxNodes int) (*Diff, error) {
	if base.Type != head.Type || base.Agg != head.Agg || base.Rate != head.Rate {
		return nil, inquest.Errorf(inquest.ErrInvalid, "both sides of a difference want the same type, agg and rate")
	}
	if maxNodes == 0 {
		maxNodes = DefaultMaxNodes
	}
	d := &Diff{}
	var trees [2]*calltree.Tree
	for i, r := range []Request{base, head} {
		err := e.readTree(ctx, r, func(s *selection, t *calltree.Tree, c Coverage) error {
			trees[i] = t
			if err := s.mem.keep(diffNodeBytes * int64(t.Len())); err != nil {
				return err
			}
			d.Unit, d.Type, d.Agg, d.dec = s.unit, s.typ, s.agg, s.dec
			if i == 0 {
				d.Base = c
			} else {
				d.Head = c
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	tree, left, right := calltree.Diff(trees[0], trees[1]).Prune(maxNodes)
	d.Tree = tree
	d.Base.Pruned = Pruned{left.Nodes, scaled(left.Value, d.dec)}
	d.Head.Pruned = Pruned{right.Nodes, scaled(right.Value, d.dec)}
	return d, nil
}

// WriteJSON writes the answer of GET /api/v1/diff:
//
//	{"names":[…],"nodes":{"name":[…],"parent":[…],"base_self":[…],"base_cum":[…],
//	 "head_self":[…],"head_cum":[…]},"base_total":…,"head_total":…,"unit":…,
//	 "type":…,"agg":…,"base_coverage":{…},"head_coverage":{…}}
func (d *Diff) WriteJSON(w io.Writer) error {
	t := d.Tree
	j := jsonBuffer{dec: d.dec}
	j.buf = make([]byte, 0, 64*len(t.Names)+48*len(t.Name)+2048)
	j.text(`{"names":`)
	j.strings(t.Names)
	j.text(`,"nodes":{"name":`)
	integers(&j, t.Name)
	j.text(`,"parent":`)
	integers(&j, t.Parent)
	for _, c := range []struct {
		name string
		vs   []int64
	}{{"base_self", t.BaseSelf}, {"base_cum", t.BaseCum}, {"head_self", t.HeadSelf}, {"head_cum", t.HeadCum}} {
		j.text(`,"` + c.name + `":`)
		j.values(c.vs)
	}
	j.text(`},"base_total":`)
	j.value(t.BaseCum[0])
	j.text(`,"head_total":`)
	j.value(t.HeadCum[0])
	j.text(`,"unit":`)
	j.string(d.Unit)
	j.text(`,"type":`)
	j.string(d.Type.Name)
	j.text(`,"agg":`)
	j.string(d.Agg)
	j.text(`,"base_coverage":`)
	if err := j.marshal(d.Base); err != nil {
		return err
	}
	j.text(`,"head_coverage":`)
	if err := j.marshal(d.Head); err != nil {
		return err
	}
	j.text("}\n")
	_, err := w.Write(j.buf)
	return err
}
