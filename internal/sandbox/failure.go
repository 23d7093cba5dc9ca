package sandbox

import (
	"fmt"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goinquest/inquest"
)

// How a child or one of its answers failed.
const (
	Refused = "refused" // the base of the sandbox does not hold here
	Panic   = "panic"   // the stage panicked, or the runtime ended it
	Signal  = "signal"  // the kernel did
	Memory  = "memory"  // it wanted more than it may have
	CPU     = "cpu"     // so much processor time
	Timeout = "timeout" // it did not answer in time, or lived too long
	Idle    = "idle"    // nobody asked anything for so long
	Output  = "output"  // its answer was longer than it may be, or no answer
	Ended   = "ended"   // by itself, or because the caller did not want it any more
)

// Failure says how a child ended, or why it gave no answer. It is what is
// recorded; Detail is sanitised and short.
type Failure struct {
	How     string        `json:"how"` // one of the constants
	Stage   string        `json:"stage"`
	Signal  string        `json:"signal,omitempty"`
	Detail  string        `json:"detail,omitempty"`     // for people: what the child wrote when it ended
	CPU     time.Duration `json:"cpu_ns,omitempty"`     // it took, if it has ended
	MaxRSS  int64         `json:"max_rss,omitempty"`    // bytes, if it was killed from here; a process tells no one once it is dead
	Elapsed time.Duration `json:"elapsed_ns,omitempty"` // since its start
}

// Error implements error.
func (f *Failure) Error() string {
	s := "sandboxed " + f.Stage + ": "
	switch f.How {
	case Refused:
		s += "refused, for the sandbox does not hold here"
	case Panic:
		s += "it crashed"
	case Signal:
		s += "it was ended by " + f.Signal
	case Memory:
		s += "it needs more memory than it may have"
	case CPU:
		s += fmt.Sprintf("it took %v of processor time", f.CPU.Round(time.Millisecond))
	case Timeout:
		s += fmt.Sprintf("no answer in time, %v after its start", f.Elapsed.Round(time.Millisecond))
	case Idle:
		s += "it was ended, for nobody asked it anything"
	case Output:
		s += "its answer is too long, or is none"
	default:
		s += "it has ended"
	}
	if f.Detail != "" {
		line, _, _ := strings.Cut(f.Detail, "\n")
		s += ": " + line
	}
	return s
}

// Unwrap tells the kind: what the input did to the stage is invalid or too
// large, whatever else can be tried again.
func (f *Failure) Unwrap() error {
	switch f.How {
	case Panic, Signal:
		return inquest.ErrInvalid
	case Memory, CPU, Timeout, Output:
		return inquest.ErrTooLarge
	}
	return inquest.ErrUnavailable
}

// Clean makes text of a child fit to be shown and kept: valid UTF-8 without
// control characters other than tabs and ends of lines, and at most so many bytes.
func Clean(s string, most int) string {
	cut := len(s) > most
	if cut {
		s = s[:most]
	}
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if !unicode.IsPrint(r) && r != ' ' { // also marks that change the direction of text
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	if cut {
		s += "…"
	}
	return s
}

// explain tells from the state and the last words of a child how it ended.
func (f *Failure) explain(status syscall.WaitStatus, stderr string, limits Limits) {
	f.Detail = Clean(strings.TrimSpace(stderr), stderrBytes)
	switch {
	case status.Signaled():
		f.How, f.Signal = Signal, status.Signal().String()
		if f.CPU >= limits.CPU && status.Signal() == syscall.SIGKILL {
			f.How, f.Signal = CPU, ""
		}
	case strings.Contains(stderr, "SIGXCPU"):
		f.How = CPU
	case outOfMemory(stderr):
		f.How = Memory
	case strings.Contains(stderr, "panic: ") || strings.Contains(stderr, "fatal error: ") || strings.Contains(stderr, "SIG"):
		f.How = Panic
	default:
		f.How = Ended
		if n := status.ExitStatus(); n != 0 {
			f.Detail = strings.TrimSpace(fmt.Sprintf("exit status %d\n%s", n, f.Detail))
		}
	}
}

// outOfMemory knows what the Go runtime says when the system gives it none.
func outOfMemory(stderr string) bool {
	for _, s := range []string{"out of memory", "cannot allocate memory", "cannot allocate heap metadata", "failed to create new OS thread"} {
		if strings.Contains(stderr, s) {
			return true
		}
	}
	return false
}
