package corepattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// pipeSpecifiers are what the kernel tells a handler, see handed.
const pipeSpecifiers = "%P %I %s %u %g %c %d"

// handed is what the handler tells the agent, on one line, with the core's
// stream attached as a file.
type handed struct {
	PID, TID, Signal, UID, GID int
	CoreLimit                  uint64
	Dumpable                   int // 1: as its user may see it
}

// How long a handler waits for an agent to say that it is there, and an agent
// for a handler to speak.
const handTime = 2 * time.Second

// accepted is what an agent answers to a handler.
const accepted = 'a'

// maxHanded bounds the line of a handler, in bytes.
const maxHanded = 4096

// parseHanded reads the arguments that the kernel made of pipeSpecifiers.
func parseHanded(args []string) (h handed, err error) {
	fields := []*int{&h.PID, &h.TID, &h.Signal, &h.UID, &h.GID, nil, &h.Dumpable}
	if len(args) != len(fields) {
		return h, inquest.Errorf(inquest.ErrInvalid, "%d arguments of the kernel, want %d for %s", len(args), len(fields), pipeSpecifiers)
	}
	for i, to := range fields {
		var e error
		if to == nil {
			h.CoreLimit, e = strconv.ParseUint(args[i], 10, 64)
		} else {
			*to, e = strconv.Atoi(args[i])
		}
		err = errors.Join(err, e)
	}
	return h, err
}

func (h handed) death(stream io.Reader) *Death {
	return &Death{PID: h.PID, TID: h.TID, Signal: h.Signal, UID: h.UID, GID: h.GID, At: time.Now(),
		CoreLimit: h.CoreLimit, Suid: h.Dumpable != 1, Stream: stream, Source: ModePipe, Open: openBelow(h.PID), Release: func() {}}
}

// Pipe is the handler that the kernel starts in ModePipe: it hands the core on
// its standard input to the agent that listens at the socket args[0], and
// waits until that lets go. Without an agent it gives the core to the handler
// that was there before. It reads nothing of the core itself.
func Pipe(args []string, core *os.File) error {
	if len(args) == 0 {
		return inquest.Errorf(inquest.ErrInvalid, "the kernel calls %s with the agent's socket and %s", CommandPipe, pipeSpecifiers)
	}
	h, err := parseHanded(args[1:])
	if err != nil {
		return err
	}
	conn, err := handOver(args[0], h, core)
	if err == nil {
		io.Copy(io.Discard, conn) // until the agent ends it
		return conn.Close()
	}
	boot, e := readSysctl(bootFile)
	if e != nil {
		return errors.Join(err, e)
	}
	st, e := readState(strings.TrimSuffix(args[0], "/"+handName), boot)
	if e != nil {
		return errors.Join(err, e)
	}
	d := h.death(core)
	chain(d, st.old())
	return errors.Join(err, d.Foreign())
}

// handOver gives the death to the agent, which has accepted it when there is
// no error.
func handOver(socket string, h handed, core *os.File) (*net.UnixConn, error) {
	c, err := net.DialTimeout("unix", socket, handTime)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	line, err := json.Marshal(h)
	if err == nil {
		conn.SetDeadline(time.Now().Add(handTime))
		_, _, err = conn.WriteMsgUnix(append(line, '\n'), unix.UnixRights(int(core.Fd())), nil)
	}
	answer := make([]byte, 1)
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("hand the core to the agent: %w", err)
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// takeHanded takes a death from a handler, and says so to it.
func takeHanded(c *net.UnixConn) (*Death, error) {
	c.SetDeadline(time.Now().Add(handTime))
	defer c.SetDeadline(time.Time{})
	line, rights := make([]byte, maxHanded), make([]byte, unix.CmsgSpace(4*8))
	n, rn, _, _, err := c.ReadMsgUnix(line, rights)
	if err != nil {
		return nil, fmt.Errorf("read from the core handler: %w", err)
	}
	files, err := receivedFiles(rights[:rn])
	if err != nil {
		return nil, err
	}
	var h handed
	if err = json.Unmarshal(line[:n], &h); err == nil && len(files) != 1 {
		err = inquest.Errorf(inquest.ErrInvalid, "the core handler sent %d files, want 1", len(files))
	}
	if err == nil {
		_, err = c.Write([]byte{accepted})
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, fmt.Errorf("take a death from the core handler: %w", err)
	}
	d := h.death(files[0])
	if fd, err := unix.PidfdOpen(h.PID, 0); err == nil {
		d.PIDFD = os.NewFile(uintptr(fd), "pidfd")
	}
	d.Release = sync.OnceFunc(func() {
		files[0].Close()
		if d.PIDFD != nil {
			d.PIDFD.Close()
		}
		c.Close()
	})
	return d, nil
}

// receivedFiles are the files that came with a message.
func receivedFiles(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("files of the core handler: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			unix.SetNonblock(fd, true) // so that Close ends a Read that waits
			files = append(files, os.NewFile(uintptr(fd), "core"))
		}
	}
	return files, nil
}

// handedDeath handles a death that a handler tells.
func (l *Listener) handedDeath(c *net.UnixConn) {
	// Before there is a slot for it: the handler waits for this answer only.
	d, err := takeHanded(c)
	if err != nil {
		l.fail("death of a process", err)
		c.Close()
		return
	}
	chain(d, l.state.old())
	l.handle(d)
}
