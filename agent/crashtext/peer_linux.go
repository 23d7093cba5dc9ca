package crashtext

import (
	"net"
	"syscall"
)

// peerPID is the process that connected, by the kernel's word; 0 if it is in
// another namespace of processes that is not below ours.
func peerPID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var getErr error
	if err := raw.Control(func(fd uintptr) {
		cred, getErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if getErr != nil {
		return 0, getErr
	}
	return int(cred.Pid), nil
}
