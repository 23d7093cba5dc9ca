package symbolize

import (
	"bytes"
	"io"

	"github.com/goinquest/inquest"
)

// symbolBytes is the size of an entry of a symbol table (Elf64_Sym), and
// variableChunk how much of the tables is read at once.
const (
	symbolBytes   = 24
	variableChunk = symbolBytes << 12
)

// Variable finds a variable of a 64-bit program by the linker's name for it,
// "runtime.ncpu". Relative says that the address counts from where the file's
// first byte is mapped, as in a program that may lie anywhere. It is an error
// of kind ErrNotFound if the program has no such symbol, as one that is
// stripped; size is that of the file in bytes.
func Variable(r io.ReaderAt, size int64, name string) (addr uint64, relative bool, err error) {
	f, err := openELF(r, size)
	if err != nil {
		return 0, false, err
	}
	symbols, names := f.section(".symtab"), f.section(".strtab")
	if f.layout != &elf64 || symbols == nil || names == nil {
		return 0, false, inquest.Errorf(inquest.ErrNotFound, "the program has no table of symbols")
	}
	at, err := findBytes(r, names, append(append([]byte{0}, name...), 0))
	if err != nil {
		return 0, false, err
	}
	if addr, err = f.symbolNamed(symbols, at+1); err != nil || f.kind != typeShared {
		return addr, false, err
	}
	for _, s := range f.segments {
		if s.kind == segmentLoad && s.off == 0 {
			return addr - s.addr, true, nil
		}
	}
	return 0, true, inquest.Errorf(inquest.ErrInvalid, "no part of the program has the beginning of its file")
}

// findBytes is where the first copy of some bytes is in a section.
func findBytes(r io.ReaderAt, s *section, want []byte) (uint64, error) {
	buf := make([]byte, variableChunk)
	for at := uint64(0); at < s.size; {
		n, err := r.ReadAt(buf[:min(uint64(len(buf)), s.size-at)], int64(s.off+at))
		if i := bytes.Index(buf[:n], want); i >= 0 {
			return at + uint64(i), nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if n <= len(want) {
			break
		}
		if at += uint64(n); at < s.size {
			at -= uint64(len(want)) - 1 // it may lie across two chunks
		}
	}
	return 0, inquest.Errorf(inquest.ErrNotFound, "the program has no symbol %q", want[1:len(want)-1])
}

// symbolNamed is the value of the symbol whose name is at an offset.
func (f *image) symbolNamed(s *section, name uint64) (uint64, error) {
	buf := make([]byte, variableChunk)
	for at := uint64(0); at < s.size; at += variableChunk {
		n, err := f.r.ReadAt(buf[:min(variableChunk, s.size-at)], int64(s.off+at))
		for b := buf[:n]; len(b) >= symbolBytes; b = b[symbolBytes:] {
			if uint64(f.order.Uint32(b)) == name {
				return f.order.Uint64(b[8:]), nil
			}
		}
		if err != nil {
			return 0, inquest.Errorf(inquest.ErrInvalid, "the program's symbols: %w", err)
		}
	}
	return 0, inquest.Errorf(inquest.ErrNotFound, "the program has a name of which there is no symbol")
}
