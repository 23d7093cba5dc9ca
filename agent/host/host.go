// Package host finds the Go processes of this machine by looking at /proc:
// which executables were built by Go (by their embedded build information),
// what people call them, and which TCP ports they listen on. It only reads;
// it opens no connection and sends no signal. Of a process's environment it
// reads two variables and nothing else.
//
// Where there is no /proc, Scan says so with an error of kind
// inquest.ErrUnavailable. A Scanner is safe for use by several goroutines.
package host

import (
	"net/netip"

	"github.com/goinquest/inquest"
)

// Options say how to look.
type Options struct {
	// MaxInspect is how many executables that were not seen before are read in
	// one scan; the rest waits for the next. Default 64.
	MaxInspect int
	// Want decides by the executable's base name whether a process is looked
	// at further. nil: all are.
	Want func(exe string) bool
}

// Process is one running Go program.
type Process struct {
	PID       int
	ID        string // boot id, pid and start time; see inquest.ProfileMeta.Process
	Exe       string // path of the executable, as the kernel names it
	Name      string // what to call the service
	Build     *inquest.Build
	Listeners []netip.AddrPort // TCP, reachable from here
	Foreign   bool             // it lives in another network namespace: not reachable from here
	Problem   string           // why its ports are not known, empty if they are
}

// Unreadable is a process that may not be looked at.
type Unreadable struct {
	PID    int
	Comm   string
	Reason string // and what would help
}

// Snapshot is what one scan found. It belongs to the caller.
type Snapshot struct {
	Processes  []Process // by PID
	Unreadable []Unreadable
	Deferred   int // executables left for the next scan
}

// ByPort finds the process that listens on a port of an address of this
// machine; nil if none is known to.
func (s *Snapshot) ByPort(ip netip.Addr, port uint16) *Process {
	var anyAddr *Process
	for i := range s.Processes {
		for _, l := range s.Processes[i].Listeners {
			switch {
			case l.Port() != port:
			case l.Addr() == ip:
				return &s.Processes[i]
			case l.Addr().IsUnspecified():
				anyAddr = &s.Processes[i]
			}
		}
	}
	return anyAddr
}
