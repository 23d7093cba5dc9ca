package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

const (
	defaultMaxInspect = 64
	maxProcFileBytes  = 4 << 20 // of any text file read from /proc
	maxTableBytes     = 1 << 20 // of a table of sockets: those that listen come first, thousands of them fit
	bootIDFile        = "/proc/sys/kernel/random/boot_id"
	deletedSuffix     = " (deleted)"
	permissionHelp    = "permission denied: run the agent as root or with CAP_SYS_PTRACE"
)

// exeKey names one executable file as it is now.
type exeKey struct {
	dev, ino uint64
	size     int64
	mtime    int64
}

// known is what is remembered of a process between scans.
type known struct {
	start uint64
	exe   exeKey
	path  string
	name  string
	build *inquest.Build // nil: not Go, or not wanted
	blind bool           // its open files may not be looked at
}

// Scanner looks at /proc, remembering what does not change.
type Scanner struct {
	want       func(string) bool
	maxInspect int

	mu     sync.Mutex
	boot   string
	exes   map[exeKey]*inquest.Build // nil value: not Go
	procs  map[int]*known
	owners map[uint64]int // listening socket's inode → pid, 0: looked for, nobody readable has it
}

// NewScanner returns a Scanner that has not looked yet.
func NewScanner(o Options) *Scanner {
	s := &Scanner{want: o.Want, maxInspect: o.MaxInspect, exes: map[exeKey]*inquest.Build{}, procs: map[int]*known{}, owners: map[uint64]int{}}
	if s.maxInspect <= 0 {
		s.maxInspect = defaultMaxInspect
	}
	if s.want == nil {
		s.want = func(string) bool { return true }
	}
	return s
}

// round is the state of one scan.
type round struct {
	*Scanner
	snap    Snapshot
	next    map[int]*known
	fresh   map[int]bool // seen for the first time
	used    map[exeKey]bool
	budget  int // executables that may still be read
	pids    []int
	selfNS  string
	listens map[uint64]netip.AddrPort // by inode, of our own network namespace
}

// Scan looks at all processes that are wanted, and at whichever listen on one
// of ports. Only what is new costs more than a few reads per process.
func (s *Scanner) Scan(ctx context.Context, ports map[uint16]bool) (*Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readBoot(); err != nil {
		return nil, err
	}
	r := &round{
		Scanner: s, next: map[int]*known{}, fresh: map[int]bool{}, used: map[exeKey]bool{},
		budget: s.maxInspect, listens: map[uint64]netip.AddrPort{},
	}
	r.selfNS, _ = os.Readlink("/proc/self/ns/net") // without it every process counts as ours
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		data, err := readSome(name, maxTableBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel may have no IPv6
			return nil, err
		}
		for _, l := range ParseListeners(data) {
			r.listens[l.Inode] = l.Addr
		}
	}
	if err := r.list(); err != nil {
		return nil, err
	}
	for _, pid := range r.pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.look(pid, false)
	}
	r.attribute(ports)
	r.finish()
	return &r.snap, nil
}

func (s *Scanner) readBoot() error {
	if s.boot != "" {
		return nil
	}
	data, err := readProc(bootIDFile)
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	s.boot = strings.TrimSpace(string(data))
	return nil
}

func (r *round) list() error {
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return fmt.Errorf("list /proc: %w", err)
	}
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			r.pids = append(r.pids, pid)
		}
	}
	sort.Ints(r.pids)
	return nil
}

// look decides whether a process is one of Go's that is wanted. forced: it
// listens on a port that is asked for, so it is wanted whatever its name.
func (r *round) look(pid int, forced bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	data, err := readProc(dir + "/stat")
	if err != nil {
		return // it has ended
	}
	st, err := ParseStat(data)
	if err != nil || st.Kernel || st.Zombie {
		return
	}
	path, err := os.Readlink(dir + "/exe")
	if err != nil {
		if errors.Is(err, fs.ErrPermission) && r.want(st.Comm) {
			r.snap.Unreadable = append(r.snap.Unreadable, Unreadable{pid, st.Comm, "its executable cannot be read: " + permissionHelp})
		}
		return
	}
	path = strings.TrimSuffix(path, deletedSuffix)
	info, err := os.Stat(dir + "/exe")
	if err != nil {
		return
	}
	k := &known{start: st.Start, exe: keyOf(info), path: path}
	old := r.procs[pid]
	if old != nil && old.start == k.start && old.exe == k.exe && (old.build != nil || !forced) {
		r.next[pid] = old
		r.used[k.exe] = true
		return
	}
	r.fresh[pid] = true
	if !forced && !r.want(filepath.Base(path)) {
		r.next[pid] = k
		return
	}
	build, ok := r.inspect(dir, k.exe)
	if !ok {
		return // left for the next scan: it is fresh again then
	}
	r.used[k.exe] = true
	k.build = build
	if build != nil {
		k.name = serviceName(dir, k.path, k.build)
	}
	r.next[pid] = k
}

// inspect reads an executable once. ok is false if this scan has read enough.
func (r *round) inspect(dir string, key exeKey) (*inquest.Build, bool) {
	if b, ok := r.exes[key]; ok {
		return b, true
	}
	if r.budget == 0 {
		r.snap.Deferred++
		return nil, false
	}
	r.budget--
	f, err := os.Open(dir + "/exe")
	if err != nil {
		return nil, true // it ended, or may not be read: it is not scraped
	}
	defer func() { _ = f.Close() }() // only read
	b, err := symbolize.ReadBuild(f)
	if err != nil {
		b = nil
	}
	r.exes[key] = b
	return b, true
}

// ServiceName is what people call a process: what its environment says, else
// its unit, else its program.
func ServiceName(pid int, exe string, build *inquest.Build) string {
	return serviceName("/proc/"+strconv.Itoa(pid), exe, build)
}

func serviceName(dir, exe string, build *inquest.Build) string {
	if env, err := readProc(dir + "/environ"); err == nil {
		if name := ParseServiceName(env); name != "" {
			return name
		}
	}
	if cg, err := readProc(dir + "/cgroup"); err == nil {
		if unit := ParseUnit(cg); unit != "" {
			return unit
		}
	}
	name := ProgramName(build.Path, exe)
	if !usable([]byte(name)) {
		return "unnamed"
	}
	return name
}

// finish turns what is known into the answer and forgets what is gone.
func (r *round) finish() {
	for _, pid := range r.pids {
		k := r.next[pid]
		if k == nil || k.build == nil {
			continue
		}
		p := Process{
			PID: pid, ID: fmt.Sprintf("%s:%d:%d", r.boot, pid, k.start),
			Exe: k.path, Name: k.name, Build: k.build,
		}
		ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
		switch {
		case err != nil && errors.Is(err, fs.ErrPermission):
			p.Problem = "its network namespace cannot be read: " + permissionHelp
		case err == nil && r.selfNS != "" && ns != r.selfNS:
			p.Foreign = true
		case k.blind:
			p.Problem = "its open files cannot be read: " + permissionHelp
		}
		for inode, owner := range r.owners {
			if owner == pid {
				p.Listeners = append(p.Listeners, r.listens[inode])
			}
		}
		sort.Slice(p.Listeners, func(i, j int) bool { return p.Listeners[i].Compare(p.Listeners[j]) < 0 })
		r.snap.Processes = append(r.snap.Processes, p)
	}
	r.procs = r.next
	for key := range r.exes {
		if !r.used[key] {
			delete(r.exes, key)
		}
	}
}

// Alive reports whether the process that had the id still runs; true if the
// id does not tell.
func Alive(id string) bool {
	parts := strings.Split(id, ":")
	if len(parts) != 3 {
		return true
	}
	data, err := readProc("/proc/" + parts[1] + "/stat")
	if err != nil {
		return false
	}
	st, err := ParseStat(data)
	return err == nil && !st.Zombie && strconv.FormatUint(st.Start, 10) == parts[2]
}

func keyOf(info fs.FileInfo) exeKey {
	k := exeKey{size: info.Size(), mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		k.dev, k.ino = st.Dev, st.Ino
	}
	return k
}

// readProc reads a file of /proc, whose size is not known before.
func readProc(name string) ([]byte, error) { return readSome(name, maxProcFileBytes) }

func readSome(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}

// SelfID is the id of the calling process, as Scan would give it; "" if it
// cannot be read.
func SelfID() string {
	boot, err := readProc(bootIDFile)
	if err != nil {
		return ""
	}
	data, err := readProc("/proc/self/stat")
	if err != nil {
		return ""
	}
	st, err := ParseStat(data)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", strings.TrimSpace(string(boot)), os.Getpid(), st.Start)
}
