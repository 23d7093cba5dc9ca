package symbolize

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// hashed are the sections that show whether two files have the same code and
// constants.
var hashed = []string{".text", ".rodata", ".gopclntab"}

// Identify reads what a file of size bytes is and what it is good for: all of
// a Binary but the SHA-256 of the whole file, which whoever receives a file
// has at hand, and Sum computes for others. It reads the headers and the
// sections it hashes, and holds little of them. The errors are of kind
// inquest.ErrNotFound if this is no ELF file, inquest.ErrInvalid if its
// headers are wrong. A file that was not built by Go has no Path and GoVersion.
func Identify(r io.ReaderAt, size int64) (*inquest.Binary, error) {
	f, err := openELF(r, size)
	if err != nil {
		return nil, err
	}
	if f.broken != nil {
		return nil, f.broken
	}
	b := &inquest.Binary{Bytes: size, Arch: f.arch(), Kind: f.binaryKind()}
	build, err := f.build()
	switch {
	case err == nil:
		b.Build = *build
	case errors.Is(err, inquest.ErrNotFound):
		b.ID, b.GoBuildID = f.ids()
	default:
		return nil, err
	}
	b.GNUBuildID, _ = f.buildIDs()
	if err := f.describe(b); err != nil {
		return nil, err
	}
	if !b.Pclntab && b.Kind != inquest.BinaryDebug {
		_, err := openPclntab(f)
		b.Pclntab = err == nil // of a file whose linker gave its section another name
	}
	return b, nil
}

// Sum returns the SHA-256 of a whole file of size bytes, in hex.
func Sum(r io.ReaderAt, size int64) (string, error) {
	return sum(r, 0, uint64(size))
}

func sum(r io.ReaderAt, off, n uint64) (string, error) {
	h := sha256.New()
	got, err := io.Copy(h, io.NewSectionReader(r, int64(off), int64(n)))
	if err != nil {
		return "", err
	}
	if uint64(got) != n {
		return "", inquest.Errorf(inquest.ErrInvalid, "the file ends %d bytes before %d", n-uint64(got), off+n)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// describe fills in what the sections say.
func (f *image) describe(b *inquest.Binary) error {
	once := map[string]bool{} // a name of several sections is hashed once, or a bad file would keep us busy
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind == 0 {
			continue
		}
		out := inquest.Section{Name: s.name, Offset: s.off, Size: s.size, Absent: s.kind == sectionNoBits}
		if s.flags&sectionAlloc != 0 {
			out.Addr = s.addr
		}
		if !out.Absent && !f.inFile(s.off, s.size) {
			return inquest.Errorf(inquest.ErrInvalid, "section %q ends at %d, the file at %d", s.name, s.off+s.size, f.size)
		}
		if !out.Absent && s.size > 0 {
			b.Symtab = b.Symtab || s.kind == sectionSymtab
			b.DWARF = b.DWARF || s.name == ".debug_info" || s.name == ".zdebug_info"
			b.Pclntab = b.Pclntab || strings.HasSuffix(s.name, ".gopclntab")
		}
		if !out.Absent && slices.Contains(hashed, s.name) && !once[s.name] {
			once[s.name] = true
			var err error
			if out.SHA256, err = sum(f.r, s.off, s.size); err != nil {
				return err
			}
		}
		b.Sections = append(b.Sections, out)
	}
	return nil
}

// arch spells the machine as GOARCH does.
func (f *image) arch() string {
	little := f.order.Uint16([]byte{1, 0}) == 1
	switch m := elf.Machine(f.machine); {
	case m == elf.EM_X86_64:
		return "amd64"
	case m == elf.EM_AARCH64:
		return "arm64"
	case m == elf.EM_386:
		return "386"
	case m == elf.EM_ARM:
		return "arm"
	case m == elf.EM_RISCV && f.layout.word == 8:
		return "riscv64"
	case m == elf.EM_LOONGARCH:
		return "loong64"
	case m == elf.EM_S390:
		return "s390x"
	case m == elf.EM_PPC64 && little:
		return "ppc64le"
	case m == elf.EM_PPC64:
		return "ppc64"
	default:
		return m.String()
	}
}

const (
	dynamicNull   = 0          // DT_NULL
	dynamicRela   = 7          // DT_RELA
	dynamicRelaSz = 8          // DT_RELASZ
	dynamicFlags1 = 0x6ffffffb // DT_FLAGS_1
	flagPIE       = 0x08000000 // DF_1_PIE
)

// dynamic returns an entry of the dynamic section; 0 if it is not there.
func (f *image) dynamic(tag uint64) uint64 {
	for _, s := range f.segments {
		if s.kind != segmentDynamic {
			continue
		}
		b, err := f.read(s.off, min(s.filesz, 1<<16))
		if err != nil {
			return 0
		}
		for ; len(b) >= f.layout.dynSize; b = b[f.layout.dynSize:] {
			switch f.word(b, 0) {
			case tag:
				return f.word(b, f.layout.word)
			case dynamicNull:
				return 0
			}
		}
		return 0
	}
	return 0
}

// binaryKind tells programs from libraries, and both from what was left when
// the code was taken out.
func (f *image) binaryKind() string {
	if s := f.section(".text"); s != nil && s.kind == sectionNoBits {
		return inquest.BinaryDebug
	}
	interp := slices.ContainsFunc(f.segments, func(s segment) bool { return s.kind == segmentInterp })
	switch {
	case f.kind == typeExecutable:
		return inquest.BinaryExecutable
	case interp || f.dynamic(dynamicFlags1)&flagPIE != 0:
		return inquest.BinaryPIE
	default:
		return inquest.BinaryLibrary
	}
}
