package debug

import (
	"github.com/go-delve/delve/pkg/proc"

	"github.com/goinquest/inquest"
)

// Frame is one call.
type Frame struct {
	inquest.Frame
	PC      Address `json:"pc,omitzero"`
	Inlined bool    `json:"inlined,omitempty"`
	System  bool    `json:"system,omitempty"`  // on the stack of the thread
	Problem string  `json:"problem,omitempty"` // why there are no more, or what is wrong with it
}

func location(at proc.Location) Frame {
	out := Frame{PC: Address(at.PC), Frame: inquest.Frame{File: at.File, Line: at.Line}}
	if at.Fn != nil {
		out.Function = at.Fn.Name
	}
	return out
}

// frames are at most depth frames of a goroutine, or of the thread that died.
func (t *target) frames(goroutine int64, depth int) (g *proc.G, thread int, frames []proc.Stackframe, err error) {
	th := t.target.CurrentThread()
	if goroutine == 0 {
		frames, err = proc.ThreadStacktrace(t.target, th, depth-1)
		g, _ = proc.GetG(th)
	} else {
		if g, err = t.find(goroutine); err != nil {
			return nil, 0, nil, err
		}
		if g.Thread != nil {
			th = g.Thread
		}
		frames, err = proc.GoroutineStacktrace(t.target, g, depth-1, 0)
	}
	if err != nil {
		return nil, 0, nil, inquest.Errorf(inquest.ErrInvalid, "stack of goroutine %d: %w", goroutine, err)
	}
	return g, th.ThreadID(), frames[:min(len(frames), depth)], nil
}

func (t *target) stack(goroutine int64, depth int) ([]Frame, error) {
	if depth <= 0 || depth > MaxFrames {
		depth = MaxFrames
	}
	_, _, frames, err := t.frames(goroutine, depth)
	if err != nil {
		return nil, err
	}
	out := make([]Frame, 0, len(frames))
	for _, f := range frames {
		w := location(f.Call)
		w.Inlined, w.System = f.Inlined, f.SystemStack
		if f.Err != nil {
			w.Problem = f.Err.Error()
		}
		out = append(out, w)
	}
	return out, nil
}

// scope is where expressions are evaluated.
func (t *target) scope(goroutine int64, frame int) (*proc.EvalScope, error) {
	if frame < 0 || frame >= MaxFrames {
		return nil, inquest.Errorf(inquest.ErrInvalid, "frame %d: they are counted from 0 to %d", frame, MaxFrames-1)
	}
	g, thread, frames, err := t.frames(goroutine, frame+2)
	if err != nil {
		return nil, err
	}
	if frame >= len(frames) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "goroutine %d has %d frames, none is %d", goroutine, len(frames), frame)
	}
	return proc.FrameToScope(t.target, t.target.Memory(), g, thread, frames[frame:]...), nil
}
