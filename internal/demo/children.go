package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest/internal/demo/fleet"
)

// children are the processes started here. On Linux the kernel kills a child
// when the thread that started it ends, so one thread starts them all and
// lives until stop; everywhere a service ends when its standard input does.
type children struct {
	log      *slog.Logger
	requests chan func()
	thread   sync.WaitGroup

	mu       sync.Mutex
	stopping bool
	running  []*process
}

func newChildren(log *slog.Logger) *children {
	c := &children{log: log, requests: make(chan func())}
	c.thread.Add(1)
	go func() {
		defer c.thread.Done()
		runtime.LockOSThread()
		for request := range c.requests {
			request()
		}
	}()
	return c
}

// begin starts cmd on the thread that stays.
func (c *children) begin(cmd *exec.Cmd) error {
	tie(cmd)
	started := make(chan error)
	c.requests <- func() { started <- cmd.Start() }
	return <-started
}

// run runs cmd to its end; when ctx ends first, cmd and what it started are
// killed. The error holds the end of what cmd wrote.
func (c *children) run(ctx context.Context, cmd *exec.Cmd) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = 5 * time.Second
	if err := c.begin(cmd); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { kill(cmd) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, lastLines(output.Bytes(), 10))
	}
	return nil
}

// process is one running service.
type process struct {
	service, release string
	url              string // once listening

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	errors bytes.Buffer  // what it wrote to standard error; read after done
	done   chan struct{} // closed when it has ended
	err    error         // of the end
}

// start starts a service.
func (c *children) start(service, release string, cmd *exec.Cmd) (*process, error) {
	p := &process{service: service, release: release, cmd: cmd, done: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// A pipe of our own: the one of StdoutPipe is closed by Wait, which must
	// not happen before the address was read.
	r, w := io.Pipe()
	p.stdout, cmd.Stdout, cmd.Stderr = r, w, &p.errors
	cmd.WaitDelay = time.Second
	if err := c.begin(cmd); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.running = append(c.running, p)
	c.mu.Unlock()
	go func() {
		p.err = cmd.Wait()
		w.Close()
		close(p.done)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.stopping {
			c.log.Warn("demo service ended", "service", p.service, "release", p.release, "err", p.err, "stderr", string(lastLines(p.errors.Bytes(), 5)))
		}
	}()
	return p, nil
}

// listening waits for the line with the address the service listens on.
func (p *process) listening(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()
	out := bufio.NewReader(p.stdout)
	line, err := out.ReadString('\n')
	go io.Copy(io.Discard, out) // ends with the process
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", p.service, p.release, context.Cause(ctx))
	}
	if err != nil {
		<-p.done
		return fmt.Errorf("%s %s ended before it listened: %v\n%s", p.service, p.release, p.err, lastLines(p.errors.Bytes(), 5))
	}
	p.url = strings.TrimSpace(line)
	return nil
}

// tell lets the service know where the others are.
func (p *process) tell(peers fleet.Peers) error {
	line, err := json.Marshal(peers)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s %s: %w", p.service, p.release, err)
	}
	return nil
}

// kill ends the process if it runs.
func (p *process) kill() {
	select {
	case <-p.done: // its number may be another's by now
	default:
		kill(p.cmd)
	}
}

// stop ends all processes: asked by the end of their input, killed after a
// while.
func (c *children) stop() {
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return
	}
	c.stopping = true
	running := c.running
	c.mu.Unlock()
	for _, p := range running {
		p.stdin.Close()
	}
	late := time.After(3 * time.Second)
	for _, p := range running {
		select {
		case <-p.done:
		case <-late:
			for _, q := range running {
				q.kill()
			}
			<-p.done
		}
	}
	close(c.requests)
	c.thread.Wait()
}
