package calltree

import (
	"strconv"
	"strings"
)

// PackageOf returns the import path of the package that a Go function's name,
// as pprof spells it, belongs to, and "" for a name that is not Go's (C, C++, an
// address).
//
// The linker writes a dot in the last element of a path as %2e, so the first
// dot after the last slash ends the path; names of other producers that have
// the dot itself are understood for the two usual endings, ".v3" and ".go".
func PackageOf(name string) string {
	for _, p := range []string{"type:.eq.", "type:.hash.", "type..eq.", "type..hash."} {
		name = strings.TrimPrefix(name, p) // made by the compiler for a type of the package
	}
	if i := strings.LastIndex(name, "+0x"); i >= 0 && isHex(name[i+3:]) {
		return "" // a frame that is only an address
	}
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i] // type arguments hold paths of their own
	}
	if strings.ContainsAny(name, " <>") || strings.Contains(name, "::") {
		return "" // C++, Rust, JVM
	}
	slash := strings.LastIndexByte(name, '/')
	if i := strings.IndexByte(name, '('); i >= 0 && i < slash {
		slash = strings.LastIndexByte(name[:i], '/')
	}
	last := name[slash+1:]
	dot := strings.IndexByte(last, '.')
	if dot <= 0 || isClone(last[dot+1:]) {
		return ""
	}
	next, _, more := strings.Cut(last[dot+1:], ".")
	if slash >= 0 && more && (next == "go" || isVersion(next)) && !strings.HasPrefix(last[dot+1+len(next):], ".func") {
		dot += 1 + len(next)
	}
	return unescape(name[:slash+1+dot])
}

// isVersion says whether s is v and a number.
func isVersion(s string) bool {
	return len(s) > 1 && s[0] == 'v' && isDecimal(s[1:])
}

// isClone says whether s, what follows the first dot of a name, marks a part or
// a copy that a C compiler made of a function.
func isClone(s string) bool {
	if s == "cold" {
		return true
	}
	mark, number, ok := strings.Cut(s, ".")
	if !ok || !isDecimal(strings.TrimSuffix(number, ".cold")) {
		return false
	}
	switch mark {
	case "cold", "part", "constprop", "isra", "lto_priv", "llvm":
		return true
	}
	return false
}

func isDecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// unescape undoes the linker's %xx.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
