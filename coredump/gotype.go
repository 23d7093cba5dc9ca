package coredump

import (
	"encoding/binary"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// goTypes reads values by the descriptions of types that every Go program
// has, of all releases from 1.22 to 1.26 (internal/abi/type.go).
type goTypes struct {
	m       words
	start   uint64 // of the descriptions, in the process
	end     uint64
	release int
}

// Kinds of types, and where a description has what.
const (
	kindBool       = 1
	kindInt        = 2
	kindInt64      = 6
	kindUint       = 7
	kindUintptr    = 12
	kindFloat32    = 13
	kindFloat64    = 14
	kindPointer    = 22
	kindString     = 24
	kindStruct     = 25
	kindMask       = 0x1f
	typeFlags      = 20
	typeKind       = 23
	typeName       = 40
	typeBytes      = 48
	typeElem       = 48 // of a pointer
	structFields   = 56 // of a struct: address and number
	fieldBytes     = 24 // name, type, offset
	flagExtraStar  = 2  // the name begins with a * that is not the type's
	maxTypeName    = 256
	maxValueBytes  = 2 * maxMessage
	maxPanicFields = 32
	maxFieldBytes  = 512
)

func newGoTypes(p *Process, funcs *symbolize.Functions, bias uint64, release int) *goTypes {
	t := funcs.Types()
	return &goTypes{m: words{r: overlay{p.Memory, funcs, bias}}, start: t.Start + bias, end: t.End + bias, release: release}
}

// overlay is the memory of a process, and what of its executable is not in there:
// constants are in no core. Pages that were left out may read as zeros.
type overlay struct {
	memory io.ReaderAt
	funcs  *symbolize.Functions
	bias   uint64
}

func (o overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.memory.ReadAt(p, off)
	n = max(0, n)
	for _, c := range p[:n] {
		if c != 0 {
			if n == len(p) {
				return n, err
			}
			return n + o.funcs.ReadLinked(p[n:], uint64(off)+uint64(n)-o.bias), err
		}
	}
	return max(n, o.funcs.ReadLinked(p, uint64(off)-o.bias)), err
}

// goType is what is needed of a type.
type goType struct {
	addr uint64
	kind byte
	name string
}

// read reads the description at an address; ok is false if there is none.
func (ts *goTypes) read(addr uint64) (t goType, ok bool) {
	if addr < ts.start || addr+typeBytes > ts.end || addr%8 != 0 {
		return t, false
	}
	var buf [typeBytes]byte
	b := ts.m.read(buf[:0], addr, typeBytes)
	if b == nil {
		return t, false
	}
	t.addr, t.kind = addr, b[typeKind]&kindMask
	star := b[typeFlags]&flagExtraStar != 0
	at := binary.LittleEndian.Uint32(b[typeName:])
	if t.name, ok = ts.name(ts.start + uint64(at)); !ok || t.name == "" {
		return t, false
	}
	if star {
		t.name = t.name[1:]
	}
	return t, true
}

// name reads the name at an address: flags, its length, its bytes.
func (ts *goTypes) name(addr uint64) (string, bool) {
	var buf [3]byte
	b := ts.m.read(buf[:0], addr, 3)
	if b == nil {
		return "", false
	}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n == 0 {
		return "", false
	}
	s := ts.bytes(addr+1+uint64(size), min(n, maxTypeName))
	return s, s != "" && utf8.ValidString(s)
}

// bytes reads up to n bytes, "" if they are not all there.
func (ts *goTypes) bytes(addr, n uint64) string {
	out := make([]byte, 0, min(n, maxValueBytes))
	var buf [256]byte
	for n > 0 && len(out) < maxValueBytes {
		step := min(n, uint64(len(buf)))
		b := ts.m.read(buf[:0], addr, step)
		if b == nil {
			return ""
		}
		out = append(out, b...)
		addr, n = addr+step, n-step
	}
	return string(out)
}

// text reads the string whose header is at an address.
func (ts *goTypes) text(addr, limit uint64) (string, bool) {
	at, ok1 := ts.m.word(addr)
	n, ok2 := ts.m.word(addr + 8)
	if !ok1 || !ok2 || n > maxAddr {
		return "", false
	}
	if n == 0 {
		return "", true
	}
	s := ts.bytes(at, min(n, limit))
	return s, s != ""
}

// scalar is a number or bool as print writes it; ok is false if the type is
// none, or it is not there.
func (ts *goTypes) scalar(kind byte, addr uint64) (string, bool) {
	size := uint64(8)
	switch kind {
	case kindBool, 3, 8:
		size = 1
	case 4, 9:
		size = 2
	case 5, 10, kindFloat32:
		size = 4
	}
	var word [8]byte
	b := ts.m.read(word[:0], addr, size)
	if b == nil {
		return "", false
	}
	full := [8]byte{}
	copy(full[:], b)
	v := binary.LittleEndian.Uint64(full[:])
	switch {
	case kind == kindBool:
		return strconv.FormatBool(v&0xff != 0), true
	case kind >= kindInt && kind <= kindInt64:
		shift := 64 - 8*size
		return strconv.FormatInt(int64(v<<shift)>>shift, 10), true
	case kind >= kindUint && kind <= kindUintptr:
		return strconv.FormatUint(v, 10), true
	case kind == kindFloat32:
		return ts.float(float64(math.Float32frombits(uint32(v))), 32), true
	case kind == kindFloat64:
		return ts.float(math.Float64frombits(v), 64), true
	}
	return "", false
}

// float writes a number as print does: since Go 1.26 with as many digits as it
// needs, before with seven.
func (ts *goTypes) float(v float64, bits int) string {
	if ts.release >= 26 {
		return string(strconv.AppendFloat(nil, v, 'g', -1, bits))
	}
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	s := strconv.FormatFloat(v, 'e', 6, 64)
	if v >= 0 && !math.Signbit(v) {
		s = "+" + s
	}
	if n := len(s); n > 4 && (s[n-4] == 'e') { // the exponent has three digits
		s = s[:n-2] + "0" + s[n-2:]
	}
	return s
}

// fields are the strings, numbers and bools of a struct, or of one that a
// pointer leads to.
func (ts *goTypes) fields(t goType, data uint64) (out []inquest.PanicField) {
	if t.kind == kindPointer {
		elem, _ := ts.m.word(t.addr + typeElem)
		var ok bool
		if t, ok = ts.read(elem); !ok {
			return nil
		}
	}
	list, ok := ts.m.word(t.addr + structFields)
	n, ok2 := ts.m.word(t.addr + structFields + 8)
	if t.kind != kindStruct || !ok || !ok2 {
		return nil
	}
	for i := range min(n, maxPanicFields) {
		at := list + i*fieldBytes
		nameAt, _ := ts.m.word(at)
		typeAt, _ := ts.m.word(at + 8)
		offset, _ := ts.m.word(at + 16)
		ft, ok := ts.read(typeAt)
		name, ok2 := ts.name(nameAt)
		if !ok || !ok2 || offset > 1<<16 {
			return out
		}
		value, ok := ts.scalar(ft.kind, data+offset)
		if ft.kind == kindString {
			value, ok = ts.text(data+offset, maxFieldBytes)
		}
		if ok {
			out = append(out, inquest.PanicField{Name: name, Value: valid(value)})
		}
	}
	return out
}
