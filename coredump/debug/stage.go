package debug

import (
	"encoding/json"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// Stages are what runs in children, for sandbox.Main.
func Stages() []sandbox.Stage {
	return []sandbox.Stage{
		{Name: stageSession, Start: startSession},
		{Name: stageHeadless, Start: startHeadless},
	}
}

// The operations of a session.
const (
	opInfo       = "info"
	opGoroutines = "goroutines"
	opStack      = "stack"
	opVariables  = "variables"
	opPanics     = "panics"
	opEval       = "eval"
	opRegisters  = "registers"
)

// openArgs are the arguments of both stages.
type openArgs struct {
	Unidentified bool `json:"unidentified,omitempty"`
}

// request is what a session asks its child.
type request struct {
	Op         string `json:"op"`
	Start      int    `json:"start,omitempty"`
	Count      int    `json:"count,omitempty"`
	Goroutine  int64  `json:"goroutine,omitempty"`
	Thread     int    `json:"thread,omitempty"`
	Frame      int    `json:"frame,omitempty"`
	Expression string `json:"expression,omitempty"`
	Load       Load   `json:"load"`
}

// startSession opens the core in the child.
func startSession(c *sandbox.Child) (sandbox.Handler, error) {
	t, err := openTarget(c)
	if err != nil {
		return nil, err
	}
	return func(raw json.RawMessage) (any, error) {
		var r request
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, err
		}
		// Delve keeps what it has seen of goroutines and stacks, which would
		// grow with their number.
		defer t.target.ClearCaches()
		return t.answer(r)
	}, nil
}

func (t *target) answer(r request) (any, error) {
	switch r.Op {
	case opInfo:
		return t.info()
	case opGoroutines:
		return t.goroutines(r.Start, r.Count)
	case opStack:
		return t.stack(r.Goroutine, r.Count)
	case opVariables:
		return t.variables(r.Goroutine, r.Frame, r.Load)
	case opPanics:
		return t.panics(r.Goroutine, r.Load)
	case opEval:
		return t.eval(r.Goroutine, r.Frame, r.Expression, r.Load)
	case opRegisters:
		return t.registers(r.Thread)
	}
	return nil, inquest.Errorf(inquest.ErrInvalid, "operation %q is unknown", r.Op)
}
