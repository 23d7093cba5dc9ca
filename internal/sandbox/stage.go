package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/goinquest/inquest"
)

// The argument that makes a program a child, and the files it finds open.
const (
	childArg   = "-inquest-sandboxed-stage"
	requestsFD = 3
	answersFD  = 4
	firstFD    = 5 // of those that are handed on
)

// Stage is work that is done in a child.
type Stage struct {
	Name string
	// Start begins in the confined child. The handler it returns answers one
	// request after the other. An error ends the child and is returned by the
	// parent's Start; so is a panic.
	Start func(c *Child) (Handler, error)
}

// Handler answers a request with a value that becomes JSON. A panic is an
// answer too, and the child goes on.
type Handler func(request json.RawMessage) (any, error)

// Child is what a stage knows of itself.
type Child struct {
	args   json.RawMessage
	files  []*os.File
	limits Limits
}

// Args decodes what the parent gave to Start.
func (c *Child) Args(into any) error { return json.Unmarshal(c.args, into) }

// Files are those the parent handed on, in its order.
func (c *Child) Files() []*os.File { return c.files }

// Path is a name by which file n can be opened for reading again, by code that
// wants a name. No other can be opened.
func (c *Child) Path(n int) string { return "/proc/self/fd/" + strconv.Itoa(firstFD+n) }

// Main runs the stage this process was started for, and does not return then.
// In any other process it returns at once. It is called before all else.
func Main(stages ...Stage) {
	if len(os.Args) != 3 || os.Args[1] != childArg {
		return
	}
	for _, s := range append(stages, probeStage) {
		if s.Name == os.Args[2] {
			if err := s.run(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	fmt.Fprintf(os.Stderr, "this program has no stage %q\n", os.Args[2])
	os.Exit(1)
}

// run confines the process and serves the stage until the parent is done.
func (s *Stage) run() error {
	requests, answers := os.NewFile(requestsFD, "requests"), os.NewFile(answersFD, "answers")
	if requests == nil || answers == nil {
		return errors.New("not started as a stage")
	}
	body, err := readFrame(requests, requestBytes)
	if err != nil {
		return err
	}
	var h hello
	if err := json.Unmarshal(body, &h); err != nil {
		return err
	}
	c := &Child{args: h.Args, limits: h.Limits}
	for n := range h.Files {
		c.files = append(c.files, os.NewFile(uintptr(firstFD+n), c.Path(n)))
	}
	debug.SetMemoryLimit(h.Limits.MemoryBytes / 4 * 3)
	layers := c.confine()
	if err := writeFrame(answers, ready{layers}, c.limits.AnswerBytes); err != nil {
		return err
	}
	if ok, missing := hold(layers); !ok && !h.Unconfined {
		return fmt.Errorf("the sandbox does not hold: %s", missing)
	}
	var handle Handler
	begun := respond(func() (any, error) {
		var err error
		handle, err = s.Start(c)
		return nil, err
	}, c.limits)
	if err := writeFrame(answers, begun, c.limits.AnswerBytes); err != nil || handle == nil {
		return err
	}
	for {
		request, err := readFrame(requests, requestBytes)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		a := respond(func() (any, error) { return handle(request) }, c.limits)
		if err := writeFrame(answers, a, c.limits.AnswerBytes); err != nil {
			return err
		}
	}
}

// respond makes an answer of what f returns, or panics with.
func respond(f func() (any, error), l Limits) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{Panic: Clean(fmt.Sprintf("%v\n%s", p, debug.Stack()), stderrBytes)}
		}
	}()
	v, err := f()
	if err == nil && v != nil {
		a.Value, err = json.Marshal(v)
		if most := l.AnswerBytes - 1024; err == nil && len(a.Value) > most {
			a.Value, err = nil, inquest.Errorf(inquest.ErrTooLarge, "an answer of %d bytes, at most %d are taken: ask for less", len(a.Value), most)
		}
		if n := values(a.Value); err == nil && n > l.AnswerValues {
			a.Value, err = nil, inquest.Errorf(inquest.ErrTooLarge, "an answer of %d values, at most %d are taken: ask for less", n, l.AnswerValues)
		}
	}
	if err != nil {
		a.Kind, _ = inquest.ErrorStatus(err)
		a.Error = Clean(err.Error(), stderrBytes)
	}
	return a
}
