package debug

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// Access is what a client of a headless debugger asked that somebody may want
// to know of later.
type Access struct {
	Protocol   string `json:"protocol"`             // "dlv" (JSON-RPC) or "dap"
	Verb       string `json:"verb"`                 // as the protocol names it
	Expression string `json:"expression,omitempty"` // that was evaluated, or the place in memory that was read
	Refused    string `json:"refused,omitempty"`    // why it was not done
}

// Limits of messages between a client and a headless debugger.
const (
	clientMessage = 1 << 20
	serverMessage = 64 << 20
)

// Serve lets one client debug a core over a connection, as if it had reached
// `dlv core --headless`: `dlv connect`, or an editor by DAP with a remote
// attach. A sandboxed child of its own does so, and sees only requests that look
// and do not touch: nothing can be launched, continued, called, written or
// dumped. What the client evaluates and what it is refused is told to audit,
// from one goroutine. Serve returns when the client has left, ctx ends, or nothing
// was asked for Limits.Idle; and closes conn. Errors are those of Open.
func Serve(ctx context.Context, conn io.ReadWriteCloser, o Options, audit func(Access)) error {
	defer conn.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.Close()
	so := o.sandboxed(stageHeadless, theirs)
	idle := so.Limits.Idle
	so.Limits.Idle = 0 // the child's pipe is always idle
	child, err := sandbox.Start(ctx, so)
	theirs.Close()
	if err != nil {
		return err
	}
	defer child.Close()
	p := &proxy{client: conn, server: ours, audit: audit}
	p.idle = time.AfterFunc(idle, func() { p.close(fmt.Errorf("nothing was asked for %v", idle)) })
	defer p.idle.Stop()
	p.quiet = idle
	stop := context.AfterFunc(ctx, func() { p.close(ctx.Err()) })
	defer stop()
	err = p.run()
	if failed := p.ended(child); err == nil && failed != nil {
		return failed
	}
	return err
}

// ended is how the child ended if that was not because the client left.
func (p *proxy) ended(child *sandbox.Process) error {
	if p.clientLeft {
		return nil
	}
	select {
	case <-child.Done():
		if f := child.Failure(); f.How != sandbox.Ended {
			return f
		}
	case <-time.After(time.Second):
	}
	return nil
}

// socketPair is a connection whose other end a child inherits.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
	}
	f := os.NewFile(uintptr(fds[0]), "debugger")
	defer f.Close()
	if ours, err = net.FileConn(f); err != nil {
		syscall.Close(fds[1])
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(fds[1]), "client"), nil
}

// proxy stands between a client and the child.
type proxy struct {
	client io.ReadWriteCloser
	server net.Conn
	audit  func(Access)
	idle   *time.Timer
	quiet  time.Duration

	writing    sync.Mutex // to the client
	closing    sync.Once
	cause      error
	clientLeft bool // set before the connections are closed because of it
}

// protocol is one of the two that debuggers speak.
type protocol interface {
	// request reads a request of the client. forward is what the server gets
	// in its place, if anything; refusal is what the client gets at once.
	request() (forward, refusal []byte, a *Access, err error)
	// response reads what the server says and returns what the client gets, if
	// anything.
	response() ([]byte, error)
}

// run moves messages until one side ends.
func (p *proxy) run() error {
	client := &bounded{r: p.client, left: clientMessage, most: clientMessage}
	server := &bounded{r: p.server, left: serverMessage, most: serverMessage}
	in := bufio.NewReader(client)
	first, err := in.Peek(1)
	if err != nil {
		p.clientLeft = true
		p.close(p.result(err))
		return p.cause
	}
	var proto protocol
	if first[0] == 'C' { // of Content-Length
		proto = newDAP(in, client, server)
	} else {
		proto = newRPC(in, client, server)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.close(p.responses(proto))
	}()
	err = p.requests(proto)
	p.close(err)
	<-done
	return p.cause
}

func (p *proxy) requests(proto protocol) error {
	for {
		forward, refusal, access, err := proto.request()
		if err != nil {
			if !errors.Is(err, errMalformed) {
				p.clientLeft = true
			}
			return p.result(err)
		}
		p.idle.Reset(p.quiet)
		if access != nil && p.audit != nil {
			access.Verb, access.Expression = clean(access.Verb), clean(access.Expression)
			p.audit(*access)
		}
		if refusal != nil {
			if err := p.toClient(refusal); err != nil {
				return p.result(err)
			}
		}
		if forward != nil {
			if _, err := p.server.Write(forward); err != nil {
				return p.result(err)
			}
		}
	}
}

func (p *proxy) responses(proto protocol) error {
	for {
		b, err := proto.response()
		if err != nil {
			return p.result(err)
		}
		if b == nil {
			continue
		}
		if err := p.toClient(disarm(b)); err != nil {
			return p.result(err)
		}
	}
}

func (p *proxy) toClient(b []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	_, err := p.client.Write(b)
	return err
}

// errMalformed is what is no message of the protocol.
var errMalformed = errors.New("malformed message")

// result is nil for the ends of connections that are no error.
func (p *proxy) result(err error) error {
	switch {
	case errors.Is(err, errMalformed):
		return inquest.Errorf(inquest.ErrInvalid, "debugger: %w", err)
	case errors.Is(err, errBounded):
		return inquest.Errorf(inquest.ErrTooLarge, "debugger: %w", err)
	}
	return nil
}

// close ends both connections; the first cause counts.
func (p *proxy) close(cause error) {
	p.closing.Do(func() {
		p.cause = cause
		p.client.Close()
		p.server.Close()
	})
}

// errBounded is a message that is longer than any is expected to be.
var errBounded = errors.New("a message is too long")

// bounded reads at most so many bytes between calls of next.
type bounded struct {
	r          io.Reader
	left, most int
}

// next allows for another message.
func (b *bounded) next() { b.left = b.most }

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBounded
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
