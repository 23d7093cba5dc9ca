package doctor

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"github.com/goinquest/inquest/symbolize"
)

// The runtime's variable for the level, and the bit of it that says crash; see
// gotraceback in runtime/runtime1.go. It is what SetTraceback sets, too.
const (
	tracebackVariable = "runtime.traceback_cache"
	tracebackCrash    = 1
)

// tracebackInForce reads the level from the process's memory; known is false
// if it cannot be found there, as in a stripped program.
func tracebackInForce(pid int) (crashes, known bool) {
	exe, err := os.Open(procFile(pid, "exe"))
	if err != nil {
		return false, false
	}
	defer exe.Close()
	info, err := exe.Stat()
	if err != nil {
		return false, false
	}
	addr, relative, err := symbolize.Variable(exe, info.Size(), tracebackVariable)
	if err != nil {
		return false, false
	}
	if relative {
		base, ok := mappedAt(pid)
		if !ok {
			return false, false
		}
		addr += base
	}
	mem, err := os.Open(procFile(pid, "mem"))
	if err != nil {
		return false, false
	}
	defer mem.Close()
	b := make([]byte, 4)
	if _, err := mem.ReadAt(b, int64(addr)); err != nil {
		return false, false
	}
	return binary.NativeEndian.Uint32(b)&tracebackCrash != 0, true
}

// mappedAt is the address of the first byte of a process's executable.
func mappedAt(pid int) (uint64, bool) {
	exe, err := os.Readlink(procFile(pid, "exe"))
	maps, err2 := os.ReadFile(procFile(pid, "maps"))
	if err != nil || err2 != nil {
		return 0, false
	}
	for line := range strings.Lines(string(maps)) {
		// address perms offset dev inode path
		f := strings.Fields(line)
		if len(f) < 6 || strings.Trim(f[2], "0") != "" || strings.Join(f[5:], " ") != exe {
			continue
		}
		first, _, _ := strings.Cut(f[0], "-")
		base, err := strconv.ParseUint(first, 16, 64)
		return base, err == nil
	}
	return 0, false
}
