package query

import (
	"context"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

// symbolize gives the locations of p that are only addresses the functions
// that the engine's symbols know there.
func (e *Engine) symbolize(ctx context.Context, p *profile.Profile) error {
	if e.symbols == nil {
		return nil
	}
	var s *symbolizing
	for m := range p.Mappings {
		build := p.String(p.Mappings[m].BuildID)
		if build == "" {
			continue
		}
		at := bare(p, int32(m))
		if len(at) == 0 {
			continue
		}
		offsets := make([]uint64, len(at))
		for i, l := range at {
			offsets[i] = p.Locations[l].Address - p.Mappings[m].Start + p.Mappings[m].Offset
		}
		frames, err := e.symbols.Frames(ctx, build, offsets)
		if err != nil {
			return err
		}
		if s == nil {
			s = newSymbolizing(p)
		}
		for i, l := range at {
			s.set(&p.Locations[l], &p.Mappings[m], frames[i])
		}
	}
	return nil
}

// bare lists the locations of a mapping that are only addresses.
func bare(p *profile.Profile, mapping int32) (at []int) {
	for i := range p.Locations {
		if l := &p.Locations[i]; l.Mapping == mapping && l.LineStart == l.LineEnd {
			at = append(at, i)
		}
	}
	return at
}

// symbolizing adds functions to a profile.
type symbolizing struct {
	p         *profile.Profile
	strings   map[string]uint32
	functions map[profile.Function]uint32
}

func newSymbolizing(p *profile.Profile) *symbolizing {
	s := &symbolizing{p, map[string]uint32{}, map[profile.Function]uint32{}}
	for i, t := range p.Strings {
		s.strings[string(t)] = uint32(i)
	}
	for i, f := range p.Functions {
		s.functions[f] = uint32(i)
	}
	return s
}

func (s *symbolizing) text(t string) uint32 {
	id, ok := s.strings[t]
	if !ok {
		id = uint32(len(s.p.Strings))
		s.p.Strings = append(s.p.Strings, []byte(t))
		s.strings[t] = id
	}
	return id
}

// set gives a location of a mapping its functions.
func (s *symbolizing) set(l *profile.Location, m *profile.Mapping, frames []inquest.Frame) {
	if len(frames) == 0 {
		return
	}
	l.LineStart = uint32(len(s.p.Lines))
	for _, f := range frames {
		name := s.text(f.Profiled())
		fn := profile.Function{Name: name, SystemName: name, Filename: s.text(f.File), StartLine: int64(f.StartLine)}
		id, ok := s.functions[fn]
		if !ok {
			id = uint32(len(s.p.Functions))
			s.p.Functions = append(s.p.Functions, fn)
			s.functions[fn] = id
		}
		s.p.Lines = append(s.p.Lines, profile.Line{Function: id, Line: int64(f.Line)})
		m.HasFunctions = true
		m.HasFilenames = m.HasFilenames || f.File != ""
		m.HasLineNumbers = m.HasLineNumbers || f.Line != 0
	}
	m.HasInlineFrames = m.HasInlineFrames || len(frames) > 1
	l.LineEnd = uint32(len(s.p.Lines))
}
