package symbolize_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
	"github.com/google/go-cmp/cmp"
)

var local = []program{
	{},
	{args: []string{"-trimpath", "-ldflags=-s -w"}},
	{args: []string{"-buildmode=pie"}},
	{strip: true},
	{args: []string{"-buildmode=pie"}, cgo: true, strip: true},
	{cgo: true},
	{args: []string{"-ldflags=-linkmode=internal"}, cgo: true},
	{args: []string{"-buildmode=pie", "-ldflags=-linkmode=internal"}, cgo: true},
}

var toolchains = []string{"go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.9", "go1.25.5"}

// TestLikeRuntime compares with what the runtime of the program says, for
// programs of all kinds: for every address of the code of some, for every
// fifth of others.
func TestLikeRuntime(t *testing.T) {
	for i, p := range local {
		t.Run(p.String(), func(t *testing.T) {
			if i > 2 && testing.Short() {
				t.Skip("short")
			}
			step := uint64(5)
			if i == 0 {
				step = 1
			}
			likeRuntime(t, p, step)
		})
	}
	for _, version := range toolchains {
		for _, p := range []program{
			{toolchain: version},
			{toolchain: version, args: []string{"-buildmode=pie", "-ldflags=-s -w"}},
			{toolchain: version, args: []string{"-buildmode=pie"}, cgo: true},
		} {
			t.Run(p.String(), func(t *testing.T) {
				if testing.Short() {
					t.Skip("short")
				}
				likeRuntime(t, p, 5)
			})
		}
	}
}

// answer is a line of the test program.
type answer struct {
	PC     uint64
	Single bool
	Skip   bool
	Frames []struct {
		Function, File string
		Line, Start    int
	}
}

func (a *answer) frames() []inquest.Frame {
	var out []inquest.Frame
	for _, f := range a.Frames {
		if i, j := strings.IndexByte(f.Function, '['), strings.LastIndexByte(f.Function, ']'); i >= 0 && j > i {
			f.Function = f.Function[:i] + "[...]" + f.Function[j+1:] // Go 1.20 does not
		}
		out = append(out, inquest.Frame{Function: f.Function, File: f.File, Line: f.Line, StartLine: f.Start})
	}
	return out
}

func likeRuntime(t *testing.T, p program, step uint64) {
	path := p.build(t)
	exe := readFile(t, path)
	table := newTable(t, exe)
	f, err := elf.NewFile(bytes.NewReader(exe))
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	from, to := text.Addr, text.Addr+text.Size
	cmd := exec.Command(path, "-base", fmt.Sprint(base(f)), "-from", fmt.Sprint(from), "-to", fmt.Sprint(to), "-step", fmt.Sprint(step))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	c := comparison{t: t, table: table, first: firstFunction(t, table, from, to)}
	var prev answer
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		if a.Single {
			c.check(a.PC, a.frames())
			continue
		}
		c.upTo(prev, a.PC, step)
		prev = a
	}
	c.upTo(prev, to, step)
	if err := table.Err(); err != nil {
		t.Error(err)
	}
	if c.known < 10000 || c.inlined < 1000 {
		t.Errorf("only %d addresses were known, %d of inlined functions", c.known, c.inlined)
	}
	t.Logf("%d addresses, %d known, %d in inlined functions, %d different", c.checked, c.known, c.inlined, c.wrong)
}

// base is where the first segment is linked to.
func base(f *elf.File) uint64 {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			return p.Vaddr
		}
	}
	return 0
}

// firstFunction is the name of the function with the lowest address.
func firstFunction(t *testing.T, table *symbolize.Table, from, to uint64) string {
	for pc := from; pc < to; pc++ {
		if fs := table.Frames(nil, pc); len(fs) > 0 {
			return fs[0].Function
		}
	}
	t.Fatal("no function is known")
	return ""
}

// comparison counts.
type comparison struct {
	t                              *testing.T
	table                          *symbolize.Table
	first                          string // function of the program
	got                            []inquest.Frame
	checked, known, inlined, wrong int
}

// upTo checks all addresses that have the same answer.
func (c *comparison) upTo(a answer, end, step uint64) {
	want := a.frames()
	for pc := a.PC; pc < end && a.PC != 0 && !a.Skip; pc += step {
		c.check(pc, want)
	}
}

func (c *comparison) check(pc uint64, want []inquest.Frame) {
	c.got = c.table.Frames(c.got[:0], pc)
	c.checked++
	if len(want) > 0 {
		c.known++
	}
	if len(want) > 1 {
		c.inlined++
	}
	same := len(want) == len(c.got)
	for i := 0; same && i < len(want); i++ {
		// The runtime has no name for the first function of a program: it
		// takes the offset 0 of its name for none.
		if want[i].Function == "" && c.got[i].Function == c.first {
			want[i].Function = c.first
		}
		same = want[i] == c.got[i]
	}
	if same {
		return
	}
	if c.wrong++; c.wrong <= 3 {
		c.t.Errorf("%s (-want, +got):\n%s", "0x"+strconv.FormatUint(pc, 16), cmp.Diff(want, c.got))
	}
}
