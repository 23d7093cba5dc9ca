package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/host"
)

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// lookAtProcess checks one process.
func lookAtProcess(o Options, p *host.Process, plan *corepattern.Plan, mode string) []Finding {
	var l list
	checkTraceback(&l, p.PID)
	checkText(&l, p.PID)
	checkLimit(&l, p.PID, mode)
	checkFilter(&l, p.PID)
	checkDumpable(&l, p.PID, mode)
	checkMemory(&l, p.PID)
	checkNamespaces(&l, p.PID, plan, mode)
	checkProfiles(&l, p, o.Targets)
	return l
}

// withTraceback is what to do for a process that leaves no core.
const withTraceback = "set GOTRACEBACK=crash in its environment, or call debug.SetTraceback(\"crash\"); the client package does so"

// checkTraceback looks at what decides first of all: without the level crash
// Go's runtime ends a process by exiting, and there is no core.
func checkTraceback(l *list, pid int) {
	if crashes, known := tracebackInForce(pid); known {
		if crashes {
			l.add("traceback", Fine, "the level in force is crash: it dumps core when it dies", "")
		} else {
			l.add("traceback", Missing, "the level in force is not crash: it leaves no core", withTraceback)
		}
		return
	}
	env, err := os.ReadFile(procFile(pid, "environ"))
	value := "not set"
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if s, ok := strings.CutPrefix(string(v), "GOTRACEBACK="); ok {
			value = s
		}
	}
	switch {
	case err != nil:
		l.add("traceback", Unknown, fmt.Sprintf("its environment cannot be read: %v", errors.Unwrap(err)), "run this as root")
	case value == "crash":
		l.add("traceback", Fine, "GOTRACEBACK=crash is in its environment", "")
	default:
		l.add("traceback", Unknown, "GOTRACEBACK is "+value+" in its environment, so it leaves no core unless it calls debug.SetTraceback(\"crash\"), "+
			"which cannot be seen in a program without symbols", withTraceback)
	}
}

// checkText looks at where the text of a crash goes.
func checkText(l *list, pid int) {
	to, err := os.Readlink(procFile(pid, "fd/2"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		l.add("crash text", Missing, "its standard error is closed: what it says when it dies is lost", "import the client package, or give it a standard error")
	case err != nil:
		l.add("crash text", Unknown, fmt.Sprintf("its standard error cannot be seen: %v", errors.Unwrap(err)), "run this as root")
	case to == os.DevNull:
		l.add("crash text", Missing, "its standard error is "+os.DevNull+": what it says when it dies is lost", "import the client package, or send its standard error to the journal or a file")
	default:
		l.add("crash text", Fine, "its standard error goes to "+to, "")
	}
}

// checkLimit looks at RLIMIT_CORE, which counts for files only.
func checkLimit(l *list, pid int, mode string) {
	n, err := coreLimit(pid)
	text := strconv.FormatUint(n, 10) + " bytes"
	if n == corepattern.NoCoreLimit {
		text = "unlimited"
	}
	switch {
	case err != nil:
		l.add("core limit", Unknown, fmt.Sprintf("RLIMIT_CORE cannot be read: %v", err), "run this as root")
	case mode == corepattern.ModeSystemd:
		l.add("core limit", Note, "RLIMIT_CORE is "+text+", which bounds what systemd-coredump stores", "")
	case !byFile(mode):
		l.add("core limit", Fine, "RLIMIT_CORE is "+text+", which does not matter here", "")
	case n < LeastCore:
		l.add("core limit", Missing, "RLIMIT_CORE is "+text+": the kernel writes no core", fmt.Sprintf("LimitCORE=infinity in its unit; for now: prlimit --pid %d --core=unlimited", pid))
	case n != corepattern.NoCoreLimit:
		l.add("core limit", Missing, "RLIMIT_CORE is "+text+": a larger core is cut off", "LimitCORE=infinity in its unit")
	default:
		l.add("core limit", Fine, "RLIMIT_CORE is unlimited", "")
	}
}

// What the bits of a coredump_filter let into a core, see core(5).
const (
	filterAnonymous = 1 << 0 // private: heap and stacks
	filterHeaders   = 1 << 4 // of ELF files: their build ids
	filterHuge      = 1 << 5 // private huge pages: heap too
)

func checkFilter(l *list, pid int) {
	data, err := os.ReadFile(procFile(pid, "coredump_filter"))
	n, err2 := strconv.ParseUint(strings.TrimSpace(string(data)), 16, 64)
	if err = errors.Join(err, err2); err != nil {
		l.add("filter", Unknown, "coredump_filter cannot be read", "run this as root")
		return
	}
	var lost []string
	for _, f := range []struct {
		bit  uint64
		what string
	}{{filterAnonymous, "heap and stacks"}, {filterHeaders, "the build ids of its files"}, {filterHuge, "memory in huge pages"}} {
		if n&f.bit == 0 {
			lost = append(lost, f.what)
		}
	}
	if len(lost) > 0 {
		l.add("filter", Missing, fmt.Sprintf("coredump_filter is %#x: the core lacks %s", n, strings.Join(lost, ", ")), fmt.Sprintf("echo 0x33 > /proc/%d/coredump_filter, or CoredumpFilter=0x33 in its unit", pid))
		return
	}
	l.add("filter", Fine, fmt.Sprintf("coredump_filter is %#x", n), "")
}

// checkDumpable looks at whether the kernel makes a core at all: what is not
// dumpable has files in /proc that are root's, whoever runs it.
func checkDumpable(l *list, pid int, mode string) {
	status, err := os.ReadFile(procFile(pid, "status"))
	var st unix.Stat_t
	err = errors.Join(err, unix.Stat(procFile(pid, "environ"), &st))
	uids := strings.Fields(field(status, "Uid"))
	if err != nil || len(uids) != 4 {
		l.add("dumpable", Unknown, "it cannot be looked at", "run this as root")
		return
	}
	owner := strconv.Itoa(int(st.Uid))
	special := changesUser(pid)
	dumps := sysctl("fs/suid_dumpable")
	switch {
	case owner == uids[1] && special == "":
		l.add("dumpable", Fine, "the kernel dumps it as its user's", "")
	case owner == uids[1]:
		l.add("dumpable", Note, special+", and still the kernel dumps it", "")
	case dumps == "2" && !byFile(mode):
		l.add("dumpable", Fine, "the kernel dumps it for root only, which does here", "")
	default:
		why := "it has made itself so (prctl), or changed its user"
		if special != "" {
			why = special
		}
		l.add("dumpable", Missing, "the kernel does not dump it: "+why, "set fs.suid_dumpable = 2, and have it start as the user that it is to be (User= in its unit)")
	}
}

// changesUser says why the kernel trusts an executable more than its user.
func changesUser(pid int) string {
	exe := procFile(pid, "exe")
	info, err := os.Stat(exe)
	if err != nil {
		return ""
	}
	if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		return "its executable is setuid or setgid"
	}
	if n, err := unix.Getxattr(exe, "security.capability", nil); err == nil && n > 0 {
		return "its executable has capabilities"
	}
	return ""
}

// checkMemory tries what a capture and a snapshot have to do.
func checkMemory(l *list, pid int) {
	f, err := os.Open(procFile(pid, "mem"))
	if err != nil {
		l.add("memory", Missing, fmt.Sprintf("its memory may not be read: %v", errors.Unwrap(err)), "the agent needs CAP_SYS_PTRACE and the host's process and user namespaces")
		return
	}
	f.Close()
	l.add("memory", Fine, "its memory can be read, for cores and snapshots", "")
}

// checkNamespaces says in which container a process is, and whether a file of
// the kernel's can be found then.
func checkNamespaces(l *list, pid int, plan *corepattern.Plan, mode string) {
	var other []string
	for _, ns := range []string{"mnt", "pid", "user"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		its, err2 := os.Readlink(procFile(pid, "ns/"+ns))
		if err = errors.Join(err, err2); err != nil {
			l.add("namespaces", Unknown, "its namespaces cannot be seen", "run this as root")
			return
		}
		if own != its {
			other = append(other, ns)
		}
	}
	if len(other) == 0 {
		l.add("namespaces", Fine, "those of this process", "")
		return
	}
	text := "its own " + strings.Join(other, ", ")
	if !byFile(mode) || !slices.Contains(other, "mnt") {
		l.add("namespaces", Fine, text+", which does not matter here", "")
		return
	}
	for _, dir := range plan.Watched {
		if info, err := os.Stat(filepath.Join(procFile(pid, "root"), dir)); err != nil || !info.IsDir() {
			l.add("namespaces", Missing, text+": the kernel writes its core to "+dir+" in its container, where there is no such directory", "mount a directory of the host there")
			return
		}
	}
	l.add("namespaces", Fine, text+": its cores are looked for in its container, as long as that is there", "")
}

// collectorPath is the main package of the collector, which profiles itself.
const collectorPath = "github.com/goinquest/inquest/cmd/collector"

// checkProfiles says what agent targets says of the process.
func checkProfiles(l *list, p *host.Process, targets []inquest.Target) {
	if targets == nil {
		return
	}
	reason := "it serves none: no port of it has /debug/pprof/"
	for _, t := range targets {
		if t.Process != p.ID {
			continue
		}
		if t.State != inquest.TargetSkipped {
			l.add("profiles", Fine, "taken from "+t.URL, "")
			return
		}
		reason = t.Reason
	}
	if p.Build != nil && p.Build.Path == collectorPath {
		l.add("profiles", Note, reason, "")
		return
	}
	l.add("profiles", Missing, reason, "import net/http/pprof and listen on a port of the host; agent targets shows what is asked")
}
