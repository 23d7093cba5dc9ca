package symbolize

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"io"
	"slices"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest"
)

const (
	nativeMaxSections   = 1 << 14 // a linked file has some dozens
	nativeMaxNameTable  = 1 << 20 // bytes of the names of sections
	nativeMaxNameLength = 64      // bytes of one name; longer ones are cut
	nativeMaxBytes      = 1 << 30 // of one section, unpacked
	nativeMaxPacking    = 1 << 10 // how much smaller a packed section may be
)

// nativeRange is the addresses [lo, hi).
type nativeRange struct{ lo, hi uint64 }

// nativeSection is one section header of an ELF file.
type nativeSection struct {
	name   string
	typ    elf.SectionType
	flags  elf.SectionFlag
	addr   uint64
	offset uint64
	size   uint64
	link   uint32
}

// nativeFile is a linked ELF file of 64 bits, little-endian. It reads headers
// itself because debug/elf does work that headers alone can make endless.
type nativeFile struct {
	r        io.ReaderAt
	size     int64
	machine  elf.Machine
	sections []nativeSection
	code     []nativeRange // of executable sections, ascending, disjoint
}

func openNativeFile(r io.ReaderAt, size int64) (*nativeFile, error) {
	var head [64]byte
	if size < int64(len(head)) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "no ELF file: it has %d bytes, the header alone takes %d", size, len(head))
	}
	if _, err := r.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	if string(head[:4]) != elf.ELFMAG {
		return nil, inquest.Errorf(inquest.ErrInvalid, "no ELF file: it begins with % x", head[:4])
	}
	if elf.Class(head[4]) != elf.ELFCLASS64 || elf.Data(head[5]) != elf.ELFDATA2LSB {
		return nil, inquest.Errorf(inquest.ErrInvalid, "only little-endian ELF files of 64 bits are supported, this is %v %v", elf.Class(head[4]), elf.Data(head[5]))
	}
	f := &nativeFile{r: r, size: size, machine: elf.Machine(binary.LittleEndian.Uint16(head[18:]))}
	if err := f.readSections(head[:]); err != nil {
		return nil, err
	}
	for _, s := range f.sections {
		if s.flags&elf.SHF_EXECINSTR != 0 && s.addr+s.size > s.addr {
			f.code = append(f.code, nativeRange{s.addr, s.addr + s.size})
		}
	}
	slices.SortFunc(f.code, func(a, b nativeRange) int { return cmp.Compare(a.lo, b.lo) })
	for i := 1; i < len(f.code); i++ {
		f.code[i].lo = max(f.code[i].lo, f.code[i-1].hi)
		f.code[i].hi = max(f.code[i].hi, f.code[i].lo)
	}
	return f, nil
}

// readSections reads the section headers and their names.
func (f *nativeFile) readSections(head []byte) error {
	const entry = 64
	offset := binary.LittleEndian.Uint64(head[40:])
	if offset == 0 {
		return nil
	}
	if n := binary.LittleEndian.Uint16(head[58:]); n != entry {
		return inquest.Errorf(inquest.ErrInvalid, "section headers have %d bytes each, want %d", n, entry)
	}
	count := uint64(binary.LittleEndian.Uint16(head[60:]))
	names := uint32(binary.LittleEndian.Uint16(head[62:]))
	first, err := f.bytes(offset, entry)
	if err != nil {
		return err
	}
	// What does not fit the file's header is in the first section's.
	if count == 0 {
		count = binary.LittleEndian.Uint64(first[32:])
	}
	if elf.SectionIndex(names) == elf.SHN_XINDEX {
		names = binary.LittleEndian.Uint32(first[40:])
	}
	if count > nativeMaxSections {
		return inquest.Errorf(inquest.ErrTooLarge, "the file has %d sections, more than %d", count, nativeMaxSections)
	}
	headers, err := f.bytes(offset, count*entry)
	if err != nil {
		return err
	}
	nameAt := make([]uint32, count)
	for i := range nameAt {
		h := headers[i*entry:]
		nameAt[i] = binary.LittleEndian.Uint32(h)
		f.sections = append(f.sections, nativeSection{
			typ:    elf.SectionType(binary.LittleEndian.Uint32(h[4:])),
			flags:  elf.SectionFlag(binary.LittleEndian.Uint64(h[8:])),
			addr:   binary.LittleEndian.Uint64(h[16:]),
			offset: binary.LittleEndian.Uint64(h[24:]),
			size:   binary.LittleEndian.Uint64(h[32:]),
			link:   binary.LittleEndian.Uint32(h[40:]),
		})
	}
	return f.nameSections(names, nameAt)
}

func (f *nativeFile) nameSections(table uint32, nameAt []uint32) error {
	if int64(table) >= int64(len(f.sections)) {
		return inquest.Errorf(inquest.ErrInvalid, "the names of sections are said to be in section %d of %d", table, len(f.sections))
	}
	s := f.sections[table]
	if s.size > nativeMaxNameTable {
		return inquest.Errorf(inquest.ErrTooLarge, "the names of sections take %d bytes, more than %d", s.size, nativeMaxNameTable)
	}
	text, err := f.bytes(s.offset, s.size)
	if err != nil {
		return err
	}
	for i, at := range nameAt {
		if int64(at) < int64(len(text)) {
			name := text[at:min(len(text), int(at)+nativeMaxNameLength)]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			f.sections[i].name = string(name)
		}
	}
	return nil
}

// bytes reads n bytes of the file, and never more than it has.
func (f *nativeFile) bytes(offset, n uint64) ([]byte, error) {
	if offset > uint64(f.size) || n > uint64(f.size)-offset {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d bytes at %#x are wanted of a file of %d bytes: it is cut off or damaged", n, offset, f.size)
	}
	b := make([]byte, n)
	if k, err := f.r.ReadAt(b, int64(offset)); k < len(b) {
		return nil, err
	}
	return b, nil
}

// inCode says whether an address is in an executable section.
func (f *nativeFile) inCode(addr uint64) bool {
	_, ok := f.codeAt(addr)
	return ok
}

// codeAt returns the executable section around an address.
func (f *nativeFile) codeAt(addr uint64) (nativeRange, bool) {
	i, found := slices.BinarySearchFunc(f.code, addr, func(r nativeRange, addr uint64) int { return cmp.Compare(r.lo, addr) })
	if !found {
		i--
	}
	if i < 0 || addr >= f.code[i].hi {
		return nativeRange{}, false
	}
	return f.code[i], true
}

// section returns the first section of a name that has bytes in the file, nil
// if there is none.
func (f *nativeFile) section(name string) *nativeSection {
	for i := range f.sections {
		if s := &f.sections[i]; s.name == name && s.typ != elf.SHT_NOBITS && s.size > 0 {
			return s
		}
	}
	return nil
}

// debug returns a section of debug information, unpacked; nil if there is none.
func (f *nativeFile) debug(name string) ([]byte, error) {
	s := f.section(".debug_" + name)
	if s == nil {
		return f.oldPacked(name)
	}
	b, err := f.sectionBytes(s)
	if err != nil || s.flags&elf.SHF_COMPRESSED == 0 {
		return b, err
	}
	if len(b) < 24 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "section %s is packed but has %d bytes", s.name, len(b))
	}
	kind := elf.CompressionType(binary.LittleEndian.Uint32(b))
	return nativeUnpack(s.name, kind, b[24:], binary.LittleEndian.Uint64(b[8:]))
}

// oldPacked reads the form of packing that older tools wrote: .zdebug_…, with
// "ZLIB" and the size in front.
func (f *nativeFile) oldPacked(name string) ([]byte, error) {
	s := f.section(".zdebug_" + name)
	if s == nil {
		return nil, nil
	}
	b, err := f.sectionBytes(s)
	if err != nil {
		return nil, err
	}
	if len(b) < 12 || string(b[:4]) != "ZLIB" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "section %s does not begin with ZLIB and a size", s.name)
	}
	return nativeUnpack(s.name, elf.COMPRESS_ZLIB, b[12:], binary.BigEndian.Uint64(b[4:]))
}

func (f *nativeFile) sectionBytes(s *nativeSection) ([]byte, error) {
	if s.size > nativeMaxBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "section %s has %d bytes, more than %d", s.name, s.size, nativeMaxBytes)
	}
	return f.bytes(s.offset, s.size)
}

func nativeUnpack(name string, kind elf.CompressionType, b []byte, size uint64) ([]byte, error) {
	if size > nativeMaxBytes || size > uint64(len(b))*nativeMaxPacking {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "section %s claims to unpack from %d to %d bytes", name, len(b), size)
	}
	var r io.Reader
	switch kind {
	case elf.COMPRESS_ZLIB:
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "unpack section %s: %w", name, err)
		}
		r = z
	case elf.COMPRESS_ZSTD:
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(nativeMaxBytes))
		if err != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "unpack section %s: %w", name, err)
		}
		defer z.Close()
		r = z
	default:
		return nil, inquest.Errorf(inquest.ErrInvalid, "section %s is packed by method %v, which is not known", name, kind)
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "unpack section %s: %w", name, err)
	}
	return out, nil
}
