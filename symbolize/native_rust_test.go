package symbolize_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
)

// TestNativeRust asks addr2line for the frames of a Rust program with its standard
// library. Tools spell what is in angle brackets in different ways (types of constants,
// empty tuples) and number closures within closures in different orders, so names
// are compared without either.
func TestNativeRust(t *testing.T) {
	file := compileNative(t, "rustc", "-g", "-O", "entries.rs")
	table := openNative(t, file)
	addrs := codeAddresses(t, file, 29)
	gnu := addr2line(file)
	want := oracle(t, addrs, gnu[0], gnu[1:]...)
	symbols := readSymbols(t, file)
	plain := func(frames []inquest.Frame) []inquest.Frame {
		var out []inquest.Frame
		for _, f := range frames {
			f.Function, f.StartLine = outsideBrackets(f.Function), 0
			out = append(out, f)
		}
		return out
	}
	wrong := 0
	for _, a := range addrs {
		got := table.Frames(nil, a)
		if !agree(plain(got), plain(want[a]), table.Source(a), symbols, a) {
			if wrong++; wrong < 5 {
				t.Errorf("%#x: got %v, addr2line has %v", a, got, want[a])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d addresses differ", wrong, len(addrs))
	}
	if len(table.Functions("entries::main")) != 1 {
		t.Errorf("code of entries::main: %x, want one range", table.Functions("entries::main"))
	}
}

var closureNumber = regexp.MustCompile(`\{closure#\d+\}`)

// outsideBrackets is a name without what is in angle brackets and without numbers of closures.
func outsideBrackets(name string) string {
	var out strings.Builder
	depth := 0
	for i, c := range name {
		switch {
		case c == '<':
			depth++
		case c == '>' && (i == 0 || name[i-1] != '-'):
			depth--
		case depth == 0:
			out.WriteRune(c)
		}
	}
	return closureNumber.ReplaceAllString(out.String(), "{closure}")
}
