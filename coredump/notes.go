package coredump

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/goinquest/inquest"
)

// Notes are what a core says of its process before any memory.
type Notes struct {
	// Process has threads, mappings and auxv. It has Memory if it is of
	// OpenCoreFile.
	Process  *Process
	Machine  uint16    // elf.Machine
	Raw      []byte    // content of the PT_NOTE segment
	Segments []Segment // as the program headers have them; what was not dumped is FillMissing
	PID      int       // as the process saw itself
	UID      int
	Name     string // of the program, at most 15 bytes
	Args     string // at most 80 bytes
	Signal   int    // that ended it
	// Core is there if the file was made of an image: it says what is missing.
	Core *inquest.Core
	// Missing are the addresses the program headers promise and the file has
	// not got; set by OpenCoreFile.
	Missing []Extent
	// FileBytes is how long the file must be to be whole.
	FileBytes int64

	read  uint64       // bytes of the stream
	loads []elfProgram // those with memory in the file, by address
}

// ReadNotes reads a core from its beginning, as the kernel sends it, as far
// as its notes go, and nothing behind them. The error is of kind
// inquest.ErrInvalid if this is no core of a machine we know.
func ReadNotes(r io.Reader) (*Notes, error) {
	c := &counted{r: r}
	h, programs, err := c.readHeaders()
	if err != nil {
		return nil, err
	}
	note, err := noteSegment(programs)
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		if note.off < c.off || p.kind == elfLoad && p.filesz > 0 && p.off < note.off {
			return nil, inquest.Errorf(inquest.ErrInvalid, "a core whose notes are behind its memory, as gdb writes them: it can be read as a file only")
		}
	}
	if note.off-c.off > maxProgramHeaders*elfProgramSize {
		return nil, inquest.Errorf(inquest.ErrInvalid, "a core whose notes are not behind its program headers")
	}
	if err := c.skip(note.off); err != nil {
		return nil, err
	}
	raw, err := readNotes(r, note)
	if err != nil {
		return nil, err
	}
	return newNotes(h.machine, programs, raw, c.off+uint64(len(raw)))
}

// noteSegment finds the notes.
func noteSegment(programs []elfProgram) (elfProgram, error) {
	i := slices.IndexFunc(programs, func(p elfProgram) bool { return p.kind == elfNote && p.filesz > 0 })
	if i < 0 {
		return elfProgram{}, inquest.Errorf(inquest.ErrInvalid, "a core without notes")
	}
	if n := programs[i].filesz; n > MaxNotesBytes {
		return elfProgram{}, inquest.Errorf(inquest.ErrTooLarge, "a core with %d bytes of notes, at most %d", n, MaxNotesBytes)
	}
	return programs[i], nil
}

// readNotes reads the notes; memory is taken for what is really there.
func readNotes(r io.Reader, note elfProgram) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, int64(note.filesz)))
	if err == nil && uint64(len(raw)) < note.filesz {
		err = io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("read the notes of a core: %w", truncated(err))
	}
	return raw, nil
}

// newNotes puts together what the headers and the notes say.
func newNotes(machine uint16, programs []elfProgram, raw []byte, read uint64) (*Notes, error) {
	said := parseNotes(machine, raw)
	n := &Notes{Machine: machine, Raw: raw, PID: said.pid, UID: said.uid, Name: said.name, Args: said.args,
		Signal: said.signal, Core: said.core, read: read, FileBytes: int64(read)}
	var loads []elfProgram
	for _, p := range programs {
		if p.kind != elfLoad || p.size == 0 && p.filesz == 0 {
			continue
		}
		p.size = max(p.size, p.filesz)
		if p.size > math.MaxUint64-p.addr || p.off > math.MaxInt64 || p.filesz > math.MaxInt64-p.off {
			return nil, inquest.Errorf(inquest.ErrInvalid, "a core with a segment of %d bytes at %#x, %d in the file at %d", p.size, p.addr, p.filesz, p.off)
		}
		loads = append(loads, p)
	}
	slices.SortStableFunc(loads, func(a, b elfProgram) int {
		switch {
		case a.addr < b.addr:
			return -1
		case a.addr > b.addr:
			return 1
		}
		return 0
	})
	end := uint64(0)
	for _, p := range loads {
		if p.addr < end {
			return nil, inquest.Errorf(inquest.ErrInvalid, "a core with segments that overlap at %#x", p.addr)
		}
		end = p.addr + p.size
		if p.filesz > 0 {
			n.Segments = append(n.Segments, Segment{Extent{p.addr, p.filesz}, p.flags, FillZero})
			n.loads = append(n.loads, p)
			n.FileBytes = max(n.FileBytes, int64(p.off+p.filesz))
		}
		if p.size > p.filesz {
			n.Segments = append(n.Segments, Segment{Extent{p.addr + p.filesz, p.size - p.filesz}, p.flags, FillMissing})
		}
	}
	var err error
	n.Process, err = said.process(n.Segments)
	return n, err
}

// process is the process whose header this is, without its memory.
func (h *Header) process() (*Process, error) {
	return parseNotes(h.Machine, h.Notes).process(h.Segments)
}

// process makes a Process of the notes and the segments.
func (n *noted) process(segments []Segment) (*Process, error) {
	a := arch(n.machine)
	if a == "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "a core of machine %d; only amd64 and arm64 are known", n.machine)
	}
	p := &Process{Arch: a, PageSize: n.auxv[auxvPageSize], Threads: n.threads, Auxv: n.auxv}
	if p.PageSize < 4096 || p.PageSize > 1<<20 || p.PageSize&(p.PageSize-1) != 0 {
		p.PageSize = 4096
	}
	p.Mappings = n.mappings(segments)
	return p, nil
}

// mappings are the segments with the files that are mapped there. Segments of
// one mapping, in a row, are one.
func (n *noted) mappings(segments []Segment) []Mapping {
	slices.SortFunc(n.files, func(a, b mappedFile) int {
		switch {
		case a.Addr < b.Addr:
			return -1
		case a.Addr > b.Addr:
			return 1
		}
		return 0
	})
	var out []Mapping
	files := n.files
	for _, s := range segments {
		for len(files) > 0 && files[0].End() <= s.Addr {
			files = files[1:]
		}
		m := Mapping{Extent: s.Extent, Flags: s.Flags}
		if len(files) > 0 && files[0].Addr <= s.Addr && s.End() <= files[0].End() {
			m.Path, m.Offset = files[0].path, files[0].off+s.Addr-files[0].Addr
		}
		if k := len(out); k > 0 && m.Path != "" {
			last := &out[k-1]
			if last.End() == m.Addr && last.Path == m.Path && last.Flags == m.Flags && last.Offset+last.Size == m.Offset {
				last.Size += m.Size
				continue
			}
		}
		out = append(out, m)
	}
	return out
}
