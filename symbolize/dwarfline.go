package symbolize

import (
	"path"

	"github.com/goinquest/inquest"
)

// dwarfFiles are the directories and files of a line program. They become
// strings only when a line or a call is in them.
type dwarfFiles struct {
	dirs  []dwarfText
	files []dwarfFile
}

type dwarfFile struct {
	name dwarfText
	dir  uint64 // index of dirs
	id   uint32 // of the file in what was found, 0 if it is not there yet
}

// id returns the number of a file in what was found; 0 is an unknown file.
func (f *dwarfFiles) id(u *dwarfUnit, index uint64) uint32 {
	if index >= uint64(len(f.files)) {
		return 0
	}
	file := &f.files[index]
	if file.id == 0 && file.name != 0 {
		name := string(u.d.text(file.name))
		if file.dir < uint64(len(f.dirs)) && !path.IsAbs(name) {
			name = path.Join(string(u.d.text(f.dirs[file.dir])), name)
			if !path.IsAbs(name) {
				name = path.Join(string(u.d.text(u.dir)), name)
			}
		}
		file.id = u.d.found.fileID(path.Clean(name))
	}
	return file.id
}

// dwarfProgram is the head of a line program.
type dwarfProgram struct {
	dwarfCursor
	version   uint16
	wide      bool
	step      uint64 // bytes of the shortest instruction
	lineBase  int64
	lineRange uint64
	lengths   []byte // how many arguments standard codes have
}

// readLines reads the files of a line program, and runs it unless another
// unit of the same program came before.
func (u *dwarfUnit) readLines(off uint64) error {
	p := &dwarfProgram{dwarfCursor: dwarfAt(u.d.line, off)}
	n := uint64(p.u32())
	if n == 0xffffffff {
		p.wide = true
		n = p.u64()
	}
	if p.bad || n > uint64(p.left()) {
		return inquest.Errorf(inquest.ErrInvalid, "its lines at %#x of .debug_line run past the end", off)
	}
	p.b = p.b[:p.off+int(n)]
	if u.d.lineBudget -= int(n); u.d.lineBudget < 0 {
		return nil // walk says so
	}
	p.version = p.u16()
	if p.version < 2 || p.version > 5 {
		return inquest.Errorf(inquest.ErrInvalid, "its lines have version %d, versions 2 to 5 are known", p.version)
	}
	if p.version == 5 {
		p.u16() // sizes of addresses and of segments
	}
	size := p.word(p.wide)
	if p.bad || size > uint64(p.left()) {
		return inquest.Errorf(inquest.ErrInvalid, "the head of its lines at %#x of .debug_line is cut off", off)
	}
	body := p.off + int(size)
	p.step = uint64(p.u8())
	if p.version >= 4 {
		p.u8() // operations per instruction: 1 where instructions are not bundled
	}
	p.u8() // whether lines begin as statements
	p.lineBase = int64(int8(p.u8()))
	p.lineRange = uint64(p.u8())
	codes := int(p.u8())
	if codes > 0 {
		at := p.off
		p.skip(uint64(codes - 1))
		if !p.bad {
			p.lengths = p.b[at:p.off]
		}
	}
	if p.version == 5 {
		u.files = p.files5(u)
	} else {
		u.files = p.files2(u)
	}
	if p.bad || p.lineRange == 0 || codes == 0 {
		return inquest.Errorf(inquest.ErrInvalid, "the head of its lines at %#x of .debug_line is damaged", off)
	}
	if u.d.programs[off] {
		return nil
	}
	u.d.programs[off] = true
	p.off = body
	p.run(u)
	return nil
}

// files2 reads the files of versions 2 to 4: numbers begin at 1, directory 0
// is the unit's.
func (p *dwarfProgram) files2(u *dwarfUnit) *dwarfFiles {
	f := &dwarfFiles{dirs: []dwarfText{u.dir}, files: make([]dwarfFile, 1)}
	for !p.bad {
		at := p.off
		if len(p.text()) == 0 {
			break
		}
		f.dirs = append(f.dirs, textLine|dwarfText(at))
	}
	for !p.bad {
		at := p.off
		if len(p.text()) == 0 {
			break
		}
		f.files = append(f.files, dwarfFile{name: textLine | dwarfText(at), dir: p.uleb()})
		p.uleb() // time
		p.uleb() // size
	}
	return f
}

// files5 reads the two tables of version 5. Their columns are declared.
func (p *dwarfProgram) files5(u *dwarfUnit) *dwarfFiles {
	f := &dwarfFiles{}
	for _, file := range p.table5(u) {
		f.dirs = append(f.dirs, file.name)
	}
	f.files = p.table5(u)
	return f
}

func (p *dwarfProgram) table5(u *dwarfUnit) []dwarfFile {
	const path, directory = 1, 2 // DWARF 5, 7.22
	var columns [][2]uint64
	for range p.u8() {
		columns = append(columns, [2]uint64{p.uleb(), p.uleb()})
	}
	var out []dwarfFile
	in := &dwarfUnit{d: u.d, wide: p.wide, version: 5, strBase: u.strBase}
	for n := p.uleb(); n > 0 && !p.bad; n-- {
		var file dwarfFile
		at := p.off
		for _, c := range columns {
			v, class := in.value(&p.dwarfCursor, dwarfField{form: dwarfForm(c[1])})
			switch {
			case c[0] == path && class == classText:
				file.name = in.indexed(dwarfText(v))
				if file.name&^textPlace == textInfo { // a string in this section
					file.name = textLine | file.name&textPlace
				}
			case c[0] == directory:
				file.dir = v
			}
		}
		if p.off == at { // an entry of no bytes: any number of them fits
			p.fail()
		}
		out = append(out, file)
	}
	return out
}

// dwarfState is the state machine of a line program (DWARF 5, 6.2.2).
type dwarfState struct {
	addr uint64
	file uint64
	line int64
	rows []nativeRow // of the sequence
}

// run adds the rows of a program to what was found. A sequence counts if it
// begins in an executable section.
func (p *dwarfProgram) run(u *dwarfUnit) {
	base := uint64(len(p.lengths) + 1)
	s := dwarfState{file: 1, line: 1}
	for p.left() > 0 && len(u.d.found.rows)+len(s.rows) <= dwarfMaxRows {
		code := uint64(p.u8())
		switch {
		case code >= base:
			code -= base
			s.addr += code / p.lineRange * p.step
			s.line += p.lineBase + int64(code%p.lineRange)
			s.row(u)
		case code == 0:
			n := p.uleb()
			if p.bad || n == 0 || n > uint64(p.left()) {
				return
			}
			end := p.off + int(n)
			switch p.u8() {
			case 1: // the end of a sequence
				s.end(u)
				s = dwarfState{file: 1, line: 1, rows: s.rows[:0]}
			case 2: // an address
				s.addr = p.fixed(int(min(n-1, 8)))
			}
			p.off = end
		default:
			p.standard(u, &s, code, base)
		}
	}
}

// standard runs an operation that has a number of its own.
func (p *dwarfProgram) standard(u *dwarfUnit, s *dwarfState, code, base uint64) {
	switch code {
	case 1:
		s.row(u)
	case 2:
		s.addr += p.uleb() * p.step
	case 3:
		s.line += p.sleb()
	case 4:
		s.file = p.uleb()
	case 8: // as far as the last special code, without a row
		s.addr += (255 - base) / p.lineRange * p.step
	case 9:
		s.addr += uint64(p.u16())
	default: // what does not matter here, or is newer
		for range p.lengths[code-1] {
			p.uleb()
		}
	}
}

// row ends the sequence's last row where a new one begins; of several at one
// address the last counts.
func (s *dwarfState) row(u *dwarfUnit) {
	r := nativeRow{s.addr, u.files.id(u, s.file), nativeLine(uint64(s.line))}
	if n := len(s.rows); n > 0 {
		last := &s.rows[n-1]
		if r.addr < last.addr {
			return // rows go up; this one is damaged
		}
		if r.addr == last.addr {
			*last = r
			return
		}
		if r.file == last.file && r.line == last.line {
			return
		}
	}
	s.rows = append(s.rows, r)
}

func (s *dwarfState) end(u *dwarfUnit) {
	if len(s.rows) == 0 || s.addr <= s.rows[0].addr || !u.d.file.inCode(s.rows[0].addr) {
		return
	}
	u.d.found.addSequence(s.rows, s.addr)
}
