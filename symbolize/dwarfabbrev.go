package symbolize

import (
	"debug/dwarf"

	"github.com/goinquest/inquest"
)

// dwarfField is one attribute of a declaration, in the form it is written in.
type dwarfField struct {
	attr     dwarf.Attr
	form     dwarfForm
	implicit int64 // the value, if the form has none in the entry
}

// dwarfDecl declares how entries of one code look.
type dwarfDecl struct {
	tag      dwarf.Tag
	children bool
	wanted   bool // its attributes are of interest, not only its place in the tree
	size     int  // bytes of all attributes if that is always the same, else -1
	fields   []dwarfField
}

// dwarfDecls are the declarations of a unit by code. Compilers number from 1.
type dwarfDecls struct {
	dense  []dwarfDecl // code-1
	sparse map[uint64]dwarfDecl
}

func (d *dwarfDecls) get(code uint64) *dwarfDecl {
	if code-1 < uint64(len(d.dense)) {
		return &d.dense[code-1]
	}
	if decl, ok := d.sparse[code]; ok {
		return &decl
	}
	return nil
}

// dwarfWanted are the entries whose attributes are read.
func dwarfWanted(t dwarf.Tag) bool {
	switch t {
	case dwarf.TagCompileUnit, dwarf.TagPartialUnit, dwarf.TagSkeletonUnit,
		dwarf.TagSubprogram, dwarf.TagInlinedSubroutine,
		dwarf.TagNamespace, dwarf.TagModule, dwarf.TagStructType, dwarf.TagClassType,
		dwarf.TagUnionType, dwarf.TagInterfaceType, dwarf.TagEnumerationType:
		return true
	}
	return false
}

// decls returns the declarations at an offset of .debug_abbrev. Tables are
// kept, as units may share them; what is read is charged to the budget, as
// damaged offsets may have them overlap.
func (d *dwarfData) decls(off uint64, wide bool) (*dwarfDecls, error) {
	key := dwarfDeclsKey{off, wide}
	if t, ok := d.tables[key]; ok {
		return t, nil
	}
	c := dwarfAt(d.abbrev, off)
	start := c.off
	t := &dwarfDecls{}
	for {
		code := c.uleb()
		if c.bad {
			return nil, inquest.Errorf(inquest.ErrInvalid, "declarations at %#x of .debug_abbrev run past its end", off)
		}
		if code == 0 {
			break
		}
		decl := c.decl(wide)
		if code == uint64(len(t.dense))+1 {
			t.dense = append(t.dense, decl)
			continue
		}
		if t.sparse == nil {
			t.sparse = map[uint64]dwarfDecl{}
		}
		t.sparse[code] = decl
		if d.declBudget < c.off-start {
			break
		}
	}
	if d.declBudget -= c.off - start; d.declBudget < 0 {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "declarations of units overlap again and again in .debug_abbrev")
	}
	d.tables[key] = t
	return t, nil
}

// decl reads one declaration after its code.
func (c *dwarfCursor) decl(wide bool) dwarfDecl {
	decl := dwarfDecl{tag: dwarf.Tag(c.uleb()), children: c.u8() != 0}
	decl.wanted = dwarfWanted(decl.tag)
	for !c.bad {
		f := dwarfField{attr: dwarf.Attr(c.uleb()), form: dwarfForm(c.uleb())}
		if f.form == formImplicitConst {
			f.implicit = c.sleb()
		}
		if f.attr == 0 && f.form == 0 {
			break
		}
		if n := f.form.size(wide); n < 0 || decl.size < 0 {
			decl.size = -1
		} else {
			decl.size += n
		}
		decl.fields = append(decl.fields, f)
	}
	return decl
}
