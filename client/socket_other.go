//go:build !linux

package client

import "net"

// bound has nothing to set here.
func bound(*net.UnixConn) {}

// waitClosed returns when the other side has closed the connection, or this
// one has.
func waitClosed(conn *net.UnixConn) {
	var buf [64]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}
