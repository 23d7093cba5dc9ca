package corepattern

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// Of the kernel's <linux/pidfd.h>, as far as x/sys lacks them.
const (
	soPeerPIDFD = 77

	pidfdInfoPID      = 1 << 0
	pidfdInfoCreds    = 1 << 1
	pidfdInfoCoredump = 1 << 4

	pidfdCoredumped   = 1 << 0
	pidfdCoredumpUser = 1 << 2 // dumped as its user may see it; not so with suid
)

// pidfdInfo is struct pidfd_info in its second version (Linux 6.16).
type pidfdInfo struct {
	mask, cgroup                                     uint64
	pid, tgid, ppid                                  uint32
	ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid uint32
	exitCode                                         int32
	coredumpMask, coredumpSignal                     uint32
}

// getPIDFDInfo is ioctl number 11 of pidfds (0xff), which reads and writes the
// struct; its size is part of the number.
const getPIDFDInfo = 3<<30 | uint(unsafe.Sizeof(pidfdInfo{}))<<16 | 0xff<<8 | 11

// peer is the process at the other end of a socket.
func peer(c *net.UnixConn) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var inner error
	if err := raw.Control(func(s uintptr) {
		fd, inner = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, soPeerPIDFD)
	}); err != nil {
		return nil, err
	}
	if inner != nil {
		return nil, fmt.Errorf("process behind the socket: %w", inner)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// inspect asks the kernel what process a pidfd refers to. It is an error if
// that does not dump core: then somebody else has connected.
func inspect(pidfd *os.File) (*pidfdInfo, error) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return nil, err
	}
	info := &pidfdInfo{mask: pidfdInfoPID | pidfdInfoCreds | pidfdInfoCoredump}
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(getPIDFDInfo), uintptr(unsafe.Pointer(info)))
	}); err != nil {
		return nil, err
	}
	if errno != 0 {
		return nil, fmt.Errorf("ask for the process behind the socket: %w", errno)
	}
	if info.mask&pidfdInfoCoredump == 0 || info.coredumpMask&pidfdCoredumped == 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "process %d connected to the socket for cores without dumping one", info.pid)
	}
	return info, nil
}
