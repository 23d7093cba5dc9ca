package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"golang.org/x/sys/unix"
)

// Bounds on what is read of a process's files: a mapping takes some hundred
// bytes of smaps, and 65,530 of them are allowed.
const (
	maxMapsBytes = 64 << 20
	maxFileBytes = 1 << 20
)

// live is a process of this host that is being read: one that dies and is
// held, or one that was stopped.
type live struct {
	pid     int
	memory  *memory
	regions []region
	process *coredump.Process // its Memory goes through a cache until it runs on
}

// openLive opens the memory of a process that runs a program. flags: what it
// wants not to be dumped is looked up, which takes a walk through all of its
// memory's tables; without, present must be told what to keep.
func openLive(pid int, program *program, flags bool) (_ *live, err error) {
	l := &live{pid: pid}
	if l.memory, err = openMemory(pid); err != nil {
		return nil, processError(err)
	}
	if err := l.readMaps(flags); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.process = &coredump.Process{
		Arch: runtime.GOARCH, PageSize: l.memory.page, Mappings: mappings(l.regions), Auxv: map[uint64]uint64{},
		Memory: newCache(l.memory), Exe: program.file, ExeSize: program.size,
	}
	return l, nil
}

func (l *live) Close() error { return l.memory.Close() }

func (l *live) file(name string) string { return "/proc/" + strconv.Itoa(l.pid) + "/" + name }

// readMaps reads the mappings, with what only smaps tells if flags is set.
func (l *live) readMaps(flags bool) error {
	name := "maps"
	if flags {
		name = "smaps"
	}
	data, err := readSome(l.file(name), maxMapsBytes)
	if err != nil {
		return processError(fmt.Errorf("read %s: %w", name, err))
	}
	l.regions = parseMaps(data)
	if len(l.regions) == 0 {
		return inquest.Errorf(inquest.ErrNotFound, "process %d has no memory: it has ended", l.pid)
	}
	return nil
}

// again reads the mappings of a process that has stopped meanwhile. What of
// them is not to be dumped is as it was before.
func (l *live) again() error {
	before := l.regions
	if err := l.readMaps(false); err != nil {
		return err
	}
	for i := range l.regions {
		r := &l.regions[i]
		for len(before) > 0 && before[0].End() <= r.Addr {
			before = before[1:]
		}
		for _, b := range before {
			if b.Addr >= r.End() {
				break
			}
			r.NoDump, r.IO, r.huge = r.NoDump || b.NoDump, r.IO || b.IO, r.huge || b.huge
		}
	}
	l.process.Mappings = mappings(l.regions)
	l.process.Memory = newCache(l.memory)
	return nil
}

// readAuxv reads what the kernel told the process when it began.
func (l *live) readAuxv() ([]byte, error) {
	auxv, err := readSome(l.file("auxv"), maxFileBytes)
	if err != nil {
		return nil, processError(fmt.Errorf("read auxv: %w", err))
	}
	l.process.Auxv = parseAuxv(auxv)
	return auxv, nil
}

// filter is what the process wants to be dumped.
func (l *live) filter() uint64 {
	data, err := readSome(l.file("coredump_filter"), maxFileBytes)
	if err == nil {
		if v, err := strconv.ParseUint(strings.TrimSpace(string(data)), 16, 64); err == nil {
			return v
		}
	}
	return defaultFilter
}

// present are the extents that belong into a core, by address, and those of
// them that are the process's own, and not as they are in a file. told are the
// segments the kernel itself would write, if it has said so: then these count,
// else what the process asked for.
func (l *live) present(told []coredump.Segment) (all, own []coredump.Extent, err error) {
	p, err := openPages(l.pid)
	if err != nil {
		return nil, nil, processError(err)
	}
	defer func() { _ = p.Close() }() // only read
	filter := l.filter()
	for i := range l.regions {
		r := l.regions[i]
		if told != nil {
			var partly []coredump.Extent
			if told, partly = r.tell(told); partly != nil {
				all = append(all, partly...)
				continue
			}
		}
		here, mine, err := p.extents(l.pid, &r, filter)
		if err != nil {
			return nil, nil, err
		}
		l.regions[i].NoDump, l.process.Mappings[i].NoDump = r.NoDump, r.NoDump
		all, own = append(all, here...), append(own, mine...) // extents of neighbours stay apart
	}
	return coarse(all, l.regions, p.page), coarse(own, l.regions, p.page), nil
}

// tell sets what the kernel's segments say of a region, and returns the
// segments that are not below it. partly is what it keeps of a region
// that it does not keep whole.
func (r *region) tell(told []coredump.Segment) (rest []coredump.Segment, partly []coredump.Extent) {
	kept := uint64(0)
	for len(told) > 0 && told[0].Addr < r.End() {
		if s := told[0]; s.End() > r.Addr && s.Fill == coredump.FillZero {
			from, to := max(s.Addr, r.Addr), min(s.End(), r.End())
			partly = append(partly, coredump.Extent{Addr: from, Size: to - from})
			kept += to - from
		}
		if told[0].End() > r.End() {
			break
		}
		told = told[1:]
	}
	r.NoDump = kept == 0
	if kept == r.Size {
		return told, nil
	}
	return told, partly
}

// listThreads lists the threads of a process, its first one first.
func listThreads(pid int) ([]int, error) {
	dir, err := os.Open("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return nil, processError(err)
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, processError(err)
	}
	var out []int
	for _, n := range names {
		if tid, err := strconv.Atoi(n); err == nil {
			out = append(out, tid)
		}
	}
	slices.Sort(out)
	if i := slices.Index(out, pid); i > 0 {
		out = slices.Insert(slices.Delete(out, i, i+1), 0, pid)
	}
	return out, nil
}

func mappings(regions []region) []coredump.Mapping {
	out := make([]coredump.Mapping, len(regions))
	for i := range regions {
		out[i] = regions[i].Mapping
	}
	return out
}

func parseAuxv(data []byte) map[uint64]uint64 {
	out := map[uint64]uint64{}
	for pair := range slices.Chunk(data[:len(data)&^15], 16) {
		key := binary.NativeEndian.Uint64(pair)
		if key == 0 {
			break
		}
		out[key] = binary.NativeEndian.Uint64(pair[8:])
	}
	return out
}

// processError gives an error about a process's files its kind.
func processError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
		return inquest.Errorf(inquest.ErrNotFound, "%w: it has ended", err)
	case errors.Is(err, fs.ErrPermission):
		return inquest.Errorf(inquest.ErrForbidden, "%w: run the agent as root or with CAP_SYS_PTRACE", err)
	}
	return err
}

// readSome reads a file of /proc or /sys, whose size is not known before, at
// most limit bytes of it. There are many of them to be read while a process is
// held, so nothing is done that they do not need.
func readSome(name string, limit int64) (data []byte, err error) {
	fd, err := retry(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // only read
	for {
		data = slices.Grow(data, max(1024, len(data)))
		n, err := retry(func() (int, error) { return unix.Read(fd, data[len(data):min(int64(cap(data)), limit)]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		if data = data[:len(data)+n]; n == 0 {
			return data, nil
		}
	}
}

// retry does what a signal interrupted again.
func retry(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// setThreads gives the process its threads, the one that died first.
func (l *live) setThreads(threads []stoppedThread, signal int) {
	l.process.Threads = nil
	for i, t := range threads {
		th := coredump.Thread{TID: t.tid, Registers: registers(l.process.Arch, t.sets)}
		if i == 0 {
			th.Signal = signal
		}
		l.process.Threads = append(l.process.Threads, th)
	}
}

// standing are the registers that the kernel tells of a thread that does not
// run, without stopping it: stack pointer and program counter.
func standing(pid, tid int) registerSet {
	set := registerSet{note: noteStatus, data: make([]byte, generalSize)}
	data, err := readSome(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid), maxFileBytes)
	if err != nil {
		return set
	}
	f := strings.Fields(string(data)) // number and arguments, or -1; then sp, pc
	if len(f) < 3 {
		return set
	}
	sp, err1 := strconv.ParseUint(f[len(f)-2], 0, 64)
	pc, err2 := strconv.ParseUint(f[len(f)-1], 0, 64)
	if err1 == nil && err2 == nil {
		binary.NativeEndian.PutUint64(set.data[8*generalSP:], sp)
		binary.NativeEndian.PutUint64(set.data[8*generalPC:], pc)
	}
	return set
}
