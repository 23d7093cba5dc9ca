package symbolize

import (
	"debug/elf"
	"fmt"
	"io"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"

	"github.com/goinquest/inquest"
)

// MaxDisassembly is how many bytes of code Disassemble takes at once.
const MaxDisassembly = 1 << 20

// Instruction is one instruction of a program.
type Instruction struct {
	Addr   uint64 // as in the file
	Bytes  int    // its length
	Text   string // as Go's assembler has it; "?" and the bytes in hex if they are no instruction
	Target uint64 // where a direct branch or call goes, 0 if it is none
}

// Disassemble decodes the code at [start, end) of an ELF file of size bytes,
// for amd64 or arm64. Addresses are as in the file. Bytes that are no instruction
// are shown as such, one by one (arm64: by four), and it goes on after them.
//
// The errors are ErrInvalid for what is no such file or no code, ErrTooLarge for more
// than MaxDisassembly bytes, and ErrNotFound for a debug companion, which has no code.
func Disassemble(r io.ReaderAt, size int64, start, end uint64) ([]Instruction, error) {
	if start >= end {
		return nil, inquest.Errorf(inquest.ErrInvalid, "no code to disassemble: it begins at %#x and ends at %#x", start, end)
	}
	if end-start > MaxDisassembly {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "%d bytes of code are too many to disassemble at once, the most is %d", end-start, MaxDisassembly)
	}
	f, err := openNativeFile(r, size)
	if err != nil {
		return nil, err
	}
	code, err := f.codeBytes(start, end)
	if err != nil {
		return nil, err
	}
	switch f.machine {
	case elf.EM_X86_64:
		return disassemble(code, start, 1, decodeAMD64), nil
	case elf.EM_AARCH64:
		return disassemble(code, start, 4, decodeARM64), nil
	}
	return nil, inquest.Errorf(inquest.ErrInvalid, "code for %v cannot be disassembled, only for amd64 and arm64", f.machine)
}

// codeBytes reads the code at [start, end), which must be in one section.
func (f *nativeFile) codeBytes(start, end uint64) ([]byte, error) {
	for _, s := range f.sections {
		if s.flags&elf.SHF_EXECINSTR == 0 || start < s.addr || start-s.addr >= s.size {
			continue
		}
		if end-s.addr > s.size {
			return nil, inquest.Errorf(inquest.ErrInvalid, "the code at %#x to %#x goes beyond its section %s, which ends at %#x", start, end, s.name, s.addr+s.size)
		}
		if s.typ == elf.SHT_NOBITS {
			return nil, inquest.Errorf(inquest.ErrNotFound, "the file is a debug companion, section %s has no code", s.name)
		}
		return f.bytes(s.offset+(start-s.addr), end-start)
	}
	return nil, inquest.Errorf(inquest.ErrInvalid, "there is no code at %#x in this file", start)
}

// disassembler decodes the first instruction of code; n is 0 if there is none.
type disassembler func(code []byte, pc uint64) (n int, text string, target uint64)

func disassemble(code []byte, pc uint64, step int, decode disassembler) []Instruction {
	out := make([]Instruction, 0, len(code)/4+1)
	for len(code) > 0 {
		in := Instruction{Addr: pc}
		if in.Bytes, in.Text, in.Target = tryDecode(decode, code, pc); in.Bytes == 0 {
			in.Bytes = min(step, len(code))
			in.Text = fmt.Sprintf("? % x", code[:in.Bytes])
		}
		out = append(out, in)
		code = code[in.Bytes:]
		pc += uint64(in.Bytes)
	}
	return out
}

// tryDecode contains the decoders: they are tables made for code, and what is
// not may lead them where they panic.
func tryDecode(decode disassembler, code []byte, pc uint64) (n int, text string, target uint64) {
	defer func() {
		if recover() != nil {
			n, text, target = 0, "", 0
		}
	}()
	return decode(code, pc)
}

func decodeAMD64(code []byte, pc uint64) (int, string, uint64) {
	in, err := x86asm.Decode(code, 64)
	if err != nil || in.Len == 0 || in.Op == 0 {
		return 0, "", 0
	}
	var target uint64
	if rel, ok := in.Args[0].(x86asm.Rel); ok {
		target = pc + uint64(in.Len) + uint64(int64(rel))
	}
	return in.Len, x86asm.GoSyntax(in, pc, nil), target
}

func decodeARM64(code []byte, pc uint64) (int, string, uint64) {
	if len(code) < 4 {
		return 0, "", 0
	}
	in, err := arm64asm.Decode(code)
	if err != nil {
		return 0, "", 0
	}
	var target uint64
	switch in.Op {
	case arm64asm.B, arm64asm.BL, arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ:
		for _, a := range in.Args {
			if rel, ok := a.(arm64asm.PCRel); ok {
				target = pc + uint64(int64(rel))
			}
		}
	}
	return 4, arm64asm.GoSyntax(in, pc, nil, nil), target
}
