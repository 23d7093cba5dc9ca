// Command load is what the tests symbolize: it prints what its own runtime
// says of its addresses.
//
//	load -from 0x401000 -to 0x500000 -step 7
//
// goes through a range of addresses as linked and prints a line of JSON
// wherever the answer changes; then come those of the stacks it met itself
// and of a CPU profile.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"time"
	_ "unsafe" // for linkname
)

type frame struct {
	Function, File string
	Line, Start    int
}

// answer holds from PC on, until the next answer.
type answer struct {
	PC     uint64
	Single bool // this address only
	Skip   bool // the runtime cannot be asked
	Frames []frame
}

//go:linkname expand runtime/pprof.runtime_expandFinalInlineFrame
func expand(stk []uintptr) []uintptr

//go:linkname startLine runtime/pprof.runtime_FrameStartLine
func startLine(f *runtime.Frame) int

// bias is how far from its linked address, base, the program was loaded.
func bias(base uint64) uint64 {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	for _, line := range strings.Split(string(maps), "\n") {
		if strings.HasSuffix(line, exe) {
			start, _, _ := strings.Cut(line, "-")
			v, err := strconv.ParseUint(start, 16, 64)
			if err != nil {
				panic(err)
			}
			return v - base
		}
	}
	panic("the program is not among its mappings")
}

func frames(pcs []uintptr) []frame {
	var out []frame
	for it := runtime.CallersFrames(pcs); ; {
		f, more := it.Next()
		if f.Function != "" || f.File != "" {
			file := f.File
			if file == "?" {
				file = ""
			}
			out = append(out, frame{f.Function, file, f.Line, startLine(&f)})
		}
		if !more {
			return out
		}
	}
}

// lookup asks for the instruction at pc. The runtime takes return addresses,
// which are one more. It expands what was inlined at an address only if
// others follow it (since Go 1.23), or when asked to by the profiler, which
// leaves out an innermost wrapper that it would show otherwise.
func lookup(pc uintptr) []frame {
	first := frames([]uintptr{pc + 1})
	all := frames(expand([]uintptr{pc + 1}))
	if len(first) == 0 {
		return nil
	}
	if len(all) == 0 || all[0] != first[0] {
		all = append(first, all...)
	}
	return all
}

// edge reports whether the runtime takes a return address for the entry of
// the next function, or for the end of all code.
func edge(pc uintptr) bool {
	f := runtime.FuncForPC(pc)
	return f != nil && f.Entry() == pc || f == nil && runtime.FuncForPC(pc-1) != nil
}

func main() {
	base := flag.Uint64("base", 0, "address of the first segment, as linked")
	from := flag.Uint64("from", 0, "first address, as linked")
	to := flag.Uint64("to", 0, "where to end")
	step := flag.Uint64("step", 1, "bytes from one address to the next")
	profile := flag.Duration("profile", 100*time.Millisecond, "how long to work")
	flag.Parse()

	var cpu bytes.Buffer
	if err := pprof.StartCPUProfile(&cpu); err != nil {
		panic(err)
	}
	met := work(*profile)
	pprof.StopCPUProfile()

	off := bias(*base)
	w := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(w)
	var prev []frame
	for pc := *from; pc < *to; pc += *step {
		if edge(uintptr(pc + off + 1)) {
			enc.Encode(answer{PC: pc, Skip: true})
			prev = []frame{{Function: "none"}}
			continue
		}
		fs := lookup(uintptr(pc + off))
		if pc == *from || !slicesEqual(prev, fs) {
			enc.Encode(answer{PC: pc, Frames: fs})
			prev = fs
		}
	}
	sort.Slice(met, func(i, j int) bool { return met[i] < met[j] })
	var last uintptr
	for _, pc := range met {
		if pc != last && pc > 1 {
			enc.Encode(answer{PC: uint64(pc) - 1 - off, Single: true, Frames: lookup(pc - 1)})
		}
		last = pc
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	if path := os.Getenv("CPU_PROFILE"); path != "" {
		if err := os.WriteFile(path, cpu.Bytes(), 0o600); err != nil {
			panic(err)
		}
	}
}

func slicesEqual(a, b []frame) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
