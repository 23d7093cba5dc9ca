package host

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// clockTicks is USER_HZ, the same on every architecture that Go and Linux share.
const clockTicks = 100

// Identify looks at one process. The error is of kind inquest.ErrNotFound if
// there is none of that number.
func Identify(pid int) (Identity, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	data, err := readProc(dir + "/stat")
	if err != nil {
		return Identity{}, inquest.Errorf(inquest.ErrNotFound, "process %d: %w", pid, err)
	}
	st, err := ParseStat(data)
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	boot, err := readProc(bootIDFile)
	if err != nil {
		return Identity{}, fmt.Errorf("read boot id: %w", err)
	}
	status, err := readProc(dir + "/status")
	if err != nil {
		return Identity{}, inquest.Errorf(inquest.ErrNotFound, "process %d: %w", pid, err)
	}
	id := Identity{
		PID: pid, Parent: statusField(status, "PPid:"), UID: statusField(status, "Uid:"),
		ID: fmt.Sprintf("%s:%d:%d", strings.TrimSpace(string(boot)), pid, st.Start),
	}
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		id.Exe = strings.TrimSuffix(exe, deletedSuffix)
	}
	if stat, err := readProc("/proc/stat"); err == nil {
		if booted := statusField(stat, "btime"); booted > 0 {
			id.Started = time.Unix(int64(booted), 0).Add(time.Duration(st.Start) * (time.Second / clockTicks)).UTC()
		}
	}
	return id, nil
}

// statusField is the first number of the line that begins with name, 0 if
// there is none.
func statusField(data []byte, name string) int {
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				n, _ := strconv.Atoi(string(f[0]))
				return n
			}
		}
	}
	return 0
}
