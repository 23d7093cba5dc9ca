package symbolize

import (
	"debug/dwarf"

	"github.com/goinquest/inquest"
)

// languageGo is DW_LANG_Go: the units of Go, which other tables are for.
const languageGo = 0x16

// Attributes of older GNU tools.
const (
	attrMIPSLinkageName dwarf.Attr = 0x2007
	attrGNUAddrBase     dwarf.Attr = 0x2133
)

// dwarfUnit is one unit of .debug_info.
type dwarfUnit struct {
	d       *dwarfData
	start   uint64 // of the header
	body    uint64 // of the first entry
	end     uint64
	version uint16
	wide    bool // offsets have 8 bytes
	code    bool // may have functions: no unit of types
	decls   *dwarfDecls

	low      uint64 // the base of range lists
	addrBase uint64
	strBase  uint64
	listBase uint64
	dir      dwarfText
	files    *dwarfFiles
}

// dwarfEntry is what is of interest in an entry's attributes.
type dwarfEntry struct {
	name, linkage, dir          dwarfText
	origin                      uint64
	low, high, ranges           uint64
	lowClass, highClass         dwarfClass
	rangesClass                 dwarfClass
	callFile, callLine          uint64
	line                        uint64
	language                    uint64
	program                     uint64
	hasRanges, hasProgram       bool
	addrBase, strBase, listBase uint64
}

// openUnit reads the header of a unit. It returns no unit if the header does
// not even say where the unit ends.
func (d *dwarfData) openUnit(off uint64) (*dwarfUnit, error) {
	c := dwarfAt(d.info, off)
	u := &dwarfUnit{d: d, start: off}
	n := uint64(c.u32())
	if n == 0xffffffff {
		u.wide = true
		n = c.u64()
	}
	if c.bad || n > uint64(c.left()) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "unit at %#x of .debug_info runs past its end", off)
	}
	u.end = uint64(c.off) + n
	u.version = c.u16()
	if u.version < 2 || u.version > 5 {
		return u, inquest.Errorf(inquest.ErrInvalid, "it has version %d, versions 2 to 5 are known", u.version)
	}
	var abbrev uint64
	var addrSize uint8
	u.code = true
	if u.version < 5 {
		abbrev = c.word(u.wide)
		addrSize = c.u8()
	} else {
		kind := c.u8()
		addrSize = c.u8()
		abbrev = c.word(u.wide)
		switch kind {
		case 0x01, 0x03: // whole and partial units
		case 0x04, 0x05: // the two halves of a split unit
			c.u64()
		default:
			u.code = false
		}
	}
	if c.bad || uint64(c.off) > u.end {
		return u, inquest.Errorf(inquest.ErrInvalid, "its header is cut off")
	}
	if addrSize != 8 {
		return u, inquest.Errorf(inquest.ErrInvalid, "its addresses have %d bytes, want 8", addrSize)
	}
	u.body = uint64(c.off)
	var err error
	if u.code {
		u.decls, err = d.decls(abbrev, u.wide)
	}
	return u, err
}

// entry reads the attributes of an entry.
func (u *dwarfUnit) entry(c *dwarfCursor, decl *dwarfDecl) dwarfEntry {
	var e dwarfEntry
	u.d.fieldBudget -= len(decl.fields)
	for _, f := range decl.fields {
		v, class := u.value(c, f)
		switch f.attr {
		case dwarf.AttrName:
			e.name = textOf(v, class)
		case dwarf.AttrLinkageName, attrMIPSLinkageName:
			e.linkage = textOf(v, class)
		case dwarf.AttrCompDir:
			e.dir = textOf(v, class)
		case dwarf.AttrAbstractOrigin, dwarf.AttrSpecification:
			if class == classRef && e.origin == 0 {
				e.origin = v
			}
		case dwarf.AttrLowpc:
			e.low, e.lowClass = v, class
		case dwarf.AttrHighpc:
			e.high, e.highClass = v, class
		case dwarf.AttrRanges:
			e.ranges, e.rangesClass, e.hasRanges = v, class, true
		case dwarf.AttrCallFile:
			e.callFile = v
		case dwarf.AttrCallLine:
			e.callLine = v
		case dwarf.AttrDeclLine:
			e.line = v
		case dwarf.AttrLanguage:
			e.language = v
		case dwarf.AttrStmtList:
			e.program, e.hasProgram = v, true
		case dwarf.AttrAddrBase, attrGNUAddrBase:
			e.addrBase = v
		case dwarf.AttrStrOffsetsBase:
			e.strBase = v
		case dwarf.AttrRnglistsBase:
			e.listBase = v
		}
	}
	return e
}

func textOf(v uint64, class dwarfClass) dwarfText {
	if class != classText {
		return 0
	}
	return dwarfText(v)
}

// indexed resolves a name that is given as an index of .debug_str_offsets.
func (u *dwarfUnit) indexed(t dwarfText) dwarfText {
	if t&^textPlace != textIndex {
		return t
	}
	size := uint64(4)
	if u.wide {
		size = 8
	}
	index := uint64(t & textPlace)
	if index > uint64(len(u.d.strOffsets)) {
		return 0
	}
	c := dwarfAt(u.d.strOffsets, u.strBase+index*size)
	at := c.word(u.wide)
	if c.bad {
		return 0
	}
	return textStr | dwarfText(at)&textPlace
}

// address resolves an address that may be given as an index of .debug_addr.
func (u *dwarfUnit) address(v uint64, class dwarfClass) (uint64, bool) {
	switch class {
	case classAddress:
		return v, true
	case classIndex:
		if v > uint64(len(u.d.addr)) {
			return 0, false
		}
		c := dwarfAt(u.d.addr, u.addrBase+8*v)
		v = c.u64()
		return v, !c.bad
	}
	return 0, false
}

// begin takes over what the first entry says of its unit, and reads the lines.
func (u *dwarfUnit) begin(e *dwarfEntry) error {
	u.addrBase, u.strBase, u.listBase = e.addrBase, e.strBase, e.listBase
	if u.strBase == 0 && u.version >= 5 {
		u.strBase = 8 // after the header of the only table
	}
	u.low, _ = u.address(e.low, e.lowClass)
	u.dir = u.indexed(e.dir)
	u.files = &dwarfFiles{}
	if !e.hasProgram {
		return nil
	}
	return u.readLines(e.program)
}

// skip goes past the attributes of an entry.
func (u *dwarfUnit) skip(c *dwarfCursor, decl *dwarfDecl) {
	if decl.size >= 0 {
		c.skip(uint64(decl.size))
		return
	}
	u.d.fieldBudget -= len(decl.fields)
	for _, f := range decl.fields {
		u.value(c, f)
	}
}

// dwarfLevel is what entries of one depth are in.
type dwarfLevel struct {
	scope int32
	node  int32 // -1 outside of code
	depth int32 // of inlined calls, 0 outside of code
}

// walkUnit finds the functions of a unit, inlined calls and lines.
func (d *dwarfData) walkUnit(u *dwarfUnit) error {
	if !u.code {
		return nil
	}
	c := dwarfCursor{b: d.info[:u.end], off: int(u.body)}
	levels := []dwarfLevel{{node: -1}}
	for first := true; c.left() > 0; first = false {
		off := uint64(c.off)
		code := c.uleb()
		if d.fieldBudget--; d.fieldBudget < 0 || d.entryBudget < 0 || d.rangeBudget < 0 {
			return nil // walk says so
		}
		if code == 0 {
			if levels = levels[:len(levels)-1]; len(levels) == 0 {
				return nil
			}
			continue
		}
		decl := u.decls.get(code)
		if decl == nil {
			return inquest.Errorf(inquest.ErrInvalid, "entry at %#x has code %d, which is not declared", off, code)
		}
		level := levels[len(levels)-1]
		if !decl.wanted {
			u.skip(&c, decl)
		} else if e := u.entry(&c, decl); first && e.language == languageGo {
			return nil
		} else if first && !c.bad {
			if err := u.begin(&e); err != nil {
				return err
			}
		} else if !c.bad {
			level = u.enter(off, decl.tag, &e, level)
		}
		if c.bad {
			return inquest.Errorf(inquest.ErrInvalid, "entry at %#x cannot be read: it is cut off, or has attributes of unknown form", off)
		}
		if first && (!decl.wanted || !decl.children) {
			return nil // no unit of code, or an empty one
		}
		if decl.children {
			if len(levels) == dwarfMaxDepth {
				return inquest.Errorf(inquest.ErrInvalid, "entry at %#x is %d entries deep", off, len(levels))
			}
			levels = append(levels, level)
		}
	}
	return nil
}

// enter takes note of an entry and returns what its children are in.
func (u *dwarfUnit) enter(off uint64, tag dwarf.Tag, e *dwarfEntry, in dwarfLevel) dwarfLevel {
	d := u.d
	switch tag {
	case dwarf.TagSubprogram:
		if d.entryBudget--; d.entryBudget < 0 {
			return in
		}
		d.subs = append(d.subs, dwarfSub{
			off: off, origin: e.origin, name: u.indexed(e.name), linkage: u.indexed(e.linkage),
			scope: in.scope, line: nativeLine(e.line),
		})
		in.node, in.depth = -1, 0
		if ranges := u.codeOf(e); len(ranges) > 0 {
			in.node = d.found.add(nativeNode{function: off, parent: -1}, 0, ranges)
		}
	case dwarf.TagInlinedSubroutine:
		if in.node < 0 || in.depth >= nativeMaxDepth-1 {
			return in
		}
		if d.entryBudget--; d.entryBudget < 0 {
			return in
		}
		in.depth++
		in.node = d.found.add(nativeNode{
			function: e.origin, parent: in.node,
			callFile: u.files.id(u, e.callFile), callLine: nativeLine(e.callLine),
		}, in.depth, u.codeOf(e))
	default: // a namespace or type
		name := u.indexed(e.name)
		if name == 0 && tag == dwarf.TagNamespace {
			name = textAnonymous
		}
		if name != 0 {
			d.scope = append(d.scope, dwarfScope{in.scope, name})
			in.scope = int32(len(d.scope) - 1)
		}
	}
	return in
}
