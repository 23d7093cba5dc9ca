package coredump

import (
	"strings"

	"github.com/goinquest/inquest"
)

// maxClass bounds a class in bytes: what exceeds it is no constant text.
const maxClass = 120

// runtimePanics are panics of the runtime whose text shows their type. The
// first that fits counts.
var runtimePanics = []struct{ prefix, typ string }{
	{"runtime error: index out of range", "runtime.boundsError"},
	{"runtime error: slice bounds out of range", "runtime.boundsError"},
	{"runtime error: cannot convert slice with length", "runtime.boundsError"},
	{"runtime error: invalid memory address or nil pointer dereference", "runtime.errorString"},
	{"runtime error: ", "runtime.errorString"},
	{"interface conversion: ", "*runtime.TypeAssertionError"},
	{"panic called with nil argument", "*runtime.PanicNilError"},
	{"send on closed channel", "runtime.plainError"},
	{"close of closed channel", "runtime.plainError"},
	{"close of nil channel", "runtime.plainError"},
	{"assignment to entry in nil map", "runtime.plainError"},
	{"makechan: size out of range", "runtime.plainError"},
}

// panicClass is the class of a panic by the text behind "panic: ". Errors are
// written as their message, so of most a text only tells "panic:string".
func panicClass(value string) string {
	for _, r := range runtimePanics {
		if strings.HasPrefix(value, r.prefix) {
			return "panic:" + r.typ
		}
	}
	return "panic:" + valueType(value)
}

// valueType is the type of a value as printpanicval and printanycustomtype
// write it: main.Err("text"), main.Code(7), (*main.T) 0xc000012080, +1.5e+000.
func valueType(value string) string {
	if rest, ok := strings.CutPrefix(value, "("); ok {
		if name, data, ok := strings.Cut(rest, ") "); ok && isType(name) && (strings.HasPrefix(data, "0x") || strings.HasPrefix(data, "{")) {
			return name
		}
	}
	if name, arg, ok := strings.Cut(value, "("); ok && isType(name) && strings.Contains(name, ".") && arg != "" &&
		(arg[0] == '"' || arg == "true)" || arg == "false)" || isNumber(strings.TrimSuffix(arg, ")"))) {
		return name
	}
	switch {
	case value == "nil":
		return "nil"
	case value == "true" || value == "false":
		return "bool"
	case isNumber(value) && strings.ContainsAny(value, ".e"):
		return "float64"
	case isNumber(value):
		return "int"
	}
	return "string"
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789+-.ei") == "" && strings.ContainsAny(s, "0123456789")
}

func isType(s string) bool {
	return s != "" && len(s) <= maxClass && !strings.ContainsAny(s, " \t\"():")
}

// fatalClass is the class of what the runtime throws, by the text behind
// "fatal error: ". Which of its allocations finds that there is no memory
// differs from death to death.
func fatalClass(text string) string {
	if strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory") {
		return "fatal:out of memory"
	}
	return "fatal:" + constant(text)
}

// signalClass is the class of a death by a signal; name is SIG….
func signalClass(name string) string { return "signal:" + name }

const raceClass = "fatal:data race"

// constant is the text without what differs from death to death: numbers,
// addresses and what is quoted become #.
func constant(text string) string {
	var b strings.Builder
	for i := 0; i < len(text) && b.Len() < maxClass; {
		c := text[i]
		switch {
		case c == '"' || c == '`':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				end = len(text) - i - 2
			}
			b.WriteByte('#')
			i += end + 2
		case isDigit(c) && (i == 0 || !isWord(text[i-1])):
			for i < len(text) && isWord(text[i]) {
				i++
			}
			b.WriteByte('#')
		case c < ' ':
			b.WriteByte(' ')
			i++
		default:
			b.WriteByte(c)
			i++
		}
	}
	return strings.ToValidUTF8(strings.TrimSpace(b.String()), "")
}

func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// verdict is what the lines above the first stack said.
type verdict struct {
	panics []string // values, the root first
	fatal  string
	thrown bool   // fatal was there
	raised string // the [signal …] line
	signal string // name in the SIG… line
	line   string // that line
	notice string // runtime: …, the first
	raced  bool
}

// class is the one rule for the class of a death. A signal says more than what
// the runtime made of it; of panics on top of each other the root decides.
func (v *verdict) class() (class string, signal int) {
	switch {
	case v.signal != "":
		return signalClass(v.signal), signals[v.signal]
	case v.raised != "":
		name, _, _ := strings.Cut(strings.TrimPrefix(v.raised, "[signal "), ":")
		if n := signals[name]; n != 0 {
			return signalClass(name), n
		}
		return inquest.ClassUnknown, 0
	case v.thrown:
		return fatalClass(v.fatal), 0
	case len(v.panics) > 0:
		return panicClass(v.panics[0]), 0
	case v.raced:
		return raceClass, 0
	}
	return inquest.ClassUnknown, 0
}

// message is the line for people.
func (v *verdict) message() string {
	var parts []string
	switch {
	case v.signal != "":
		parts = append(parts, v.line)
	case v.thrown:
		parts = append(parts, "fatal error: "+v.fatal)
	}
	if len(v.panics) > 0 {
		parts = append(parts, "panic: "+v.panics[0])
		if last := v.panics[len(v.panics)-1]; last != v.panics[0] {
			parts = append(parts, "then panic: "+last)
		}
	}
	if v.raised != "" {
		parts = append(parts, v.raised)
	}
	if v.thrown && v.notice != "" {
		parts = append(parts, v.notice)
	}
	if len(parts) == 0 && v.raced {
		parts = append(parts, "WARNING: DATA RACE")
	}
	return strings.ToValidUTF8(strings.Join(parts, "\n"), "\uFFFD")
}
