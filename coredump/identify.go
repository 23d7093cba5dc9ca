package coredump

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

const (
	identifyBytes = 64 << 20 // of memory that are searched for build information
	identifyPiece = 1 << 20
	identifyTries = 16 // places that look like it

	viewHeaders = 1 << 62 // where the program headers of a memoryELF are, in its file
)

var (
	buildInfoMagic = []byte("\xff Go buildinf:") // cmd/link, debug/buildinfo; 16 bytes aligned
	gnuBuildNote   = []byte("\x03\x00\x00\x00GNU\x00")
	goBuildNote    = []byte("\x04\x00\x00\x00Go\x00\x00")
)

// Identify finds in the memory of a process what its executable is: its path
// as the process saw it, and what it says of its build. The error is of kind
// inquest.ErrNotFound if this is no Go program, or if what says so is missing.
func (p *Process) Identify() (*inquest.Build, string, error) {
	exe, mappings := p.executable()
	if p.Memory == nil {
		return nil, exe, inquest.Errorf(inquest.ErrNotFound, "a process without memory")
	}
	notes := p.buildNotes(mappings)
	var build *inquest.Build
	tries := 0
	left := uint64(identifyBytes)
	search := func(m Mapping) bool {
		size := min(m.Size, left)
		left -= size
		eachMatch(p.Memory, Extent{m.Addr, size}, buildInfoMagic, func(addr uint64) bool {
			if addr%16 != 0 {
				return true
			}
			tries++
			b, err := symbolize.ReadBuild(newMemoryELF(p.Memory, Extent{addr, m.End() - addr}, notes))
			if err == nil && b.GoVersion != "" {
				build = b
			}
			return build == nil && tries < identifyTries
		})
		return build == nil && tries < identifyTries && left > 0
	}
	for _, writable := range []bool{true, false} { // constants of debug/buildinfo look like it too
		for _, m := range mappings {
			if (m.Flags&segmentWritable != 0) == writable && !search(m) {
				break
			}
		}
		if build != nil {
			return build, exe, nil
		}
	}
	return nil, exe, inquest.Errorf(inquest.ErrNotFound, "no build information of Go in the memory of %q", exe)
}

const segmentWritable = 2 // PF_W

// executable returns the path of the executable and its mappings; all
// mappings if that is not known.
func (p *Process) executable() (string, []Mapping) {
	at := p.Auxv[auxvPHDR]
	exe := ""
	for _, m := range p.Mappings {
		if m.Path != "" && m.Addr <= at && at < m.End() {
			exe = m.Path
		}
	}
	if exe == "" {
		return "", p.Mappings
	}
	var out []Mapping
	for _, m := range p.Mappings {
		if m.Path == exe {
			out = append(out, m)
		}
	}
	return strings.TrimSuffix(exe, " (deleted)"), out
}

// buildNotes finds the notes with the build ids, which linkers put on the
// first page of an executable. Their program header tells only of some.
func (p *Process) buildNotes(mappings []Mapping) []Extent {
	var out []Extent
	for _, m := range mappings {
		if m.Offset != 0 || m.Path == "" {
			continue
		}
		b := make([]byte, min(m.Size, corePage))
		n, _ := p.Memory.ReadAt(b, int64(m.Addr))
		if b = b[:n]; !bytes.HasPrefix(b, []byte("\x7fELF")) {
			continue
		}
		for _, name := range [][]byte{gnuBuildNote, goBuildNote} {
			at := bytes.Index(b, name)
			if at < 8 || wire.Uint32(b[at-8:]) != 4 {
				continue
			}
			size := wire.Uint32(b[at-4:])
			if at+8+int(size) <= len(b) && size <= 512 {
				out = append(out, Extent{m.Addr + uint64(at) - 8, 16 + uint64(size+3)&^3})
			}
		}
	}
	return out
}

// eachMatch calls f with the addresses at which a range of memory has what is
// looked for, until f returns false. What is missing is passed over.
func eachMatch(r io.ReaderAt, e Extent, what []byte, f func(addr uint64) bool) {
	buf := make([]byte, identifyPiece)
	for e.Size > 0 {
		b := buf[:min(e.Size, identifyPiece)]
		n, err := r.ReadAt(b, int64(e.Addr))
		for at := 0; ; at++ {
			i := bytes.Index(b[at:n], what)
			if i < 0 {
				break
			}
			at += i
			if !f(e.Addr + uint64(at)) {
				return
			}
		}
		step := uint64(len(b))
		if n < len(b) && (err == nil || errors.Is(err, inquest.ErrNotFound)) {
			step = (e.Addr+uint64(n)+corePage)&^(corePage-1) - e.Addr // the next page
		}
		step = min(step, e.Size)
		if n == len(b) && step < e.Size {
			step -= 16 // what is on the border
		}
		e.Addr += step
		e.Size -= step
	}
}

// memoryELF is an ELF file of our making, whose offsets are addresses of a
// process: as much of its executable as is needed to read the build of.
type memoryELF struct {
	memory   io.ReaderAt
	header   []byte
	programs []byte
}

func newMemoryELF(memory io.ReaderAt, data Extent, notes []Extent) *memoryELF {
	f := &memoryELF{memory: memory}
	load := elfProgram{kind: elfLoad, flags: segmentWritable, off: data.Addr, addr: data.Addr, filesz: data.Size, size: data.Size}
	f.programs = load.append(nil, 1)
	for _, n := range notes {
		p := elfProgram{kind: elfNote, off: n.Addr, addr: n.Addr, filesz: n.Size, size: n.Size}
		f.programs = p.append(f.programs, 4)
	}
	f.header = appendELFHeader(nil, machineAMD64, 1+len(notes))
	wire.PutUint16(f.header[16:], 2) // ET_EXEC
	wire.PutUint64(f.header[32:], viewHeaders)
	return f
}

// ReadAt implements io.ReaderAt.
func (f *memoryELF) ReadAt(p []byte, off int64) (int, error) {
	for _, part := range []struct {
		at int64
		b  []byte
	}{{0, f.header}, {viewHeaders, f.programs}} {
		if at := off - part.at; at >= 0 && at < int64(len(part.b)) {
			n := copy(p, part.b[at:])
			if n < len(p) {
				return n, io.EOF
			}
			return n, nil
		}
	}
	return f.memory.ReadAt(p, off)
}
