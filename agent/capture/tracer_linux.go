package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/goinquest/inquest"
	"golang.org/x/sys/unix"
)

// stopTimeout is how long threads have to stop. One that waits for a disk may
// not: it cannot change anything meanwhile, and only its registers are missing.
const stopTimeout = 100 * time.Millisecond

// maxRegisterSet fits every set that is read; that of AVX-512 and AMX is the
// largest.
const maxRegisterSet = 16 << 10

// tracer holds the threads of one process stopped. All of its methods run on
// one OS thread, which the kernel knows as the tracer.
type tracer struct {
	pid     int
	threads map[int]*tracee
	order   []int
}

type tracee struct {
	stopped bool
	ended   bool
	signal  int // that it was about to get when it stopped
}

// whileStopped stops all threads of a process, calls do and lets them go, also
// when do panics. The error is of kind inquest.ErrNotFound if the process has
// ended, inquest.ErrForbidden if it may not be stopped, and
// inquest.ErrConflict if another debugger has it.
func whileStopped(ctx context.Context, pid int, do func(*tracer) error) error {
	if err := mayTrace(pid); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the OS thread ends with the goroutine, and the kernel
		// lets go of whatever could not be let go of.
		runtime.LockOSThread()
		done <- trace(ctx, pid, do)
	}()
	return <-done
}

// mayTrace refuses what would wait for itself. A child is one: whoever waits
// for its end in this process would be told of the stop.
func mayTrace(pid int) error {
	if pid == os.Getpid() {
		return inquest.Errorf(inquest.ErrInvalid, "process %d is this agent, which cannot stop itself", pid)
	}
	if st, err := readStat(pid); err == nil && st.ppid == os.Getpid() {
		return inquest.Errorf(inquest.ErrConflict, "process %d was started by this agent, which waits for it", pid)
	}
	return nil
}

func trace(ctx context.Context, pid int, do func(*tracer) error) (err error) {
	t := &tracer{pid: pid, threads: map[int]*tracee{}}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		t.detach()
	}()
	if err := t.stop(ctx); err != nil {
		return err
	}
	return do(t)
}

// stop stops threads until no running one is left that could make another.
func (t *tracer) stop(ctx context.Context) error {
	deadline := time.Now().Add(stopTimeout)
	for {
		tids, err := listThreads(t.pid)
		if err != nil {
			return err
		}
		fresh := 0
		for _, tid := range tids {
			if t.threads[tid] != nil {
				continue
			}
			if err := t.seize(tid); err != nil {
				return err
			}
			fresh++
		}
		if err := t.wait(ctx, deadline); err != nil {
			return err
		}
		if fresh == 0 {
			return t.alive()
		}
	}
}

func (t *tracer) seize(tid int) error {
	err := unix.PtraceSeize(tid)
	if err == nil {
		err = unix.PtraceInterrupt(tid)
	}
	if errors.Is(err, unix.EPERM) && hasEnded(t.pid, tid) {
		err = unix.ESRCH
	}
	switch {
	case err == nil:
		t.threads[tid] = &tracee{}
		t.order = append(t.order, tid)
	case errors.Is(err, unix.ESRCH) && tid != t.pid:
		t.threads[tid] = &tracee{ended: true} // between the listing and now
	case errors.Is(err, unix.ESRCH):
		return inquest.Errorf(inquest.ErrNotFound, "stop process %d: it has ended", t.pid)
	case errors.Is(err, unix.EPERM) && tracedBy(tid) != 0:
		return inquest.Errorf(inquest.ErrConflict, "stop process %d: process %d traces it already", t.pid, tracedBy(tid))
	case errors.Is(err, unix.EPERM):
		return inquest.Errorf(inquest.ErrForbidden, "stop process %d: %w: run the agent as root or with CAP_SYS_PTRACE, and see /proc/sys/kernel/yama/ptrace_scope", t.pid, err)
	default:
		return fmt.Errorf("stop thread %d: %w", tid, err)
	}
	return nil
}

// wait waits until all threads have stopped, or the deadline.
func (t *tracer) wait(ctx context.Context, deadline time.Time) error {
	pause := 20 * time.Microsecond
	for {
		running := 0
		for _, tid := range t.order {
			if th := t.threads[tid]; !th.stopped && !th.ended && !th.poll(tid) {
				running++
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if running == 0 || time.Now().After(deadline) {
			return nil
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Millisecond)
	}
}

// poll looks whether a thread has stopped or ended.
func (th *tracee) poll(tid int) bool {
	var status unix.WaitStatus
	n, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
	switch {
	case errors.Is(err, unix.EINTR), err == nil && n == 0:
		return false
	case err != nil, status.Exited(), status.Signaled():
		th.ended = true
	case status.Stopped():
		th.stopped = true
		if status.TrapCause() <= 0 && status.StopSignal() != unix.SIGTRAP {
			th.signal = int(status.StopSignal()) // it gets it when it goes on
		}
	}
	return true
}

// alive fails if nothing has stopped, as the process has ended.
func (t *tracer) alive() error {
	for _, th := range t.threads {
		if th.stopped {
			return nil
		}
	}
	// One that was killed may take a while to end.
	for range 100 {
		if hasEnded(t.pid, t.pid) {
			return inquest.Errorf(inquest.ErrNotFound, "stop process %d: it has ended", t.pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return inquest.Errorf(inquest.ErrUnavailable, "stop process %d: none of its threads stopped within %v", t.pid, stopTimeout)
}

// hasEnded reports whether a thread is gone but for its exit status.
func hasEnded(pid, tid int) bool {
	data, err := readSome(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid), maxFileBytes)
	if err != nil {
		return true
	}
	st, err := parseStat(data)
	return err != nil || st.state == 'Z' || st.state == 'X'
}

// detach lets all threads go on.
func (t *tracer) detach() {
	for _, tid := range t.order {
		th := t.threads[tid]
		if th.ended || !th.stopped && !th.poll(tid) {
			continue // the end of this OS thread lets it go
		}
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(th.signal), 0, 0)
	}
}

// registers reads those of all threads that have stopped. missing is the
// number of those that did not.
func (t *tracer) registers() (out []stoppedThread, missing int) {
	for _, tid := range t.order {
		th := t.threads[tid]
		if th.ended {
			continue
		}
		st := stoppedThread{tid: tid}
		for _, note := range registerNotes {
			if data, err := getRegisterSet(tid, note); err == nil {
				st.sets = append(st.sets, registerSet{note, data})
			}
		}
		if len(st.sets) == 0 || st.sets[0].note != noteStatus {
			missing++
			continue
		}
		out = append(out, st)
	}
	return out, missing
}

// getRegisterSet is PTRACE_GETREGSET, see ptrace(2).
func getRegisterSet(tid, note int) ([]byte, error) {
	buf := make([]byte, maxRegisterSet)
	iov := unix.Iovec{Base: &buf[0]}
	iov.SetLen(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(tid), uintptr(note), uintptr(unsafe.Pointer(&iov)), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return buf[:iov.Len], nil
}
