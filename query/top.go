package query

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/calltree"
	"github.com/goinquest/inquest/store"
)

// TopRow is one row of a table. For a service, release or build Self equals
// Cum unless the request is about a function.
type TopRow struct {
	Name string  `json:"name"`
	Self float64 `json:"self"`
	Cum  float64 `json:"cum"`            // a stack counts once however often the name recurs in it
	File string  `json:"file,omitempty"` // of functions, where known
	Line int64   `json:"line,omitempty"` // where the function begins
}

// TopAnswer is a table of the rows with the largest Self, then Cum.
type TopAnswer struct {
	Rows     []TopRow `json:"rows"`
	Total    float64  `json:"total"` // of everything selected
	Count    int      `json:"count"` // rows before the limit
	By       string   `json:"by"`
	Unit     string   `json:"unit"`
	Type     string   `json:"type"`
	Agg      string   `json:"agg"`
	Coverage Coverage `json:"coverage"`
}

// The values of Top's by.
const (
	ByFunction = "function"
	ByPackage  = "package"
	ByModule   = "module"
	ByService  = inquest.LabelService
	ByRelease  = inquest.LabelRelease
	ByBuild    = inquest.LabelBuild
)

// Bytes of memory: of a row while tables are made, and of one in an answer and
// its JSON.
const (
	tableRowBytes  = 128
	answerRowBytes = 384
)

// Names of rows that stand for what has none.
const (
	noPackage = "(no package)" // C functions, addresses
	noRelease = "(no release)"
	noBuild   = "(no build)"
)

// Top is the exact table of what r selects, by function, package, module,
// service, release or build. limit < 1 returns all rows.
func (e *Engine) Top(ctx context.Context, r Request, by string, limit int) (*TopAnswer, error) {
	if r.Function != "" && by != ByService && by != ByRelease && by != ByBuild {
		return nil, inquest.Errorf(inquest.ErrInvalid, "function=%.100s asks who pays for a function: want by=service, release or build", r.Function)
	}
	switch by {
	case "", ByFunction:
		return e.topOfTree(ctx, r, ByFunction, nil, limit)
	case ByPackage:
		return e.topOfTree(ctx, r, by, packageOf, limit)
	case ByService, ByRelease, ByBuild:
		return e.topOfLabel(ctx, r, by, limit)
	case ByModule:
		return e.topOfModules(ctx, r, limit)
	}
	return nil, inquest.Errorf(inquest.ErrInvalid, "unknown by=%s: want function, package, module, service, release or build", by)
}

func packageOf(function string) string {
	if p := calltree.PackageOf(function); p != "" {
		return p
	}
	return noPackage
}

// topOfTree adds up what each part's tree gives: no tree of all is needed for
// that.
func (e *Engine) topOfTree(ctx context.Context, r Request, by string, key func(string) string, limit int) (a *TopAnswer, err error) {
	err = e.readType(ctx, r, need{rollups: true, tables: by == ByFunction}, func(s *selection) error {
		s.holds()
		s.choose()
		s.weigh("")
		t := &tally{s: s, key: key, rows: make(map[string]*tallyRow)}
		if err := s.eachPart(ctx, t.add); err != nil {
			return err
		}
		if a, err = t.answer(by, limit); err != nil || by != ByFunction {
			return err
		}
		return s.locate(ctx, a.Rows)
	})
	return a, err
}

// table is a TopAnswer without its rows.
func (s *selection) table(by string, rows int, total int64, c Coverage) *TopAnswer {
	return &TopAnswer{
		Rows: []TopRow{}, Count: rows, Total: scaled(total, s.dec),
		By: by, Unit: s.unit, Type: s.typ.Name, Agg: s.agg, Coverage: c,
	}
}

func cut[T any](rows []T, limit int) []T {
	if limit > 0 && len(rows) > limit {
		return rows[:limit]
	}
	return rows
}

// locate fills in file and line of functions. It asks for each function the
// first part that has it, and no part that has none.
func (s *selection) locate(ctx context.Context, rows []TopRow) error {
	wanted := make(map[string]*TopRow, len(rows))
	for i := range rows {
		wanted[rows[i].Name] = &rows[i]
	}
	for _, u := range s.units {
		if len(wanted) == 0 {
			break
		}
		f, err := u.part.FuncTree(ctx)
		if err != nil {
			return err
		}
		var here []*TopRow
		for _, name := range f.Names {
			if row := wanted[name]; row != nil {
				here = append(here, row)
				delete(wanted, name)
			}
		}
		if len(here) == 0 {
			u.part.Release(ctx)
			continue
		}
		known := make(map[string]store.FuncInfo)
		if err := u.part.FuncInfo(ctx, known); err != nil {
			return err
		}
		for _, row := range here {
			row.File, row.Line = strings.Clone(known[row.Name].File), known[row.Name].Line
		}
		u.part.Release(ctx)
	}
	return nil
}

// topOfLabel adds up totals, or what a function costs, by a label.
func (e *Engine) topOfLabel(ctx context.Context, r Request, by string, limit int) (a *TopAnswer, err error) {
	err = e.readType(ctx, r, need{rollups: true, by: []string{by}}, func(s *selection) error {
		s.holds()
		s.choose()
		s.weigh(by)
		cums, err := s.sums(ctx, by)
		if err != nil {
			return err
		}
		selfs, total := cums, int64(0)
		for _, v := range cums {
			total += v
		}
		if r.Function != "" {
			if cums, selfs, err = s.focusedSums(ctx, by, functions(r.Function)); err != nil {
				return err
			}
		}
		var rows []TopRow
		for name, v := range cums {
			if r.Function == "" || v != 0 || selfs[name] != 0 {
				rows = append(rows, TopRow{Name: name, Self: scaled(selfs[name], s.dec), Cum: scaled(v, s.dec)})
			}
		}
		slices.SortFunc(rows, func(a, b TopRow) int {
			return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(b.Cum, a.Cum), cmp.Compare(a.Name, b.Name))
		})
		a = s.table(by, len(rows), total, s.coverage())
		a.Rows = append(a.Rows, cut(rows, limit)...)
		return s.mem.keep(answerRowBytes * int64(len(a.Rows)))
	})
	return a, err
}

// focusedSums adds up what functions cost, by a label.
func (s *selection) focusedSums(ctx context.Context, by string, f functions) (cums, selfs map[string]int64, err error) {
	counted := s.kept.Load() // asking the samples' labels again does not make them more
	if err := s.focus(ctx, f); err != nil {
		return nil, nil, err
	}
	if cums, err = s.sums(ctx, by); err != nil {
		return nil, nil, err
	}
	s.focusSelf = true
	selfs, err = s.sums(ctx, by)
	s.kept.Store(counted)
	return cums, selfs, err
}

// sums adds up, in 10^-dec units, by a label.
func (s *selection) sums(ctx context.Context, by string) (map[string]int64, error) {
	sums := make(map[string]float64)
	for _, u := range s.units {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for name, at := range u.by(by) {
			v, err := s.weighed(ctx, u, at)
			if err != nil {
				return nil, err
			}
			sums[name] += v
		}
		u.part.Release(ctx)
	}
	rounded := make(map[string]int64, len(sums))
	for name, v := range sums {
		rounded[name] = int64(math.Round(v))
	}
	return rounded, nil
}

// by sorts the picked rows, as indexes into picked, by a label.
func (u *unit) by(label string) map[string][]int32 {
	if label == ByService && u.part.Service != "" {
		return map[string][]int32{u.part.Service: u.all()}
	}
	out := make(map[string][]int32)
	for i, row := range u.picked {
		name := u.sets[u.rows.LabelSet[row]].labels.Get(label)
		switch {
		case name != "":
		case label == ByBuild:
			name = noBuild
		default:
			name = noRelease
		}
		out[name] = append(out[name], int32(i))
	}
	return out
}
