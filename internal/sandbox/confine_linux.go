package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// confine takes away from this process, all of its threads, what it can be
// without, and says what holds. Errors are notes: who started it decides.
func (c *Child) confine() []Layer {
	layer := func(name string, base bool, note string, err error) Layer {
		if err != nil {
			return Layer{Name: name, Base: base, Note: err.Error()}
		}
		return Layer{Name: name, Base: base, Holds: true, Note: note}
	}
	spaces := namespaces()
	files, note, fileErr := c.readable()
	limits := c.limit()
	// A core of it would have secrets of those it looks at, and be taken as
	// one of a service.
	hidden := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	caps := dropCapabilities()
	newPrivs := landlocksys.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if fileErr == nil {
		fileErr = landlock.V10.BestEffort().Restrict(landlock.ROFiles(files...))
	}
	filter := loadFilter()
	return []Layer{
		layer("limits", true, "", limits),
		layer("no new privileges", true, "", newPrivs),
		layer("landlock", true, note, fileErr),
		layer("seccomp", true, "", filter),
		layer("not dumpable", false, "", hidden),
		layer("no capabilities", false, "", caps),
		spaces,
	}
}

// readable are the files that may be opened again, and what Landlock can do.
func (c *Child) readable() (files []string, note string, err error) {
	abi, err := landlocksys.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return nil, "", errors.New("this kernel has no Landlock, or it is not enabled")
	}
	note = fmt.Sprintf("ABI %d", abi)
	if abi < 4 {
		note += ", which does not know of TCP; seccomp forbids sockets"
	}
	for n, f := range c.files {
		info, err := f.Stat()
		if err != nil {
			return nil, note, err
		}
		if info.Mode().IsRegular() {
			files = append(files, c.Path(n))
		}
	}
	return files, note, nil
}

type resourceLimit struct {
	name       string
	which      int
	soft, hard uint64
}

// limit sets the resource limits.
func (c *Child) limit() error {
	files := firstFD + uint64(len(c.files)) + openFiles
	cpu := uint64((c.limits.CPU.Milliseconds() + 999) / 1000)
	limits := []resourceLimit{
		{"core", unix.RLIMIT_CORE, 0, 0},
		{"cpu", unix.RLIMIT_CPU, cpu, cpu + 2}, // the runtime tells where it was, if it can
		{"fsize", unix.RLIMIT_FSIZE, 0, 0},
		{"nofile", unix.RLIMIT_NOFILE, files, files},
		{"memlock", unix.RLIMIT_MEMLOCK, 0, 0},
		{"msgqueue", unix.RLIMIT_MSGQUEUE, 0, 0},
	}
	data, err := dataBytes()
	if err != nil {
		return err
	}
	// Go reserves address space far beyond what it uses, which a limit of that
	// would count; a limit of data counts what it can write to.
	data += uint64(c.limits.MemoryBytes)*memoryFactor + threadBytes
	limits = append(limits, resourceLimit{"data", unix.RLIMIT_DATA, data, data})
	for _, l := range limits {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.which, &now); err != nil {
			return fmt.Errorf("limit of %s: %w", l.name, err)
		}
		hard := min(l.hard, now.Max)
		if err := unix.Prlimit(0, l.which, &unix.Rlimit{Cur: min(l.soft, hard), Max: hard}, nil); err != nil {
			return fmt.Errorf("limit of %s: %w", l.name, err)
		}
	}
	return nil
}

// dataBytes is how much writable memory this process has.
func dataBytes() (uint64, error) {
	b, err := os.ReadFile("/proc/self/statm") // proc_pid_statm(5)
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 6 {
		return 0, fmt.Errorf("/proc/self/statm: %q", b)
	}
	pages, err := strconv.ParseUint(f[5], 10, 64)
	return pages * uint64(os.Getpagesize()), err
}

// dropCapabilities gives them all up, which a child of root has.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, e := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	if e != 0 {
		return e
	}
	return nil
}

// noSuchCall is the answer to clone3, after which C libraries use clone, whose
// flags a filter can see.
const noSuchCall = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)

// loadFilter forbids all system calls but those of the list. There are two
// filters, as one has one answer; the strictest counts.
func loadFilter() error {
	if err := load(seccomp.ActionAllow, seccomp.SyscallGroup{Names: []string{"clone3"}, Action: noSuchCall}); err != nil {
		return err
	}
	return load(seccomp.ActionErrno, seccomp.SyscallGroup{Names: allowed(), NamesWithCondtions: allowedIf(), Action: seccomp.ActionAllow})
}

func load(otherwise seccomp.Action, group seccomp.SyscallGroup) error {
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy:     seccomp.Policy{DefaultAction: otherwise, Syscalls: []seccomp.SyscallGroup{group}},
	})
}

// attributes are those of a child. With spaces it is to have namespaces of its
// own, which many systems do not allow.
func attributes(spaces bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if spaces {
		a.Cloneflags = spaceFlags
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: overflowID, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: overflowID, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// opensToRead says whether a file cannot be written to through it.
func opensToRead(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY
}

// peakRSS is the most memory a process that lives had, in bytes; 0 if that
// is not to be known. What wait4 tells is no less than what the parent had when
// it started the process.
func peakRSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // proc_pid_status(5)
	if err != nil {
		return 0
	}
	_, at, _ := strings.Cut(string(b), "\nVmHWM:")
	kib := int64(0)
	_, _ = fmt.Sscan(at, &kib)
	return kib << 10
}
