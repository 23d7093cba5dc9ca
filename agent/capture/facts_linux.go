package capture

import (
	"bytes"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/goinquest/inquest"
	"golang.org/x/sys/unix"
)

// Facts asks the host about a process. What cannot be read is left out, so
// there are always some. The process may be one that dumps core.
func Facts(pid int) *inquest.Facts {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	read := func(name string) []byte {
		data, err := readSome(dir+name, maxFileBytes)
		if err != nil {
			return nil
		}
		return data
	}
	f := &inquest.Facts{CPUs: runtime.NumCPU()}
	g := ParseCgroup(read("cgroup"))
	g.Describe(f)
	g.limits(f)
	if f.Container != "" {
		Container(os.DirFS("/"), f)
		inside(dir+"root", f)
	}
	Environment(read("environ"), f)
	if st, err := parseStat(read("stat")); err == nil {
		f.RSSBytes = st.rss * int64(os.Getpagesize())
		f.Threads = st.threads
	}
	f.Rlimits = parseLimits(read("limits"))
	f.FDs = countFiles(dir + "fd")
	hostFacts(f)
	return f
}

// hostFacts are those of the machine.
func hostFacts(f *inquest.Facts) {
	if b, err := boot(); err == nil {
		f.BootID = b.id
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		f.HostMemory = int64(si.Totalram) * int64(si.Unit)
		f.Load = float64(si.Loads[0]) / (1 << 16) // SI_LOAD_SHIFT
	}
}

// allocated is how much of a disk a file takes.
func allocated(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// parseLimits reads the soft limits out of /proc/PID/limits.
func parseLimits(data []byte) map[string]string {
	names := map[string]string{
		"Max core file size": "core", "Max open files": "nofile", "Max processes": "nproc", "Max address space": "as",
		"Max data size": "data", "Max stack size": "stack", "Max file size": "fsize", "Max locked memory": "memlock", "Max resident set": "rss",
	}
	out := map[string]string{}
	for line := range bytes.Lines(data) {
		s := string(line)
		if len(s) < 27 {
			continue
		}
		// The name takes 26 columns, the soft limit follows.
		if name := names[strings.TrimSpace(s[:26])]; name != "" {
			if v := strings.Fields(s[26:]); len(v) > 0 {
				out[name] = v[0]
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// countFiles counts a process's open files. Since Linux 6.2 the directory's
// size says it.
func countFiles(dir string) int {
	if info, err := os.Stat(dir); err == nil && info.Size() > 0 {
		return int(info.Size())
	}
	d, err := os.Open(dir)
	if err != nil {
		return 0
	}
	names, err := d.Readdirnames(1 << 16)
	_ = d.Close() // only read
	if err != nil {
		return 0
	}
	return len(names)
}

// inside reads what a container says of itself. Its files are its own: links
// out of it are not followed, and nothing that could block is opened.
func inside(dir string, f *inquest.Facts) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer func() { _ = root.Close() }() // only read
	read := func(name string) string {
		file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return ""
		}
		defer func() { _ = file.Close() }() // only read
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			return ""
		}
		data, err := io.ReadAll(io.LimitReader(file, 64<<10))
		if err != nil {
			return ""
		}
		return string(data)
	}
	if f.Image == "" && f.Runtime == "podman" {
		for line := range strings.Lines(read("run/.containerenv")) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "image="); ok {
				setImage(f, strings.Trim(v, `"`))
			}
		}
	}
	if f.Namespace == "" && f.PodUID != "" {
		setFact(&f.Namespace, strings.TrimSpace(read("run/secrets/kubernetes.io/serviceaccount/namespace")))
	}
	if f.Namespace == "" && f.PodUID != "" {
		setFact(&f.Namespace, strings.TrimSpace(read("var/run/secrets/kubernetes.io/serviceaccount/namespace")))
	}
}

// cgroupMounts says where the hierarchies of groups are mounted: "" is that
// of version 2.
var cgroupMounts = sync.OnceValue(func() map[string]mount {
	data, err := readSome("/proc/self/mountinfo", maxMapsBytes)
	if err != nil {
		return nil
	}
	return parseMounts(data)
})

type mount struct {
	root, dir string // what of the hierarchy is seen, and where
}

// parseMounts reads /proc/PID/mountinfo (proc(5)).
func parseMounts(data []byte) map[string]mount {
	out := map[string]mount{}
	for line := range bytes.Lines(data) {
		left, right, ok := strings.Cut(string(line), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		m := mount{l[3], l[4]}
		switch r[0] {
		case "cgroup2":
			if _, have := out[""]; !have {
				out[""] = m
			}
		case "cgroup":
			for o := range strings.SplitSeq(r[2], ",") {
				out[o] = m
			}
		}
	}
	return out
}

// group is where the files of a group are; "" if it is not mounted here.
func (m mount) group(p string) string {
	if m.dir == "" || p == "" {
		return ""
	}
	rest, ok := strings.CutPrefix(p, strings.TrimSuffix(m.root, "/"))
	if !ok {
		return ""
	}
	return path.Join(m.dir, rest)
}

// limits fills in the numbers of a group, from version 2 where that has the
// controller, else from version 1.
func (g *Cgroup) limits(f *inquest.Facts) {
	mounts := cgroupMounts()
	unified := mounts[""].group(g.Unified)
	if unified != "" {
		f.MemoryBytes = groupNumber(unified, "memory.current")
		f.MemoryPeak = groupNumber(unified, "memory.peak")
		f.MemoryLimit = lowest(unified, mounts[""].dir, "memory.max")
		f.SwapLimit = lowest(unified, mounts[""].dir, "memory.swap.max")
		f.PIDsLimit = lowest(unified, mounts[""].dir, "pids.max")
		f.CPULimit = cpuLimit(unified, mounts[""].dir)
		f.OOMs, f.OOMKills = groupValue(unified, "memory.events", "oom"), groupValue(unified, "memory.events", "oom_kill")
	}
	if m := mounts["memory"]; g.Controllers["memory"] != "" && m.dir != "" {
		dir := m.group(g.Controllers["memory"])
		f.MemoryBytes = groupNumber(dir, "memory.usage_in_bytes")
		f.MemoryPeak = groupNumber(dir, "memory.max_usage_in_bytes")
		f.MemoryLimit = lowest(dir, m.dir, "memory.limit_in_bytes")
		if both := lowest(dir, m.dir, "memory.memsw.limit_in_bytes"); both > 0 {
			f.SwapLimit = both - f.MemoryLimit
		}
		f.OOMKills = groupValue(dir, "memory.oom_control", "oom_kill")
		f.OOMs = groupNumber(dir, "memory.failcnt")
	}
	if m := mounts["pids"]; g.Controllers["pids"] != "" && m.dir != "" {
		f.PIDsLimit = lowest(m.group(g.Controllers["pids"]), m.dir, "pids.max")
	}
	if m := mounts["cpu"]; g.Controllers["cpu"] != "" && m.dir != "" {
		dir := m.group(g.Controllers["cpu"])
		quota, period := groupNumber(dir, "cpu.cfs_quota_us"), groupNumber(dir, "cpu.cfs_period_us")
		if quota > 0 && period > 0 {
			f.CPULimit = float64(quota) / float64(period)
		}
	}
}

// unlimited is what version 1 has for "max", give or take a page.
const unlimited = 1 << 60

// groupNumber reads a file with one number; 0 if there is none, or no limit.
func groupNumber(dir, name string) int64 {
	data, err := readSome(dir+"/"+name, maxFileBytes)
	if dir == "" || err != nil {
		return 0
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || v < 0 || v >= unlimited {
		return 0
	}
	return v
}

// lowest is the smallest of a limit over a group and those above it.
func lowest(dir, top, name string) int64 {
	var least int64
	for dir != "" && strings.HasPrefix(dir, top) {
		if v := groupNumber(dir, name); v > 0 && (least == 0 || v < least) {
			least = v
		}
		if dir == top {
			break
		}
		dir = path.Dir(dir)
	}
	return least
}

// cpuLimit is the smallest quota of processors over a group and those above.
func cpuLimit(dir, top string) float64 {
	var least float64
	for dir != "" && strings.HasPrefix(dir, top) {
		data, _ := readSome(dir+"/cpu.max", maxFileBytes) // none, no limit
		if f := strings.Fields(string(data)); len(f) == 2 {
			quota, err1 := strconv.ParseFloat(f[0], 64)
			period, err2 := strconv.ParseFloat(f[1], 64)
			if err1 == nil && err2 == nil && period > 0 && (least == 0 || quota/period < least) {
				least = quota / period
			}
		}
		if dir == top {
			break
		}
		dir = path.Dir(dir)
	}
	return least
}

// groupValue reads one line of a file of names and numbers.
func groupValue(dir, name, key string) int64 {
	data, err := readSome(dir+"/"+name, maxFileBytes)
	if dir == "" || err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			v, _ := strconv.ParseInt(f[1], 10, 64) // 0 if it is no number
			return v
		}
	}
	return 0
}
