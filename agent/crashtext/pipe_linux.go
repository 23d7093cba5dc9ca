package crashtext

import (
	"errors"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/goinquest/inquest"
	"golang.org/x/sys/unix"
)

// readWithPipe reads what comes over a connection, and the pipe that comes along
// with it, nil if there is none.
func readWithPipe(conn *net.UnixConn, buf []byte) (n int, pipe *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4)) // more than one descriptor the kernel closes
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil || oobn == 0 {
		return n, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil || len(fds) == 0 {
			continue // nothing that we asked for
		}
		pipe, err = openPipe(fds[0])
		for _, fd := range fds {
			err = errors.Join(err, unix.Close(fd))
		}
		return n, pipe, err
	}
	return n, nil, nil
}

// openPipe opens the pipe anew, so that nothing the peer does to its own end can
// have a read of ours wait for it.
func openPipe(fd int) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, inquest.Errorf(inquest.ErrInvalid, "what came along with the first line is no pipe")
	}
	own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open pipe", err)
	}
	return os.NewFile(uintptr(own), "crash text"), nil
}

// drain reads what is in a pipe without waiting, also when a deadline has passed
// because nobody had the time to read before.
func drain(pipe *os.File, take func([]byte) bool) {
	raw, err := pipe.SyscallConn()
	if err != nil || pipe.SetReadDeadline(time.Time{}) != nil {
		return
	}
	buf := make([]byte, idleBuffer)
	for more := true; more; {
		more = false
		err := raw.Read(func(fd uintptr) bool {
			n, err := unix.Read(int(fd), buf)
			if n > 0 {
				take(buf[:n])
			}
			more = n > 0 || err == unix.EINTR
			return true
		})
		if err != nil {
			return
		}
		if more && len(buf) < textBuffer {
			buf = make([]byte, textBuffer)
		}
	}
}
