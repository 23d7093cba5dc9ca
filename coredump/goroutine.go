package coredump

import "iter"

// Goroutine is one goroutine of a process. Addresses are those of the process.
type Goroutine struct {
	ID         int64
	Addr       uint64 // of the runtime's structure, its g
	State      string // "running", "runnable", "syscall", "waiting", "preempted", "copystack", "leaked"
	WaitReason string // of one that waits, as in stack traces: "chan receive"
	WaitSince  int64  // nanoseconds of the process's monotonic clock; 0 if the runtime did not look yet
	Locked     bool   // to a thread
	TID        int    // the thread that runs it; 0 if none does
	Parent     int64  // ID of the goroutine that started it
	CreatedBy  uint64 // where that was
	Start      uint64 // its first function
	Labels     uint64 // where its labels of runtime/pprof are; 0 if it has none
	Panic      uint64 // the panic it is in; 0 if none

	Stack  Extent // the whole
	SP, PC uint64 // where it goes on, or is; 0 if that is not known
	FP     uint64
	LR     uint64 // arm64
	exact  bool   // PC is that of an instruction, not where a call returns to

	// The last signal that struck its code; 0 if none did.
	Signal           int
	SignalCode       uint64
	SignalAddr       uint64 // that was accessed
	SignalPC         uint64
	m                uint64
	structure, mSize uint64 // bytes of its g and m
}

// call is where it goes on, or is.
func (g *Goroutine) call() call {
	return call{pc: g.PC, sp: g.SP, fp: g.FP, lr: g.LR, exact: g.exact}
}

// Live is the part of its stack that is in use.
func (g *Goroutine) Live() Extent {
	if g.SP <= g.Stack.Addr || g.SP > g.Stack.End() {
		return g.Stack
	}
	return Extent{g.SP, g.Stack.End() - g.SP}
}

var stateNames = map[uint32]string{
	statusRunnable: "runnable", statusRunning: "running", statusSyscall: "syscall", statusWaiting: "waiting",
	statusCopystack: "copystack", statusPreempted: "preempted", statusLeaked: "leaked",
}

// Release is the release of Go whose layout fits: 26 is Go 1.26.
func (r *Runtime) Release() int { return r.layout.release }

// Goroutines are those that live, the runtime's own too, in the order in which
// their structures were made. What cannot be read is left out.
func (r *Runtime) Goroutines() iter.Seq[Goroutine] {
	return func(yield func(Goroutine) bool) {
		for addr := range r.list() {
			if g, ok := r.goroutine(addr); ok && !yield(g) {
				return
			}
		}
	}
}

// list are the addresses of all g, of dead ones too.
func (r *Runtime) list() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for at := r.allgs.Addr; at < r.allgs.End(); at += 8 {
			addr, ok := r.u.m.word(at)
			if ok && addr != 0 && !yield(addr) {
				return
			}
			if !ok { // nor is the rest of the page there
				at = at&^(wordPageBytes-1) + wordPageBytes - 8
			}
		}
	}
}

// Died is the goroutine of the thread that died, ok is false if it had none.
func (r *Runtime) Died() (g Goroutine, ok bool) {
	if len(r.p.Threads) == 0 {
		return g, false
	}
	b := r.u.current(&r.p.Threads[0])
	if b.g == 0 {
		return g, false
	}
	return r.goroutine(b.g)
}

// goroutine reads a g; ok is false if it is dead or none.
func (r *Runtime) goroutine(addr uint64) (Goroutine, bool) {
	l := r.layout
	var buf [1024]byte
	b := r.u.m.read(buf[:0], addr, uint64(l.gSize))
	if b == nil {
		return Goroutine{}, false
	}
	f := gFields{b}
	state, alive := stateNames[f.number(l.gStatus)&^statusScan]
	if !alive || f.word(l.gStackLo) >= f.word(l.gStackHi) || f.word(l.gStackHi) >= maxAddr {
		return Goroutine{}, false
	}
	g := Goroutine{
		ID: int64(f.word(l.gID)), Addr: addr, State: state, m: f.word(l.gM), structure: uint64(l.gSize), mSize: uint64(l.mSize),
		WaitSince: int64(f.word(l.gWaitSince)), Locked: f.word(l.gLockedM) != 0,
		Parent: int64(f.word(l.gParent)), CreatedBy: f.word(l.gCreatedBy), Start: f.word(l.gStart), Labels: f.word(l.gLabels), Panic: f.word(l.gPanic),
		Stack: Extent{f.word(l.gStackLo), f.word(l.gStackHi) - f.word(l.gStackLo)},
		SP:    f.word(l.gSchedSP), PC: f.word(l.gSchedPC), FP: f.word(l.gSchedBP), LR: f.word(l.gSchedLR),
		Signal: int(f.number(l.gSig)), SignalCode: f.word(l.gSigcode0), SignalAddr: f.word(l.gSigcode1), SignalPC: f.word(l.gSigPC),
	}
	if reason := int(b[l.gWaitReason]); (state == "waiting" || state == "leaked") && reason < len(l.waitReasons) {
		g.WaitReason = l.waitReasons[reason]
	}
	g.exact = g.PC == g.Start // it has not begun
	switch sp := f.word(l.gSyscallSP); {
	case state == "syscall" && sp != 0:
		g.SP, g.PC, g.FP, g.LR, g.exact = sp, f.word(l.gSyscallPC), 0, 0, false
	case state == "running":
		r.running(&g)
	}
	if g.m != 0 {
		tid, _ := r.u.m.word(g.m + uint64(l.mTID))
		if g.TID = int(tid); r.stop[tid] == nil {
			g.TID = 0
		}
	}
	return g, true
}

// running takes from its thread where a goroutine is. The thread may be on
// another stack just now, as that of a signal's handler: its calls lead back.
func (r *Runtime) running(g *Goroutine) {
	saved := call{pc: g.PC, sp: g.SP, fp: g.FP, lr: g.LR}
	g.SP, g.PC, g.FP, g.LR, g.exact = 0, 0, 0, 0, false
	tid, _ := r.u.m.word(g.m + uint64(r.layout.mTID))
	t := r.stop[tid]
	if t == nil {
		return
	}
	r.u.walk(t.call(), gobuf{g.Addr, saved}, func(f call, _ string, _ *signalFrame) bool {
		if f.sp <= g.Stack.Addr || f.sp > g.Stack.End() {
			return true
		}
		g.SP, g.PC, g.FP, g.LR, g.exact = f.sp, f.pc, f.fp, f.lr, f.exact
		return false
	})
}
