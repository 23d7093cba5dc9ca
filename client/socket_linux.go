package client

import (
	"net"
	"syscall"
)

const (
	sendBuffer  = 1 << 20 // bytes; the kernel may give less
	sendSeconds = 1
)

// bound keeps a dying program from waiting for ever for an agent that has
// stopped: a write that takes longer than this is given up.
func bound(conn *net.UnixConn) {
	_ = conn.SetWriteBuffer(sendBuffer) // the kernel's own will do
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // fails only when closed
		_ = syscall.SetsockoptTimeval(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &syscall.Timeval{Sec: sendSeconds})
	})
}

// waitClosed returns when the other side has closed the connection, or this
// one has. The socket is blocking, for the runtime's sake, so a plain Read would
// take a thread; this parks a goroutine.
func waitClosed(conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var buf [64]byte
	_ = raw.Read(func(fd uintptr) bool {
		for {
			n, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_DONTWAIT)
			switch {
			case err == syscall.EINTR || n > 0: // the agent has nothing to say
			case err == syscall.EAGAIN:
				return false
			default:
				return true
			}
		}
	}) // an error is that it was closed here
}
