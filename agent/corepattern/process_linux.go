package corepattern

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// procFile is a file of a process in /proc.
func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// Numbers of fields in /proc/PID/stat from the state on, see proc(5).
const (
	statFlags    = 6
	statExitCode = 49
)

// dumping is the kernel's flag of the thread that makes the core, PF_DUMPCORE.
const dumping = 0x200

// statField is a number of a stat file, 0 if there is none.
func statField(path string, n int) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	i := bytes.LastIndexByte(data, ')') // a name may hold anything
	f := strings.Fields(string(data[i+1:]))
	if n >= len(f) {
		return 0
	}
	v, _ := strconv.ParseInt(f[n], 10, 64)
	return v
}

// signalOf is the signal that a process dumps core for, 0 if unknown. It is in
// the exit code long before the process exits.
func signalOf(pid int) int { return int(statField(procFile(pid, "stat"), statExitCode) & 0x7f) }

// threadOf is the thread of a process that makes the core; the process's own
// number if that cannot be told.
func threadOf(pid int) int {
	tasks, err := os.ReadDir(procFile(pid, "task"))
	if err != nil {
		return pid
	}
	for _, t := range tasks {
		if statField(procFile(pid, "task/"+t.Name()+"/stat"), statFlags)&dumping != 0 {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				return tid
			}
		}
	}
	return pid
}

// statusFields are the values of a status file by their names.
func statusFields(path string) map[string]string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	m := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			m[name] = strings.TrimSpace(value)
		}
	}
	return m
}

// last is the last of several numbers in a field of a status file.
func last(field string) string {
	f := strings.Fields(field)
	if len(f) == 0 {
		return ""
	}
	return f[len(f)-1]
}

// expansion is what the specifiers of core(5) stand for in a death of a
// process that is held.
func expansion(d *Death, pattern string) specifiers {
	status := statusFields(procFile(d.PID, "status"))
	exe, _ := os.Readlink(procFile(d.PID, "exe"))
	exe = strings.TrimSuffix(exe, " (deleted)")
	s := specifiers{
		'P': strconv.Itoa(d.PID), 'p': last(status["NSpid"]), 'u': strconv.Itoa(d.UID), 'g': strconv.Itoa(d.GID),
		's': strconv.Itoa(d.Signal), 't': strconv.FormatInt(d.At.Unix(), 10), 'c': strconv.FormatUint(d.CoreLimit, 10),
		'd': "1", 'E': strings.ReplaceAll(exe, "/", "!"), 'f': filepath.Base(exe), 'e': status["Name"], 'F': "3",
	}
	if d.Suid {
		s['d'], _ = readSysctl("/proc/sys/fs/suid_dumpable")
	}
	if uses(pattern, 'h') {
		s['h'], _ = os.Hostname() // of the agent: that of the process's namespace is told nowhere
	}
	if uses(pattern, 'I') || uses(pattern, 'i') || uses(pattern, 'e') || uses(pattern, 'C') {
		tid := d.TID
		if tid == 0 {
			tid = threadOf(d.PID)
		}
		task := procFile(d.PID, "task/"+strconv.Itoa(tid))
		thread := statusFields(task + "/status")
		s['I'], s['i'] = strconv.Itoa(tid), last(thread["NSpid"])
		s['C'] = strconv.FormatInt(statField(task+"/stat", 36), 10)
		if thread["Name"] != "" {
			s['e'] = thread["Name"]
		}
	}
	return s
}
