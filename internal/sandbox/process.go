package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/goinquest/inquest"
)

// Options say what a child is to do.
type Options struct {
	Stage  string
	Args   any        // for the stage, as JSON
	Files  []*os.File // it inherits; they stay the caller's, and are files to be read or sockets
	Limits Limits
	// Unconfined lets the stage run where the base of the sandbox does not hold.
	Unconfined bool
}

// Process is a child that runs. Its methods can be called concurrently; calls
// are answered one after the other.
type Process struct {
	stage  string
	limits Limits
	layers []Layer
	begun  time.Time

	cmd      *exec.Cmd
	requests *os.File
	answers  *os.File
	stderr   head

	calls  sync.Mutex // one at a time
	mu     sync.Mutex
	cause  string // why it was killed, "" if it was not
	peak   int64  // see peakRSS, when it was killed
	idle   *time.Timer
	life   *time.Timer
	ended  chan struct{}
	failed *Failure // set before ended is closed
}

// Start starts a child and returns when its stage is ready for requests. What
// the stage's Start returned is returned here, with its kind; if the child
// ended otherwise, a *Failure. The child ends with Close, by its limits, and
// with this process.
func Start(ctx context.Context, o Options) (*Process, error) {
	args, err := json.Marshal(o.Args)
	if err != nil {
		return nil, err
	}
	if err := readOnly(o.Files); err != nil {
		return nil, err
	}
	p := &Process{stage: o.Stage, limits: o.Limits.withDefaults(), begun: time.Now(), ended: make(chan struct{})}
	if err := p.start(o.Files); err != nil {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "start a sandboxed %s: %w", o.Stage, err)
	}
	p.mu.Lock()
	p.life = time.AfterFunc(p.limits.Life, func() { p.kill(Timeout) })
	p.mu.Unlock()
	h := hello{Args: args, Files: len(o.Files), Limits: p.limits, Unconfined: o.Unconfined}
	stop := p.watch(ctx, p.limits.Start)
	err = p.begin(h)
	if err = stop(err); err != nil {
		p.Close()
		return nil, err
	}
	p.rest()
	return p, nil
}

// readOnly refuses files that a child could write to by what it inherits.
func readOnly(files []*os.File) error {
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && !opensToRead(f) {
			return inquest.Errorf(inquest.ErrInvalid, "%s can be written to; a child gets files that were opened for reading", f.Name())
		}
	}
	return nil
}

// begin hands the first frames over.
func (p *Process) begin(h hello) error {
	if err := writeFrame(p.requests, h, requestBytes); err != nil {
		return p.broken(err)
	}
	body, err := readFrame(p.answers, p.limits.AnswerBytes)
	if err != nil {
		return p.broken(err)
	}
	var r ready
	if err := json.Unmarshal(body, &r); err != nil {
		return p.broken(errOversize)
	}
	p.layers = r.Layers
	if ok, missing := hold(r.Layers); !ok && !h.Unconfined {
		p.kill(Refused)
		f := *p.failure()
		f.How, f.Detail = Refused, Clean(missing, stderrBytes)
		return &f
	}
	return p.answer(nil)
}

// Layers says what holds the child.
func (p *Process) Layers() []Layer { return p.layers }

// PID is the child's.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Call sends a request and waits for the answer, which is decoded into what
// is given. Errors of the stage have their kind. A *Failure says that the child
// has ended, but for one of kind Panic, after which it may still answer others.
// If ctx ends before the answer comes, the child is killed.
func (p *Process) Call(ctx context.Context, request, into any) error {
	p.calls.Lock()
	defer p.calls.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	p.busy()
	defer p.rest()
	stop := p.watch(ctx, p.limits.Call)
	err := writeFrame(p.requests, request, requestBytes)
	switch {
	case errors.Is(err, errOversize): // nothing was sent
	case err != nil:
		err = p.broken(err)
	default:
		err = p.answer(into)
	}
	return stop(err)
}

// answer reads one.
func (p *Process) answer(into any) error {
	body, err := readFrame(p.answers, p.limits.AnswerBytes)
	if err != nil {
		return p.broken(err)
	}
	var a answer
	if values(body) > p.limits.AnswerValues+answerFields {
		return p.broken(errOversize)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return p.broken(errOversize)
	}
	switch {
	case a.Panic != "":
		return &Failure{How: Panic, Stage: p.stage, Detail: Clean(a.Panic, stderrBytes), Elapsed: time.Since(p.begun)}
	case a.Error != "":
		for _, k := range inquest.ErrorKinds {
			if k.Name == a.Kind {
				return inquest.Errorf(k.Err, "%s", Clean(a.Error, stderrBytes))
			}
		}
		return errors.New(Clean(a.Error, stderrBytes))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(a.Value, into); err != nil {
		return p.broken(errOversize)
	}
	return nil
}

// watch kills the child if ctx or the time ends before stop is called, which
// hands the error on, or why the child was killed.
func (p *Process) watch(ctx context.Context, most time.Duration) (stop func(error) error) {
	timer := time.AfterFunc(most, func() { p.kill(Timeout) })
	gone := context.AfterFunc(ctx, func() { p.kill(Ended) })
	return func(err error) error {
		timer.Stop()
		if !gone() && err != nil {
			return ctx.Err()
		}
		return err
	}
}

// broken ends a child whose pipes do not work any more.
func (p *Process) broken(err error) error {
	if errors.Is(err, errOversize) {
		p.kill(Output)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Second): // it closed a pipe and goes on
		p.kill(Output)
	}
	return p.failure()
}

// kill ends the child, for a reason; the first one counts.
func (p *Process) kill(cause string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return
	default:
	}
	if p.cause == "" {
		p.cause, p.peak = cause, peakRSS(p.cmd.Process.Pid)
	}
	_ = p.cmd.Process.Kill()
}

// busy and rest stop and start the clock of a child nobody asks anything.
func (p *Process) busy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle != nil {
		p.idle.Stop()
	}
}

func (p *Process) rest() {
	if p.limits.Idle == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = time.AfterFunc(p.limits.Idle, func() { p.kill(Idle) })
}

// Close ends the child and waits until it is gone. It may be called again.
func (p *Process) Close() {
	p.kill(Ended)
	<-p.ended
	_ = p.requests.Close()
	_ = p.answers.Close()
}

// failure waits for the end of the child.
func (p *Process) failure() *Failure {
	<-p.ended
	return p.failed
}

// Failure is how the child ended, nil as long as it has not.
func (p *Process) Failure() *Failure {
	select {
	case <-p.ended:
		return p.failed
	default:
		return nil
	}
}

// wait reaps the child.
func (p *Process) wait() {
	_ = p.cmd.Wait() // its state says all
	f := &Failure{Stage: p.stage, Elapsed: time.Since(p.begun)}
	state := p.cmd.ProcessState
	f.CPU = state.UserTime() + state.SystemTime()
	p.mu.Lock()
	cause := p.cause
	f.MaxRSS = p.peak
	p.mu.Unlock()
	f.explain(state.Sys().(syscall.WaitStatus), p.stderr.String(), p.limits)
	if cause != "" && f.How == Signal {
		f.How, f.Signal = cause, ""
	}
	p.failed = f
	p.mu.Lock()
	close(p.ended)
	for _, t := range []*time.Timer{p.life, p.idle} {
		if t != nil {
			t.Stop()
		}
	}
	p.mu.Unlock()
}

// start makes the pipes and the process.
func (p *Process) start(files []*os.File) error {
	theirRequests, requests, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirRequests.Close()
	answers, theirAnswers, err := os.Pipe()
	if err != nil {
		requests.Close()
		return err
	}
	defer theirAnswers.Close()
	p.requests, p.answers = requests, answers
	for _, spaces := range []bool{true, false} {
		p.cmd = exec.Command("/proc/self/exe", childArg, p.stage)
		p.cmd.Env = []string{"GOTRACEBACK=single"}
		p.cmd.Dir = "/"
		p.cmd.Stderr = &p.stderr
		p.cmd.WaitDelay = time.Second
		p.cmd.ExtraFiles = append([]*os.File{theirRequests, theirAnswers}, files...)
		p.cmd.SysProcAttr = attributes(spaces)
		if err = p.cmd.Start(); err == nil {
			go p.wait()
			return nil
		}
	}
	requests.Close()
	answers.Close()
	return err
}

// head keeps the beginning of what is written, and takes all of it.
type head struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *head) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[:min(len(p), stderrBytes-len(t.b))]...)
	return len(p), nil
}

func (t *head) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
