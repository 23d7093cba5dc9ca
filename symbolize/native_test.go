package symbolize_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/symbolize"
)

// needTools skips a test whose tool is missing; where everything must be tested it fails.
func needTools(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		proc.Missing(t, "%s is missing", tool)
	}
}

// runTool runs a command and returns what it prints.
func runTool(t testing.TB, stdin string, name string, args ...string) string {
	t.Helper()
	needTools(t, name)
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// compileNative builds a program of testdata/native.
func compileNative(t testing.TB, compiler string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "prog")
	full := []string{"-o", out}
	for _, a := range args {
		if strings.HasSuffix(a, ".c") || strings.HasSuffix(a, ".cc") || strings.HasSuffix(a, ".S") || strings.HasSuffix(a, ".rs") {
			a = filepath.Join("testdata", "native", a)
		}
		full = append(full, a)
	}
	runTool(t, "", compiler, full...)
	return out
}

func openNative(t testing.TB, file string, goText ...[2]uint64) *symbolize.NativeTable {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data)), goText...)
	if err != nil {
		t.Fatal(err)
	}
	table, err := symbolize.OpenNative(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := table.Damaged(); d != "" {
		t.Errorf("%s: damage in a good file: %s", file, d)
	}
	return table
}

// codeAddresses are addresses of .text, every step bytes.
func codeAddresses(t testing.TB, file string, step uint64) []uint64 {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(".text")
	var out []uint64
	for a := s.Addr; a < s.Addr+s.Size; a += step {
		out = append(out, a)
	}
	return out
}

// rustHash is what makes Rust's names unique; ours leave it out.
var rustHash = regexp.MustCompile(`::h[0-9a-f]{16}$|\[[0-9a-f]{8,16}\]`)

// oracle asks addr2line, or what prints like it, for the frames of addresses.
// Names come without parameters, as ours do.
func oracle(t testing.TB, addrs []uint64, name string, args ...string) map[uint64][]inquest.Frame {
	t.Helper()
	var in strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	out := map[uint64][]inquest.Frame{}
	var names []string
	var at uint64
	lines := strings.Split(strings.TrimSpace(runTool(t, in.String(), name, args...)), "\n")
	for i := 0; i < len(lines); i++ {
		if hex, ok := strings.CutPrefix(lines[i], "0x"); ok {
			v, err := strconv.ParseUint(hex, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			at = v
			continue
		}
		if i+1 == len(lines) {
			break
		}
		f := inquest.Frame{Function: lines[i]}
		i++
		place, _, _ := strings.Cut(lines[i], " (")
		colon := strings.LastIndexByte(place, ':')
		f.File = place[:colon]
		f.Line, _ = strconv.Atoi(place[colon+1:]) // "?" is unknown
		if f.File = filepath.Clean(f.File); f.File == "??" {
			f.File = ""
		}
		names = append(names, f.Function)
		out[at] = append(out[at], f)
	}
	plain := strings.Split(runTool(t, strings.Join(names, "\n"), "c++filt", "-p"), "\n")
	i := 0
	for _, a := range addrs {
		for k := range out[a] {
			out[a][k].Function = rustHash.ReplaceAllString(plain[i], "")
			i++
		}
		if len(out[a]) == 1 && out[a][0].Function == "??" {
			delete(out, a)
		}
	}
	return out
}

var (
	addr2line      = func(file string) []string { return []string{"addr2line", "-f", "-i", "-a", "-e", file} }
	llvmSymbolizer = func(file string) []string {
		return []string{"llvm-symbolizer", "--obj=" + file, "--functions=linkage", "--no-demangle", "--inlines", "--addresses", "--output-style=GNU"}
	}
)

// symbolNames are the names of functions in a file's symbols by where they begin, and
// where each ends.
type symbolNames struct {
	names map[uint64][]string
	spans [][2]uint64
}

func readSymbols(t testing.TB, file string) symbolNames {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	s := symbolNames{names: map[uint64][]string{}}
	for _, y := range list {
		if elf.ST_TYPE(y.Info) == elf.STT_FUNC {
			s.names[y.Value] = append(s.names[y.Value], y.Name)
			s.spans = append(s.spans, [2]uint64{y.Value, y.Value + y.Size})
		}
	}
	return s
}

// around says whether an address is in a function, and the names of it.
func (s symbolNames) around(addr uint64) (names []string, in bool) {
	for _, r := range s.spans {
		if addr >= r[0] && addr < r[1] {
			names, in = append(names, s.names[r[0]]...), true
		}
	}
	return names, in
}

// partOf is what compilers and linkers append to the names of parts, copies and
// versions of a function.
var partOf = regexp.MustCompile(`( \[clone .*| \(\..*|@.*|\.(cold|part|isra|constprop|lto_priv|llvm)\b.*)$`)

// agree says whether frames are those of an oracle, apart from what
// is known to differ:
//   - oracles take what lies between two functions for the end of the first;
//   - of symbols they print the source file, which may be any of many (STT_FILE);
//   - they prefer one of several names of a function, or the name of a part that
//     the compiler moved away (f.cold);
//   - addr2line prints plain names where there is no mangled one.
func agree(got, want []inquest.Frame, source string, symbols symbolNames, addr uint64) bool {
	names, in := symbols.around(addr)
	if len(got) == 0 {
		return !in
	}
	if len(got) != len(want) {
		return false
	}
	for i, g := range got {
		w := want[i]
		if source == "dwarf" && (g.File != w.File || g.Line != w.Line) {
			return false
		}
		w.Function = partOf.ReplaceAllString(w.Function, "")
		same := g.Function == w.Function || strings.HasSuffix(g.Function, "::"+w.Function)
		if !same && i == len(got)-1 && slices.Contains(names, want[i].Function) {
			same = slices.Contains(names, g.Function)
		}
		if !same {
			return false
		}
	}
	return true
}

// TestNativeFrames asks two oracles. They differ here and there (addr2line
// names the wrong file now and then), so one has to agree, and both where they agree.
func TestNativeFrames(t *testing.T) {
	c := []string{"sums.c", "sums_main.c"}
	cc := []string{"shapes.cc", "shapes_main.cc"}
	for _, test := range []struct {
		name, compiler string
		flags, sources []string
	}{
		{"c plain", "gcc", []string{"-O0", "-g"}, c},
		{"c dwarf 3", "gcc", []string{"-O2", "-gdwarf-3"}, c},
		{"c dwarf 4", "gcc", []string{"-O2", "-gdwarf-4"}, c},
		{"c dwarf 5", "gcc", []string{"-O2", "-gdwarf-5"}, c},
		{"c wide dwarf", "gcc", []string{"-O2", "-gdwarf64"}, c},
		{"c packed", "gcc", []string{"-O2", "-g", "-gz"}, c},
		{"c packed the old way", "gcc", []string{"-O2", "-gdwarf-4", "-gz=zlib-gnu"}, c},
		{"c whole program", "gcc", []string{"-O2", "-g", "-flto"}, c},
		{"c fixed addresses", "gcc", []string{"-O2", "-g", "-no-pie"}, c},
		{"c sections dropped", "gcc", []string{"-O2", "-g", "-ffunction-sections", "-Wl,--gc-sections"}, c},
		{"c lines alone", "gcc", []string{"-O2", "-g1"}, c},
		{"c++ plain", "g++", []string{"-O0", "-g"}, cc},
		{"c++ dwarf 4", "g++", []string{"-O2", "-gdwarf-4"}, cc},
		{"c++ dwarf 5", "g++", []string{"-O2", "-gdwarf-5"}, cc},
		{"c++ packed", "g++", []string{"-O2", "-g", "-gz"}, cc},
		{"c++ type units", "g++", []string{"-O2", "-g", "-fdebug-types-section"}, cc},
		{"c++ whole program", "g++", []string{"-O2", "-g", "-flto"}, cc},
		{"c++ no symbols of DWARF", "g++", []string{"-O2"}, cc},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := compileNative(t, test.compiler, append(test.flags, test.sources...)...)
			compareFrames(t, file, openNative(t, file), codeAddresses(t, file, 1))
		})
	}
}

func compareFrames(t *testing.T, file string, table *symbolize.NativeTable, addrs []uint64) {
	t.Helper()
	gnu, llvm := addr2line(file), llvmSymbolizer(file)
	wantGNU := oracle(t, addrs, gnu[0], gnu[1:]...)
	wantLLVM := oracle(t, addrs, llvm[0], llvm[1:]...)
	symbols := readSymbols(t, file)
	known, wrong := 0, 0
	for _, a := range addrs {
		got := table.Frames(nil, a)
		for i := range got {
			got[i].StartLine = 0 // not known to them
		}
		known += min(1, len(got))
		source := table.Source(a)
		if !agree(got, wantGNU[a], source, symbols, a) && !agree(got, wantLLVM[a], source, symbols, a) {
			if wrong++; wrong < 5 {
				t.Errorf("%#x: got %v, addr2line has %v, llvm-symbolizer %v", a, got, wantGNU[a], wantLLVM[a])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d addresses differ", wrong, len(addrs))
	}
	if known < len(addrs)/2 {
		t.Errorf("only %d of %d addresses have a function", known, len(addrs))
	}
}

// TestNativeSymbols reads names of code that has no debug information.
func TestNativeSymbols(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the assembler file is for amd64")
	}
	file := compileNative(t, "gcc", "-nostdlib", "-Wl,-emain", "names.S")
	table := openNative(t, file)
	var got []string
	for _, a := range codeAddresses(t, file, 1) {
		name := "-"
		if f := table.Frames(nil, a); len(f) > 0 {
			name = f[0].Function + " " + table.Source(a)
		}
		if len(got) == 0 || got[len(got)-1] != name {
			got = append(got, name)
		}
	}
	want := []string{
		"plain_name symtab", "outer::inner symtab", "-", "mycrate::foo::bar symtab",
		"core::fmt::write symtab", "bare_label symtab", "main symtab",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("functions in order of address (-want +got):\n%s", diff)
	}

	shared := compileNative(t, "gcc", "-shared", "-fPIC", "-O2", "-s", "sums.c")
	lib := openNative(t, shared)
	at := lib.Functions("weight")
	if len(at) != 1 {
		t.Fatalf("code of weight: %v, want one range", at)
	}
	if s := lib.Source(at[0][0]); s != "dynsym" {
		t.Errorf("source of weight in a stripped library: %q, want dynsym", s)
	}
}

// TestNativeCompanion uses what a stripped program left behind.
func TestNativeCompanion(t *testing.T) {
	file := compileNative(t, "g++", "-O2", "-g", "shapes.cc", "shapes_main.cc")
	debug := file + ".debug"
	runTool(t, "", "objcopy", "--only-keep-debug", file, debug)
	want, got := openNative(t, file), openNative(t, debug)
	addrs := codeAddresses(t, file, 1)
	for _, a := range addrs {
		if diff := cmp.Diff(want.Frames(nil, a), got.Frames(nil, a)); diff != "" {
			t.Fatalf("%#x (-program +companion):\n%s", a, diff)
		}
	}
	runTool(t, "", "strip", file)
	stripped := openNative(t, file)
	for _, a := range addrs {
		if s := stripped.Source(a); s == "dwarf" || s == "symtab" {
			t.Fatalf("%#x: source %s in a stripped program", a, s)
		}
	}
}

// TestNativeFunctions sees that every range of a function leads back to it, and
// where it begins in its file.
func TestNativeFunctions(t *testing.T) {
	table := openNative(t, compileNative(t, "gcc", "-O2", "-g", "sums.c", "sums_main.c"))
	ranges := table.Functions("walk") // its call of abort is moved away
	if len(ranges) != 2 {
		t.Fatalf("code of walk: %x, want two ranges", ranges)
	}
	for _, r := range ranges {
		for a := r[0]; a < r[1]; a++ {
			f := table.Frames(nil, a)
			if len(f) == 0 || f[len(f)-1].Function != "walk" || f[len(f)-1].StartLine != 18 {
				t.Fatalf("%#x of walk %x: frames %v", a, r, f)
			}
		}
	}
	if got := table.Functions("add3"); len(got) > 0 {
		t.Errorf("code of add3, which is always inlined: %x", got)
	}
	if got := table.Functions("nothing"); len(got) > 0 {
		t.Errorf("code of what is not there: %x", got)
	}
}

// TestNativeCgo leaves Go's functions out and has those of C.
func TestNativeCgo(t *testing.T) {
	needTools(t, "gcc")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/cgo\n\ngo 1.24\n",
		"main.go": `package main

// static int twice(int x) { return x * 2; }
// __attribute__((noinline)) static int more(int x) { volatile int y = twice(x); return y + 1; }
import "C"

func main() { println(C.more(20)) }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "prog")
	cmd := exec.Command("go", "build", "-p", "1", "-o", file, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]uint64{}
	for _, y := range list {
		at[y.Name] = y.Value
	}
	text := [2]uint64{at["runtime.text"], at["runtime.etext"]}
	table := openNative(t, file, text)
	for a := text[0]; a < text[1]; a += 16 {
		if got := table.Frames(nil, a); len(got) > 0 {
			t.Fatalf("%#x of Go: frames %v", a, got)
		}
	}
	more := table.Functions("more")
	if len(more) != 1 {
		t.Fatalf("code of more: %x, want one range", more)
	}
	lines := map[string]int{}
	for a := more[0][0]; a < more[0][1]; a++ {
		for _, fr := range table.Frames(nil, a) {
			lines[fr.Function+" "+filepath.Base(fr.File)] = fr.Line
		}
	}
	want := map[string]int{"twice main.go": 3, "more main.go": 4}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("lines of a C function and what is inlined in it (-want +got):\n%s", diff)
	}
	if table.Source(at["_start"]) == "" {
		t.Errorf("no function at _start")
	}
	whole := readFile(t, file)
	needTools(t, "strip", "objcopy")
	stripped, debug := filepath.Join(dir, "stripped"), filepath.Join(dir, "debug")
	runTool(t, "", "strip", "-o", stripped, file)
	runTool(t, "", "objcopy", "--only-keep-debug", file, debug)
	companion := symbolize.Input{ReaderAt: bytes.NewReader(readFile(t, debug))}
	companion.Size = companion.ReaderAt.(*bytes.Reader).Size()
	for name, table := range map[string]*symbolize.Table{
		"whole": newTable(t, whole), "stripped": newTable(t, readFile(t, stripped)), "with companion": newTableWith(t, readFile(t, stripped), &companion),
	} {
		if got := table.Frames(nil, at["main.main"]); len(got) == 0 || got[0].Function != "main.main" || got[0].Line == 0 {
			t.Errorf("%s: frames of Go's main: %+v", name, got)
		}
		got := table.Frames(nil, more[0][0])
		if known := len(got) == 2 && got[0].Function == "twice" && got[1].Function == "more" && got[1].Line == 4; known != (name != "stripped") {
			t.Errorf("%s: frames of more: %+v", name, got)
		}
		if n := len(table.Functions("more")); n != 1 && name != "stripped" {
			t.Errorf("%s: %d functions are called more", name, n)
		}
	}
}

func BenchmarkNativeEncode(b *testing.B) {
	data, err := os.ReadFile(compileNative(b, "g++", "-O2", "-g", "shapes.cc", "shapes_main.cc"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNativeFrames(b *testing.B) {
	file := compileNative(b, "g++", "-O2", "-g", "shapes.cc", "shapes_main.cc")
	table, addrs := openNative(b, file), codeAddresses(b, file, 7)
	var frames []inquest.Frame
	for i := 0; b.Loop(); i++ {
		frames = table.Frames(frames[:0], addrs[i%len(addrs)])
	}
}
