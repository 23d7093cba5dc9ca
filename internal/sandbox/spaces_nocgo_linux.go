//go:build !cgo

package sandbox

import "golang.org/x/sys/unix"

const (
	spaceFlags  = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID
	spaceNames  = "user, network, ipc, uts, mount, processes"
	threadBytes = 16 << 20 // what the runtime has besides its heap
)
