package capture

import (
	"io"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// Sink is where crashes and cores go. Its methods are called by several
// goroutines at once, Crash and Begin while a process is held: they must not
// wait for a network.
type Sink interface {
	// Crash keeps an event. One that comes again with the same ID says more of
	// the same death: what is set in it counts.
	Crash(c inquest.Crash) error

	// Begin makes room for a core. The crash is the event as far as it is known,
	// with Core filled in but for ID, StoredBytes and Blocks; it counts as told by
	// Crash too, so that what is written before the agent is killed is not an
	// orphan. Errors of kind inquest.ErrDiskFull and inquest.ErrBusy leave the
	// event without a core.
	Begin(c inquest.Crash) (CoreFile, error)

	// Room is how many bytes of cores can be taken now, by quota and by disk.
	Room() int64
}

// CoreFile is a core that is being written, an image of package coredump, in
// one pass. Exactly one of Commit and Abort ends it.
type CoreFile interface {
	io.Writer

	// Commit ends a core whose image is whole. c is the event again, with all of
	// Core filled in; l says what is in which block.
	Commit(c inquest.Crash, l *coredump.Ledger) error

	// Abort throws away what was written; the event stays.
	Abort() error
}
