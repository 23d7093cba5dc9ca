package crashtext

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/coredump"
)

const (
	helloTimeout = 10 * time.Second
	textTimeout  = time.Minute // a dying process does not pause for longer
	lastTimeout  = 2 * time.Second
	dyingTimeout = 5 * time.Second
	idleBuffer   = 512 // bytes, for a program that may never die
	textBuffer   = 64 << 10
)

// serve reads what one program sends until it is gone.
func (r *Receiver) serve(conn *net.UnixConn, pid int, c *connected) {
	defer r.tasks.Done()
	crash := false
	defer func() { r.leave(conn, pid, c, crash) }()
	process := r.identify(pid, c)
	h, rest, pipe, err := readHello(conn)
	if pipe != nil {
		defer func() { _ = pipe.Close() }() // all was read that is wanted
	}
	if err != nil {
		if !errors.Is(err, io.EOF) && r.ctx.Err() == nil {
			r.options.Logger.Warn("connection for crash texts", "pid", pid, "err", err)
		}
		return
	}
	if h.Stream == streamStderr {
		r.readStderr(conn, r.whose(process, h), h, rest)
		return
	}
	from := &source{reader: conn}
	if pipe != nil {
		from, rest = &source{reader: pipe}, nil
		r.tasks.Add(1)
		go r.guard(conn, from)
	}
	r.mu.Lock()
	c.crash++
	crash = true
	r.mu.Unlock()
	r.readCrash(from, process, h, rest)
}

// source is what a program writes to.
type source struct {
	reader interface { // a connection or a pipe
		Read([]byte) (int, error)
		SetReadDeadline(time.Time) error
	}
	closed atomic.Int64 // when the program had closed its connection, beside a pipe; ns since 1970
}

// guard ends reading from a pipe when the program has closed its connection, as
// a child of it may hold the pipe still, or when the Receiver stops.
func (r *Receiver) guard(conn *net.UnixConn, from *source) {
	defer r.tasks.Done()
	var buf [64]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			break
		}
	}
	now := time.Now()
	from.closed.Store(now.UnixNano())
	if r.ctx.Err() == nil {
		now = now.Add(lastTimeout)
	}
	_ = from.reader.SetReadDeadline(now) // fails when all was read
}

// readHello reads the first line, and the pipe that may come along with it, which
// is the caller's, with an error too. rest is what came behind the line.
func readHello(conn *net.UnixConn) (h hello, rest []byte, pipe *os.File, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return h, nil, nil, err
	}
	buf := make([]byte, idleBuffer)
	n, pipe, err := readWithPipe(conn, buf)
	for {
		if line, rest, ok := bytes.Cut(buf[:n], []byte("\n")); ok && err == nil {
			h, err := parseHello(line)
			return h, rest, pipe, errors.Join(err, conn.SetReadDeadline(time.Time{}))
		}
		if err != nil {
			return h, nil, pipe, err
		}
		if n >= maxHello {
			return h, nil, pipe, inquest.Errorf(inquest.ErrInvalid, "the first line has more than %d bytes", maxHello)
		}
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		var more int
		more, err = conn.Read(buf[n:])
		n += more
	}
}

// whose is the process whose standard error the peer copies: its parent, which
// runs the same executable, or one that was connected until a moment ago.
func (r *Receiver) whose(peer *process, h hello) *process {
	if peer == nil {
		return nil
	}
	if parent, err := r.builds.look(peer.Parent); err == nil && parent.Exe == peer.Exe && parent.UID == peer.UID {
		return parent
	}
	if p := r.known(h.PID); p != nil && p.Exe == peer.Exe && p.UID == peer.UID {
		return p
	}
	return nil
}

// read feeds what comes until the end. take returns whether a text has begun,
// which must go on then.
func (r *Receiver) read(from *source, rest []byte, take func([]byte) bool) {
	if pipe, ok := from.reader.(*os.File); ok {
		defer func() { drain(pipe, take) }()
	}
	begun := len(rest) > 0 && take(rest)
	buf := make([]byte, idleBuffer)
	for {
		closed := from.closed.Load()
		var deadline time.Time
		switch {
		case closed != 0:
			deadline = time.Now().Add(lastTimeout)
		case begun:
			deadline = time.Now().Add(textTimeout)
		}
		// In this order: who sets a deadline from elsewhere says why before it.
		if from.reader.SetReadDeadline(deadline) != nil || r.ctx.Err() != nil {
			return
		}
		if from.closed.Load() != closed {
			continue
		}
		n, err := from.reader.Read(buf)
		if n > 0 {
			begun = take(buf[:n])
			if len(buf) < textBuffer {
				buf = make([]byte, textBuffer)
			}
		}
		if err != nil {
			if from.closed.Load() != closed {
				continue // there may be more in the pipe
			}
			return
		}
	}
}

// readCrash reads what the runtime writes. All of it is one text.
func (r *Receiver) readCrash(from *source, p *process, h hello, rest []byte) {
	var parser *coredump.TextParser
	var at time.Time
	share := share{of: &r.budget}
	defer share.release()
	full := false
	r.read(from, rest, func(data []byte) bool {
		if parser == nil {
			parser, at = coredump.NewTextParser(r.options.Limits), time.Now().UTC()
		}
		if full = full || !share.grow(parser.Held()+2*int64(len(data))); full {
			parser.Skip(len(data))
			return true
		}
		_, _ = parser.Write(data) // never fails
		return true
	})
	if parser == nil || !parser.Found() && !full {
		return // it ended, or did so quietly
	}
	r.tell(p, h, "client", at, parser.Text())
}

// readStderr reads lines that may be of a text. What has begun when the program
// is gone is told.
func (r *Receiver) readStderr(conn *net.UnixConn, p *process, h hello, rest []byte) {
	if p == nil {
		r.options.Logger.Warn("standard error of a process that is not known", "pid", h.PID)
	}
	lines := lineReader{scanner: coredump.NewScanner(r.options.Limits, func(t *coredump.Text) {
		at := t.At
		if at.IsZero() {
			at = time.Now().UTC()
		}
		r.tell(p, h, "stderr", at, t)
	})}
	r.read(&source{reader: conn}, rest, func(data []byte) bool {
		lines.write(data)
		return lines.scanner.Inside()
	})
	lines.end(true)
}

// tell tells a death, once the process is really dying.
func (r *Receiver) tell(p *process, h hello, source string, at time.Time, t *coredump.Text) {
	var c inquest.Crash
	if p == nil {
		c = inquest.Crash{Kind: inquest.CrashDeath, Tier: inquest.TierText, Source: []string{source}, Service: h.Service, PID: h.PID}
		if c.Service == "" {
			c.Service = "unnamed"
		}
		c.ID = inquest.TextID(c.Service, "", at, t.Head)
	} else {
		for end := time.Now().Add(dyingTimeout); host.Alive(p.ID); time.Sleep(10 * time.Millisecond) {
			if r.ctx.Err() != nil {
				break // the agent ends while it is at it
			}
			if time.Now().After(end) {
				r.options.Logger.Warn("a crash text of a process that lives", "pid", p.PID, "bytes", t.Text.Bytes)
				return
			}
		}
		c = p.crash(source)
		if h.Service != "" {
			c.Service = h.Service
		}
	}
	c.At, c.Release = at, h.Release
	r.options.Joiner.Tell(c, t)
}

// lineReader makes lines of pieces.
type lineReader struct {
	scanner *coredump.Scanner
	partial []byte
}

const maxLine = 64 << 10

// write takes a piece.
func (l *lineReader) write(data []byte) {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(l.partial) > 0 || !ended {
			l.partial = append(l.partial, line[:min(len(line), maxLine-len(l.partial))]...)
			line = l.partial
		}
		if ended {
			l.scanner.Line(line)
			l.partial = l.partial[:0]
		}
	}
}

// end ends what has begun; last as Scanner.Flush has it.
func (l *lineReader) end(last bool) {
	if last && len(l.partial) > 0 {
		l.scanner.Line(l.partial)
		l.partial = l.partial[:0]
	}
	l.scanner.Flush(last)
}
