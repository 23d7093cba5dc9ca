package coredump

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/goinquest/inquest"
)

const (
	corePage = 4096 // what segments of a core file are aligned to

	// maxLoads is how many segments a core file has unless its process had
	// more. Delve takes time that grows with their square: one second for
	// 2,000, 17 for 16,000, minutes for the 65,534 that debug/elf can count.
	maxLoads = 16000
)

// CoreFile is the ELF core an image stands for, as a file that nobody has
// written. What is missing is in no segment of it that has bytes in the file,
// so that a debugger fails to read it; what is zero is a hole. A note of the
// owner "Inquest" has the JSON of inquest.Core, which says what is missing.
// It is safe for concurrent use.
type CoreFile struct {
	im    *Image
	core  inquest.Core
	head  []byte // headers and notes
	loads []coreLoad
	size  int64
}

// coreLoad is a segment of a core file.
type coreLoad struct {
	elfProgram
	runs []run // without gaps; shared with the image
}

// CoreFile returns the ELF core of what is here of the image.
func (im *Image) CoreFile() *CoreFile {
	f := &CoreFile{im: im, core: im.Core()}
	f.group()
	if closed := f.coalesce(); closed > 0 {
		f.core.Missing = append(f.core.Missing,
			fmt.Sprintf("%d bytes in gaps between what was kept read as zero: a core file cannot have so many segments", closed))
	}
	f.layout()
	return f
}

// Core is the Core of the image, of the blocks that are here.
func (im *Image) Core() inquest.Core {
	l := im.ledger
	c := l.header.Core
	here, memory, stored := 0, int64(0), int64(0)
	for n := range l.blocks {
		if im.Has(n) {
			here++
			stored += int64(l.blocks[n].Stored)
		}
	}
	for _, r := range im.runs {
		if !r.zero {
			memory += int64(r.Size)
		}
	}
	c.Missing = slices.Clone(c.Missing)
	if l.written < l.total {
		c.Missing = append(c.Missing, fmt.Sprintf("%d of %d bytes: copying ended too early", l.total-l.written, l.total))
	}
	if len(l.skips) > 0 {
		n := uint64(0)
		for _, s := range l.skips {
			n += s.size
		}
		c.Missing = append(c.Missing, fmt.Sprintf("%d bytes that could not be read, in %d places", n, len(l.skips)))
	}
	if here < len(l.blocks) {
		c.Missing = append(c.Missing, fmt.Sprintf("%d of %d blocks that are not here", len(l.blocks)-here, len(l.blocks)))
		c.Complete = false
		c.StoredBytes, c.MemoryBytes = stored, memory
	}
	return c
}

// group makes segments of runs: of each segment of the header those that can
// be read in one piece, or one without bytes if nothing can.
func (f *CoreFile) group() {
	runs := f.im.runs
	for i, s := range f.im.ledger.header.Segments {
		if len(runs) == 0 || runs[0].seg != int32(i) {
			f.loads = append(f.loads, coreLoad{elfProgram: elfProgram{kind: elfLoad, flags: s.Flags, addr: s.Addr, size: s.Size}})
			continue
		}
		for len(runs) > 0 && runs[0].seg == int32(i) {
			n, end := 1, runs[0].End()
			for n < len(runs) && runs[n].seg == int32(i) && runs[n].Addr == end {
				end = runs[n].End()
				n++
			}
			p := elfProgram{kind: elfLoad, flags: s.Flags, addr: runs[0].Addr}
			p.filesz = end - p.addr
			p.size = p.filesz
			f.loads = append(f.loads, coreLoad{p, runs[:n:n]})
			runs = runs[n:]
		}
	}
}

// coalesce closes the smallest gaps within segments until there are few
// enough, and returns how many bytes they have.
func (f *CoreFile) coalesce() (closed uint64) {
	over := len(f.loads) - maxLoads
	if over <= 0 {
		return 0
	}
	seg := func(l *coreLoad) int32 {
		if len(l.runs) == 0 {
			return -1
		}
		return l.runs[0].seg
	}
	var gaps []int // loads behind one
	for i := 1; i < len(f.loads); i++ {
		if a, b := seg(&f.loads[i-1]), seg(&f.loads[i]); a == b && a >= 0 {
			gaps = append(gaps, i)
		}
	}
	gap := func(i int) uint64 { return f.loads[i].addr - f.loads[i-1].addr - f.loads[i-1].filesz }
	slices.SortStableFunc(gaps, func(a, b int) int { return cmp.Compare(gap(a), gap(b)) })
	join := map[int]bool{}
	for _, i := range gaps[:min(over, len(gaps))] {
		join[i] = true
		closed += gap(i)
	}
	out := f.loads[:1]
	for i := 1; i < len(f.loads); i++ {
		l := f.loads[i]
		if !join[i] {
			out = append(out, l)
			continue
		}
		last := &out[len(out)-1]
		last.filesz = l.addr + l.filesz - last.addr
		last.size = last.filesz
		last.runs = append(last.runs, l.runs...)
	}
	f.loads = out
	return closed
}

// layout places everything in the file and writes its head.
func (f *CoreFile) layout() {
	h := f.im.ledger.header
	said, _ := json.Marshal(f.core) // of strings and numbers: there is no error
	notes := appendNote(slices.Clone(h.Notes), noteOwner, noteInquest, said)
	phnum := 1 + len(f.loads)
	b := appendELFHeader(nil, h.Machine, phnum)
	at := uint64(elfHeaderSize + phnum*elfProgramSize)
	if phnum >= elfManyHeaders {
		at += elfSectionSize
	}
	note := elfProgram{kind: elfNote, off: at, filesz: uint64(len(notes))}
	b = note.append(b, 4)
	at += uint64(len(notes))
	end := at
	for i := range f.loads {
		l := &f.loads[i]
		l.off = (at+corePage-1)&^(corePage-1) + l.addr%corePage
		if l.filesz > 0 {
			at = l.off + l.filesz
			end = at
		}
		b = l.append(b, corePage)
	}
	if phnum >= elfManyHeaders {
		section := make([]byte, elfSectionSize)
		wire.PutUint32(section[44:], uint32(phnum)) // sh_info
		b = append(b, section...)
	}
	f.head = append(b, notes...)
	f.size = int64(end)
	f.loads = slices.DeleteFunc(f.loads, func(l coreLoad) bool { return l.filesz == 0 })
}

// Size is how long the file is, in bytes, with its holes.
func (f *CoreFile) Size() int64 { return f.size }

// Core is what the note says.
func (f *CoreFile) Core() inquest.Core { return f.core }

// ReadAt reads the file. What damage makes unreadable is an error.
func (f *CoreFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, inquest.Errorf(inquest.ErrInvalid, "read a core at %d", off)
	}
	var end error
	if off >= f.size {
		return 0, io.EOF
	}
	if int64(len(p)) > f.size-off {
		p, end = p[:f.size-off], io.EOF
	}
	n := 0
	if off < int64(len(f.head)) {
		n = copy(p, f.head[off:])
	}
	at := uint64(off) + uint64(n)
	i, _ := slices.BinarySearchFunc(f.loads, at, func(l coreLoad, at uint64) int {
		return within(at, l.off, l.off+l.filesz)
	})
	for ; n < len(p); i++ {
		next := uint64(f.size)
		if i < len(f.loads) {
			next = f.loads[i].off
		}
		if at < next {
			k := min(uint64(len(p)-n), next-at)
			clear(p[n : n+int(k)])
			n += int(k)
			at += k
		}
		if n == len(p) {
			break
		}
		l := &f.loads[i]
		k, err := f.segment(p[n:n+int(min(uint64(len(p)-n), l.off+l.filesz-at))], l, at-l.off)
		n += k
		at += uint64(k)
		if err != nil {
			return n, err
		}
	}
	return n, end
}

// segment reads from within a segment; what was coalesced is zero.
func (f *CoreFile) segment(p []byte, l *coreLoad, from uint64) (int, error) {
	addr := l.addr + from
	i, _ := slices.BinarySearchFunc(l.runs, addr, func(r run, a uint64) int {
		return within(a, r.Addr, r.End())
	})
	n := 0
	for ; n < len(p); i++ {
		r := l.runs[i]
		if r.Addr > addr {
			k := min(uint64(len(p)-n), r.Addr-addr)
			clear(p[n : n+int(k)])
			n += int(k)
			addr += k
			if n == len(p) {
				break
			}
		}
		k, err := f.im.memory.read(p[n:n+int(min(uint64(len(p)-n), r.End()-addr))], r, addr-r.Addr)
		n += k
		addr += uint64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Extents are the parts of the file, by offset (Addr), that hold data; the
// rest of its Size is holes.
func (f *CoreFile) Extents() []Extent {
	out := []Extent{{0, uint64(len(f.head))}}
	for i := range f.loads {
		l := &f.loads[i]
		for _, r := range l.runs {
			if r.zero {
				continue
			}
			e := Extent{l.off + r.Addr - l.addr, r.Size}
			if last := &out[len(out)-1]; last.End() == e.Addr {
				last.Size += e.Size
			} else {
				out = append(out, e)
			}
		}
	}
	return out
}
