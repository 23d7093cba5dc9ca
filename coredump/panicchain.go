package coredump

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goinquest/inquest"
)

// maxPanics is how many panics on top of each other are followed.
const maxPanics = 64

// panicChain reads the panics of a goroutine, the first one first; whole is
// false if some are missing.
func (ts *goTypes) panicChain(u *unwinder, l *layout, at uint64) (list []inquest.Panic, whole bool) {
	for range maxPanics {
		if at == 0 {
			return list, true
		}
		var buf [256]byte
		b := ts.m.read(buf[:0], at, uint64(l.panicSize))
		if b == nil {
			return list, false
		}
		b = bytes.Clone(b)
		f := gFields{b}
		typ, data := f.word(l.panicArg), f.word(l.panicArg+8)
		p := inquest.Panic{
			Recovered: b[l.panicRecovered] == 1, Goexit: b[l.panicGoexit] == 1,
			Repanicked: l.panicRepanicked >= 0 && b[max(0, l.panicRepanicked)] == 1,
		}
		link := f.word(l.panicLink)
		if !p.Goexit {
			ts.value(&p, typ, data)
			ts.original(&p, u, f.word(l.panicStartPC), f.word(l.panicStartSP))
		}
		list = append([]inquest.Panic{p}, list...)
		if link == at {
			return list, false
		}
		at = link
	}
	return list, false
}

// value reads the value of a panic. Of an error or a Stringer the runtime has put
// in its place what it will write (preprintpanics in runtime/panic.go).
func (ts *goTypes) value(p *inquest.Panic, typ, data uint64) {
	if typ == 0 {
		p.Value = "nil"
		return
	}
	t, ok := ts.read(typ)
	if !ok {
		p.Value = missingValue
		return
	}
	p.Type = t.name
	if t.kind == kindString {
		s, ok := ts.text(data, maxValueBytes)
		if !ok {
			s = missingValue
		}
		if p.Value = s; t.name != "string" {
			p.Value = t.name + `("` + s + `")`
		}
		return
	}
	if v, ok := ts.scalar(t.kind, data); ok {
		if p.Value = v; strings.Contains(t.name, ".") {
			p.Value = t.name + "(" + v + ")"
		}
		return
	}
	p.Value = fmt.Sprintf("(%s) %#x", t.name, data)
	p.Fields = ts.fields(t, data)
}

const missingValue = "(its value is not in the core)"

// original finds what gopanic was called with in the place that its caller has
// for its arguments, in case its value was replaced by a text: gopanic keeps it
// there when it begins. pc and sp are where it is. What is there could be old; it
// must be a type at least.
func (ts *goTypes) original(p *inquest.Panic, u *unwinder, pc, sp uint64) {
	taken, ok := u.frameBytes(pc - 1)
	if p.Type != "string" || !ok || u.name(pc-1) != "runtime.gopanic" {
		return
	}
	at := sp + taken + 8 // behind where it returns to, on arm64 behind the caller's link register
	typ, ok := ts.m.word(at)
	data, ok2 := ts.m.word(at + 8)
	t, ok3 := ts.read(typ)
	if !ok || !ok2 || !ok3 || t.name == "string" {
		return
	}
	p.Type, p.Fields = t.name, ts.fields(t, data)
}

// printed are the panics as the runtime writes them (printpanics).
func printed(list []inquest.Panic, release int) string {
	var b strings.Builder
	for i, p := range list {
		// A value that panicked again is written once.
		if i > 0 && list[i-1].Repanicked {
			continue
		}
		if i > 0 && !list[i-1].Goexit {
			b.WriteByte('\t')
		}
		if p.Goexit {
			continue
		}
		value := p.Value
		if release >= 23 {
			value = strings.ReplaceAll(value, "\n", "\n\t")
		}
		b.WriteString("panic: " + value)
		switch {
		case p.Repanicked && (p.Recovered || release < 26):
			b.WriteString(" [recovered, repanicked]")
		case p.Recovered:
			b.WriteString(" [recovered]")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
