package capture

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

func readStat(pid int) (stat, error) {
	data, err := readSome("/proc/"+strconv.Itoa(pid)+"/stat", maxFileBytes)
	if err != nil {
		return stat{}, processError(err)
	}
	return parseStat(data)
}

// identify reads what the notes of a core say of a process. signal is what
// ended it, 0 for none.
func identify(pid, signal int, auxv []byte) (*identity, error) {
	st, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	id := &identity{
		pid: pid, ppid: st.ppid, pgrp: st.pgrp, sid: st.sid, name: st.name,
		signal: signal, auxv: auxv, page: uint64(os.Getpagesize()),
	}
	id.uid, id.gid = readIDs(pid)
	if args, err := readSome("/proc/"+strconv.Itoa(pid)+"/cmdline", 4096); err == nil {
		id.args = strings.TrimRight(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})), " ")
	}
	return id, nil
}

// readIDs are the real user and group of a process, -1 if unknown.
func readIDs(pid int) (uid, gid int) {
	return statusNumber(pid, "Uid:", -1), statusNumber(pid, "Gid:", -1)
}

// tracedBy is the process that traces a thread, 0 if none does.
func tracedBy(tid int) int { return statusNumber(tid, "TracerPid:", 0) }

// statusNumber is the first number of a line of /proc/PID/status.
func statusNumber(pid int, name string, unknown int) int {
	data, err := readSome("/proc/"+strconv.Itoa(pid)+"/status", maxFileBytes)
	if err != nil {
		return unknown
	}
	for line := range bytes.Lines(data) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == name {
			if v, err := strconv.Atoi(f[1]); err == nil {
				return v
			}
		}
	}
	return unknown
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// machine that Go runs on.
const tick = time.Second / 100

// boot is when and as what this machine started.
var boot = sync.OnceValues(func() (b struct {
	id string
	at time.Time
}, err error) {
	id, err := readSome("/proc/sys/kernel/random/boot_id", maxFileBytes)
	if err != nil {
		return b, fmt.Errorf("read boot id: %w", err)
	}
	b.id = strings.TrimSpace(string(id))
	data, err := readSome("/proc/stat", maxMapsBytes)
	if err != nil {
		return b, fmt.Errorf("read time of boot: %w", err)
	}
	for line := range bytes.Lines(data) {
		if v, ok := bytes.CutPrefix(line, []byte("btime ")); ok {
			if s, err := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64); err == nil {
				b.at = time.Unix(s, 0).UTC()
			}
		}
	}
	return b, nil
})

// processID names one life of a process, as package host does, and says when
// it began.
func processID(pid int, st *stat) (id string, started time.Time) {
	b, err := boot()
	if err != nil {
		return "", time.Time{}
	}
	if !b.at.IsZero() {
		started = b.at.Add(time.Duration(st.start) * tick)
	}
	return fmt.Sprintf("%s:%d:%d", b.id, pid, st.start), started
}

// event is what is known of any death of a live process before anything of
// it is read.
func (c *Capturer) event(kind string, pid int, at time.Time) (inquest.Crash, error) {
	st, err := readStat(pid)
	if err != nil {
		return inquest.Crash{}, err
	}
	e := inquest.Crash{Kind: kind, At: at.UTC(), PID: pid, Agent: c.opts.Agent, Host: c.opts.Host, Tier: inquest.TierNone}
	e.Process, e.Started = processID(pid, &st)
	e.ID = inquest.CrashID(e.Process)
	return e, nil
}
