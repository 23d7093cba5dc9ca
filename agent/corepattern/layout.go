package corepattern

import "path/filepath"

// DefaultDir is where the agent and the kernel meet. It is no RuntimeDirectory=
// of a unit: systemd would remove that before the next start has read it.
const DefaultDir = "/run/inquest"

// Names in Options.Dir.
const (
	socketName = "inquest-core.sock" // the kernel connects here
	handName   = "inquest-hand.sock" // the pipe handler connects here
	stateName  = "core-pattern.json" // what was there before; of one boot
	lockName   = "core-pattern.lock" // held by the agent that listens
)

// importedName is the file in Options.StateDir that says which stored cores
// were taken.
const importedName = "imported-cores.json"

// The files of the kernel.
const (
	patternFile = "/proc/sys/kernel/core_pattern"
	limitFile   = "/proc/sys/kernel/core_pipe_limit"
	usesPIDFile = "/proc/sys/kernel/core_uses_pid"
	releaseFile = "/proc/sys/kernel/osrelease"
	bootFile    = "/proc/sys/kernel/random/boot_id"
)

// The subcommands of the agent that this package starts, or has the kernel
// start, with the executable that it runs in.
const (
	CommandPipe     = "core-pipe"
	CommandGuardian = "core-guardian"
	CommandTrial    = "core-trial"
)

func socketPath(dir string) string { return filepath.Join(dir, socketName) }
func handPath(dir string) string   { return filepath.Join(dir, handName) }
func statePath(dir string) string  { return filepath.Join(dir, stateName) }
func lockPath(dir string) string   { return filepath.Join(dir, lockName) }
