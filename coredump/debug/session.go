package debug

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// Limits of what is asked for at once.
const (
	PageGoroutines = 1000 // of one Goroutines
	MaxFrames      = 1000 // of one Stack
	MaxExpression  = 4096 // bytes
	maxPanics      = 16   // of a chain
)

// Limits of a child, if the caller has none.
const (
	sessionMemory = 1 << 30
	sessionIdle   = 15 * time.Minute
	sessionCPU    = 30 * time.Minute
	sessionLife   = 12 * time.Hour
)

// The stages, and which of the files they get is what.
const (
	stageSession  = "debug"
	stageHeadless = "dlv"

	exeFile    = 0
	coreFile   = 1
	clientFile = 2 // the connection a headless child serves
)

// Options say what is opened, and how.
type Options struct {
	// Exe is the executable with debug information, Core the ELF core; both are
	// ordinary files, opened for reading, and stay the caller's. The child opens
	// them again, so the user of this process must be allowed to.
	Exe, Core *os.File
	// Unidentified opens them even if the core does not tell what it is of.
	// Cores of another build are always refused.
	Unidentified bool
	// Limits of the child; zero: 1 GiB, ended after 15 minutes without a
	// request, 30 minutes of processor time or 12 hours, else what package
	// sandbox has.
	Limits sandbox.Limits
	// Unconfined lets the child run where the base of the sandbox does not hold.
	Unconfined bool
}

// sandboxed are the options of the child.
func (o *Options) sandboxed(stage string, files ...*os.File) sandbox.Options {
	l := o.Limits
	l.MemoryBytes = cmp.Or(l.MemoryBytes, sessionMemory)
	l.Idle = cmp.Or(l.Idle, sessionIdle)
	l.CPU = cmp.Or(l.CPU, sessionCPU)
	l.Life = cmp.Or(l.Life, sessionLife)
	return sandbox.Options{
		Stage:      stage,
		Args:       openArgs{Unidentified: o.Unidentified},
		Files:      append([]*os.File{o.Exe, o.Core}, files...),
		Limits:     l,
		Unconfined: o.Unconfined,
	}
}

// Session is one opened core. Its methods can be called concurrently and are
// answered one after the other. Their errors are *sandbox.Failure where the
// child did not survive the question, or panicked on it; after a panic the next
// one may be answered.
type Session struct {
	child *sandbox.Process
	info  Info
}

// Info is what a session is about.
type Info struct {
	GoVersion string        `json:"go_version,omitempty"` // that built the executable
	Build     string        `json:"build,omitempty"`      // id of the executable
	Trust     inquest.Trust `json:"trust"`                // TrustExact; TrustNone if the core does not tell its build
	Delve     string        `json:"delve"`                // version
	Warning   string        `json:"warning,omitempty"`    // what is to be expected of what comes
	Threads   []Thread      `json:"threads"`              // the one that died first
}

// Open opens a core with its executable. The error is of kind
// inquest.ErrConflict if they do not belong together, and inquest.ErrInvalid if
// they cannot be read, or the executable has no debug information.
func Open(ctx context.Context, o Options) (*Session, error) {
	child, err := sandbox.Start(ctx, o.sandboxed(stageSession))
	if err != nil {
		return nil, err
	}
	s := &Session{child: child}
	if err := child.Call(ctx, request{Op: opInfo}, &s.info); err != nil {
		child.Close()
		return nil, err
	}
	s.info.clean()
	return s, nil
}

// Info is what is known from opening it.
func (s *Session) Info() Info { return s.info }

// Layers say what holds the child.
func (s *Session) Layers() []sandbox.Layer { return s.child.Layers() }

// Done is closed when the child has ended, by itself or by its limits.
func (s *Session) Done() <-chan struct{} { return s.child.Done() }

// Failure says how the child ended; nil as long as it has not.
func (s *Session) Failure() *sandbox.Failure { return s.child.Failure() }

// Close ends the session.
func (s *Session) Close() { s.child.Close() }

// Goroutines returns at most count goroutines from place start in the runtime's
// list, of those at most PageGoroutines, and the place of the next, -1 after
// the last. Dead ones are left out.
func (s *Session) Goroutines(ctx context.Context, start, count int) ([]Goroutine, int, error) {
	var out goroutinePage
	if err := s.child.Call(ctx, request{Op: opGoroutines, Start: start, Count: count}, &out); err != nil {
		return nil, 0, err
	}
	out.clean()
	return out.Goroutines, out.Next, nil
}

// Stack returns the frames of a goroutine, innermost first, inlined calls
// included; of at most depth frames, at most MaxFrames. Goroutine 0 is the
// thread that died, whatever it ran.
func (s *Session) Stack(ctx context.Context, goroutine int64, depth int) ([]Frame, error) {
	var out []Frame
	if err := s.child.Call(ctx, request{Op: opStack, Goroutine: goroutine, Count: depth}, &out); err != nil {
		return nil, err
	}
	for i := range out {
		out[i].clean()
	}
	return out, nil
}

// Variables returns the arguments and locals of a frame of a goroutine, which
// counts as Stack does, from 0. Optimized code lacks some.
func (s *Session) Variables(ctx context.Context, goroutine int64, frame int, l Load) (*Scope, error) {
	var out Scope
	err := s.child.Call(ctx, request{Op: opVariables, Goroutine: goroutine, Frame: frame, Load: l}, &out)
	if err != nil {
		return nil, err
	}
	cleanAll(out.Arguments)
	cleanAll(out.Locals)
	return &out, nil
}

// Panics returns what a goroutine is panicking with, the latest first.
func (s *Session) Panics(ctx context.Context, goroutine int64, l Load) ([]PanicValue, error) {
	var out []PanicValue
	if err := s.child.Call(ctx, request{Op: opPanics, Goroutine: goroutine, Load: l}, &out); err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Value.clean(0)
	}
	return out, nil
}

// Eval evaluates an expression as Delve understands it, in a frame of a
// goroutine. Nothing can be called.
func (s *Session) Eval(ctx context.Context, goroutine int64, frame int, expression string, l Load) (*Variable, error) {
	var out Variable
	err := s.child.Call(ctx, request{Op: opEval, Goroutine: goroutine, Frame: frame, Expression: expression, Load: l}, &out)
	if err != nil {
		return nil, err
	}
	out.clean(0)
	return &out, nil
}

// Registers returns those of a thread, in the order of the debugger.
func (s *Session) Registers(ctx context.Context, thread int) ([]Register, error) {
	var out []Register
	if err := s.child.Call(ctx, request{Op: opRegisters, Thread: thread}, &out); err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Name, out[i].Value = clean(out[i].Name), clean(out[i].Value)
	}
	return out, nil
}
