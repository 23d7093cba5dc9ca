package capture

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/goinquest/inquest"
	"golang.org/x/sys/unix"
)

// watcher notices processes that the kernel kills for memory. Nothing is left
// of those but a counter of their cgroup, so they are known before: who they
// are, where they belong, and what the counters were.
type watcher struct {
	mu        sync.Mutex
	processes map[int]*watched
	counters  map[string]*counter // of kills, by file
	dead      map[string]bool     // processes that left a core or are told already
	deadOrder []string
}

// watched is one process that may be killed.
type watched struct {
	event inquest.Crash
	fd    int      // a pidfd
	files []string // with counters of kills: of its own group, then those above
	read  time.Time
}

// counter is one of kills as far as they are accounted for. A process may take
// a while to end after it was counted.
type counter struct {
	seen  int64
	since time.Time // when there were more than those
}

const (
	unclaimed  = 30 * time.Second // after that, a kill was of a process that nobody watches
	factsEvery = 15 * time.Second // how old what is known of a process may be when it is killed
	maxDead    = 1024
	vmstatFile = "/proc/vmstat" // kills of the whole host
)

// Watch says which processes are to be watched for being killed for memory,
// instead of those before. They must be of Go; ones that have ended are left
// out.
func (c *Capturer) Watch(pids []int) {
	w := c.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	for pid, p := range w.processes {
		// Those that have ended are for check to tell.
		if !slices.Contains(pids, pid) && !exited(p.fd) {
			w.forget(pid)
		}
	}
	for _, pid := range pids {
		if w.processes[pid] != nil {
			continue // if it has ended, a process that has its pid now waits for the next time
		}
		if p, err := c.watch(pid); err == nil {
			w.processes[pid] = p
			for _, name := range p.files {
				if _, ok := w.counters[name]; !ok {
					w.counters[name] = &counter{seen: max(kills(name), 0)}
				}
			}
		}
	}
}

// forget stops watching a process.
func (w *watcher) forget(pid int) {
	_ = unix.Close(w.processes[pid].fd) // nothing was written
	delete(w.processes, pid)
}

// watch finds out all that could not be asked later.
func (c *Capturer) watch(pid int) (*watched, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	p := &watched{fd: fd}
	if p.event, err = c.event(inquest.CrashOOM, pid, c.now()); err == nil {
		err = c.watchedEvent(p)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return p, nil
}

func (c *Capturer) watchedEvent(p *watched) error {
	e := &p.event
	program, done, err := c.programs.open(e.PID)
	if err != nil {
		return err
	}
	defer done()
	if program.build == nil {
		return inquest.Errorf(inquest.ErrInvalid, "watch process %d: not of Go", e.PID)
	}
	e.Exe, e.Build = exePath(e.PID), program.build.ID
	e.UID, _ = readIDs(e.PID)
	e.Class, e.Signal, e.Source = inquest.CrashOOM, int(unix.SIGKILL), []string{"cgroup"}
	c.name(e, program.build)
	e.Facts = Facts(e.PID)
	p.read = c.now()
	data, err := readSome(fmt.Sprintf("/proc/%d/cgroup", e.PID), maxFileBytes)
	if err != nil {
		return processError(err)
	}
	g := ParseCgroup(data)
	p.files = g.killFiles()
	return nil
}

// killFiles are the files that count kills in a group, in those above it, and
// on the host: a group may be gone with its last process.
func (g *Cgroup) killFiles() []string {
	var out []string
	mounts := cgroupMounts()
	above := func(m mount, dir, name string) {
		for dir != "" && strings.HasPrefix(dir, m.dir) {
			out = append(out, path.Join(dir, name))
			if dir == m.dir {
				return
			}
			dir = path.Dir(dir)
		}
	}
	if m := mounts["memory"]; m.dir != "" && g.Controllers["memory"] != "" {
		above(m, m.group(g.Controllers["memory"]), "memory.oom_control")
	} else if m := mounts[""]; m.dir != "" {
		above(m, m.group(g.Unified), "memory.events")
	}
	return append(out, vmstatFile)
}

// kills reads a counter of kills; -1 if it is not there.
func kills(name string) int64 {
	data, err := readSome(name, maxFileBytes)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return -1
}

// check tells which watched processes were killed for memory since the last
// time, and refreshes what is known of the others.
func (c *Capturer) check() {
	w := c.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	var ended []*watched
	for pid, p := range w.processes {
		if exited(p.fd) {
			if signal := exitSignal(p.fd); (signal < 0 || signal == int(unix.SIGKILL)) && !w.dead[p.event.Process] {
				ended = append(ended, p)
			}
			w.forget(pid)
			continue
		}
		if now := c.now(); now.Sub(p.read) > factsEvery {
			p.event.Facts, p.read = Facts(pid), now
		}
	}
	// Where fewer were killed than ended, the large ones are the likely ones.
	slices.SortFunc(ended, func(a, b *watched) int { return cmp.Compare(b.event.Facts.RSSBytes, a.event.Facts.RSSBytes) })
	left := w.unclaimed(c.now())
	for _, p := range ended {
		if i := slices.IndexFunc(p.files, func(f string) bool { _, ok := left[f]; return ok }); i >= 0 && left[p.files[i]] > 0 {
			for _, f := range p.files[i:] { // it counts in those above, too
				if left[f] > 0 {
					left[f]--
					w.counters[f].seen++
				}
			}
			c.killed(p)
		}
	}
	w.clean()
}

// unclaimed are the kills that belong to no process yet, by file; one that
// cannot be read is not there.
func (w *watcher) unclaimed(now time.Time) map[string]int64 {
	left := map[string]int64{}
	for name, ct := range w.counters {
		n := kills(name)
		if n < 0 {
			continue
		}
		switch {
		case n <= ct.seen:
			ct.seen, ct.since = n, time.Time{}
		case ct.since.IsZero():
			ct.since = now
		case now.Sub(ct.since) > unclaimed:
			ct.seen, ct.since = n, time.Time{}
		}
		left[name] = n - ct.seen
	}
	return left
}

// clean drops counters that nobody needs.
func (w *watcher) clean() {
	used := map[string]bool{}
	for _, p := range w.processes {
		for _, f := range p.files {
			used[f] = true
		}
	}
	for name := range w.counters {
		if !used[name] {
			delete(w.counters, name)
		}
	}
}

// killed tells that a process was killed for memory.
func (c *Capturer) killed(p *watched) {
	e := p.event
	e.At = c.now().UTC()
	facts := *e.Facts
	if dir := path.Dir(p.files[0]); p.files[0] != vmstatFile {
		facts.OOMKills = max(facts.OOMKills, kills(p.files[0]))
		facts.MemoryPeak = max(facts.MemoryPeak, groupNumber(dir, "memory.peak"), groupNumber(dir, "memory.max_usage_in_bytes"))
	}
	e.Facts = &facts
	e.Message = "killed by the kernel: no memory on this host"
	if facts.MemoryLimit > 0 {
		e.Message = fmt.Sprintf("killed by the kernel: memory limit of %s reached", size(uint64(facts.MemoryLimit)))
	}
	c.metrics.oomKills.Inc()
	c.watcher.buried(e.Process)
	c.tell(e)
}

// died says that a process is known to be dead already.
func (w *watcher) died(process string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buried(process)
}

func (w *watcher) buried(process string) {
	if w.dead[process] {
		return
	}
	w.dead[process] = true
	w.deadOrder = append(w.deadOrder, process)
	if len(w.deadOrder) > maxDead {
		delete(w.dead, w.deadOrder[0])
		w.deadOrder = w.deadOrder[1:]
	}
}

// close stops watching.
func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pid := range w.processes {
		w.forget(pid)
	}
}

// exited reports whether the process of a pidfd has ended.
func exited(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// pidfdInfo is struct pidfd_info of the kernel's include/uapi/linux/pidfd.h.
type pidfdInfo struct {
	mask     uint64
	_        [52]byte
	exitCode int32
}

const (
	pidfdGetInfo  = 0xc040ff0b
	pidfdInfoExit = 1 << 3
)

// exitSignal is the signal that ended the process of a pidfd, 0 if none did,
// -1 if the kernel does not say: it does since Linux 6.15, once the process
// was waited for.
func exitSignal(fd int) int {
	info := pidfdInfo{mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.mask&pidfdInfoExit == 0 {
		return -1
	}
	if ws := unix.WaitStatus(info.exitCode); ws.Signaled() {
		return int(ws.Signal())
	}
	return 0
}
