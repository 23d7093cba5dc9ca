package symbolize

import (
	"math"

	"github.com/goinquest/inquest"
)

// place is what is known of one instruction: the innermost inlined call, as
// the index in the tree, -1 for the function itself, and a line.
type place struct {
	call int32
	rec  [inlineSize]byte // of call
	file string
	line int
}

// frames makes the frames of an offset in a function.
func (f *Functions) frames(row *goRow, off uint32) ([]inquest.Frame, error) {
	tree, hasTree, err := f.tree(row)
	if err != nil {
		return nil, err
	}
	p, err := f.place(row, tree, hasTree, off)
	var out []inquest.Frame
	for err == nil && len(out) < maxDepth {
		fr := inquest.Frame{File: p.file, Line: p.line}
		name, start, id := row.number(funcName), row.number(funcStart), row.b[funcID]
		if p.call >= 0 {
			order := f.t.order
			name, start, id = order.Uint32(p.rec[4:]), order.Uint32(p.rec[12:]), p.rec[0]
		}
		fr.StartLine = int(int32(start))
		raw, err := f.name(name)
		if err != nil {
			return nil, err
		}
		spell(&fr, raw)
		out = append(out, fr)
		if p.call < 0 {
			return out, nil
		}
		var shown bool
		if p, shown, err = f.caller(row, tree, p, id); err != nil || !shown {
			return out, err
		}
	}
	return out, err
}

// tree is the address of a function's inline tree.
func (f *Functions) tree(row *goRow) (addr uint64, ok bool, err error) {
	if row.b[funcNfuncdata] <= funcdataInline {
		return 0, false, nil
	}
	off, err := f.number(row.at + funcSize + (uint64(row.number(funcNpcdata))+funcdataInline)*4)
	return f.t.gofunc + uint64(off), err == nil && off != math.MaxUint32, err
}

// place looks an offset up in the tables of a function.
func (f *Functions) place(row *goRow, tree uint64, hasTree bool, off uint32) (p place, err error) {
	p.call = -1
	file, err := f.value(row.number(funcPcfile), off)
	if err != nil {
		return p, err
	}
	line, err := f.value(row.number(funcPcln), off)
	if err != nil {
		return p, err
	}
	if hasTree && row.number(funcNpcdata) > pcdataInline {
		table, err := f.number(row.at + funcSize + pcdataInline*4)
		if err != nil {
			return p, err
		}
		index, err := f.value(table, off)
		if err != nil {
			return p, err
		}
		if rec, ok := f.inlineRecord(tree, index); ok {
			p.call, p.rec = index, rec
		}
	}
	if file < 0 || line == -1 || uint64(file) >= f.t.pctabOff-f.t.fileOff {
		return p, nil // the runtime says "?", 0
	}
	p.line = int(line)
	p.file, err = f.fileName(row, file)
	return p, err
}

// fileName is the path of a file of the function's compilation unit.
func (f *Functions) fileName(row *goRow, no int32) (string, error) {
	t := f.t
	at := t.cuOff + (uint64(row.number(funcCU))+uint64(no))*4
	if at+4 > t.fileOff {
		return "", nil
	}
	off, err := f.number(at)
	if err != nil || t.fileOff+uint64(off) >= t.pctabOff {
		return "", err
	}
	b, err := f.str(t.fileOff+uint64(off), t.pctabOff)
	return string(b), err
}

// caller finds what is shown after an inlined call: the call around it, but
// for wrappers that runtime.Callers hides.
func (f *Functions) caller(row *goRow, tree uint64, p place, id byte) (place, bool, error) {
	for range maxHidden {
		q := place{call: -1}
		if off := f.t.order.Uint32(p.rec[8:]); off < row.end-row.entry {
			var err error
			if q, err = f.place(row, tree, true, off); err != nil {
				return q, false, err
			}
		}
		outer := row.b[funcID]
		if q.call >= 0 {
			outer = q.rec[0]
		}
		if outer == 0 {
			return q, true, nil
		}
		ids, err := f.funcIDs()
		if err != nil {
			return q, false, err
		}
		if !ids.hides(outer, id) {
			return q, true, nil
		}
		if q.call < 0 {
			return q, false, nil
		}
		p = q
	}
	return p, false, nil
}

// maxIDRows is how many functions are looked at for those whose ids matter.
// They are the runtime's, which the linker puts near the beginning.
const maxIDRows = 1 << 15

// funcIDs finds the ids as pclntab.funcIDs does, but stops once it has them.
func (f *Functions) funcIDs() (funcIDs, error) {
	if f.idsKnown {
		return f.ids, nil
	}
	var ids funcIDs
	var seen [256]bool
	var last uint8
	var row goRow
	for i := range min(f.t.nfunc, maxIDRows) {
		if err := f.row(&row, i); err != nil {
			return ids, err
		}
		id := row.b[funcID]
		last = max(last, id)
		if id == 0 || seen[id] {
			continue
		}
		seen[id] = true
		name, err := f.name(row.number(funcName))
		if err != nil {
			return ids, err
		}
		switch string(name) {
		case "runtime.gopanic":
			ids.panics[0] = id
		case "runtime.sigpanic":
			ids.panics[1] = id
		case "runtime.panicwrap":
			ids.panics[2] = id
		case "runtime.systemstack_switch":
			ids.wrapper = id + 1
		}
		if ids.wrapper != 0 && ids.panics[0] != 0 && ids.panics[1] != 0 && ids.panics[2] != 0 {
			break
		}
	}
	if ids.wrapper == 0 { // names were made unreadable
		ids.wrapper = last
	}
	f.ids, f.idsKnown = ids, true
	return ids, nil
}
