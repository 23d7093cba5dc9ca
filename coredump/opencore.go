package coredump

import (
	"fmt"
	"io"
	"slices"

	"github.com/goinquest/inquest"
)

// OpenCoreFile opens an ordinary ELF core of size bytes. What a file that was
// cut off has not got is in Missing, and missing in the Memory of the process.
func OpenCoreFile(r io.ReaderAt, size int64) (*Notes, error) {
	n, err := fileNotes(r, size)
	if err != nil {
		return nil, fmt.Errorf("open a core: %w", err)
	}
	f := &fileMemory{r: r}
	for _, p := range n.loads {
		here := p
		if end := p.off + p.filesz; end > uint64(size) {
			here.filesz = max(p.off, uint64(size)) - p.off
			n.Missing = append(n.Missing, Extent{p.addr + here.filesz, p.filesz - here.filesz})
		}
		if here.filesz > 0 {
			f.loads = append(f.loads, here)
		}
	}
	n.Process.Memory = f
	return n, nil
}

// fileNotes reads the headers and the notes, wherever these are.
func fileNotes(r io.ReaderAt, size int64) (*Notes, error) {
	h, programs, err := fileHeaders(r, size)
	if err != nil {
		return nil, err
	}
	note, err := noteSegment(programs)
	if err != nil {
		return nil, err
	}
	if note.off > uint64(size) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "its notes are at %d, behind its end at %d", note.off, size)
	}
	raw, err := readNotes(io.NewSectionReader(r, int64(note.off), size-int64(note.off)), note)
	if err != nil {
		return nil, err
	}
	return newNotes(h.machine, programs, raw, elfHeaderSize)
}

// fileMemory reads a core file by address.
type fileMemory struct {
	r     io.ReaderAt
	loads []elfProgram // by address
}

// ReadAt reads at an address. The error is of kind inquest.ErrNotFound where
// the file has nothing.
func (f *fileMemory) ReadAt(p []byte, off int64) (int, error) {
	addr := uint64(off)
	i, _ := slices.BinarySearchFunc(f.loads, addr, func(l elfProgram, a uint64) int {
		return within(a, l.addr, l.addr+l.filesz)
	})
	done := 0
	for ; done < len(p); i++ {
		if i == len(f.loads) || f.loads[i].addr > addr {
			return done, inquest.Errorf(inquest.ErrNotFound, "no memory at %#x in the core", addr)
		}
		l := f.loads[i]
		n := int(min(uint64(len(p)-done), l.addr+l.filesz-addr))
		k, err := f.r.ReadAt(p[done:done+n], int64(l.off+addr-l.addr))
		done += k
		addr += uint64(k)
		if k < n {
			return done, fmt.Errorf("read memory at %#x: %w", addr, truncated(err))
		}
	}
	return done, nil
}
