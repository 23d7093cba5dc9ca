package symbolize

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/goinquest/inquest"
)

// errNoPclntab says that a file has no table of functions that we can read.
var errNoPclntab = inquest.Errorf(inquest.ErrNotFound, "no table of Go functions (of Go 1.20 or later)")

// The layout of the table as runtime/symtab.go and runtime/runtime2.go have
// it, from Go 1.20 to 1.26: a header, four pools, then a row of (entry,
// offset) per function, and behind these the functions themselves.
const (
	pclnMagic = 0xfffffff1 // since Go 1.20

	// A function: numbers of four bytes each, the last of single bytes.
	funcName      = 4  // offset in the pool of names
	funcPcsp      = 16 // offsets of pc tables
	funcPcfile    = 20
	funcPcln      = 24
	funcNpcdata   = 28
	funcCU        = 32 // where its compilation unit's files begin
	funcStart     = 36
	funcID        = 40 // a byte
	funcNfuncdata = 43 // a byte
	funcSize      = 44 // then come npcdata and nfuncdata offsets

	pcdataInline   = 2 // PCDATA_InlTreeIndex
	funcdataInline = 3 // FUNCDATA_InlTree

	inlineSize = 16 // a record of the inline tree: function id, name, pc of the call, start line

	maxInlineIndex = 1 << 20 // as runtime/symtabinl.go has it
)

// pclntab is Go's table of functions, in memory.
type pclntab struct {
	f                                          *image
	addr                                       uint64 // where it is linked to
	order                                      binary.ByteOrder
	quantum                                    uint64 // unit of pc tables, in bytes
	nfunc                                      int
	nameOff, cuOff, fileOff, pctabOff, pclnOff uint64

	text, gofunc uint64   // out of the module data: where entries and funcdata count from
	data         [4]Range // out of the module data, see Functions.Data
	types        Range    // out of the module data, see Functions.Types
	bytes        uint64   // of the whole table

	names, cus, files, pctab []byte // the pools
	funcs                    []byte // rows and functions
}

// openPclntab finds and reads the table. The error is of kind
// inquest.ErrNotFound if there is none.
func openPclntab(f *image) (*pclntab, error) {
	t, err := locatePclntab(f)
	if err != nil {
		return nil, err
	}
	b, err := f.readAddr(t.addr, t.bytes)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "read Go's table of functions: %w", err)
	}
	t.names, t.cus = b[t.nameOff:t.cuOff], b[t.cuOff:t.fileOff]
	t.files, t.pctab, t.funcs = b[t.fileOff:t.pctabOff], b[t.pctabOff:t.pclnOff], b[t.pclnOff:]
	return t, nil
}

// locatePclntab finds the table and its module data, and reads no more.
func locatePclntab(f *image) (*pclntab, error) {
	if f.layout.word == 4 {
		return nil, errNoPclntab // 32 bits are not supported
	}
	t, err := findPclntab(f)
	if err != nil {
		return nil, err
	}
	return t, t.readModule()
}

// findPclntab looks into the section that linkers give it, else through all
// that is loaded: external linkers merge sections, and headers may be gone.
func findPclntab(f *image) (*pclntab, error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := f.section(name); s != nil {
			if t := readPclnHeader(f, s.addr); t != nil {
				return t, nil
			}
		}
	}
	magic := make([]byte, 6) // and two zero bytes
	f.order.PutUint32(magic, pclnMagic)
	tries := 1000 // the bytes may be in code, too
	for _, s := range f.segments {
		if s.kind != segmentLoad || !f.inFile(s.off, s.filesz) {
			continue
		}
		var found *pclntab
		err := f.scan(s, magic, func(addr uint64) bool {
			found = readPclnHeader(f, addr)
			tries--
			return found != nil || tries <= 0
		})
		if err != nil {
			return nil, err
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, errNoPclntab
}

// scan calls found for the address of every match in a segment, at multiples
// of 8, until it returns true.
func (f *image) scan(s segment, what []byte, found func(addr uint64) bool) error {
	const step = 1 << 17
	buf := make([]byte, min(step+uint64(len(what))-1, s.filesz))
	for at := uint64(0); at < s.filesz; at += step {
		b := buf[:min(uint64(len(buf)), s.filesz-at)]
		if err := f.readInto(b, s.off+at); err != nil {
			return err
		}
		for i := 0; ; {
			j := bytes.Index(b[i:], what)
			if j < 0 {
				break
			}
			i += j
			if addr := s.addr + at + uint64(i); i < step && addr%8 == 0 && found(addr) {
				return nil
			}
			i++
		}
	}
	return nil
}

// readPclnHeader reads the header at an address; nil if it is none.
func readPclnHeader(f *image, addr uint64) *pclntab {
	b, err := f.readAddr(addr, 8+8*8)
	if err != nil || f.order.Uint32(b) != pclnMagic || b[4] != 0 || b[5] != 0 || b[6] != 1 && b[6] != 2 && b[6] != 4 || b[7] != 8 {
		return nil
	}
	t := &pclntab{
		f: f, addr: addr, order: f.order, quantum: uint64(b[6]),
		nameOff: f.word(b, 32), cuOff: f.word(b, 40), fileOff: f.word(b, 48), pctabOff: f.word(b, 56), pclnOff: f.word(b, 64),
	}
	// The word at 24 was the start of the text until Go 1.25, and is not used since.
	nfunc := f.word(b, 8)
	sorted := 72 <= t.nameOff && t.nameOff <= t.cuOff && t.cuOff <= t.fileOff && t.fileOff <= t.pctabOff && t.pctabOff <= t.pclnOff
	if !sorted || t.pclnOff > maxPartBytes || nfunc == 0 || nfunc > maxPartBytes/8 {
		return nil
	}
	t.nfunc = int(nfunc)
	return t
}

// entry returns where function i begins, from the start of the text; of
// i == nfunc, where the last one ends.
func (t *pclntab) entry(i int) uint64 { return uint64(t.order.Uint32(t.funcs[i*8:])) }

// row returns the fields of function i; nil if they are not in the table.
func (t *pclntab) row(i int) []byte {
	at := uint64(t.order.Uint32(t.funcs[i*8+4:]))
	if at > uint64(len(t.funcs)) || uint64(len(t.funcs))-at < funcSize {
		return nil
	}
	return t.funcs[at:]
}

// pcdata returns the offset of one of a function's pc tables, 0 if it has
// none.
func (t *pclntab) pcdata(row []byte, which uint32) uint32 {
	at := funcSize + uint64(which)*4
	if which >= t.order.Uint32(row[funcNpcdata:]) || at+4 > uint64(len(row)) {
		return 0
	}
	return t.order.Uint32(row[at:])
}

// inlineTree returns the address of a function's inline tree.
func (t *pclntab) inlineTree(row []byte) (addr uint64, ok bool) {
	at := funcSize + (uint64(t.order.Uint32(row[funcNpcdata:]))+funcdataInline)*4
	if row[funcNfuncdata] <= funcdataInline || at+4 > uint64(len(row)) {
		return 0, false
	}
	off := t.order.Uint32(row[at:])
	return t.gofunc + uint64(off), off != math.MaxUint32
}

// name returns a name of the pool.
func (t *pclntab) name(off uint32) []byte {
	if uint64(off) >= uint64(len(t.names)) {
		return nil
	}
	name, _, _ := bytes.Cut(t.names[off:], []byte{0})
	return name
}

// pcCursor walks through a pc table: a value holds from the end of the one
// before up to pc, counted from the function's entry; behind the end of the
// table it is -1.
type pcCursor struct {
	p       []byte
	quantum uint64
	pc      uint64
	val     int32
}

var noTable = pcCursor{pc: math.MaxUint64, val: -1}

func (t *pclntab) cursor(off uint32) pcCursor {
	if off == 0 || uint64(off) >= uint64(len(t.pctab)) {
		return noTable
	}
	return pcCursor{p: t.pctab[off:], quantum: t.quantum, val: -1}
}

// next goes to the next value. A delta of zero ends the table, but not
// before anything was covered: files and lines of the first value may be 0.
func (c *pcCursor) next() {
	if p := c.p; len(p) >= 2 && p[0]|p[1] < 0x80 && p[0] != 0 { // most are so short
		delta := uint32(p[0])
		c.p = p[2:]
		c.val += int32(-(delta & 1) ^ delta>>1)
		c.pc += uint64(p[1]) * c.quantum
		return
	}
	delta, n := pcVarint(c.p)
	pcDelta, m := pcVarint(c.p[n:])
	if n == 0 || m == 0 || delta == 0 && c.pc != 0 {
		c.pc, c.val = math.MaxUint64, -1
		return
	}
	c.p = c.p[n+m:]
	c.val += int32(-(delta & 1) ^ delta>>1)
	c.pc += uint64(pcDelta) * c.quantum
}

// pcVarint reads a number and says how many bytes it has; 0 if it is cut off.
func pcVarint(b []byte) (v uint32, n int) {
	for shift := uint(0); n < len(b); shift += 7 {
		c := b[n]
		n++
		v |= uint32(c&0x7f) << (shift & 31)
		if c < 0x80 {
			return v, n
		}
	}
	return 0, 0
}
