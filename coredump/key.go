package coredump

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// Key says at which place of a program a process died, as far as registers and
// stacks show it: the same place gives the same Hash in every build.
type Key struct {
	Class  string          // see inquest.Crash.Class; what only a text tells is left out: "panic", "fatal"
	Frames []inquest.Frame // of the goroutine that died, innermost first, without the runtime's own; at most inquest.CrashFrames
	Hash   string          // of the class, the first functions and the line in the innermost: 16 hex digits, see inquest.Crash.Key
}

// keyFunctions is how many functions the hash is made of.
const keyFunctions = 4

// CaptureKey finds out where a process died: the first of its threads did. It
// reads some pages of stacks, and functions out of the executable; where those
// are not known (funcs is nil) the key has only the signal. It does not fail:
// from memory that is damaged or missing it makes what it can.
func CaptureKey(p *Process, funcs *symbolize.Functions) Key {
	var k Key
	if len(p.Threads) > 0 {
		s := stackOf(newUnwinder(p, funcs), &p.Threads[0])
		k = s.key(p.Threads[0].Signal)
		if k.Class == deadlock {
			k.Frames = append(k.Frames[:0], mainFrames(p, funcs)...)
			k.Hash = k.hash(true)
		}
	}
	return k
}

// mainFrames are what the first goroutine waits in: no goroutine runs when all
// are asleep, and that one always is among them.
func mainFrames(p *Process, funcs *symbolize.Functions) []inquest.Frame {
	r, err := OpenRuntime(p, funcs)
	if err != nil {
		return nil
	}
	for g := range r.Goroutines() {
		if g.ID != 1 {
			continue
		}
		s := &stack{u: r.u}
		s.walk(g.call(), gobuf{})
		return s.frames(0)
	}
	return nil
}

// stack is the calls of the thread that died.
type stack struct {
	u     *unwinder
	calls []stackCall
}

type stackCall struct {
	addr   uint64 // as linked
	pc, sp uint64 // of the process
	name   string
	signal *signalFrame // that struck here
}

func stackOf(u *unwinder, t *Thread) *stack {
	s := &stack{u: u}
	s.walk(t.call(), u.current(t))
	return s
}

func (s *stack) walk(from call, g gobuf) {
	s.u.walk(from, g, func(f call, name string, signal *signalFrame) bool {
		s.calls = append(s.calls, stackCall{f.at() - s.u.bias, f.pc, f.sp, name, signal})
		return true
	})
}

// key tells what happened from the runtime's functions on the stack.
func (s *stack) key(signal int) Key {
	var k Key
	hashed := true
	first, at := s.death()
	switch {
	case at < 0: // died of a signal that the runtime did not handle
		k.Class, at = numberClass(signal), 0
	case first == "runtime.gopanic":
		k.Class = s.panicClass(at)
	case first != "":
		k.Class = s.fatalClass(at)
	default:
		by := s.calls[at].signal
		k.Class = numberClass(by.number)
		hashed = by.code > 0 || by.code == ownSignal // else the stack is just what happened to run
	}
	k.Frames = s.frames(at)
	k.Hash = k.hash(hashed)
	return k
}

// hash makes the hash of a key, of its class alone if the frames are chance.
func (k *Key) hash(frames bool) string {
	h := sha256.New()
	h.Write([]byte(k.Class))
	if frames {
		for _, name := range keyed(k.Frames) {
			h.Write([]byte{0})
			h.Write([]byte(name))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// ownSignal is SI_TKILL: a thread sent it to itself, as abort(3) does.
const ownSignal = -6

// death finds the call that ended the process: of panics that followed each
// other in deferred functions the first, which is the outermost. name is ""
// if it was a signal, and at -1 if nothing of all this is there.
func (s *stack) death() (name string, at int) {
	at = -1
	for i, c := range s.calls {
		switch c.name {
		case "runtime.gopanic":
			name, at = c.name, i
		case "runtime.throw", "runtime.fatal", "runtime.fatalthrow":
			if name != "runtime.gopanic" {
				name, at = "runtime.throw", i
			}
		case "runtime.goexit":
			return name, at
		}
		if c.signal != nil && at < 0 && c.name != "runtime.raise" { // the runtime ends a process by that
			return "", i
		}
	}
	return name, at
}

// panicClass looks at what the panic was called by.
func (s *stack) panicClass(at int) string {
	number := 11
	for _, c := range s.calls[at+1:] {
		switch name := strings.TrimPrefix(c.name, "runtime."); {
		case name == c.name && number == 8:
			return "panic:runtime.errorString"
		case name == c.name: // not the runtime's
			return "panic"
		case name == "sigpanic":
			return numberClass(number)
		case name == "panicdivide" || name == "panicoverflow" || name == "panicfloat":
			number = 8
		case strings.HasPrefix(name, "goPanicIndex"), strings.HasPrefix(name, "goPanicSlice"), strings.HasPrefix(name, "panicBounds"):
			return "panic:runtime.boundsError"
		case strings.HasPrefix(name, "panicdottype"), name == "typeAssert", strings.HasPrefix(name, "assertE2I"):
			return "panic:*runtime.TypeAssertionError"
		}
	}
	return "panic"
}

const deadlock = "fatal:all goroutines are asleep - deadlock!"

// fatalClass looks for what has a function of its own.
func (s *stack) fatalClass(at int) string {
	for _, c := range s.calls[at:] {
		switch c.name {
		case "runtime.checkdead":
			return deadlock
		case "runtime.newstack":
			return "fatal:stack overflow"
		}
	}
	return "fatal"
}

// signalNames are those that may end a process with a core.
var signalNames = map[int]string{
	3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}

// numberClass is the class of a death by a signal.
func numberClass(number int) string {
	if name := signalNames[number]; name != "" {
		return "signal:" + name
	}
	return fmt.Sprint("signal:", number)
}

// frames are the functions of the calls from at on that are not the runtime's.
// If all are, it is the last of them that belongs to the death: what called
// throw.
func (s *stack) frames(at int) []inquest.Frame {
	if s.u.funcs == nil {
		return nil
	}
	var out, buf []inquest.Frame
	for _, c := range s.calls[at:] {
		buf = s.u.funcs.Frames(buf[:0], c.addr)
		for _, f := range buf {
			if ownRuntime(f.Function) || wrapper(f.Function) {
				continue
			}
			if out = append(out, f); len(out) == inquest.CrashFrames {
				return out
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, c := range s.calls[at:] {
		switch c.name {
		case "runtime.throw", "runtime.fatal", "runtime.fatalthrow", "":
			continue
		}
		if buf = s.u.funcs.Frames(buf[:0], c.addr); len(buf) > 0 {
			return buf[:1]
		}
	}
	return nil
}

// ownRuntime reports whether a function is the runtime's, which is on every
// stack, and another one in each release.
func ownRuntime(name string) bool {
	return under(name, "runtime.", "runtime/internal/", "internal/runtime/", "internal/abi.", "internal/bytealg.")
}

func under(name string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// wrapper reports whether the compiler made a function to call another one:
// "main.main.gowrap1", "main.T.f-fm".
func wrapper(name string) bool {
	if strings.HasSuffix(name, "-fm") {
		return true
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return numbered(last, "gowrap") || numbered(last, "deferwrap")
}

func numbered(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	return ok && rest != "" && strings.Trim(rest, "0123456789") == ""
}

// keyed are the functions that the hash is made of, the first with its line
// from the start of the function, which tells two bugs in one function apart and
// stays when other functions change. Recursion counts once, and what the standard
// library has between a program and the runtime does not count.
func keyed(frames []inquest.Frame) []string {
	var out []string
	last := ""
	for _, f := range frames {
		if f.Function == last || under(f.Function, "sync.", "internal/sync.", "reflect.", "internal/reflectlite.") {
			continue
		}
		last = f.Function
		if len(out) == 0 && f.StartLine > 0 && !ownRuntime(last) {
			out = append(out, fmt.Sprint(f.Line-f.StartLine))
		}
		if out = append(out, last); len(out) > keyFunctions {
			break
		}
	}
	return out
}
