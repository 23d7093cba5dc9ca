package symbolize

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

const nativeMaxSymbols = 1 << 23

// nativeSymbol is a name of code in a symbol table.
type nativeSymbol struct {
	nativeRange
	name  uint32 // offset of the table's names
	rank  uint8  // of several names of one place the lowest is taken
	sized bool
}

// nativeSymbols are the names of a file's code by its symbol table.
type nativeSymbols struct {
	source string
	list   []nativeSymbol
	names  []byte
}

// symbols reads .symtab, else .dynsym; nothing if there is neither.
func (f *nativeFile) symbols() (*nativeSymbols, error) {
	out := &nativeSymbols{source: sourceSymtab}
	table := f.section(".symtab")
	if table == nil {
		out.source = sourceDynsym
		table = f.section(".dynsym")
	}
	if table == nil {
		return out, nil
	}
	if table.size/24 > nativeMaxSymbols {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "section %s has %d symbols, more than %d", table.name, table.size/24, nativeMaxSymbols)
	}
	if int64(table.link) >= int64(len(f.sections)) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "section %s has its names in section %d of %d", table.name, table.link, len(f.sections))
	}
	b, err := f.sectionBytes(table)
	if err != nil {
		return nil, err
	}
	if out.names, err = f.sectionBytes(&f.sections[table.link]); err != nil {
		return nil, err
	}
	for ; len(b) >= 24; b = b[24:] {
		if s, ok := f.symbol(b, out.names); ok {
			out.list = append(out.list, s)
		}
	}
	out.order()
	return out, nil
}

// symbol reads an entry of a symbol table; false if it names no code.
func (f *nativeFile) symbol(b, names []byte) (nativeSymbol, bool) {
	s := nativeSymbol{name: binary.LittleEndian.Uint32(b)}
	kind, bind := elf.ST_TYPE(b[4]), elf.ST_BIND(b[4])
	if elf.SectionIndex(binary.LittleEndian.Uint16(b[6:])) == elf.SHN_UNDEF {
		return s, false
	}
	switch kind {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC:
	case elf.STT_NOTYPE:
		s.rank = 16
	default:
		return s, false
	}
	if bytes.HasPrefix(names[min(int(s.name), len(names)):], []byte("runtime.etext\x00")) {
		return s, false // the Go linker's mark where its code ends
	}
	switch bind {
	case elf.STB_GLOBAL:
	case elf.STB_WEAK:
		s.rank++
	default:
		s.rank += 2
	}
	s.lo = binary.LittleEndian.Uint64(b[8:])
	size := binary.LittleEndian.Uint64(b[16:])
	section, ok := f.codeAt(s.lo)
	if !ok || int64(s.name) >= int64(len(names)) || names[s.name] == 0 {
		return s, false
	}
	// Marks of code and data within a section (ARM), and labels.
	if names[s.name] == '$' || bytes.HasPrefix(names[s.name:], []byte(".L")) {
		return s, false
	}
	s.hi = section.hi
	if s.sized = size > 0; s.sized && size < section.hi-s.lo {
		s.hi = s.lo + size
	}
	return s, true
}

// order sorts the symbols, keeps one name of each place and ends those
// without size where the next one begins. A label without type or size inside
// of a function is no function.
func (s *nativeSymbols) order() {
	slices.SortFunc(s.list, func(a, b nativeSymbol) int {
		return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.rank, b.rank), cmp.Compare(b.hi, a.hi), strings.Compare(s.name(a), s.name(b)))
	})
	s.list = slices.CompactFunc(s.list, func(a, b nativeSymbol) bool { return a.lo == b.lo })
	kept := s.list[:0]
	var reach uint64 // where sized functions so far end
	for i, y := range s.list {
		if !y.sized {
			if y.rank >= 16 && y.lo < reach {
				continue
			}
			if i+1 < len(s.list) {
				y.hi = min(y.hi, s.list[i+1].lo)
			}
		} else {
			reach = max(reach, y.hi)
		}
		kept = append(kept, y)
	}
	s.list = kept
}

// name is the symbol's name without the version that linkers append.
func (s *nativeSymbols) name(y nativeSymbol) string {
	b := s.names[y.name:min(len(s.names), int(y.name)+dwarfMaxText)]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	if at := bytes.IndexByte(b, '@'); at > 0 {
		b = b[:at]
	}
	return string(b)
}

// at is the name of the symbol that begins at an address, "" if none does.
func (s *nativeSymbols) at(addr uint64) string {
	i, ok := slices.BinarySearchFunc(s.list, addr, func(y nativeSymbol, addr uint64) int { return cmp.Compare(y.lo, addr) })
	if !ok {
		return ""
	}
	return s.name(s.list[i])
}
