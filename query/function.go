package query

import (
	"context"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// functions says which functions a request is about: one, or with a * at its
// end all whose names begin so. "" is no function in particular.
type functions string

func (f functions) prefix() (string, bool) { return strings.CutSuffix(string(f), "*") }

func (f functions) matches(name string) bool {
	if prefix, ok := f.prefix(); ok {
		return strings.HasPrefix(name, prefix)
	}
	return name == string(f)
}

// maxFunction bounds the text of a function's name in a request.
const maxFunction = 4 << 10

// focused is what a request's functions cost in the rows of a unit.
type focused struct {
	nodes     []uint8 // see store.FocusQuery
	self, cum []int64 // per row of the unit
}

// focus finds what the functions cost in every picked row. From then on the
// values of rows are these: the cumulative ones, until s.focusSelf is set.
func (s *selection) focus(ctx context.Context, f functions) error {
	if f == "" {
		return nil
	}
	if len(f) > maxFunction {
		return inquest.Errorf(inquest.ErrTooLarge, "the function's name has %d bytes, at most %d are allowed", len(f), maxFunction)
	}
	return s.each(ctx, func(ctx context.Context, u *unit) error {
		tree, err := u.part.FuncTree(ctx)
		if err != nil {
			return err
		}
		u.focus = &focused{nodes: f.nodes(tree)}
		rows := make([]bool, len(u.rows.Start))
		for _, row := range u.picked {
			rows[row] = true
		}
		u.focus.self, u.focus.cum, err = u.part.Focus(ctx, store.FocusQuery{Section: u.section, Column: u.column, Rows: rows, Nodes: u.focus.nodes})
		return err
	})
}

// nodes marks the calls of the functions in a tree, and what is below them.
func (f functions) nodes(t *store.FuncTree) []uint8 {
	wanted := make([]bool, len(t.Names))
	any := false
	for i, name := range t.Names[1:] {
		if f.matches(name) {
			wanted[i+1], any = true, true
		}
	}
	nodes := make([]uint8, len(t.Name))
	if !any {
		return nodes
	}
	for i := 1; i < len(nodes); i++ {
		if wanted[t.Name[i]] {
			nodes[i] = store.FocusSelf | store.FocusCum
		} else {
			nodes[i] = nodes[t.Parent[i]] & store.FocusCum
		}
	}
	return nodes
}

// values are the values of the unit's rows: their totals, or what the
// request's functions cost in them.
func (s *selection) values(u *unit) []int64 {
	switch {
	case u.focus == nil:
		return u.rows.Totals[u.column]
	case s.focusSelf:
		return u.focus.self
	}
	return u.focus.cum
}

// counts says whether the values at a node of the part's tree count for
// values.
func (s *selection) counts(u *unit, node int) bool {
	what := uint8(store.FocusCum)
	if s.focusSelf {
		what = store.FocusSelf
	}
	return u.focus == nil || u.focus.nodes[node]&what != 0
}

// Functions is Top by function for those whose names match: one name, or with
// a * at its end all that begin so. The total is that of everything r selects.
func (e *Engine) Functions(ctx context.Context, r Request, match string, limit int) (*TopAnswer, error) {
	f := functions(match)
	if f == "" || len(f) > maxFunction {
		return nil, inquest.Errorf(inquest.ErrInvalid, "match=%.40q: want the name of a function, or the begin of one and *, as in encoding/json.*", match)
	}
	return e.topOfTree(ctx, r, ByFunction, func(name string) string {
		if f.matches(name) {
			return name
		}
		return ""
	}, limit)
}
