package web

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// connections is a listener that accepts a bounded number of connections at a
// time: each takes memory, whatever is asked through it. Those beyond wait in
// the system's queue, unanswered, until another one ends; idle ones end after
// a while.
type connections struct {
	net.Listener
	free   chan struct{} // one per connection that may be open
	closed chan struct{}
	once   sync.Once
	log    *slog.Logger
	warned time.Time // only Accept, which nobody calls twice at a time
}

func newConnections(ln net.Listener, max int, log *slog.Logger) *connections {
	return &connections{Listener: ln, free: make(chan struct{}, max), closed: make(chan struct{}), log: log}
}

// Accept waits for a connection, and until one may be open.
func (l *connections) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	default:
		if now := time.Now(); now.Sub(l.warned) > time.Minute {
			l.warned = now
			l.log.Warn("as many connections are open as there is memory for; more wait", "connections", cap(l.free))
		}
		select {
		case l.free <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &connection{Conn: c, from: l}, nil
}

// Close stops listening.
func (l *connections) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// connection gives its place back when it is closed.
type connection struct {
	net.Conn
	from *connections
	once sync.Once
}

func (c *connection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.from.free })
	return err
}
