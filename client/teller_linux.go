package client

import (
	"bytes"
	"net"
	"sync"
	"time"
)

const (
	tellBytes   = 1 << 20         // that wait for the agent; what exceeds it is not told
	tellTimeout = time.Second     // of one write to the agent
	tellAfter   = 2 * time.Second // lines go on being told after one that may begin a text
	finishAfter = 3 * time.Second // the agent gets to take the last of it
)

// beginnings are how lines begin with which the runtime says that it ends.
// The agent looks closer; this keeps an ordinary log from it.
var beginnings = []string{"panic: ", "fatal error: ", "[signal ", "SIG", "runtime: ", "unexpected fault address "}

// stacks are how lines begin that follow.
var stacks = []string{"goroutine ", "\t", "created by "}

// teller tells the agent, without ever holding up who copies.
type teller struct {
	options Options
	pid     int
	partial []byte    // the beginning of a line, as much as is needed to know it
	inLine  bool      // the rest of a line that is told, or not, comes
	telling time.Time // until then

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []byte
	ended   bool
	nudged  bool          // it is time to try to connect
	lost    *net.UnixConn // closed by the agent
	done    chan struct{}
}

// newTeller calls ready once it has tried to connect.
func newTeller(o Options, pid int, ready func()) *teller {
	t := &teller{options: o, pid: pid, done: make(chan struct{})}
	t.wake = sync.NewCond(&t.mu)
	go t.run(sync.OnceFunc(ready))
	return t
}

// take looks at what was written, line by line.
func (t *teller) take(data []byte) {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		data = rest
		if ended {
			line = append(line[:len(line):len(line)], '\n')
		}
		t.part(line, ended)
	}
}

// part takes a line or some of one.
func (t *teller) part(part []byte, ended bool) {
	const enough = 32 // bytes tell what a line is
	if !t.inLine {
		t.partial = append(t.partial, part...)
		if !ended && len(t.partial) < enough {
			return
		}
		t.look()
		part = t.partial
		t.partial = t.partial[:0]
	}
	if !t.telling.IsZero() {
		t.tell(part)
	}
	t.inLine = !ended
}

// look decides by the beginning of a line whether it is told.
func (t *teller) look() {
	now := time.Now()
	switch {
	case begins(t.partial, beginnings):
		t.telling = now.Add(tellAfter)
	case t.telling.IsZero():
	case begins(t.partial, stacks):
		t.telling = now.Add(tellAfter)
	case t.telling.Before(now):
		t.telling = time.Time{}
	}
}

func begins(line []byte, with []string) bool {
	for _, b := range with {
		if bytes.HasPrefix(line, []byte(b)) {
			return true
		}
	}
	return false
}

func (t *teller) tell(part []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, part[:min(len(part), tellBytes-len(t.waiting))]...)
	t.wake.Signal()
}

// finish tells the last of it.
func (t *teller) finish() {
	if len(t.partial) > 0 {
		t.part([]byte("\n"), true)
	}
	t.mu.Lock()
	t.ended = true
	t.wake.Signal()
	t.mu.Unlock()
	select {
	case <-t.done:
	case <-time.After(finishAfter):
	}
}

// run connects at once, and again when the agent has been started anew: it
// knows by its parent whose standard error a process has, and that can only be
// asked while the parent lives.
func (t *teller) run(ready func()) {
	defer close(t.done)
	pause := firstRetry
	var conn *net.UnixConn
	for more := true; more; {
		if conn == nil {
			if conn = t.connect(); conn == nil {
				time.AfterFunc(pause, t.nudge)
				pause = min(2*pause, t.options.RetryMax)
			}
		}
		ready()
		var data []byte
		data, more = t.next(conn)
		if t.isLost(conn) && conn != nil {
			_ = conn.Close() // by the agent already
			conn, pause = t.connect(), firstRetry
		}
		if len(data) > 0 {
			conn = t.write(conn, data)
		}
	}
	if conn != nil {
		_ = conn.Close() // the agent has all there was
	}
}

// connect returns nil if there is no agent.
func (t *teller) connect() *net.UnixConn {
	conn, _, err := dial(t.options, streamStderr, t.pid)
	if err != nil {
		return nil
	}
	go func() {
		waitClosed(conn)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.lost = conn
		t.wake.Signal()
	}()
	return conn
}

func (t *teller) nudge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nudged = true
	t.wake.Signal()
}

func (t *teller) isLost(conn *net.UnixConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost == conn
}

// next waits until there is something to do.
func (t *teller) next(conn *net.UnixConn) (data []byte, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) == 0 && !t.ended && !t.nudged && (conn == nil || t.lost != conn) {
		t.wake.Wait()
	}
	t.nudged = false
	data, t.waiting = t.waiting, nil
	return data, !t.ended || len(data) > 0
}

// write writes to the agent, to one that was started since if need be.
func (t *teller) write(conn *net.UnixConn, data []byte) *net.UnixConn {
	for range 2 {
		if conn == nil {
			if conn = t.connect(); conn == nil {
				return nil
			}
		}
		if conn.SetWriteDeadline(time.Now().Add(tellTimeout)) == nil {
			if _, err := conn.Write(data); err == nil {
				return conn
			}
		}
		_ = conn.Close() // it failed already
		conn = nil
	}
	return nil
}
