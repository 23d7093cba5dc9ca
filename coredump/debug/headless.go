package debug

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"

	"github.com/go-delve/delve/service"
	"github.com/go-delve/delve/service/debugger"
	"github.com/go-delve/delve/service/rpccommon"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// startHeadless serves one client as `dlv core --headless` does, JSON-RPC and
// DAP alike, on a connection that is already there. The process ends with the
// client.
func startHeadless(c *sandbox.Child) (sandbox.Handler, error) {
	if _, err := identified(c); err != nil {
		return nil, err
	}
	left := make(chan struct{})
	server := rpccommon.NewServer(&service.Config{
		Listener:       &onlyConn{conn: fileConn{c.Files()[clientFile]}, closed: make(chan struct{})},
		ProcessArgs:    []string{c.Path(exeFile)},
		APIVersion:     2,
		DisconnectChan: left,
		Debugger:       debugger.Config{CoreFile: c.Path(coreFile), Backend: "default"},
	})
	if err := server.Run(); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "open the core: %w", err)
	}
	go func() {
		<-left
		os.Exit(0)
	}()
	return func(json.RawMessage) (any, error) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "a headless debugger answers its client alone")
	}, nil
}

// onlyConn is a listener with one connection, which is there already.
type onlyConn struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
	taken  bool
}

// Accept returns the connection, and then waits until the listener is closed.
func (l *onlyConn) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.closed
	return nil, errors.New("the listener is closed")
}

// Close implements net.Listener.
func (l *onlyConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *onlyConn) Addr() net.Addr { return l.conn.LocalAddr() }

// fileConn is a socket used as a file, for which no system call about sockets
// is needed.
type fileConn struct{ *os.File }

// LocalAddr implements net.Conn.
func (fileConn) LocalAddr() net.Addr { return &net.UnixAddr{Name: "inherited", Net: "unix"} }

// RemoteAddr implements net.Conn.
func (fileConn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "inherited", Net: "unix"} }
