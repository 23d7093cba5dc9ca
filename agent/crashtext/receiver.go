package crashtext

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

const (
	defaultMaxConns = 4096
	defaultMaxBytes = 64 << 20
	connsPerProcess = 4
	rememberGone    = time.Minute // a process that was connected
)

// ReceiverOptions say where to listen. All but Joiner may be zero.
type ReceiverOptions struct {
	Joiner *Joiner
	Socket string // a path, or "@name" for an abstract one; default /run/inquest/crash.sock
	// MaxConns is how many programs may be connected, default 4096. One more is
	// turned away and tries again later.
	MaxConns int
	// MaxBytes is how much memory the texts of all that die at once may take,
	// default 64 MiB. The rest is read and counted.
	MaxBytes int64
	Limits   coredump.TextLimits
	Logger   *slog.Logger
}

// Receiver takes crash texts from programs as they write them. It is safe for
// concurrent use.
type Receiver struct {
	options  ReceiverOptions
	builds   builds
	listener *net.UnixListener
	tasks    sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
	budget   budget

	mu    sync.Mutex
	conns map[*net.UnixConn]int // of which process
	pids  map[int]*connected
}

// connected is a process with connections, or one that had some.
type connected struct {
	process *process
	conns   int
	crash   int       // of conns, those that mirror the runtime's text
	gone    time.Time // when the last one ended
}

// NewReceiver returns a Receiver that does not listen yet.
func NewReceiver(o ReceiverOptions) *Receiver {
	if o.Socket == "" {
		o.Socket = "/run/inquest/crash.sock"
	}
	if o.MaxConns <= 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{options: o, conns: map[*net.UnixConn]int{}, pids: map[int]*connected{}, budget: budget{max: o.MaxBytes}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Start listens. Any user of the host may connect. A socket that another agent
// listens on is an error of kind inquest.ErrConflict; one that a killed agent
// left is replaced.
func (r *Receiver) Start() error {
	name := r.options.Socket
	if name[0] != '@' {
		if err := makeWay(name); err != nil {
			return err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for crash texts: %w", err)
	}
	if name[0] != '@' {
		if err := os.Chmod(name, 0o666); err != nil {
			return errors.Join(fmt.Errorf("listen for crash texts: %w", err), l.Close())
		}
	}
	r.listener = l
	r.tasks.Add(1)
	go r.accept()
	return nil
}

// makeWay removes a socket nobody listens on.
func makeWay(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("listen for crash texts: %w", err)
	}
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen for crash texts: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return inquest.Errorf(inquest.ErrConflict, "listen for crash texts: %s is there and is no socket", name)
	}
	if conn, err := net.DialTimeout("unix", name, time.Second); err == nil {
		_ = conn.Close() // nothing was said
		return inquest.Errorf(inquest.ErrConflict, "listen for crash texts: another agent listens on %s", name)
	}
	return os.Remove(name)
}

// Stop ends all connections. Texts that were being read are told as far as they
// had come.
func (r *Receiver) Stop() {
	r.cancel()
	if r.listener != nil {
		_ = r.listener.Close() // removes the socket
	}
	r.mu.Lock()
	for c := range r.conns {
		_ = c.SetReadDeadline(time.Now()) // wakes whoever reads
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

// Connected reports whether the process would tell its death.
func (r *Receiver) Connected(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.pids[pid]
	return c != nil && c.crash > 0
}

func (r *Receiver) accept() {
	defer r.tasks.Done()
	for {
		conn, err := r.listener.AcceptUnix()
		if r.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // nothing was read
			}
			return
		}
		if err != nil { // too many open files: it may pass
			r.options.Logger.Warn("accept crash text", "err", err)
			select {
			case <-r.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		r.admit(conn)
	}
}

// admit starts reading from a program, unless there are too many.
func (r *Receiver) admit(conn *net.UnixConn) {
	pid, err := peerPID(conn)
	if err != nil {
		r.options.Logger.Warn("who connects", "err", err)
		_ = conn.Close() // nothing was read
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	c := r.pids[pid]
	if len(r.conns) >= r.options.MaxConns || c != nil && c.conns >= connsPerProcess && pid != 0 {
		_ = conn.Close() // it tries again later
		return
	}
	if c == nil || c.conns == 0 { // the number may be of another process by now
		c = &connected{}
		r.pids[pid] = c
	}
	c.conns++
	r.conns[conn] = pid
	r.tasks.Add(1)
	go r.serve(conn, pid, c)
}

// identify looks at the process while it lives. nil: it is in a namespace that
// is not to be seen from here, or gone already.
func (r *Receiver) identify(pid int, c *connected) *process {
	r.mu.Lock()
	known := c.process
	r.mu.Unlock()
	if known != nil {
		return known
	}
	p, err := r.builds.look(pid)
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.process = p
	return p
}

// forget drops processes that are gone for a while. r.mu is held.
func (r *Receiver) forget(now time.Time) {
	if len(r.pids) < 2*len(r.conns)+64 {
		return
	}
	for pid, c := range r.pids {
		if c.conns == 0 && now.Sub(c.gone) > rememberGone {
			delete(r.pids, pid)
		}
	}
}

func (r *Receiver) leave(conn *net.UnixConn, pid int, c *connected, crash bool) {
	_ = conn.Close() // all was read that is wanted
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
	c.conns--
	if crash {
		c.crash--
	}
	c.gone = time.Now()
}

// known is a process that is connected, or was until a moment ago.
func (r *Receiver) known(pid int) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.pids[pid]; c != nil {
		return c.process
	}
	return nil
}
