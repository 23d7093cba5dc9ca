package symbolize_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// goProgram builds a small Go program for an architecture in dir.
func goProgram(t testing.TB, dir, arch string, flags ...string) string {
	t.Helper()
	for name, text := range map[string]string{
		"go.mod":  "module example.org/small\n\ngo 1.24\n",
		"main.go": "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "prog")
	cmd := exec.Command("go", append(append([]string{"build", "-p", "1", "-o", out}, flags...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return out
}

// TestDisassemble holds the instructions of a Go program against those that
// Go's own tool prints, and the targets of calls against its symbols.
func TestDisassemble(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			file := goProgram(t, t.TempDir(), arch)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := elf.NewFile(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			list, err := f.Symbols()
			if err != nil {
				t.Fatal(err)
			}
			starts := map[uint64]string{}
			for _, y := range list {
				starts[y.Value] = y.Name
			}
			calls := 0
			for _, y := range list {
				if y.Name != "os.(*File).Write" && y.Name != "runtime.mallocgc" && y.Name != "runtime.schedule" {
					continue
				}
				got, err := symbolize.Disassemble(bytes.NewReader(data), int64(len(data)), y.Value, y.Value+y.Size)
				if err != nil {
					t.Fatal(err)
				}
				want := objdump(t, file, y.Name)
				at := y.Value
				for _, in := range got {
					if in.Addr != at {
						t.Fatalf("%s: instruction at %#x, want %#x", y.Name, in.Addr, at)
					}
					at += uint64(in.Bytes)
					op, _, _ := strings.Cut(in.Text, " ")
					if w, ok := want[in.Addr]; ok && w != op && w != "?" {
						t.Errorf("%s: %#x is %q, go tool objdump has %s", y.Name, in.Addr, in.Text, w)
					}
					delete(want, in.Addr)
					if strings.HasPrefix(in.Text, "CALL") && in.Target != 0 {
						calls++
						if starts[in.Target] == "" {
							t.Errorf("%s: %#x %s calls %#x, where no function begins", y.Name, in.Addr, in.Text, in.Target)
						}
					}
				}
				if at != y.Value+y.Size || len(want) > 0 {
					t.Errorf("%s: ends at %#x, want %#x; not seen: %v", y.Name, at, y.Value+y.Size, want)
				}
			}
			if calls < 10 {
				t.Errorf("%d calls, want more", calls)
			}
		})
	}
}

// objdump returns the operations of a function by address, as Go's tool has them.
func objdump(t *testing.T, file, function string) map[uint64]string {
	t.Helper()
	out := map[uint64]string{}
	quoted := strings.NewReplacer("(", `\(`, ")", `\)`, "*", `\*`, ".", `\.`).Replace(function)
	for line := range strings.Lines(runTool(t, "", "go", "tool", "objdump", "-s", "^"+quoted+"$", file)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[1], "0x") {
			continue
		}
		a, err := strconv.ParseUint(f[1], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[a] = f[3]
	}
	return out
}

// TestDisassembleAnything goes over random bytes: all of them come back.
func TestDisassembleAnything(t *testing.T) {
	const code = 1 << 20
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
		data := codeFile(machine, code, func(b []byte) {
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
		})
		got, err := symbolize.Disassemble(bytes.NewReader(data), int64(len(data)), 0x1000, 0x1000+code)
		if err != nil {
			t.Fatal(err)
		}
		n, unknown := 0, 0
		for _, in := range got {
			n += in.Bytes
			if strings.HasPrefix(in.Text, "? ") {
				unknown++
			}
			if in.Text == "" || in.Bytes < 1 {
				t.Fatalf("%v: instruction %+v", machine, in)
			}
		}
		if n != code || unknown == 0 {
			t.Errorf("%v: %d bytes of %d, %d unknown", machine, n, code, unknown)
		}
	}
}

// codeFile is an ELF file of nothing but code, at 0x1000.
func codeFile(machine elf.Machine, size int, fill func([]byte)) []byte {
	names := "\x00.text\x00.shstrtab\x00"
	var b bytes.Buffer
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(64 + size + len(names)),
	}
	copy(head.Ident[:], elf.ELFMAG)
	head.Ident[elf.EI_CLASS], head.Ident[elf.EI_DATA], head.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	code := make([]byte, size)
	fill(code)
	for _, v := range []any{head, code, []byte(names),
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR), Addr: 0x1000, Off: 64, Size: uint64(size)},
		elf.Section64{Name: 7, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + size), Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err) // all of them have fixed sizes
		}
	}
	return b.Bytes()
}

// TestDisassembleErrors says what is wrong.
func TestDisassembleErrors(t *testing.T) {
	good := codeFile(elf.EM_X86_64, 4096, func(b []byte) { b[0] = 0xc3 })
	arm := codeFile(elf.EM_ARM, 4096, func([]byte) {})
	for _, test := range []struct {
		data       []byte
		start, end uint64
		kind       error
		says       string
	}{
		{good, 0x1000, 0x1000, inquest.ErrInvalid, "no code to disassemble"},
		{good, 0x1000, 0x1000 + symbolize.MaxDisassembly + 1, inquest.ErrTooLarge, "too many"},
		{good, 0x1000, 0x2001, inquest.ErrInvalid, "goes beyond its section .text"},
		{good, 0x10, 0x20, inquest.ErrInvalid, "no code at 0x10"},
		{good[:100], 0x1000, 0x1010, inquest.ErrInvalid, "cut off"},
		{[]byte("#!/bin/sh"), 1, 2, inquest.ErrInvalid, "no ELF file"},
		{arm, 0x1000, 0x1010, inquest.ErrInvalid, "EM_ARM"},
	} {
		_, err := symbolize.Disassemble(bytes.NewReader(test.data), int64(len(test.data)), test.start, test.end)
		if !errors.Is(err, test.kind) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%#x to %#x: error %v, want %v with %q", test.start, test.end, err, test.kind, test.says)
		}
	}
}
