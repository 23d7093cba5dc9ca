package coredump

import (
	"bytes"
	"strconv"
)

// lineKind is what a line of a crash text is. The runtime's traceback.go,
// panic.go and signal_unix.go say how they are spelled.
type lineKind uint8

const (
	lineOther    lineKind = iota // not of a crash text
	lineBlank                    //
	linePanic                    // panic: value
	lineFatal                    // fatal error: text
	lineRaised                   // [signal SIGSEGV: …]
	lineSignal                   // SIGQUIT: quit
	lineRace                     // WARNING: DATA RACE
	lineHeader                   // goroutine 1 [running]:
	lineStack                    // runtime stack:
	lineFunction                 // main.main()
	lineFile                     // <tab>/src/main.go:12 +0x1d
	lineCreated                  // created by main.main in goroutine 1
	lineElided                   // ...additional frames elided...
	lineAncestor                 // [originating from goroutine 1]:
	lineAbsent                   // <tab>goroutine running on other thread; stack unavailable
	lineThread                   // -----
	lineNotice                   // runtime: …
	lineDetail                   // registers, PC=…
	lineExit                     // exit status 2
)

// prefix is a line that is told by how it begins.
type prefix struct {
	text string
	kind lineKind
}

var prefixes = []prefix{
	{"panic: ", linePanic},
	{"fatal error: ", lineFatal},
	{"[signal ", lineRaised},
	{"WARNING: DATA RACE", lineRace},
	{"runtime stack:", lineStack},
	{"created by ", lineCreated},
	{"[originating from goroutine ", lineAncestor},
	{"-----", lineThread},
	{"runtime: ", lineNotice},
	{"unexpected fault address ", lineNotice},
	{"PC=0x", lineDetail},
	{"signal arrived during ", lineDetail},
	{"instruction bytes:", lineDetail},
	{"stack: frame={", lineDetail},
	{"exit status ", lineExit},
}

// indented are those behind a tab.
var indented = []prefix{
	{"panic: ", linePanic},
	{"fatal error: ", lineFatal},
	{"goroutine running on other thread", lineAbsent},
	{"stack=[", lineDetail},
}

func prefixed(line []byte, list []prefix) lineKind {
	for _, p := range list {
		if len(line) >= len(p.text) && line[0] == p.text[0] && string(line[:len(p.text)]) == p.text {
			return p.kind
		}
	}
	return lineOther
}

// kindOf tells what a line is by itself. It has no end of line.
func kindOf(line []byte) lineKind {
	if len(line) == 0 {
		return lineBlank
	}
	switch line[0] {
	case 'g':
		if isHeader(line) {
			return lineHeader
		}
	case 'S':
		if signalName(line) != "" {
			return lineSignal
		}
	case '.':
		if bytes.HasPrefix(line, []byte("...")) && bytes.HasSuffix(line, []byte("frames elided...")) {
			return lineElided
		}
	}
	if isIndented(line) {
		inner := bytes.TrimLeft(line, " \t")
		if kind := prefixed(inner, indented); kind != lineOther {
			return kind
		}
		if fileLine(inner) > 0 {
			return lineFile
		}
		return lineOther
	}
	if kind := prefixed(line, prefixes); kind != lineOther {
		return kind
	}
	switch {
	case functionEnd(line) > 0:
		return lineFunction
	case isRegister(line):
		return lineDetail
	}
	return lineOther
}

// isHeader: "goroutine 18 gp=0xc000007 m=0 mp=0x5f2 [chan receive, 5 minutes]:".
func isHeader(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("goroutine "))
	return ok && len(rest) > 0 && isDigit(rest[0]) && bytes.HasSuffix(rest, []byte("]:")) && bytes.Contains(rest, []byte(" ["))
}

// header is what the line above a stack says.
type header struct {
	id      int64
	state   []byte // of the line
	wait    int    // minutes
	locked  bool
	running bool // on a thread, as far as the line says
}

func parseStackHead(line []byte) header {
	rest := line[len("goroutine "):]
	open := bytes.Index(rest, []byte(" ["))
	var h header
	h.id, _ = number(rest)
	middle, inside := rest[:open], rest[open+2:len(rest)-2]
	if i := bytes.Index(inside, []byte(" labels:{")); i >= 0 {
		inside = inside[:i]
	}
	for i, part := range bytes.Split(inside, []byte(", ")) {
		minutes, isWait := bytes.CutSuffix(part, []byte(" minutes"))
		switch {
		case i == 0:
			h.state = bytes.TrimSuffix(part, []byte(" (scan)"))
		case isWait:
			n, _ := number(minutes)
			h.wait = int(min(n, 1<<31-1))
		case string(part) == "locked to thread":
			h.locked = true
		}
	}
	s := string(h.state)
	h.running = s == "running" || s == "syscall" || bytes.Contains(middle, []byte(" mp=0x"))
	return h
}

// functionEnd is where the name in "main.(*T).run(0x1, {0x2, 0x3})" ends; 0 if
// the line is not a call. Names have no spaces but in type arguments, which
// tracebacks leave out; "non-Go function at pc=…" is one to us.
func functionEnd(line []byte) int {
	if bytes.HasPrefix(line, []byte("non-Go function at pc=")) {
		return len("non-Go function")
	}
	if line[len(line)-1] != ')' {
		return 0
	}
	open := bytes.LastIndexByte(line, '(')
	if open <= 0 || bytes.ContainsAny(line[:open], " \t\"=") || !isArguments(line[open+1:len(line)-1]) {
		return 0
	}
	return open
}

// isArguments: nothing but numbers, braces and commas stands between the
// parentheses of a call.
func isArguments(s []byte) bool {
	for _, c := range s {
		if isHex(c) {
			continue
		}
		switch c {
		case 'x', '{', '}', ',', ' ', '.', '_', '?':
		default:
			return false
		}
	}
	return true
}

// fileLine is where the line number in "/src/main.go:12 +0x1d" begins; 0 if
// there is none.
func fileLine(s []byte) int {
	i := bytes.LastIndexByte(s, ':')
	if i <= 0 {
		return 0
	}
	_, n := number(s[i+1:])
	if rest := s[i+1+n:]; n == 0 || len(rest) > 0 && rest[0] != ' ' {
		return 0
	}
	return i + 1
}

// isIndented: by a tab, or the spaces somebody made of it.
func isIndented(line []byte) bool { return line[0] == '\t' || bytes.HasPrefix(line, []byte("    ")) }

// isRegister: "rax    0xca", "r8     0x0".
func isRegister(line []byte) bool {
	name, value, ok := bytes.Cut(line, []byte(" "))
	value = bytes.TrimLeft(value, " ")
	if !ok || len(name) > 7 || len(value) < 3 || value[0] != '0' || value[1] != 'x' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && !isDigit(c) {
			return false
		}
	}
	for _, c := range value[2:] {
		if !isHex(c) {
			return false
		}
	}
	return true
}

// signalName is the name that "SIGQUIT: quit" begins with.
func signalName(line []byte) string {
	name, _, ok := bytes.Cut(line, []byte(": "))
	if !ok || len(name) > 10 || signals[string(name)] == 0 {
		return ""
	}
	return string(name)
}

// signals are those of Linux that the runtime knows by name, with numbers as
// amd64 and arm64 have them.
var signals = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8,
	"SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15, "SIGSTKFLT": 16,
	"SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26, "SIGPROF": 27, "SIGIO": 29, "SIGPWR": 30, "SIGSYS": 31,
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool   { return isDigit(c) || c >= 'a' && c <= 'f' }

// number is the one s begins with, and how long it is.
func number(s []byte) (int64, int) {
	n := 0
	for n < len(s) && n < 18 && isDigit(s[n]) {
		n++
	}
	v, err := strconv.ParseInt(string(s[:n]), 10, 64)
	if err != nil {
		return 0, 0
	}
	return v, n
}
