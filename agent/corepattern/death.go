package corepattern

import (
	"context"
	"io"
	"os"
	"time"
)

// The modes, which are also the sources of deaths.
const (
	ModeAuto      = ""          // the best that this host allows
	ModeSocket    = "socket"    // the kernel connects to a socket; Linux 6.17
	ModePipe      = "pipe"      // the kernel starts a handler, which passes the core on
	ModeDirectory = "directory" // the kernel writes files, which are found
	ModeSystemd   = "systemd"   // systemd-coredump stores files, which are found
	ModeOff       = "off"
)

// NoCoreLimit is the CoreLimit of a process that may leave a core of any size.
const NoCoreLimit = ^uint64(0)

// Death is one process that dumps core or has done so. It belongs to the
// Handler that it was given to, which must call Release, and before that
// Taken or Foreign if either holds, from one goroutine at a time. A listener
// sets all three.
type Death struct {
	// PID and TID are those of the process and of the thread that died, as
	// this host counts them; 0 if unknown. A file tells of the past: its PID
	// may be that of another process by now.
	PID, TID int
	Signal   int // 0 if unknown: it is in the notes of the core
	UID, GID int // real ones; -1 if unknown
	At       time.Time
	// PIDFD refers to the process as long as it is held; nil for files and
	// where the kernel has none. It is closed by Release.
	PIDFD *os.File
	// CoreLimit is the process's soft RLIMIT_CORE in bytes. It does not bound
	// what is read here, only what the old handler may get.
	CoreLimit uint64
	// Suid says that the process runs with rights that its user has not (the
	// kernel's dumpable is not 1): its memory is for root only.
	Suid bool
	// Stream is the ELF core from its beginning, as the kernel makes it: what
	// is not read is not made. A core file that is not packed is an *os.File
	// here. Nil if there is nothing but /proc/PID.
	Stream io.Reader
	Source string // ModeSocket, ModePipe, ModeDirectory, ModeSystemd
	// Path is the core file the death was found by, as this process can open
	// it; it may be packed. "" if there is none.
	Path string
	// Told is what systemd-coredump knew, by the names of its journal fields
	// without the prefix COREDUMP_: EXE, UNIT, CMDLINE, CGROUP, …; nil elsewhere.
	Told map[string]string
	// Open opens a file for reading by the name that the process knew it by,
	// below the process's own root; nil if that is not known.
	Open func(name string) (*os.File, error)

	// Release lets the process end and closes Stream and PIDFD. It must be
	// called, and may be called again.
	Release func()
	// Taken says that the death is dealt with, be its core kept or not wanted:
	// a file that the kernel wrote for us is removed then. A file that was
	// released without is offered again after a while.
	Taken func()
	// Foreign gives the death to whoever got it before we came, with the whole
	// core, including what was read of Stream, and releases it; it is for
	// processes that are none of ours. It returns when the old handler has all
	// of it. A file is left where it is.
	Foreign func() error
}

// Handler takes one death. The process is held until it calls Release, and no
// longer than that; ctx ends when the listener stops.
type Handler func(ctx context.Context, d *Death)
