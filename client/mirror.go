package client

import (
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// firstRetry is the pause after the first attempt to connect that failed. It
// doubles up to Options.RetryMax.
const firstRetry = 250 * time.Millisecond

// Mirror writes what the runtime says about the program's death to the agent
// too. There is only one crash output per program: it takes the place of one
// that debug.SetCrashOutput set, and of an earlier Mirror.
type Mirror struct {
	options   Options
	connected atomic.Bool
	stop      chan struct{}
	done      chan struct{}
	once      sync.Once
}

// NewMirror sets the traceback level and connects in the background, again
// and again. It never fails: without an agent a program dies as it always did.
func NewMirror(o Options) *Mirror {
	o = o.withDefaults()
	m := &Mirror{options: o, stop: make(chan struct{}), done: make(chan struct{})}
	if o.Traceback != "keep" && !hasTraceback() {
		debug.SetTraceback(o.Traceback)
	}
	if o.off() {
		close(m.done)
		return m
	}
	// The first attempt is made here, so that an agent that is there knows of
	// the program before anything of it runs. A unix socket answers at once.
	conn, err := m.connect()
	go m.run(conn, err)
	return m
}

// Connected reports whether an agent would be told of a crash now.
func (m *Mirror) Connected() bool { return m.connected.Load() }

// Stop ends the connection. Crashes are written to standard error alone then.
func (m *Mirror) Stop() {
	m.once.Do(func() { close(m.stop) })
	<-m.done
}

func (m *Mirror) run(conn *net.UnixConn, err error) {
	defer close(m.done)
	pause := firstRetry
	for {
		if err == nil {
			pause = firstRetry
			if !m.hold(conn) {
				return
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-m.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, m.options.RetryMax)
		conn, err = m.connect()
	}
}

// connect makes what the agent reads the crash output.
func (m *Mirror) connect() (*net.UnixConn, error) {
	conn, pipe, err := dial(m.options, streamCrash, os.Getpid())
	if err != nil {
		return nil, err
	}
	// The runtime keeps a descriptor of its own.
	err = debug.SetCrashOutput(pipe, debug.CrashOptions{})
	_ = pipe.Close() // nothing was written through it
	if err != nil {
		_ = conn.Close() // the error that counts is above
		return nil, err
	}
	m.connected.Store(true)
	return conn, nil
}

// hold waits until the agent is gone. It returns false if Stop was called.
func (m *Mirror) hold(conn *net.UnixConn) bool {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		waitClosed(conn)
	}()
	alive := true
	select {
	case <-gone:
	case <-m.stop:
		alive = false
	}
	m.connected.Store(false)
	// Not to the dead socket, whose number may belong to another file soon.
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{}) // only fails for a file
	_ = conn.Close()                                    // nothing is lost: the agent is gone, or not wanted
	<-gone
	return alive
}

// waitClosed returns when either side has closed the connection.
func waitClosed(conn *net.UnixConn) {
	var buf [64]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}
