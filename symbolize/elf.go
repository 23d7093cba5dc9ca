package symbolize

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"

	"github.com/goinquest/inquest"
)

// errNotELF says a file is no executable at all.
var errNotELF = inquest.Errorf(inquest.ErrNotFound, "not an ELF file")

// Offsets in the ELF headers (System V ABI, "Object Files"), for 32 and 64 bits.
type elfLayout struct {
	header, word                     int // size of the file header, of an address
	phoff, shoff                     int // in the file header
	phentsize, shentsize, shstrndx   int // in the file header; each count follows its size
	phFlags, phOffset, phVaddr       int // in a program header
	phFilesz, phMemsz, phAlign       int
	phMin                            int // its least size
	shFlags, shAddr, shOffset        int // in a section header
	shSize, shAlign, shMin           int
	relaSize, dynSize, relaSymbolBit int // size of an entry; where the symbol begins in r_info
}

var (
	elf64 = elfLayout{64, 8, 32, 40, 54, 58, 62, 4, 8, 16, 32, 40, 48, 56, 8, 16, 24, 32, 48, 64, 24, 16, 32}
	elf32 = elfLayout{52, 4, 28, 32, 42, 46, 50, 24, 4, 8, 16, 20, 28, 32, 8, 12, 16, 20, 32, 40, 12, 8, 8}
)

const (
	maxNotesBytes = 1 << 20
	maxNamesBytes = 4 << 20
	maxELFHeaders = 4096
	maxPartBytes  = 1 << 29 // of a file that is read in one piece

	typeExecutable = 2 // ET_EXEC
	typeShared     = 3 // ET_DYN

	segmentLoad    = 1 // PT_LOAD
	segmentDynamic = 2 // PT_DYNAMIC
	segmentInterp  = 3 // PT_INTERP
	segmentNote    = 4 // PT_NOTE
	segmentExec    = 1 // PF_X
	segmentWrite   = 2 // PF_W

	sectionSymtab = 2 // SHT_SYMTAB
	sectionNote   = 7 // SHT_NOTE
	sectionNoBits = 8 // SHT_NOBITS
	sectionAlloc  = 2 // SHF_ALLOC

	noteGNUBuild = 3 // NT_GNU_BUILD_ID
	noteGoBuild  = 4 // cmd/link: ELF_NOTE_GOBUILDID_TAG
)

// image is one ELF file. It is read by ranges, and never trusted: all that
// comes out of its headers is checked against the size of the file.
type image struct {
	r        io.ReaderAt
	size     uint64 // of the file; math.MaxInt64 if that is not known
	order    binary.ByteOrder
	layout   *elfLayout
	kind     uint16 // e_type
	machine  uint16 // e_machine
	entry    uint64 // e_entry
	segments []segment
	sections []section
	broken   error // why the headers could not be read; what was not read is left out
}

// segment is a program header.
type segment struct {
	kind, flags                  uint32
	off, addr, filesz, mem, algn uint64
}

// section is a section header.
type section struct {
	name                  string
	kind                  uint32
	flags                 uint64
	addr, off, size, algn uint64
}

// openELF reads all headers of a file. size is -1 if it is not known.
func openELF(r io.ReaderAt, size int64) (*image, error) {
	h := make([]byte, 64)
	n, err := r.ReadAt(h, 0)
	if n < elf32.header || string(h[:4]) != "\x7fELF" {
		if err == nil || err == io.EOF {
			err = errNotELF
		}
		return nil, err
	}
	f := &image{r: r, size: math.MaxInt64, order: binary.LittleEndian, layout: &elf64}
	if size >= 0 {
		f.size = uint64(size)
	}
	if h[5] == 2 {
		f.order = binary.BigEndian
	}
	if h[4] == 1 {
		f.layout = &elf32
	}
	if n < f.layout.header {
		return nil, errNotELF
	}
	f.kind, f.machine = f.order.Uint16(h[16:]), f.order.Uint16(h[18:])
	f.entry = f.word(h, 24)
	if err := f.readSegments(h); err != nil {
		f.broken = err
	}
	if err := f.readSections(h); err != nil {
		f.broken = err
	}
	return f, nil
}

func (f *image) word(b []byte, at int) uint64 {
	if f.layout.word == 4 {
		return uint64(f.order.Uint32(b[at:]))
	}
	return f.order.Uint64(b[at:])
}

func (f *image) readSegments(header []byte) error {
	l := f.layout
	rows, err := f.table(header, l.phoff, l.phentsize, l.phMin)
	for _, row := range rows {
		f.segments = append(f.segments, segment{
			f.order.Uint32(row), f.order.Uint32(row[l.phFlags:]),
			f.word(row, l.phOffset), f.word(row, l.phVaddr), f.word(row, l.phFilesz), f.word(row, l.phMemsz), f.word(row, l.phAlign),
		})
	}
	return err
}

// readSections reads the section headers and their names. An executable may
// have none.
func (f *image) readSections(header []byte) error {
	l := f.layout
	rows, err := f.table(header, l.shoff, l.shentsize, l.shMin)
	if err != nil {
		return err
	}
	for _, row := range rows {
		f.sections = append(f.sections, section{
			"", f.order.Uint32(row[4:]), f.word(row, l.shFlags),
			f.word(row, l.shAddr), f.word(row, l.shOffset), f.word(row, l.shSize), f.word(row, l.shAlign),
		})
	}
	strndx := int(f.order.Uint16(header[l.shstrndx:]))
	if strndx >= len(rows) {
		return nil
	}
	names := f.sections[strndx]
	if names.size > maxNamesBytes {
		return inquest.Errorf(inquest.ErrInvalid, "names of ELF sections: %d bytes", names.size)
	}
	b, err := f.read(names.off, names.size)
	if err != nil {
		return err
	}
	for i, row := range rows {
		if at := f.order.Uint32(row); uint64(at) < uint64(len(b)) {
			name, _, _ := bytes.Cut(b[at:], []byte{0})
			f.sections[i].name = string(name[:min(len(name), 128)])
		}
	}
	return nil
}

// table reads the program or section headers.
func (f *image) table(header []byte, offAt, sizeAt, least int) (rows [][]byte, err error) {
	off, size, count := f.word(header, offAt), int(f.order.Uint16(header[sizeAt:])), int(f.order.Uint16(header[sizeAt+2:]))
	if off == 0 || count == 0 {
		return nil, nil
	}
	if size < least || size > 4*least || count > maxELFHeaders {
		return nil, inquest.Errorf(inquest.ErrInvalid, "ELF headers: %d of %d bytes at %d", count, size, off)
	}
	b, err := f.read(off, uint64(size*count))
	if err != nil {
		return nil, err
	}
	for i := range count {
		rows = append(rows, b[i*size:(i+1)*size])
	}
	return rows, nil
}

// inFile reports whether [off, off+n) is a range of the file.
func (f *image) inFile(off, n uint64) bool {
	return off <= f.size && n <= f.size-off
}

// read reads a range of the file.
func (f *image) read(off, n uint64) ([]byte, error) {
	limit := uint64(maxPartBytes)
	if f.size == math.MaxInt64 {
		limit = maxNamesBytes // nothing says that so many bytes are there
	}
	if !f.inFile(off, n) || n > limit {
		return nil, inquest.Errorf(inquest.ErrInvalid, "ELF part of %d bytes at %d", n, off)
	}
	b := make([]byte, n)
	return b, f.readInto(b, off)
}

// readInto fills b from the file.
func (f *image) readInto(b []byte, off uint64) error {
	if !f.inFile(off, uint64(len(b))) {
		return inquest.Errorf(inquest.ErrInvalid, "ELF part of %d bytes at %d", len(b), off)
	}
	if got, err := f.r.ReadAt(b, int64(off)); got < len(b) {
		return inquest.Errorf(inquest.ErrInvalid, "ELF part of %d bytes at %d: %w", len(b), off, err)
	}
	return nil
}

// section finds a section by its name; nil if there is none.
func (f *image) section(name string) *section {
	for i := range f.sections {
		if f.sections[i].name == name {
			return &f.sections[i]
		}
	}
	return nil
}

// fileRange says where in the file an address is, and how many bytes follow
// it in the same segment.
func (f *image) fileRange(addr uint64) (off, left uint64, ok bool) {
	for _, s := range f.segments {
		if s.kind == segmentLoad && addr >= s.addr && addr-s.addr < s.filesz {
			if off = s.off + (addr - s.addr); off >= s.off && off < f.size {
				return off, min(s.filesz-(addr-s.addr), f.size-off), true
			}
		}
	}
	return 0, 0, false
}

// readAddr reads memory as it is in the file, before relocation.
func (f *image) readAddr(addr, n uint64) ([]byte, error) {
	off, left, ok := f.fileRange(addr)
	if !ok || n > left {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d bytes at address %#x are not in the file", n, addr)
	}
	return f.read(off, n)
}

// buildIDs reads the GNU build id in hex and the Go build id out of the
// notes; each is "" if there is none. Segments are there in every executable,
// but Go's own linker puts only its own note into one; the GNU note is then
// found by its section.
func (f *image) buildIDs() (gnu, goID string) {
	note := func(owner string, kind uint32, desc []byte) {
		switch {
		case owner == "GNU\x00" && kind == noteGNUBuild && len(desc) > 0 && len(desc) <= 64:
			gnu = hex.EncodeToString(desc)
		case owner == "Go\x00\x00" && kind == noteGoBuild && len(desc) <= 512:
			goID = string(desc)
		}
	}
	left := uint64(maxNotesBytes) // of all notes: headers may name the same bytes again and again
	for _, s := range f.segments {
		if s.kind == segmentNote {
			f.notes(s.off, s.filesz, s.algn, &left, note)
		}
	}
	for _, s := range f.sections {
		if s.kind == sectionNote {
			f.notes(s.off, s.size, s.algn, &left, note)
		}
	}
	return gnu, goID
}

func (f *image) notes(off, size, align uint64, left *uint64, note func(owner string, kind uint32, desc []byte)) {
	if size > *left {
		return
	}
	*left -= size
	if b, err := f.read(off, size); err == nil { // what cannot be read has no notes
		f.walkNotes(b, align, note)
	}
}

func (f *image) walkNotes(b []byte, align uint64, note func(owner string, kind uint32, desc []byte)) {
	if align != 8 {
		align = 4
	}
	pad := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	for len(b) >= 12 {
		nameLen, descLen, kind := uint64(f.order.Uint32(b)), uint64(f.order.Uint32(b[4:])), f.order.Uint32(b[8:])
		descAt := pad(12 + nameLen)
		if descAt+descLen > uint64(len(b)) {
			return
		}
		note(string(b[12:12+nameLen]), kind, b[descAt:descAt+descLen])
		b = b[min(pad(descAt+descLen), uint64(len(b))):]
	}
}
