package coredump

import "github.com/goinquest/inquest/symbolize"

// call is one call on a stack, as the machine has it.
type call struct {
	pc, sp, fp uint64
	lr         uint64 // arm64, of the innermost
	exact      bool   // pc is that of an instruction, not where a call returns to
}

// call is where a thread is.
func (t *Thread) call() call {
	return call{pc: t.PC, sp: t.SP, fp: t.FP, lr: t.LR, exact: true}
}

// at is an address within the instruction that the frame is at.
func (f *call) at() uint64 {
	if f.exact || f.pc == 0 {
		return f.pc
	}
	return f.pc - 1
}

// signalFrame is what the kernel put on a stack when it delivered a signal.
type signalFrame struct {
	number int
	code   int    // si_code: above 0 it was the kernel itself
	addr   uint64 // that was accessed, if it was the kernel
}

// unwinder walks stacks of one process: in Go's code by the table of how much
// each function has taken, elsewhere by frame pointers.
type unwinder struct {
	m     words
	funcs *symbolize.Functions // nil: nothing is known of the code
	bias  uint64               // how far the program was moved
	arm   bool
	known map[uint64]codeFact // by address
}

// codeFact is what the walk needs to know of an address in code.
type codeFact struct {
	name  string // of the function, "" if it is not Go's
	taken uint64 // see symbolize.Functions.FrameBytes
	ok    bool   // taken is known
}

// maxFacts is how many addresses an unwinder remembers.
const maxFacts = 1 << 16

const auxEntry = 9 // AT_ENTRY

func newUnwinder(p *Process, funcs *symbolize.Functions) *unwinder {
	u := &unwinder{m: words{r: p.Memory}, funcs: funcs, arm: p.Arch == "arm64", known: map[uint64]codeFact{}}
	if entry := p.Auxv[auxEntry]; entry != 0 && funcs != nil {
		u.bias = entry - funcs.Entry()
	}
	return u
}

// What a walk does at most: it never takes long, whatever memory says.
const (
	maxWalk     = 256 // calls
	maxSwitches = 8   // from one stack to another
)

// walk calls yield for the calls of a stack, innermost first, with the name of
// their function ("" if it is not Go's), until it returns false. Where the
// runtime left a goroutine's stack for another one, it goes on there; g is the
// thread's goroutine. signal is set for the frame that a signal interrupted.
func (u *unwinder) walk(f call, g gobuf, yield func(f call, name string, signal *signalFrame) bool) {
	var signal *signalFrame
	low, switches := f.sp, 0
	for range maxWalk {
		name := u.name(f.at())
		if !yield(f, name, signal) {
			return
		}
		var ok bool
		if f, signal, ok = u.caller(f, name, g); !ok || f.pc == 0 {
			return
		}
		if f.sp < low || f.sp-low > maxFrameBytes { // another stack
			if switches++; switches > maxSwitches {
				return
			}
		}
		low = f.sp
	}
}

// maxFrameBytes is more than one call takes on a stack.
const maxFrameBytes = 1 << 20

func (u *unwinder) name(addr uint64) string { return u.fact(addr).name }

// fact looks an address up.
func (u *unwinder) fact(addr uint64) codeFact {
	if u.funcs == nil {
		return codeFact{}
	}
	f, ok := u.known[addr]
	if !ok {
		f.name, _, _ = u.funcs.Function(addr - u.bias)
		f.taken, f.ok = u.funcs.FrameBytes(addr - u.bias)
		if len(u.known) < maxFacts {
			u.known[addr] = f
		}
	}
	return f
}

// caller finds the call around a frame.
func (u *unwinder) caller(f call, name string, g gobuf) (next call, signal *signalFrame, ok bool) {
	switch name {
	case "runtime.sigtramp", "runtime.cgoSigtramp":
		return u.interrupted(f)
	case "", "runtime.systemstack":
		// C leaves alone what Go has in the frame pointer, or has its own there.
		if next, ok = u.byFramePointer(f); ok && u.name(next.at()) != "" {
			return next, nil, true
		}
		return g.at, nil, g.at.pc != 0 && u.name(g.at.at()) != "" && g.at.sp != f.sp
	case "runtime.morestack", "runtime.morestack_noctxt":
		return g.at, nil, g.at.pc != 0
	case "runtime.mcall", "runtime.goexit", "runtime.mstart", "runtime.rt0_go", "runtime.gogo":
		return f, nil, false
	}
	if next, ok = u.byTable(f); !ok {
		next, ok = u.byFramePointer(f)
	}
	switch name {
	case "runtime.sigpanic":
		next.exact = true // its call was put in by the handler of the signal
		if u.arm && ok {
			next, ok = u.injected(next)
		}
	case "runtime.asyncPreempt":
		next.exact = true
	}
	return next, nil, ok
}

// byTable unwinds by what the function has taken on the stack. The layout of
// frames is that of cmd/internal/obj for each machine.
func (u *unwinder) byTable(f call) (next call, ok bool) {
	taken, ok := u.frameBytes(f.at())
	if !ok || taken > maxFrameBytes {
		return f, false
	}
	if !u.arm {
		next.sp = f.sp + taken + 8
		next.fp = f.fp
		if taken > 0 {
			next.fp, _ = u.m.word(f.sp + taken - 8)
		}
		next.pc, ok = u.m.word(f.sp + taken)
		return next, ok
	}
	next.sp, next.fp = f.sp+taken, f.fp
	if taken == 0 {
		next.pc = f.lr
		return next, f.lr != 0
	}
	next.fp, _ = u.m.word(f.sp - 8)
	next.pc, ok = u.m.word(f.sp)
	return next, ok
}

func (u *unwinder) frameBytes(addr uint64) (uint64, bool) {
	f := u.fact(addr)
	return f.taken, f.ok
}

// byFramePointer unwinds by the frame pointer, which has that of the caller and
// then where the call returns to.
func (u *unwinder) byFramePointer(f call) (next call, ok bool) {
	if f.fp%8 != 0 || f.fp == 0 {
		return f, false
	}
	var ok1, ok2 bool
	next.fp, ok1 = u.m.word(f.fp)
	next.pc, ok2 = u.m.word(f.fp + 8)
	next.sp = f.fp + 16
	if u.arm {
		next.sp = next.fp + 8 // frames of Go have the frame pointer below them
	}
	return next, ok1 && ok2
}

// injected puts right what the handler of a signal made look like a call of
// sigpanic on machines with a link register (runtime/signal_arm64.go): f is
// where the signal struck, below it is the link register of then.
func (u *unwinder) injected(f call) (call, bool) {
	lr, ok := u.m.word(f.sp)
	f.sp += 16
	if u.name(f.pc) == "" { // a call of what is no function
		f.pc, f.exact = lr, false
		return f, ok
	}
	f.lr = lr
	return f, ok
}

// interrupted reads what the kernel put on the stack of a signal's handler
// (struct rt_sigframe of the machine).
func (u *unwinder) interrupted(f call) (next call, signal *signalFrame, ok bool) {
	taken, ok := u.frameBytes(f.at())
	if !ok {
		return f, nil, false
	}
	info, context := f.sp+taken+8+304, f.sp+taken+8
	sp, pc, fp := context+160, context+168, context+120
	if u.arm {
		info, context = f.sp+taken, f.sp+taken+128
		sp, pc, fp = context+176+256, context+176+264, context+176+8+29*8
		next.lr, _ = u.m.word(context + 176 + 8 + 30*8)
	}
	var oks [5]bool
	next.sp, oks[0] = u.m.word(sp)
	next.pc, oks[1] = u.m.word(pc)
	next.fp, oks[2] = u.m.word(fp)
	number, ok := u.m.number(info)
	code, ok2 := u.m.number(info + 8)
	oks[3], oks[4] = ok, ok2
	next.exact = true
	signal = &signalFrame{number: int(int32(number)), code: int(int32(code))}
	if signal.code > 0 {
		signal.addr, _ = u.m.word(info + 16)
	}
	return next, signal, oks == [5]bool{true, true, true, true, true}
}
