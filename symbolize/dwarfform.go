package symbolize

// dwarfForm is the encoding of an attribute (DWARF 5, 7.5.6; GNU extensions).
type dwarfForm uint32

const (
	formAddr          dwarfForm = 0x01
	formBlock2        dwarfForm = 0x03
	formBlock4        dwarfForm = 0x04
	formData2         dwarfForm = 0x05
	formData4         dwarfForm = 0x06
	formData8         dwarfForm = 0x07
	formString        dwarfForm = 0x08
	formBlock         dwarfForm = 0x09
	formBlock1        dwarfForm = 0x0a
	formData1         dwarfForm = 0x0b
	formFlag          dwarfForm = 0x0c
	formSdata         dwarfForm = 0x0d
	formStrp          dwarfForm = 0x0e
	formUdata         dwarfForm = 0x0f
	formRefAddr       dwarfForm = 0x10
	formRef1          dwarfForm = 0x11
	formRef2          dwarfForm = 0x12
	formRef4          dwarfForm = 0x13
	formRef8          dwarfForm = 0x14
	formRefUdata      dwarfForm = 0x15
	formIndirect      dwarfForm = 0x16
	formSecOffset     dwarfForm = 0x17
	formExprloc       dwarfForm = 0x18
	formFlagPresent   dwarfForm = 0x19
	formStrx          dwarfForm = 0x1a
	formAddrx         dwarfForm = 0x1b
	formRefSup4       dwarfForm = 0x1c
	formStrpSup       dwarfForm = 0x1d
	formData16        dwarfForm = 0x1e
	formLineStrp      dwarfForm = 0x1f
	formRefSig8       dwarfForm = 0x20
	formImplicitConst dwarfForm = 0x21
	formLoclistx      dwarfForm = 0x22
	formRnglistx      dwarfForm = 0x23
	formRefSup8       dwarfForm = 0x24
	formStrx1         dwarfForm = 0x25
	formStrx2         dwarfForm = 0x26
	formStrx3         dwarfForm = 0x27
	formStrx4         dwarfForm = 0x28
	formAddrx1        dwarfForm = 0x29
	formAddrx2        dwarfForm = 0x2a
	formAddrx3        dwarfForm = 0x2b
	formAddrx4        dwarfForm = 0x2c
	formGNUAddrIndex  dwarfForm = 0x1f01
	formGNUStrIndex   dwarfForm = 0x1f02
	formGNURefAlt     dwarfForm = 0x1f20
	formGNUStrpAlt    dwarfForm = 0x1f21
)

// size is how many bytes a form takes, -1 if that depends on the entry. In
// DWARF 2 a reference between units has the size of an address; wide is set
// for it, too, by whoever asks.
func (f dwarfForm) size(wide bool) int {
	switch f {
	case formFlagPresent, formImplicitConst:
		return 0
	case formData1, formFlag, formRef1, formStrx1, formAddrx1:
		return 1
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2
	case formStrx3, formAddrx3:
		return 3
	case formData4, formRef4, formRefSup4, formStrx4, formAddrx4:
		return 4
	case formAddr, formData8, formRef8, formRefSig8, formRefSup8:
		return 8
	case formData16:
		return 16
	case formStrp, formLineStrp, formSecOffset, formStrpSup, formGNURefAlt, formGNUStrpAlt:
		if wide {
			return 8
		}
		return 4
	}
	// Among them formRefAddr, whose size depends on the version of the unit.
	return -1
}

// dwarfText says where a name is: a section in the upper bits, the offset or
// index in the lower ones. 0 is no name.
type dwarfText uint64

const (
	textInfo    dwarfText = 1 << 60 // offset in .debug_info
	textStr     dwarfText = 2 << 60 // offset in .debug_str
	textLineStr dwarfText = 3 << 60 // offset in .debug_line_str
	textIndex   dwarfText = 4 << 60 // index in .debug_str_offsets
	textLine    dwarfText = 5 << 60 // offset in .debug_line
	textPlace   dwarfText = 1<<60 - 1

	textAnonymous dwarfText = 6 << 60 // no place: a namespace without a name
)

// dwarfClass is what a value means.
type dwarfClass uint8

const (
	classOther   dwarfClass = iota // skipped, or of no use here
	classNumber                    // also offsets of sections
	classAddress                   // an address
	classIndex                     // an index of .debug_addr
	classRef                       // an offset in .debug_info
	classText                      // a dwarfText
	classList                      // an index of the table of range lists
)

// value reads an attribute. Unknown forms set bad: nobody knows their size.
func (u *dwarfUnit) value(c *dwarfCursor, f dwarfField) (uint64, dwarfClass) {
	form := f.form
	for range 4 { // an indirect form may not lead to itself for ever
		if form != formIndirect {
			break
		}
		form = dwarfForm(c.uleb())
	}
	switch form {
	case formImplicitConst:
		return uint64(f.implicit), classNumber
	case formFlagPresent:
		return 1, classNumber
	case formUdata:
		return c.uleb(), classNumber
	case formSdata:
		return uint64(c.sleb()), classNumber
	case formSecOffset:
		return c.word(u.wide), classNumber
	case formData1, formFlag, formData2, formData4, formData8:
		return c.fixed(form.size(false)), classNumber
	case formAddr:
		return c.u64(), classAddress
	case formAddrx, formGNUAddrIndex:
		return c.uleb(), classIndex
	case formAddrx1, formAddrx2, formAddrx3, formAddrx4:
		return c.fixed(form.size(false)), classIndex
	case formRef1, formRef2, formRef4, formRef8:
		return u.start + c.fixed(form.size(false)), classRef
	case formRefUdata:
		return u.start + c.uleb(), classRef
	case formRefAddr:
		return c.word(u.wide || u.version == 2), classRef
	case formRnglistx:
		return c.uleb(), classList
	}
	return u.textOrSkip(c, form)
}

func (u *dwarfUnit) textOrSkip(c *dwarfCursor, form dwarfForm) (uint64, dwarfClass) {
	text := func(section dwarfText, v uint64) (uint64, dwarfClass) {
		return uint64(section | dwarfText(v)&textPlace), classText
	}
	switch form {
	case formString:
		at := c.off
		c.text()
		return text(textInfo, uint64(at))
	case formStrp:
		return text(textStr, c.word(u.wide))
	case formLineStrp:
		return text(textLineStr, c.word(u.wide))
	case formStrx, formGNUStrIndex:
		return text(textIndex, c.uleb())
	case formStrx1, formStrx2, formStrx3, formStrx4:
		return text(textIndex, c.fixed(form.size(false)))
	case formBlock1:
		c.skip(uint64(c.u8()))
	case formBlock2:
		c.skip(uint64(c.u16()))
	case formBlock4:
		c.skip(uint64(c.u32()))
	case formBlock, formExprloc:
		c.skip(c.uleb())
	case formLoclistx:
		c.uleb()
	default:
		n := form.size(u.wide)
		if n < 0 {
			c.fail()
			return 0, classOther
		}
		c.skip(uint64(n))
	}
	return 0, classOther
}
