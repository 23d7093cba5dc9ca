package corepattern

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setThreadRights gives the calling thread, and no other of the process, the
// rights of a user to files. Without root's number for files it has none of
// root's privileges over them either.
func setThreadRights(uid, gid int, groups []uint32) error {
	var list unsafe.Pointer
	if len(groups) > 0 {
		list = unsafe.Pointer(&groups[0])
	}
	// The library's calls are for all threads.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(list), 0); errno != 0 {
		return fmt.Errorf("take the process's groups: %w", errno)
	}
	if err := unix.Setfsgid(gid); err != nil {
		return fmt.Errorf("take the process's group: %w", err)
	}
	if err := unix.Setfsuid(uid); err != nil {
		return fmt.Errorf("take the process's user: %w", err)
	}
	// These two never fail aloud: asked again, they say what holds.
	if u, _ := unix.SetfsuidRetUid(-1); u != uid {
		return fmt.Errorf("take the process's user: it is still %d, not %d", u, uid)
	}
	if g, _ := unix.SetfsgidRetGid(-1); g != gid {
		return fmt.Errorf("take the process's group: it is still %d, not %d", g, gid)
	}
	return nil
}
