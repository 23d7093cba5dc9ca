package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest/agent/corepattern"
)

// modeInForce is how cores are taken by the agent that is at work, or would be
// by one that starts.
func modeInForce(p *corepattern.Plan) string {
	switch {
	case p.Other == "":
		return p.Mode
	case strings.HasPrefix(p.Pattern, "|"):
		return corepattern.ModePipe
	}
	return corepattern.ModeSocket
}

// lookAtHost checks what all processes share.
func lookAtHost(o Options, p *corepattern.Plan, mode string) []Finding {
	var l list
	if o.Mode == corepattern.ModeOff && p.Other == "" {
		l.add("cores", Missing, "the agent's configuration has switched capturing off", "capture: {mode: auto} in its file")
	} else {
		checkMode(&l, p, mode)
	}
	l.add("kernel", Note, p.Kernel+": "+modesOf(p), "")
	checkHandler(&l, p)
	checkRights(&l)
	checkPtrace(&l)
	if v := sysctl("fs/suid_dumpable"); v == "0" {
		l.add("suid", Note, "fs.suid_dumpable is 0: programs that change their user leave no core", "")
	}
	checkSpool(&l, o)
	return l
}

func sysctl(name string) string {
	data, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(data))
}

func checkMode(l *list, p *corepattern.Plan, mode string) {
	switch {
	case p.Other != "":
		l.add("cores", Fine, "an agent takes the cores of this host, by "+mode, "")
	case mode == corepattern.ModeOff:
		l.add("cores", Missing, p.Problem, "run the agent as root of the host, or give it a directory that the kernel writes cores to; agent setup-cores tells more")
	case p.Problem != "":
		l.add("cores", Note, fmt.Sprintf("no agent takes cores now; one would by %s. %s", mode, p.Problem), "")
	default:
		l.add("cores", Note, fmt.Sprintf("no agent takes cores now; one would by %s", mode), "")
	}
}

// modesOf says which modes the kernel and the host allow.
func modesOf(p *corepattern.Plan) string {
	var parts []string
	for _, m := range p.Modes {
		word := "not "
		if m.Usable {
			word = ""
		}
		parts = append(parts, word+m.Mode)
	}
	return strings.Join(parts, ", ")
}

// checkHandler looks at what gets the cores while we do not, or what is not
// ours.
func checkHandler(l *list, p *corepattern.Plan) {
	if program, ok := strings.CutPrefix(p.Old, "|"); ok {
		name, _, _ := strings.Cut(strings.TrimSpace(program), " ")
		if _, err := os.Stat(filepath.Join("/proc/1/root", name)); os.IsNotExist(err) {
			l.add("old handler", Missing, "the host's own core handler "+name+" does not exist: cores that are not of Go are lost",
				"install it, or set kernel.core_pattern to core")
			return
		}
		if p.Limit == "0" && p.Then == "" {
			l.add("core_pipe_limit", Note, "it is 0: the kernel does not wait for the host's own handler, so that may find the process gone", "")
		}
	}
	l.add("old handler", Fine, fmt.Sprintf("what is not of Go goes to %q", p.Old), "")
}

// rights are the capabilities that an agent needs, and what for.
var rights = []struct {
	bit  int
	name string
	need string
}{
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to read the memory of other users' processes"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "to read their executables"},
	{unix.CAP_SETUID, "CAP_SETUID", "to write core files of programs that are not of Go as their users"},
	{unix.CAP_SETGID, "CAP_SETGID", "likewise"},
}

func checkRights(l *list) {
	data, _ := os.ReadFile("/proc/self/status")
	eff, err := strconv.ParseUint(field(data, "CapEff"), 16, 64)
	if err != nil {
		l.add("rights", Unknown, "the capabilities of this process cannot be read", "")
		return
	}
	var lacking []string
	for _, r := range rights {
		if eff&(1<<r.bit) == 0 {
			lacking = append(lacking, r.name+" "+r.need)
		}
	}
	if f, err := os.OpenFile("/proc/sys/kernel/core_pattern", os.O_WRONLY, 0); err != nil {
		lacking = append(lacking, fmt.Sprintf("root of the host and a writable /proc/sys to set the core pattern (%v)", err))
	} else {
		f.Close()
	}
	if len(lacking) > 0 {
		l.add("rights", Missing, "this process lacks "+strings.Join(lacking, "; "), "run the agent as root, in a container with hostPID and privileged; run this as the agent runs")
		return
	}
	l.add("rights", Fine, "this process may read others and set the core pattern", "")
}

// checkPtrace looks at what bounds snapshots of processes that go on.
func checkPtrace(l *list) {
	switch v := sysctl("kernel/yama/ptrace_scope"); v {
	case "", "0", "1", "2": // with CAP_SYS_PTRACE these do not matter
		l.add("ptrace", Fine, "snapshots of running processes are allowed to whoever has CAP_SYS_PTRACE", "")
	default:
		l.add("ptrace", Missing, "kernel.yama.ptrace_scope is "+v+": no process may be stopped for a snapshot, until the next boot",
			"set kernel.yama.ptrace_scope = 2 or less in /etc/sysctl.d and boot")
	}
}

// leastFree is the space below which a full disk is near.
const leastFree = 1 << 30

// checkSpool looks at the space for cores that are not shipped yet.
func checkSpool(l *list, o Options) {
	if o.Spool == "" {
		return
	}
	dir := o.Spool
	for dir != "/" {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			break
		}
		dir = filepath.Dir(dir) // it will be made
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		l.add("spool", Unknown, fmt.Sprintf("space in %s: %v", o.Spool, err), "")
		return
	}
	free := int64(st.Bavail) * st.Bsize
	used := sizeOf(o.Spool)
	text := fmt.Sprintf("%s takes %s of %s; the disk has %s left", o.Spool, mib(used), mib(o.SpoolQuota), mib(free))
	switch {
	case free < leastFree:
		l.add("spool", Missing, text, "make room on the disk, or give -spool a directory on another one")
	case o.SpoolQuota > 0 && used > o.SpoolQuota/10*9:
		l.add("spool", Missing, text+": older profiles and cores are dropped", "is the collector reachable? else raise -spool-quota")
	default:
		l.add("spool", Fine, text, "")
	}
}

func sizeOf(dir string) int64 {
	var n int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// field is a value of a status file.
func field(status []byte, name string) string {
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
