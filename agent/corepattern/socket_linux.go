package corepattern

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// The protocol of <linux/coredump.h>: the kernel sends a request, whose first
// words say how long it is and how long the answer may be, and waits for an
// answer, then sends one word that says whether it understood, and the core if
// it was asked for.
const (
	requestBytes = 16 // struct coredump_req as of Linux 6.17
	answerBytes  = 16 // struct coredump_ack

	wantKernel = 1 << 0 // write the core to the socket
	wantReject = 1 << 2 // no core
	wantWait   = 1 << 3 // keep the process until the socket is closed

	maxRequest = 4096
)

// requestTime is how long the kernel may take to say what it can do, and to
// take an answer.
const requestTime = 10 * time.Second

// socketDeath makes a death of a connection of the kernel's.
func socketDeath(c *net.UnixConn) (*Death, error) {
	pidfd, err := peer(c)
	if err != nil {
		return nil, err
	}
	info, err := inspect(pidfd)
	if err == nil {
		err = readRequest(c)
	}
	if err != nil {
		pidfd.Close()
		return nil, err
	}
	k := &kernelStream{conn: c}
	d := &Death{
		PID: int(info.pid), Signal: signalOf(int(info.pid)), UID: int(info.ruid), GID: int(info.rgid),
		At: time.Now(), PIDFD: pidfd, CoreLimit: coreLimit(int(info.pid)),
		Suid: info.coredumpMask&pidfdCoredumpUser == 0, Stream: k, Source: ModeSocket, Open: openBelow(int(info.pid)),
	}
	d.Release = sync.OnceFunc(func() {
		k.end()
		pidfd.Close()
	})
	return d, nil
}

// readRequest reads what the kernel can do. One that can do more than we know
// sends more, and may be answered as before.
func readRequest(c *net.UnixConn) error {
	c.SetReadDeadline(time.Now().Add(requestTime))
	defer c.SetReadDeadline(time.Time{})
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil {
		return fmt.Errorf("read the kernel's request: %w", err)
	}
	size, answer := binary.NativeEndian.Uint32(head), binary.NativeEndian.Uint32(head[4:])
	if size < requestBytes || size > maxRequest || answer < answerBytes {
		return inquest.Errorf(inquest.ErrInvalid, "the kernel's request has %d bytes and takes answers of %d", size, answer)
	}
	rest := make([]byte, size-8)
	if _, err := io.ReadFull(c, rest); err != nil {
		return fmt.Errorf("read the kernel's request: %w", err)
	}
	const needed = wantKernel | wantReject | wantWait
	if can := binary.NativeEndian.Uint64(rest); can&needed != needed {
		return inquest.Errorf(inquest.ErrInvalid, "the kernel can do %#x of what is needed, %#x", can, needed)
	}
	return nil
}

// kernelStream is the core that the kernel makes when it is read: the first
// Read asks for it. One that ends without is refused, which costs the kernel
// next to nothing.
type kernelStream struct {
	conn *net.UnixConn

	mu    sync.Mutex // guards asked, held for as long as asking takes
	asked bool
	err   error // of asking
}

func (k *kernelStream) Read(p []byte) (int, error) {
	if err := k.ask(wantKernel | wantWait); err != nil {
		return 0, err
	}
	return k.conn.Read(p)
}

// ask gives the kernel its answer, once.
func (k *kernelStream) ask(mask uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked {
		return k.err
	}
	k.asked = true
	k.err = answer(k.conn, mask)
	return k.err
}

func answer(c *net.UnixConn, mask uint64) error {
	b := make([]byte, answerBytes)
	binary.NativeEndian.PutUint32(b, answerBytes)
	binary.NativeEndian.PutUint64(b[8:], mask)
	c.SetDeadline(time.Now().Add(requestTime))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("answer the kernel: %w", err)
	}
	mark := make([]byte, 4)
	if _, err := io.ReadFull(c, mark); err != nil {
		return fmt.Errorf("answer the kernel: %w", err)
	}
	if m := binary.NativeEndian.Uint32(mark); m != 0 {
		return fmt.Errorf("the kernel refuses the answer %#x: mark %d", mask, m)
	}
	return nil
}

// end lets the process go.
func (k *kernelStream) end() {
	k.conn.SetDeadline(time.Now()) // a Read that waits ends
	k.mu.Lock()
	if !k.asked {
		k.asked = true
		// Closing alone would do, so a process that was killed meanwhile is no error.
		k.err = answer(k.conn, wantReject)
	}
	k.mu.Unlock()
	k.conn.Close()
}
