package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/query"
)

const (
	mostSourceFiles = 64   // of one function, with what is inlined in it
	mostSourceLines = 4000 // of one file
	aroundLines     = 5    // shown before and after what costs
	joinedLines     = 40   // shown between
	mostLineBytes   = 1 << 10
)

// sourceView is what a function costs, by line and by instruction.
type sourceView struct {
	Function     string            `json:"function"`
	Build        string            `json:"build,omitempty"` // the one shown
	Builds       []query.TopRow    `json:"builds"`          // those with the function, the dearest first
	Files        []sourceFile      `json:"files"`           // the dearest first
	Instructions []codeInstruction `json:"instructions"`
	CodeMissing  string            `json:"code_missing,omitempty"` // why there are no instructions
	query.Cost                     // of the function in the build shown
	Total        float64           `json:"total"` // of all that is selected of that build
	Unit         string            `json:"unit"`
	Type         string            `json:"type"`
	Agg          string            `json:"agg"`
	Coverage     query.Coverage    `json:"coverage"`
}

// sourceFile is some lines of a file.
type sourceFile struct {
	File  string       `json:"file"`           // as the compiler recorded it
	From  string       `json:"from,omitempty"` // who had the text; none: there is none
	Lines []sourceLine `json:"lines"`
}

type sourceLine struct {
	Line int64  `json:"line"`
	Text string `json:"text,omitempty"`
	query.Cost
}

type codeInstruction struct {
	ingest.Instruction
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Inlined are the functions that are inlined here, innermost first. File and
	// Line are then those of the innermost, and these the function's own.
	Inlined []string `json:"inlined,omitempty"`
	OwnFile string   `json:"own_file,omitempty"`
	OwnLine int      `json:"own_line,omitempty"`
	query.Cost
}

// getSource answers with what a function costs line by line.
func (s *Server) getSource(c echo.Context) error {
	p := s.params(c, with("agg", "rate", "function", "build")...)
	r, function, build := p.request("cpu"), p.text("function"), p.text("build")
	return answer(s, c, p, func(ctx context.Context) (*sourceView, error) {
		cost, err := s.o.Query.Lines(ctx, r, function, build)
		if err != nil {
			return nil, err
		}
		v := &sourceView{
			Function: function, Build: cost.Build, Builds: cost.Builds, Files: []sourceFile{}, Instructions: []codeInstruction{},
			Cost: cost.Cost, Total: cost.Total, Unit: cost.Unit, Type: cost.Type.Name, Agg: cost.Agg, Coverage: cost.Coverage,
		}
		code, err := s.code(ctx, cost)
		if err != nil {
			if !errors.Is(err, inquest.ErrNotFound) && !errors.Is(err, inquest.ErrTooLarge) && !errors.Is(err, inquest.ErrInvalid) {
				return nil, err
			}
			v.CodeMissing = err.Error()
		}
		v.setCode(code, cost)
		return v, s.setFiles(ctx, v, code, cost)
	})
}

// code disassembles the function shown.
func (s *Server) code(ctx context.Context, cost *query.Lines) ([]ingest.Instruction, error) {
	if cost.Build == "" {
		return nil, inquest.Errorf(inquest.ErrNotFound, "the profiles do not say of which build they are")
	}
	return s.o.Binaries.Code(ctx, cost.Build, cost.Function)
}

// setCode gives each instruction what it costs: addresses of calls lie within
// them.
func (v *sourceView) setCode(code []ingest.Instruction, cost *query.Lines) {
	at := slices.Sorted(maps.Keys(cost.Code))
	for i := range code {
		in := codeInstruction{Instruction: code[i]}
		if n := len(in.Frames); n > 0 {
			in.File, in.Line = in.Frames[0].File, in.Frames[0].Line
			for _, f := range in.Frames[:n-1] {
				in.Inlined = append(in.Inlined, f.Profiled())
			}
			if n > 1 {
				in.OwnFile, in.OwnLine = in.Frames[n-1].File, in.Frames[n-1].Line
			}
		}
		first, _ := slices.BinarySearch(at, in.Offset)
		for _, off := range at[first:] {
			if off >= in.Offset+uint64(in.Bytes) {
				break
			}
			in.Self += cost.Code[off].Self
			in.Cum += cost.Code[off].Cum
		}
		v.Instructions = append(v.Instructions, in)
	}
}

// setFiles lists the lines that cost something or have instructions, with
// those around them.
func (s *Server) setFiles(ctx context.Context, v *sourceView, code []ingest.Instruction, cost *query.Lines) error {
	files := map[string]map[int64]query.Cost{}
	line := func(file string, n int64) map[int64]query.Cost {
		if files[file] == nil {
			files[file] = map[int64]query.Cost{}
		}
		if _, ok := files[file][n]; !ok {
			files[file][n] = query.Cost{}
		}
		return files[file]
	}
	for _, l := range cost.Lines {
		line(l.File, l.Line)[l.Line] = l.Cost
	}
	for i := range code {
		if n := len(code[i].Frames); n > 0 {
			f := &code[i].Frames[n-1]
			line(f.File, int64(f.Line))
			line(f.File, int64(f.StartLine))
		}
	}
	for file, lines := range files {
		if file == "" || len(v.Files) == mostSourceFiles {
			continue
		}
		delete(lines, 0)
		text, from, err := []byte(nil), "", error(nil)
		if v.Build != "" {
			if text, from, err = s.o.Binaries.Source(ctx, v.Build, file); err != nil && !errors.Is(err, inquest.ErrNotFound) {
				if ctx.Err() != nil {
					return err
				}
				text = nil
			}
		}
		v.Files = append(v.Files, sourceFile{file, from, shownLines(lines, text)})
	}
	slices.SortFunc(v.Files, func(a, b sourceFile) int {
		return cmp.Or(cmp.Compare(cumOf(b.Lines), cumOf(a.Lines)), strings.Compare(a.File, b.File))
	})
	return nil
}

func cumOf(lines []sourceLine) (sum float64) {
	for i := range lines {
		sum += lines[i].Cum
	}
	return sum
}

// shownLines are the known lines and those around them. Without text these
// alone.
func shownLines(known map[int64]query.Cost, text []byte) []sourceLine {
	out := []sourceLine{}
	if len(known) == 0 {
		return out
	}
	numbers := slices.Sorted(maps.Keys(known))
	if text == nil {
		for _, n := range numbers {
			out = append(out, sourceLine{Line: n, Cost: known[n]})
		}
		return out[:min(len(out), mostSourceLines)]
	}
	all := bytes.Split(text, []byte("\n"))
	next := int64(1)
	for i, n := range numbers {
		from, until := max(next, n-aroundLines), n
		if next > 1 && from-next <= joinedLines {
			from = next
		}
		if i == len(numbers)-1 || numbers[i+1]-n > joinedLines {
			until += aroundLines
		}
		for next = from; next <= min(until, int64(len(all))) && len(out) < mostSourceLines; next++ {
			line := bytes.TrimRight(all[next-1][:min(len(all[next-1]), mostLineBytes)], "\r")
			out = append(out, sourceLine{Line: next, Text: strings.ToValidUTF8(string(line), "\uFFFD"), Cost: known[next]})
		}
	}
	return out
}

// debuginfodSource answers with a source file.
func (s *Server) debuginfodSource(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	id, err := buildID(c)
	if err != nil {
		return err
	}
	text, _, err := s.o.Binaries.Source(c.Request().Context(), id, "/"+pathParam(c, "*"))
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, echo.MIMEOctetStream, text)
}
