package coredump

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// ReportLimits bound a report. Zero values take the defaults.
type ReportLimits struct {
	Goroutines int   // that are listed, default 100,000; all are counted
	Buckets    int   // default 256
	Now        int64 // nanoseconds of the machine's monotonic clock when the process died; 0: about the last time that is in its memory
}

func (l ReportLimits) withDefaults() ReportLimits {
	if l.Goroutines <= 0 {
		l.Goroutines = 100_000
	}
	if l.Buckets <= 0 {
		l.Buckets = defaultBuckets
	}
	return l
}

// Analyze tells why a process died and what its goroutines did, from its memory
// and the table of functions of its executable, which stripped programs have,
// too. It does not fail: what is missing or does not hold is among the Problems.
// It takes bounded steps, whatever the memory says. funcs may be nil.
func Analyze(p *Process, funcs *symbolize.Functions, limits ReportLimits) *inquest.CoreReport {
	a := &analysis{p: p, funcs: funcs, limits: limits.withDefaults(), b: newBuckets(), rep: &inquest.CoreReport{
		Class: inquest.ClassUnknown, Buckets: []inquest.GoroutineBucket{}, Goroutines: []inquest.Goroutine{},
	}}
	if p.Memory == nil {
		a.problem("there is no memory")
		return a.rep
	}
	if funcs == nil {
		a.problem("the executable is not known: there are only signals")
	} else {
		version := funcs.GoVersion()
		a.rep.GoVersion = valid(version[:min(len(version), maxClass)])
	}
	a.open()
	a.death()
	if a.r != nil {
		newCensus(a).run()
	}
	a.signalClass()
	return a.rep
}

// analysis makes a report.
type analysis struct {
	p      *Process
	funcs  *symbolize.Functions // may be nil
	limits ReportLimits
	rep    *inquest.CoreReport

	u     *unwinder
	r     *Runtime // nil: it was not found
	types *goTypes // nil with r
	b     *buckets

	thread stack // that died
	cause  cause
	died   Goroutine   // Addr is 0 if none did
	dead   []stackCall // of it
}

func (a *analysis) problem(format string, args ...any) {
	a.rep.Problems = append(a.rep.Problems, fmt.Sprintf(format, args...))
}

// open finds the runtime.
func (a *analysis) open() {
	a.u = newUnwinder(a.p, a.funcs)
	if a.funcs == nil {
		return
	}
	r, err := OpenRuntime(a.p, a.funcs)
	if err != nil {
		a.problem("%v", err)
		return
	}
	a.r, a.u, a.rep.Release = r, r.u, r.Release()
	a.types = newGoTypes(a.p, a.funcs, a.u.bias, r.Release())
	if known := release(a.rep.GoVersion); known != 0 && known != r.Release() {
		a.problem("it was built with %s, but its memory fits Go 1.%d", a.rep.GoVersion, r.Release())
	}
}

// death finds out why the process died, and where.
func (a *analysis) death() {
	if len(a.p.Threads) == 0 {
		a.problem("there are no threads")
		return
	}
	saved := a.u.current(&a.p.Threads[0])
	a.thread.u = a.u
	a.thread.walk(a.p.Threads[0].call(), saved)
	a.cause = a.thread.cause()
	if a.r != nil {
		a.died, _ = a.r.Died()
	}
	own := a.died.Addr != 0 && len(a.thread.calls) > 0 && a.onStack(a.cause.at)
	text := ""
	switch a.cause.kind {
	case causePanic:
		text = a.panics()
	case causeThrow:
		text = a.fatal()
	case causeSignal:
		text = signalText(a.cause.signal.number) + "\n"
		a.rep.Signal = deathSignal(a.cause.signal.number, int64(a.cause.signal.code), a.cause.signal.addr, a.thread.calls[a.cause.at].pc)
	}
	if own && (a.cause.kind == causePanic || a.cause.kind == causeThrow) && a.died.Signal != 0 {
		text += raised(&a.died)
		a.rep.Signal = deathSignal(a.died.Signal, int64(a.died.SignalCode), a.died.SignalAddr, a.died.SignalPC)
	}
	if text != "" {
		a.rep.Class, a.rep.Message = classify(text)
	}
	a.guess()
	if a.cause.kind == causeNone && a.p.Threads[0].Signal == 0 {
		a.died = Goroutine{} // it lives
		return
	}
	a.frames(saved.at)
}

// guess takes the class from the runtime's functions on the stack, where what was
// written is not known.
func (a *analysis) guess() {
	if len(a.rep.Panics) > 0 && a.rep.Panics[0].Value == missingValue && a.rep.Signal == nil {
		a.rep.Class = inquest.ClassUnknown
	}
	if a.rep.Class != inquest.ClassUnknown {
		return
	}
	class := ""
	switch a.cause.kind {
	case causePanic:
		class = a.thread.panicClass(a.cause.at)
	case causeThrow:
		class = a.thread.fatalClass(a.cause.at)
	}
	if strings.Contains(class, ":") {
		a.rep.Class = class
	}
}

// onStack reports whether a call of the thread is on the stack of the goroutine
// that died.
func (a *analysis) onStack(call int) bool { return a.isOn(a.thread.calls[call]) }

func (a *analysis) isOn(c stackCall) bool {
	return c.sp > a.died.Stack.Addr && c.sp <= a.died.Stack.End()
}

// panics reads the panics of the goroutine that died.
func (a *analysis) panics() (text string) {
	if a.died.Addr == 0 {
		a.problem("the value of the panic is not known, for the goroutine was not found")
		return ""
	}
	list, whole := a.types.panicChain(a.u, a.r.layout, a.died.Panic)
	if !whole || len(list) == 0 {
		a.problem("not all panics of the goroutine are in the core")
	}
	text = printed(list, a.r.Release())
	for i := range list {
		list[i].Value = valid(list[i].Value[:min(len(list[i].Value), maxMessage)])
	}
	a.rep.Panics = list
	return text
}

// fatal finds what the runtime wrote when it threw.
func (a *analysis) fatal() (text string) {
	if a.r != nil {
		text = a.r.backlog(a.funcs)
	}
	if text == "" {
		a.problem("what the runtime wrote when it threw is not in the core")
		return ""
	}
	a.rep.Fatal = text
	return text + "\n"
}

// signalClass is for what no text was made of: a process that lives, or that died of
// a signal past the runtime.
func (a *analysis) signalClass() {
	if a.cause.kind != causeNone || len(a.p.Threads) == 0 {
		return
	}
	number := a.p.Threads[0].Signal
	if a.funcs == nil && number == signals["SIGABRT"] {
		return // which is how the runtime ends a process, whatever it was
	}
	if calls := a.thread.calls; len(calls) > 0 && (calls[0].name == "runtime.raise" || calls[0].name == "runtime.tgkill") {
		a.problem("the stack of the thread that died does not lead to what ended it")
		return // by itself, so it knew why
	}
	if number != 0 {
		a.rep.Class, a.rep.Message = numberClass(number), signalText(number)
	} else {
		a.rep.Class = inquest.CrashSnapshot
	}
}

// frames are those of the goroutine that died, and those of the runtime if it died
// on a stack of its own: then the goroutine is where it was saved.
func (a *analysis) frames(saved call) {
	if len(a.thread.calls) == 0 {
		return
	}
	calls := a.thread.calls[a.cause.at:]
	if a.died.Addr == 0 || a.died.State != "running" && a.died.State != "syscall" {
		a.died = Goroutine{} // it only waits
		a.rep.System = a.symbolized(calls, inquest.CrashFrames)
		a.rep.Frames = a.rep.System
		return
	}
	if !a.onStack(a.cause.at) {
		from := slices.IndexFunc(calls, a.isOn)
		if from < 0 {
			from = len(calls)
		}
		a.rep.System = a.symbolized(calls[:from], inquest.CrashFrames)
		g := a.died
		if g.State == "running" && saved.pc != 0 {
			g.PC, g.SP, g.FP, g.LR, g.exact = saved.pc, saved.sp, saved.fp, saved.lr, saved.exact
		}
		s := &stack{u: a.u}
		s.walkOwn(&g)
		calls = s.calls
	}
	a.dead, a.rep.Goroutine = calls, a.died.ID
	a.rep.Frames = a.symbolized(calls, inquest.CrashFrames)
	a.rep.Cut = !ended(calls)
}

// ended reports whether calls go back to where a goroutine begins.
func ended(calls []stackCall) bool {
	return len(calls) > 0 && calls[len(calls)-1].name == "runtime.goexit"
}

// symbolized are the functions of calls, inlined ones too.
func (a *analysis) symbolized(calls []stackCall, limit int) []inquest.Frame {
	var out []inquest.Frame
	for _, c := range calls {
		n := len(out)
		if a.funcs != nil {
			out = a.funcs.Frames(out, c.addr)
		}
		if len(out) == n {
			out = append(out, inquest.Frame{Function: foreign})
		}
		for i := range out[n:] {
			f := &out[n+i]
			f.Function, f.File, f.Symbol = a.b.name([]byte(f.Function)), a.b.name([]byte(f.File)), a.b.name([]byte(f.Symbol))
		}
		if len(out) >= limit {
			return out[:limit]
		}
	}
	return out
}

// foreign is how tracebacks call a function that is not Go's.
const foreign = "non-Go function"
