package ingest

import (
	"context"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// Instruction is one instruction of a function of a stored program.
type Instruction struct {
	Address uint64 `json:"address"`          // as linked
	Offset  uint64 `json:"-"`                // in the file
	Bytes   int    `json:"bytes"`            // its length
	Text    string `json:"text"`             // as Go's assembler has it
	Target  string `json:"target,omitempty"` // of a direct call or jump to another function: its name
	// Frames are the functions that are inlined there, innermost first, and the
	// function itself.
	Frames []inquest.Frame `json:"-"`
}

// maxFunctionRanges is in how many pieces a function is disassembled.
const maxFunctionRanges = 16

// Code disassembles a function, by its name as profiles spell it, of the
// program with a build id. ErrNotFound if that is not stored, or has no such
// function with code of its own; ErrTooLarge if it has more than
// symbolize.MaxDisassembly bytes of code.
func (b *Binaries) Code(ctx context.Context, build, function string) ([]Instruction, error) {
	exe, err := b.Executable(storedID(build))
	if err != nil {
		return nil, err
	}
	t, err := b.symbolTable(ctx, build)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "nothing is known of the functions of build %.200q", build)
	}
	defer b.symbols.release(t)
	f, err := b.o.Store.OpenBinary(exe.SHA256)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Instruction
	left := uint64(symbolize.MaxDisassembly)
	for _, r := range ranges(t.table, function) {
		if r.End-r.Start > left {
			return nil, inquest.Errorf(inquest.ErrTooLarge, "function %.200q has more than %d bytes of code", function, symbolize.MaxDisassembly)
		}
		left -= r.End - r.Start
		ins, err := symbolize.Disassemble(f, f.Size(), r.Start, r.End)
		if err != nil {
			return nil, err
		}
		out = append(out, instructions(t.table, r, ins)...)
	}
	if len(out) == 0 {
		return nil, inquest.Errorf(inquest.ErrNotFound, "build %.200q has no code of function %.200q: it may be inlined wherever it is called", build, function)
	}
	return out, nil
}

// ranges finds the code of a function. A generic one has code for each shape of
// its arguments, of which the name says one.
func ranges(t *BinaryTable, function string) (out []symbolize.Range) {
	plain := function
	if i, j := strings.IndexByte(plain, '['), strings.LastIndexByte(plain, ']'); i >= 0 && j > i {
		plain = plain[:i] + "[...]" + plain[j+1:]
	}
	for _, r := range t.Functions(plain) {
		if frames := t.Frames(nil, r.Start); plain == function || len(frames) > 0 && frames[len(frames)-1].Profiled() == function {
			out = append(out, r)
		}
	}
	return out[:min(len(out), maxFunctionRanges)]
}

// instructions says where instructions are from, and where they go.
func instructions(t *BinaryTable, r symbolize.Range, ins []symbolize.Instruction) []Instruction {
	out := make([]Instruction, len(ins))
	for i := range ins {
		in := &ins[i]
		out[i] = Instruction{Address: in.Addr, Bytes: in.Bytes, Text: in.Text, Frames: t.Frames(nil, in.Addr)}
		out[i].Offset, _ = t.Offset(in.Addr)
		if in.Target != 0 && (in.Target < r.Start || in.Target >= r.End) {
			if to := t.Frames(nil, in.Target); len(to) > 0 {
				out[i].Target = to[len(to)-1].Profiled()
			}
		}
	}
	// Functions are aligned by instructions that never run.
	for n := len(out); n > 1 && padding(out[n-1].Text); n-- {
		out = out[:n-1]
	}
	return slices.Clip(out)
}

// padding says whether an instruction only fills space.
func padding(text string) bool {
	return strings.HasPrefix(text, "INT $0x3") || strings.HasPrefix(text, "INT 3") || strings.HasPrefix(text, "NOP") || strings.HasPrefix(text, "? 00 00 00 00")
}
