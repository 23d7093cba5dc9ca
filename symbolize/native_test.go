package symbolize_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// need skips a test whose tool is missing; where everything must be tested it fails.
func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing", tool)
		}
		t.Skipf("%s is missing", tool)
	}
}

// run runs a command and returns what it prints.
func run(t testing.TB, stdin string, name string, args ...string) string {
	t.Helper()
	need(t, name)
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

// compile builds a program of testdata/native.
func compile(t testing.TB, compiler string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "prog")
	full := []string{"-o", out}
	for _, a := range args {
		if strings.HasSuffix(a, ".c") || strings.HasSuffix(a, ".cc") || strings.HasSuffix(a, ".S") {
			a = filepath.Join("testdata", "native", a)
		}
		full = append(full, a)
	}
	run(t, "", compiler, full...)
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
	lines := strings.Split(strings.TrimSpace(run(t, in.String(), name, args...)), "\n")
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
	plain := strings.Split(run(t, strings.Join(names, "\n"), "c++filt", "-p"), "\n")
	i := 0
	for _, a := range addrs {
		for k := range out[a] {
			out[a][k].Function = plain[i]
			i++
		}
		if len(out[a]) == 1 && out[a][0].Function == "??" {
			delete(out, a)
		}
	}
	return out
}
