// Package capture takes what a dying Go process leaves. It finds out which
// build died and where, decides what is to be kept of it before anything is
// copied, and copies only the pages that are there, the most useful first,
// while the kernel holds the process. It also copies live processes, asks the
// host about a process (limits, container, cgroup), and notices those that the
// kernel killed for memory, which leave nothing else.
//
// It reads /proc and writes nothing on the host: events and cores go to a
// Sink. A process is let go as soon as its memory is copied, whatever goes
// wrong on the way. Input is not trusted: names, paths and memory belong to
// whoever runs the process.
//
// A Capturer is safe for use by several goroutines; those it starts have ended
// when Stop returns. Where there is no Linux it says so with errors of kind
// inquest.ErrUnavailable.
package capture
