package testprog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// Held is a process that stands still where the kernel would dump its core, or
// wherever it was when it was stopped. It goes on, and ends, with the test.
type Held struct {
	coredump.Process
	PID        int
	Signal     int    // that it dies of; 0 if it was only stopped
	Goroutines int    // when it was ready
	Stderr     string // what it wrote until now

	out  *os.File
	logs string
	regs []syscall.PtraceRegs // of the threads
}

// Hold runs a program until it dies and holds it there. With stop it is
// stopped when it is ready and has gone on for that long.
func Hold(t testing.TB, exe string, o Options, stop time.Duration) *Held {
	t.Helper()
	h, release := &Held{}, make(chan struct{})
	held, ended := make(chan error, 1), make(chan struct{})
	h.logs = t.TempDir() + "/log"
	var err error
	if h.out, err = os.Create(h.logs); err != nil {
		t.Fatal(err)
	}
	tr := &tracer{h: h, stop: stop, exe: exe, o: o, dir: t.TempDir(), threads: map[int]bool{}}
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked: only the thread that traces may ask
		err := tr.run()
		held <- err
		if err == nil {
			<-release
		}
		tr.end()
	}()
	t.Cleanup(func() {
		close(release)
		<-ended
		h.out.Close()
	})
	select {
	case err := <-held:
		if err != nil {
			text, _ := os.ReadFile(h.logs)
			t.Fatalf("%s %q: %v\n%s", exe, o.Args, err, text)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s %q did not die", exe, o.Args)
	}
	if err := h.open(exe); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	return h
}

// tracer runs a program under ptrace.
type tracer struct {
	h       *Held
	stop    time.Duration
	exe     string
	o       Options
	dir     string
	threads map[int]bool // true: it stands still
}

// run starts the program and returns once it is held.
func (tr *tracer) run() error {
	attr := &os.ProcAttr{
		Dir:   tr.dir,
		Env:   append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOTRACEBACK=crash"}, tr.o.Env...),
		Files: []*os.File{nil, tr.h.out, tr.h.out},
		Sys:   &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	}
	p, err := os.StartProcess(tr.exe, append([]string{tr.exe}, tr.o.Args...), attr)
	if err != nil {
		return err
	}
	tr.h.PID = p.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.Pid, &status, syscall.WALL, nil); err != nil {
		return err
	}
	const exitKill = 0x100000 // PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(p.Pid, syscall.PTRACE_O_TRACECLONE|exitKill); err != nil {
		return err
	}
	tr.threads[p.Pid] = false
	if err := syscall.PtraceCont(p.Pid, 0); err != nil {
		return err
	}
	if tr.stop > 0 {
		go tr.interrupt()
	}
	return tr.follow()
}

// interrupt stops the process after its time.
func (tr *tracer) interrupt() {
	for range 600 {
		if text, _ := os.ReadFile(tr.h.logs); strings.Contains(string(text), "ready ") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(tr.stop)
	_ = syscall.Kill(tr.h.PID, syscall.SIGSTOP)
}

// follow hands on signals until the one that the process dies of.
func (tr *tracer) follow() error {
	for {
		var status syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &status, syscall.WALL|syscall.WNOTHREAD, nil)
		if err != nil {
			return err
		}
		if status.Exited() || status.Signaled() {
			delete(tr.threads, tid)
			if tid == tr.h.PID {
				return fmt.Errorf("it ended: %v", status)
			}
			continue
		}
		sig, known := tr.stopped(tid, status)
		if !known {
			continue
		}
		if sig == syscall.SIGSTOP && tr.stop > 0 || sig != 0 && fatal(tr.h.PID, sig) {
			if sig != syscall.SIGSTOP {
				tr.h.Signal = int(sig)
			}
			tr.threads[tid] = true
			return tr.hold(tid)
		}
		if err := syscall.PtraceCont(tid, int(sig)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
}

// stopped says which signal a thread that stopped is to get; known is false
// if it was a new one, which goes on.
func (tr *tracer) stopped(tid int, status syscall.WaitStatus) (sig syscall.Signal, known bool) {
	if _, ok := tr.threads[tid]; !ok {
		tr.threads[tid] = false
		_ = syscall.PtraceCont(tid, 0)
		return 0, false
	}
	if status.StopSignal() == syscall.SIGTRAP {
		return 0, true
	}
	return status.StopSignal(), true
}

// fatal reports whether a signal would make a core now.
func fatal(pid int, sig syscall.Signal) bool {
	if !slices.Contains([]syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGQUIT, syscall.SIGTRAP}, sig) {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for _, name := range []string{"SigCgt:", "SigIgn:"} {
		_, rest, _ := strings.Cut(string(text), name)
		line, _, _ := strings.Cut(rest, "\n")
		set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
		if err != nil || set&(1<<(uint(sig)-1)) != 0 {
			return false
		}
	}
	return true
}

// hold stops all other threads and reads the registers of all, those of the
// first one first.
func (tr *tracer) hold(first int) error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", tr.h.PID))
	if err != nil {
		return err
	}
	tids := []int{first}
	for _, task := range tasks {
		if tid, _ := strconv.Atoi(task.Name()); tid != first {
			tids = append(tids, tid)
		}
	}
	for _, tid := range tids[1:] {
		_ = unix.Tgkill(tr.h.PID, tid, unix.SIGSTOP)
	}
	for _, tid := range tids {
		for !tr.threads[tid] {
			var status syscall.WaitStatus
			if _, err := syscall.Wait4(tid, &status, syscall.WALL, nil); err != nil || status.Exited() || status.Signaled() {
				break // it ended
			}
			tr.threads[tid] = true
		}
		if err := tr.registers(tid, tid == first); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func (tr *tracer) registers(tid int, first bool) error {
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	th := coredump.Thread{TID: tid, Registers: coredump.Registers{PC: r.Rip, SP: r.Rsp, FP: r.Rbp, TLS: r.Fs_base, G: r.R14}}
	if first {
		th.Signal = tr.h.Signal
	}
	tr.h.Threads = append(tr.h.Threads, th)
	tr.h.regs = append(tr.h.regs, r)
	return nil
}

// end kills the process and waits until it is gone.
func (tr *tracer) end() {
	if tr.h.PID == 0 {
		return
	}
	_ = syscall.Kill(tr.h.PID, syscall.SIGKILL)
	for {
		var status syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &status, syscall.WALL|syscall.WNOTHREAD, nil)
		if err != nil || tid == tr.h.PID && (status.Exited() || status.Signaled()) {
			return
		}
	}
}

// open makes the process readable.
func (h *Held) open(exe string) error {
	text, err := os.ReadFile(h.logs)
	if err != nil {
		return err
	}
	h.Stderr = string(text)
	if at := strings.Index(h.Stderr, "ready "); at >= 0 {
		_, _ = fmt.Sscanf(h.Stderr[at:], "ready %d %s %d", new(int), new(string), &h.Goroutines)
	}
	h.Arch, h.PageSize = "amd64", uint64(os.Getpagesize())
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", h.PID))
	if err != nil {
		return err
	}
	h.Memory = memory{mem}
	f, err := os.Open(exe)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Exe, h.ExeSize = f, info.Size()
	auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", h.PID))
	if err != nil {
		return err
	}
	h.Auxv = map[uint64]uint64{}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		h.Auxv[binary.LittleEndian.Uint64(auxv)] = binary.LittleEndian.Uint64(auxv[8:])
	}
	return h.readMaps()
}

func (h *Held) readMaps() error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", h.PID))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var m coredump.Mapping
		var end, major, minor uint64
		var flags string
		n, err := fmt.Sscanf(line, "%x-%x %s %x %x:%x %d", &m.Addr, &end, &flags, &m.Offset, &major, &minor, &m.Inode)
		if n < 7 {
			return fmt.Errorf("maps: %q: %w", line, err)
		}
		m.Size = end - m.Addr
		for i, c := range []byte("rwx") {
			if flags[i] == c {
				m.Flags |= 4 >> i
			}
		}
		m.Shared = flags[3] == 's'
		if f := strings.Fields(line); len(f) > 5 {
			m.Path = f[5]
		}
		h.Mappings = append(h.Mappings, m)
	}
	return nil
}

// Present are the pages of a range that are there and the process's own, not
// those of a file: what a core would have of it.
func (h *Held) Present(m coredump.Extent) []coredump.Extent {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", h.PID))
	if err != nil {
		return nil
	}
	defer f.Close()
	const (
		chunk = 64 << 10
		own   = 0b110 // in memory or swapped, and not of a file
	)
	bits := make([]byte, chunk*8)
	var out []coredump.Extent
	for first := m.Addr / h.PageSize; first < m.End()/h.PageSize; first += chunk {
		n, _ := f.ReadAt(bits[:min(chunk, m.End()/h.PageSize-first)*8], int64(first*8))
		for i := 0; i+8 <= n; i += 8 {
			if v := binary.LittleEndian.Uint64(bits[i:]) >> 61; v&own == 0 || v&1 != 0 {
				continue
			}
			addr := (first + uint64(i/8)) * h.PageSize
			if k := len(out) - 1; k >= 0 && out[k].End() == addr {
				out[k].Size += h.PageSize
			} else {
				out = append(out, coredump.Extent{Addr: addr, Size: h.PageSize})
			}
		}
	}
	return out
}

func (h *Held) close() {
	_ = h.Memory.(memory).f.Close()
	_ = h.Exe.(*os.File).Close()
}

// memory is /proc/PID/mem.
type memory struct{ f *os.File }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = inquest.Errorf(inquest.ErrNotFound, "%d bytes at %#x: %w", len(p), off, err)
	}
	return n, err
}
