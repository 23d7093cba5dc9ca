package corepattern

import (
	"log/slog"
	"time"
)

// Options say how to get at deaths. Only Handle and, for files, StateDir are
// needed.
type Options struct {
	Mode   string  // one of the modes; ModeAuto chooses
	Handle Handler // of every death, also of processes that are none of ours
	// AtOnce bounds how many deaths are handled at once; others wait, held by
	// the kernel. 0 is DefaultAtOnce.
	AtOnce int
	// Dir is where the kernel finds us, and where is kept what the host had
	// before; the same path for the agent and for the host. "" is DefaultDir.
	Dir string
	// StateDir keeps which stored cores were taken, over boots.
	StateDir string
	// Exe is the executable that has CommandPipe and CommandGuardian, as the
	// host names it; "" is that of this process.
	Exe string
	// Cores are directories with core files, besides those that the host's
	// pattern names, and whatever the files are called; in ModeSystemd instead
	// of systemd's own.
	Cores []string
	// Poll is how often directories are looked at; 0 is DefaultPoll. Settle is
	// how long a file must not have changed where the kernel cannot be asked
	// whether it is still written; 0 is DefaultSettle. Again is after how long
	// a file is offered again that was not taken; 0 is DefaultAgain.
	Poll, Settle, Again time.Duration
	Logger              *slog.Logger // nil: nothing is logged
}

// Defaults of Options.
const (
	DefaultAtOnce = 16
	DefaultPoll   = time.Second
	DefaultSettle = 5 * time.Second
	DefaultAgain  = 10 * time.Minute
)

func (o Options) withDefaults() Options {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.AtOnce <= 0 {
		o.AtOnce = DefaultAtOnce
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.Settle <= 0 {
		o.Settle = DefaultSettle
	}
	if o.Again <= 0 {
		o.Again = DefaultAgain
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
