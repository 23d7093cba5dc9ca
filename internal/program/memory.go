package program

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// LimitMemory gives the Go runtime a soft memory limit of MemoryLimit's bytes.
// It returns the limit, 0 if none was set.
func LimitMemory(ofGroup, ofMachine int64) int64 {
	limit := MemoryLimit(ofGroup, ofMachine)
	if limit == 0 || !SoftLimit(limit) {
		return 0
	}
	return limit
}

// MemoryLimit is ofGroup percent of what the control group of the process may
// use, or ofMachine percent of the machine's memory if that is less or there is
// no group; 0 if nothing is known.
func MemoryLimit(ofGroup, ofMachine int64) int64 {
	return memoryLimit(os.DirFS("/"), ofGroup, ofMachine)
}

// SoftLimit gives the Go runtime a soft memory limit in bytes, so that garbage
// is collected sooner when memory gets short, and memory that is not used goes
// back to the system. Go bounds what that may cost to half of the CPU.
// GOMEMLIMIT, if set, wins: then it returns false.
func SoftLimit(bytes int64) bool {
	if os.Getenv("GOMEMLIMIT") != "" {
		return false
	}
	debug.SetMemoryLimit(bytes)
	return true
}

// CollectGarbage lets the heap grow by half of what is live before garbage is
// collected, and by minGrowth bytes at least: a busy program takes less memory
// than with Go's default, and one with little to keep does not collect all the
// time. GOGC, if set, wins.
func CollectGarbage(minGrowth int64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	g := &garbage{minGrowth: minGrowth}
	g.adjust()
	g.watch()
}

// garbage adjusts the pace of collections after each of them.
type garbage struct {
	minGrowth int64
	percent   int // in effect; 0 before the first
}

// watch has adjust called after the next collection, when the object that is
// made here is found to be garbage, and so on.
func (g *garbage) watch() {
	token := new([16]byte)
	runtime.AddCleanup(token, func(g *garbage) {
		g.adjust()
		g.watch()
	}, g)
}

func (g *garbage) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if percent := gcPercent(int64(live[0].Value.Uint64()), g.minGrowth); percent != g.percent {
		debug.SetGCPercent(percent)
		g.percent = percent
	}
}

// gcPercent is the growth in percent that is half of live, or minGrowth.
func gcPercent(live, minGrowth int64) int {
	live = max(live, 1<<20)
	return int(max(50, 100*minGrowth/live))
}

// memoryLimit reads /proc and /sys below root.
func memoryLimit(root fs.FS, ofGroup, ofMachine int64) int64 {
	limit := int64(math.MaxInt64)
	if total := machineMemory(root); total > 0 {
		limit = total / 100 * ofMachine
	}
	if group := groupMemory(root); group > 0 {
		limit = min(limit, group/100*ofGroup)
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

// machineMemory is MemTotal of /proc/meminfo in bytes, 0 if unknown.
func machineMemory(root fs.FS) int64 {
	data, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// groupMemory is the least memory limit of the process's control group and
// the groups above it, version 2 or 1; 0 if there is none.
func groupMemory(root fs.FS) int64 {
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		// hierarchy-ID:controllers:path, see cgroups(7).
		f := strings.SplitN(lines.Text(), ":", 3)
		if len(f) != 3 {
			continue
		}
		dir, file := "sys/fs/cgroup", "memory.max"
		if f[1] != "" {
			if !strings.Contains(","+f[1]+",", ",memory,") {
				continue
			}
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the path may be of the host and not exist here; the
		// group's files are then at the top.
		for p := path.Clean("/" + f[2]); ; p = path.Dir(p) {
			if n := limitFile(root, path.Join(dir, p, file)); n > 0 {
				least = min(least, n)
			}
			if p == "/" {
				break
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// limitFile reads one limit in bytes, 0 if there is none: version 2 says
// "max", version 1 a number near the largest there is.
func limitFile(root fs.FS, name string) int64 {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || n >= 1<<60 {
		return 0
	}
	return n
}
