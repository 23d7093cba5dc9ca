package coredump

import (
	"fmt"
	"io"

	"github.com/goinquest/inquest"
)

// Numbers of ELF (System V ABI, "Object Files"; Linux' elf.h). Cores are of
// 64 bits and little-endian here, as amd64 and arm64 are.
const (
	elfHeaderSize  = 64
	elfProgramSize = 56
	elfSectionSize = 64
	elfTypeCore    = 4      // ET_CORE
	elfManyHeaders = 0xffff // PN_XNUM: the number is in section 0

	elfLoad = 1 // PT_LOAD
	elfNote = 4 // PT_NOTE

	machineAMD64 = 62  // EM_X86_64
	machineARM64 = 183 // EM_AARCH64

	maxProgramHeaders = MaxExtents
)

// elfProgram is a program header.
type elfProgram struct {
	kind, flags             uint32
	off, addr, filesz, size uint64
}

func (p *elfProgram) append(b []byte, align uint64) []byte {
	b = wire.AppendUint32(b, p.kind)
	b = wire.AppendUint32(b, p.flags)
	b = wire.AppendUint64(b, p.off)
	b = wire.AppendUint64(b, p.addr)
	b = wire.AppendUint64(b, 0)
	b = wire.AppendUint64(b, p.filesz)
	b = wire.AppendUint64(b, p.size)
	return wire.AppendUint64(b, align)
}

func parseProgram(b []byte) elfProgram {
	return elfProgram{
		kind: wire.Uint32(b), flags: wire.Uint32(b[4:]),
		off: wire.Uint64(b[8:]), addr: wire.Uint64(b[16:]),
		filesz: wire.Uint64(b[32:]), size: wire.Uint64(b[40:]),
	}
}

// elfHeader is what is needed of the header of a core file.
type elfHeader struct {
	machine uint16
	phoff   uint64
	phnum   int  // elfManyHeaders: see readPrograms
	counted bool // phnum is the number, even if it is that one
	shoff   uint64
}

func appendELFHeader(b []byte, machine uint16, phnum int) []byte {
	b = append(b, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = wire.AppendUint16(b, elfTypeCore)
	b = wire.AppendUint16(b, machine)
	b = wire.AppendUint32(b, 1)
	b = wire.AppendUint64(b, 0)
	b = wire.AppendUint64(b, elfHeaderSize)
	shoff, shnum := uint64(0), uint16(0)
	if phnum >= elfManyHeaders {
		shoff, shnum = elfHeaderSize+uint64(phnum)*elfProgramSize, 1
	}
	b = wire.AppendUint64(b, shoff)
	b = wire.AppendUint32(b, 0)
	b = wire.AppendUint16(b, elfHeaderSize)
	b = wire.AppendUint16(b, elfProgramSize)
	b = wire.AppendUint16(b, uint16(min(phnum, elfManyHeaders)))
	b = wire.AppendUint16(b, elfSectionSize*shnum)
	b = wire.AppendUint16(b, shnum)
	return wire.AppendUint16(b, 0)
}

func parseELFHeader(b []byte) (h elfHeader, err error) {
	if len(b) < elfHeaderSize || string(b[:4]) != "\x7fELF" {
		return h, inquest.Errorf(inquest.ErrInvalid, "not a core: no ELF header")
	}
	if b[4] != 2 || b[5] != 1 {
		return h, inquest.Errorf(inquest.ErrInvalid, "a core of 32 bits or big-endian; only amd64 and arm64 are known")
	}
	h.machine = wire.Uint16(b[18:])
	if kind := wire.Uint16(b[16:]); kind != elfTypeCore {
		return h, inquest.Errorf(inquest.ErrInvalid, "not a core: an ELF file of type %d", kind)
	}
	if arch(h.machine) == "" {
		return h, inquest.Errorf(inquest.ErrInvalid, "a core of machine %d; only amd64 and arm64 are known", h.machine)
	}
	h.phoff, h.shoff, h.phnum = wire.Uint64(b[32:]), wire.Uint64(b[40:]), int(wire.Uint16(b[56:]))
	if size := wire.Uint16(b[54:]); h.phnum == 0 || size != elfProgramSize {
		return h, inquest.Errorf(inquest.ErrInvalid, "not a core: %d program headers of %d bytes", h.phnum, size)
	}
	return h, nil
}

// arch spells a machine as GOARCH does, "" if it is not known.
func arch(machine uint16) string {
	switch machine {
	case machineAMD64:
		return "amd64"
	case machineARM64:
		return "arm64"
	}
	return ""
}

// counted reads a stream and knows how far it is.
type counted struct {
	r   io.Reader
	off uint64
}

func (c *counted) full(b []byte) error {
	n, err := io.ReadFull(c.r, b)
	c.off += uint64(n)
	if err != nil {
		return fmt.Errorf("read a core at %d: %w", c.off, truncated(err))
	}
	return nil
}

// skip reads on to off.
func (c *counted) skip(off uint64) error {
	n, err := io.CopyN(io.Discard, c.r, int64(off-c.off))
	c.off += uint64(n)
	if err != nil {
		return fmt.Errorf("read a core at %d: %w", c.off, truncated(err))
	}
	return nil
}

// truncated makes an end of file that should not be there an error of the input.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return inquest.Errorf(inquest.ErrInvalid, "it is cut off")
	}
	return err
}

// readHeaders reads the ELF header and the program headers of a core that
// comes as a stream.
func (c *counted) readHeaders() (h elfHeader, programs []elfProgram, err error) {
	b := make([]byte, elfHeaderSize)
	if err := c.full(b); err != nil {
		return h, nil, err
	}
	if h, err = parseELFHeader(b); err != nil {
		return h, nil, err
	}
	if h.phoff < elfHeaderSize || h.phoff > 1<<20 {
		return h, nil, inquest.Errorf(inquest.ErrInvalid, "a core whose program headers are at %d, as Delve writes them: it can be read as a file only", h.phoff)
	}
	if err := c.skip(h.phoff); err != nil {
		return h, nil, err
	}
	programs, err = c.readPrograms(h)
	return h, programs, err
}

// fileHeaders does the same for a file, in which they may be anywhere.
func fileHeaders(r io.ReaderAt, size int64) (h elfHeader, programs []elfProgram, err error) {
	b := make([]byte, elfHeaderSize)
	c := &counted{r: io.NewSectionReader(r, 0, size)}
	if err := c.full(b); err != nil {
		return h, nil, err
	}
	if h, err = parseELFHeader(b); err != nil {
		return h, nil, err
	}
	if h.phoff < elfHeaderSize || h.phoff > uint64(size) {
		return h, nil, inquest.Errorf(inquest.ErrInvalid, "its program headers are at %d, its end is at %d", h.phoff, size)
	}
	if h.phnum == elfManyHeaders && h.shoff >= elfHeaderSize && h.shoff <= uint64(size) {
		if _, err := r.ReadAt(b[:elfSectionSize], int64(h.shoff)); err == nil {
			h.phnum, h.counted = int(wire.Uint32(b[44:])), true // sh_info
		}
		if h.phnum == 0 || h.phnum > maxProgramHeaders {
			return h, nil, inquest.Errorf(inquest.ErrInvalid, "a core of %d program headers", h.phnum)
		}
	}
	c = &counted{r: io.NewSectionReader(r, int64(h.phoff), size-int64(h.phoff)), off: h.phoff}
	programs, err = c.readPrograms(h)
	return h, programs, err
}

// readPrograms reads the program headers that come next.
func (c *counted) readPrograms(h elfHeader) (programs []elfProgram, err error) {
	b := make([]byte, elfProgramSize)
	n := h.phnum
	for i := 0; i < n; i++ {
		if err := c.full(b); err != nil {
			return nil, err
		}
		p := parseProgram(b)
		if i == 0 && n == elfManyHeaders && !h.counted {
			// The number is in a section header, which the kernel writes at the
			// very end. But what follows the program headers are the notes, or
			// that section header.
			end := p.off
			if h.shoff > h.phoff && h.shoff < end {
				end = h.shoff
			}
			if p.kind != elfNote || end < h.phoff || (end-h.phoff)/elfProgramSize > maxProgramHeaders {
				return nil, inquest.Errorf(inquest.ErrInvalid, "a core of too many program headers, or without notes before them")
			}
			n = int((end - h.phoff) / elfProgramSize)
		}
		programs = append(programs, p)
	}
	return programs, nil
}
