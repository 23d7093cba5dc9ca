package host

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/binary"
	"encoding/hex"
	"io"
	"runtime/debug"
	"strings"

	"github.com/goinquest/inquest"
)

// errNotGo says an executable was not built by Go.
var errNotGo = inquest.Errorf(inquest.ErrNotFound, "not a Go executable")

// Offsets in the ELF headers (System V ABI, "Object Files"), for 32 and 64 bits.
type elfLayout struct {
	header, word                       int // size of the file header, of an address
	phoff, shoff                       int // in the file header
	phentsize, shentsize, shstrndx     int // in the file header; each count follows its size
	phOffset, phFilesz, phAlign, phMin int // in a program header, and its least size
	shOffset, shSize, shAlign, shMin   int // in a section header, and its least size
}

var (
	elf64 = elfLayout{64, 8, 32, 40, 54, 58, 62, 8, 32, 48, 56, 24, 32, 48, 64}
	elf32 = elfLayout{52, 4, 28, 32, 42, 46, 50, 4, 16, 28, 32, 16, 20, 32, 40}
)

const (
	maxNotesBytes = 1 << 20
	maxNamesBytes = 4 << 20
	ptNote        = 4
	shtNote       = 7
	noteGNUBuild  = 3 // NT_GNU_BUILD_ID
	noteGoBuild   = 4 // cmd/link: ELF_NOTE_GOBUILDID_TAG
	maxELFHeaders = 4096
)

// elfFile reads the few parts of an executable that are looked at.
type elfFile struct {
	r      io.ReaderAt
	order  binary.ByteOrder
	layout *elfLayout
	header []byte
}

// openELF reads the file header.
func openELF(r io.ReaderAt) (*elfFile, error) {
	h := make([]byte, 64)
	n, err := r.ReadAt(h, 0)
	if n < elf32.header || string(h[:4]) != "\x7fELF" {
		if err == nil || err == io.EOF {
			err = errNotGo
		}
		return nil, err
	}
	f := &elfFile{r: r, order: binary.LittleEndian, layout: &elf64, header: h[:n]}
	if h[5] == 2 {
		f.order = binary.BigEndian
	}
	if h[4] == 1 {
		f.layout = &elf32
	}
	if n < f.layout.header {
		return nil, errNotGo
	}
	return f, nil
}

func (f *elfFile) word(b []byte, at int) uint64 {
	if f.layout.word == 4 {
		return uint64(f.order.Uint32(b[at:]))
	}
	return f.order.Uint64(b[at:])
}

// table reads the program or section headers.
func (f *elfFile) table(offAt, sizeAt, least int) (rows [][]byte, err error) {
	off, size, count := f.word(f.header, offAt), int(f.order.Uint16(f.header[sizeAt:])), int(f.order.Uint16(f.header[sizeAt+2:]))
	if off == 0 || count == 0 {
		return nil, nil
	}
	if size < least || count > maxELFHeaders || off > 1<<62 {
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

func (f *elfFile) read(off, n uint64) ([]byte, error) {
	if off > 1<<62 || n > 1<<26 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "ELF part of %d bytes at %d", n, off)
	}
	b := make([]byte, n)
	if _, err := f.r.ReadAt(b, int64(off)); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "ELF part of %d bytes at %d: %w", n, off, err)
	}
	return b, nil
}

// mayBeGo is the cheap check: an executable whose section names are there
// and do not name Go's build information is none of Go's.
func (f *elfFile) mayBeGo() bool {
	l := f.layout
	rows, err := f.table(l.shoff, l.shentsize, l.shMin)
	if err != nil || len(rows) == 0 {
		return true
	}
	strndx := int(f.order.Uint16(f.header[l.shstrndx:]))
	if strndx >= len(rows) {
		return true
	}
	off, size := f.word(rows[strndx], l.shOffset), f.word(rows[strndx], l.shSize)
	if size > maxNamesBytes {
		return true
	}
	names, err := f.read(off, size)
	return err != nil || bytes.Contains(names, []byte(".go.buildinfo\x00"))
}

// buildIDs reads the GNU build id in hex and the Go build id out of the
// notes; each is "" if there is none. Segments are there in every executable,
// but Go's own linker puts only its own note into one; the GNU note is then
// found by its section.
func (f *elfFile) buildIDs() (gnu, goID string) {
	l := f.layout
	note := func(owner string, kind uint32, desc []byte) {
		switch {
		case owner == "GNU\x00" && kind == noteGNUBuild && len(desc) > 0 && len(desc) <= 64:
			gnu = hex.EncodeToString(desc)
		case owner == "Go\x00\x00" && kind == noteGoBuild && len(desc) <= 512:
			goID = string(desc)
		}
	}
	segments, _ := f.table(l.phoff, l.phentsize, l.phMin) // what cannot be read has no notes
	for _, row := range segments {
		if f.order.Uint32(row) == ptNote {
			f.notes(f.word(row, l.phOffset), f.word(row, l.phFilesz), f.word(row, l.phAlign), note)
		}
	}
	sections, _ := f.table(l.shoff, l.shentsize, l.shMin) // likewise
	for _, row := range sections {
		if f.order.Uint32(row[4:]) == shtNote {
			f.notes(f.word(row, l.shOffset), f.word(row, l.shSize), f.word(row, l.shAlign), note)
		}
	}
	return gnu, goID
}

func (f *elfFile) notes(off, size, align uint64, note func(owner string, kind uint32, desc []byte)) {
	if size > maxNotesBytes {
		return
	}
	if b, err := f.read(off, size); err == nil {
		f.walkNotes(b, align, note)
	}
}

func (f *elfFile) walkNotes(b []byte, align uint64, note func(owner string, kind uint32, desc []byte)) {
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

// ReadBuild reads what an executable says of itself. The error is of kind
// inquest.ErrNotFound if it was not built by Go (or hides it).
func ReadBuild(r io.ReaderAt) (*inquest.Build, error) {
	f, err := openELF(r)
	if err != nil {
		return nil, err
	}
	if !f.mayBeGo() {
		return nil, errNotGo
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "not a Go executable: %w", err)
	}
	gnu, goID := f.buildIDs()
	return newBuild(info, gnu, goID), nil
}

func newBuild(info *debug.BuildInfo, gnu, goID string) *inquest.Build {
	b := &inquest.Build{ID: gnu, GoBuildID: goID, GoVersion: info.GoVersion, Path: info.Path, Module: info.Main.Path}
	if b.ID == "" && goID != "" {
		sum := sha256.Sum256([]byte(goID))
		b.ID = "go-" + hex.EncodeToString(sum[:])
	}
	if info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.time":
			b.Time = s.Value
		case s.Key == "vcs.modified":
			b.Modified = s.Value == "true"
		case !strings.HasPrefix(s.Key, "vcs"):
			if b.Settings == nil {
				b.Settings = map[string]string{}
			}
			b.Settings[s.Key] = s.Value
		}
	}
	return b
}
