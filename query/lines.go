package query

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

// Cost is what something costs itself, and with all it calls.
type Cost struct {
	Self float64 `json:"self"`
	Cum  float64 `json:"cum"`
}

// LineCost is what one line of a function costs.
type LineCost struct {
	File string `json:"file"`
	Line int64  `json:"line"`
	Cost
}

// Lines is what a function costs by line and by instruction, in one build.
type Lines struct {
	Function string
	Build    string     // "" if profiles with the function do not say
	Builds   []TopRow   // all builds that have it, by what it costs
	Cost                // of the function in Build
	Total    float64    // of all that is selected of Build
	Lines    []LineCost // by file and line; with what is inlined in other functions
	// Code is by the offset of an instruction in the build's file: of calls, an
	// address within them.
	Code     map[uint64]Cost
	Unit     string
	Type     inquest.Type
	Agg      string
	Coverage Coverage
}

// Lines says what a function costs by line and instruction, from single
// profiles, in one build: the one given, else the one in which it costs most.
// Sums are those of Profile. ErrNotFound if the function is in nothing selected.
func (e *Engine) Lines(ctx context.Context, r Request, function, build string) (*Lines, error) {
	if function == "" || len(function) > maxFunction {
		return nil, inquest.Errorf(inquest.ErrInvalid, "function=%.40q: want the name of a function", function)
	}
	if err := sumsOnly(r); err != nil {
		return nil, err
	}
	of := r
	of.Function = function
	top, err := e.Top(ctx, of, ByBuild, 0)
	if err != nil {
		return nil, err
	}
	if len(top.Rows) == 0 {
		return nil, inquest.Errorf(inquest.ErrNotFound, "function %.200q is in none of the profiles selected", function)
	}
	slices.SortStableFunc(top.Rows, func(a, b TopRow) int { return cmp.Compare(b.Cum, a.Cum) })
	if build == "" && top.Rows[0].Name != noBuild {
		build = top.Rows[0].Name
	}
	out := &Lines{Function: function, Build: build, Builds: top.Rows, Code: map[uint64]Cost{}}
	r.build = &build
	err = e.readType(ctx, r, need{}, func(s *selection) error {
		p, err := e.merged(ctx, s, r)
		if err != nil {
			return err
		}
		out.Unit, out.Type, out.Agg, out.Coverage = s.unit, s.typ, s.agg, s.coverage()
		l := newLineSum(p, function, build)
		l.add(s.typ)
		out.Lines, out.Code, out.Cost, out.Total = l.costs(), l.code, l.all, l.total
		return s.mem.keep(int64(len(out.Lines)+len(out.Code)) * answerRowBytes)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// sumsOnly refuses what a sum of profiles cannot say.
func sumsOnly(r Request) error {
	switch {
	case r.Rate:
		return inquest.Errorf(inquest.ErrInvalid, "a pprof file holds amounts: leave rate out")
	case r.Agg == AggAvg:
		return inquest.Errorf(inquest.ErrInvalid, "a pprof file holds sums of profiles: use agg=sum, last or max")
	}
	return nil
}

// merged adds up what is selected, and names what can be named.
func (e *Engine) merged(ctx context.Context, s *selection, r Request) (*profile.Profile, error) {
	if s.agg == AggAvg {
		s.agg = AggSum
	}
	s.holds()
	s.choose()
	if len(s.units) == 0 {
		return nil, inquest.Errorf(inquest.ErrNotFound, "no %s profile from %s until %s matches %s", r.Type,
			s.window.From.Format(time.RFC3339), s.window.Until.Format(time.RFC3339), cmp.Or(r.Query, "{}"))
	}
	m := newMerging(s)
	if err := s.eachPart(ctx, m.part); err != nil {
		return nil, err
	}
	// What is made of it takes no more than that.
	if err := s.mem.keep(m.Bytes()); err != nil {
		return nil, err
	}
	p := m.Profile()
	return p, e.symbolize(ctx, p)
}

// lineSum adds up what a function costs in a profile.
type lineSum struct {
	p      *profile.Profile
	at     [][]lineKey // by location: the function's lines there, innermost first; nil: it is not there
	leaf   []bool      // by location: the innermost function is the one
	offset []uint64    // by location: where it is in the file; 0: not in the build's
	lines  map[lineKey]Cost
	code   map[uint64]Cost
	all    Cost    // of the function
	total  float64 // of everything
}

type lineKey struct {
	file uint32 // string of the profile
	line int64
}

func newLineSum(p *profile.Profile, function, build string) *lineSum {
	n := len(p.Locations)
	l := &lineSum{
		p: p, at: make([][]lineKey, n), leaf: make([]bool, n), offset: make([]uint64, n),
		lines: map[lineKey]Cost{}, code: map[uint64]Cost{},
	}
	is := make([]bool, len(p.Functions))
	for i, f := range p.Functions {
		is[i] = p.String(cmp.Or(f.Name, f.SystemName)) == function
	}
	for i := range p.Locations {
		loc := &p.Locations[i]
		for k, line := range p.Lines[loc.LineStart:loc.LineEnd] {
			if !is[line.Function] {
				continue
			}
			l.at[i] = append(l.at[i], lineKey{p.Functions[line.Function].Filename, line.Line})
			l.leaf[i] = l.leaf[i] || k == 0
		}
		if loc.LineEnd == loc.LineStart || !is[p.Lines[loc.LineEnd-1].Function] || loc.Mapping < 0 {
			continue // the code is another function's
		}
		if m := &p.Mappings[loc.Mapping]; build == "" || p.String(m.BuildID) == build {
			l.offset[i] = loc.Address - m.Start + m.Offset
		}
	}
	return l
}

// add adds up the samples. A line and an instruction count once in a stack.
func (l *lineSum) add(typ inquest.Type) {
	col := 0
	for i, st := range l.p.SampleTypes {
		if inquest.TypeOf(typ.Kind, l.p.String(st.Type), l.p.String(st.Unit)).Name == typ.Name {
			col = i
		}
	}
	seenLine, seenCode := map[lineKey]bool{}, map[uint64]bool{}
	for i := range l.p.NumSamples() {
		v := float64(l.p.SampleValues(i)[col])
		if v == 0 {
			continue
		}
		clear(seenLine)
		clear(seenCode)
		l.total += v
		for k, loc := range l.p.Stack(i) {
			for n, key := range l.at[loc] {
				c := l.lines[key]
				if k == 0 && n == 0 && l.leaf[loc] {
					c.Self += v
					l.all.Self += v
				}
				if len(seenLine) == 0 {
					l.all.Cum += v
				}
				if !seenLine[key] {
					seenLine[key] = true
					c.Cum += v
				}
				l.lines[key] = c
			}
			if off := l.offset[loc]; off != 0 {
				c := l.code[off]
				if k == 0 {
					c.Self += v
				}
				if !seenCode[off] {
					seenCode[off] = true
					c.Cum += v
				}
				l.code[off] = c
			}
		}
	}
}

// costs lists the lines.
func (l *lineSum) costs() []LineCost {
	out := make([]LineCost, 0, len(l.lines))
	for key, c := range l.lines {
		out = append(out, LineCost{l.p.String(key.file), key.line, c})
	}
	slices.SortFunc(out, func(a, b LineCost) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return out
}
