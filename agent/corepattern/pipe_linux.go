package corepattern

import "net"

const pipeSpecifiers = "%P %I %s %u %g %c %d %t"

func (l *Listener) handedDeath(c *net.UnixConn) {}
