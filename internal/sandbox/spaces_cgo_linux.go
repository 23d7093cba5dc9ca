//go:build cgo

package sandbox

import "golang.org/x/sys/unix"

// With C, libpsx looks for the threads of a process below /proc by its number,
// which a namespace of processes would change.
const (
	spaceFlags  = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS
	spaceNames  = "user, network, ipc, uts, mount"
	threadBytes = 256 << 20 // stacks of threads, which the C library makes
)
