package coredump

import (
	"fmt"
	"strings"

	"github.com/goinquest/inquest"
)

// cause is what a process died of, by the calls of its thread.
type cause struct {
	kind   causeKind
	at     int // the call; 0 if there is none
	signal *signalFrame
}

type causeKind uint8

const (
	causeNone   causeKind = iota // it lives, or a signal took it past the runtime
	causePanic                   // a panic that nothing recovered
	causeThrow                   // the runtime threw
	causeSignal                  // a signal that is no panic
)

// cause finds the innermost call that ends a process. Unlike death it is what
// the runtime writes first.
func (s *stack) cause() cause {
	for i, c := range s.calls {
		switch c.name {
		case "runtime.gopanic":
			return cause{kind: causePanic, at: i}
		case "runtime.throw", "runtime.fatal":
			return cause{kind: causeThrow, at: i}
		}
		if c.signal != nil && c.name != "runtime.raise" && c.name != "runtime.tgkill" {
			return cause{kind: causeSignal, at: i, signal: c.signal}
		}
	}
	return cause{}
}

// signalTexts are what the runtime writes behind the names of signals
// (runtime/sigtab_linux_generic.go).
var signalTexts = map[string]string{
	"SIGHUP": "terminal line hangup", "SIGINT": "interrupt", "SIGQUIT": "quit", "SIGILL": "illegal instruction", "SIGTRAP": "trace trap",
	"SIGABRT": "abort", "SIGBUS": "bus error", "SIGFPE": "floating-point exception", "SIGUSR1": "user-defined signal 1", "SIGSEGV": "segmentation violation",
	"SIGUSR2": "user-defined signal 2", "SIGPIPE": "write to broken pipe", "SIGALRM": "alarm clock", "SIGTERM": "termination", "SIGSTKFLT": "stack fault",
	"SIGXCPU": "cpu limit exceeded", "SIGXFSZ": "file size limit exceeded", "SIGVTALRM": "virtual alarm clock", "SIGPROF": "profiling alarm clock",
	"SIGIO": "i/o now possible", "SIGPWR": "power failure restart", "SIGSYS": "bad system call",
}

var signalNumbers = func() map[int]string {
	out := map[int]string{}
	for name, n := range signals {
		out[n] = name
	}
	return out
}()

// signalName is "SIGSEGV: segmentation violation".
func signalText(number int) string {
	name := signalNumbers[number]
	if name == "" {
		return fmt.Sprintf("Signal %d", number)
	}
	return name + ": " + signalTexts[name]
}

// raised is the line of the signal that struck a goroutine (dopanic_m).
func raised(g *Goroutine) string {
	if g.Signal == 0 {
		return ""
	}
	name := signalText(g.Signal)
	if signalNumbers[g.Signal] == "" {
		name = fmt.Sprintf("%#x", g.Signal)
	}
	return fmt.Sprintf("[signal %s code=%#x addr=%#x pc=%#x]\n", name, g.SignalCode, g.SignalAddr, g.SignalPC)
}

// nilPage is how far from zero an address is still that of a field of nothing.
const nilPage = 4096

// deathSignal describes a signal.
func deathSignal(number int, code int64, addr, pc uint64) *inquest.DeathSignal {
	s := &inquest.DeathSignal{Number: number, Name: signalNumbers[number], Code: code, Addr: addr, PC: pc}
	switch {
	case code <= 0:
		s.Note = "sent by a process"
	case s.Name != "SIGSEGV" && s.Name != "SIGBUS":
	case addr < nilPage:
		s.Note = "nil address"
	}
	return s
}

// classify puts together what the runtime wrote and reads it as every text is read, so
// that a core and a text of one death have the same class and message.
func classify(text string) (class, message string) {
	p := NewTextParser(TextLimits{KeepBytes: 1})
	_, _ = p.Write([]byte(strings.TrimSuffix(text, "\n") + "\n")) // never fails
	class, _ = p.say.class()
	return class, p.say.message()
}
