package client

import (
	"net"
	"os"
	"syscall"
)

// pipeBytes is how much the pipe holds when the agent does not read: a program
// that dies with less to say never waits. Memory is taken only as it is written.
// What a user may have of it is limited, so it is not more.
const pipeBytes = 256 << 10

const fcntlSetPipeSize = 1031 // F_SETPIPE_SZ of <fcntl.h>

// sendPipe sends the first line of a connection, with the reading end of a new
// pipe, and returns the other.
func sendPipe(conn *net.UnixConn, line []byte) (*os.File, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	read, write := os.NewFile(uintptr(fds[0]), "crash"), os.NewFile(uintptr(fds[1]), "crash")
	defer func() { _ = read.Close() }() // the agent has it
	// If that is too much for this user, the usual size will do.
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), fcntlSetPipeSize, pipeBytes)
	if _, _, err := conn.WriteMsgUnix(line, syscall.UnixRights(fds[0]), nil); err != nil {
		_ = write.Close() // nothing was written
		return nil, err
	}
	return write, nil
}
