package capture

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
)

// stat is what is needed of /proc/PID/stat beyond what package host reads.
type stat struct {
	name            string
	state           byte
	ppid, pgrp, sid int
	threads         int
	start           uint64 // clock ticks since boot
	rss             int64  // pages
	sp, pc          uint64 // only while the process dumps core
}

// parseStat reads a line of /proc/PID/stat or /proc/PID/task/TID/stat.
func parseStat(data []byte) (stat, error) {
	from, to := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if from < 0 || to < from {
		return stat{}, inquest.Errorf(inquest.ErrInvalid, "stat line %.40q has no name in parentheses", data)
	}
	f := strings.Fields(string(data[to+1:]))
	if len(f) < 28 || len(f[0]) != 1 {
		return stat{}, inquest.Errorf(inquest.ErrInvalid, "stat line has %d fields after the name, want at least 28", len(f))
	}
	// The numbers are those of proc(5), less the two fields before.
	number := func(field int) uint64 {
		v, err := strconv.ParseUint(f[field-3], 10, 64)
		if err != nil {
			return 0 // negative: no group, or a field that is not told
		}
		return v
	}
	return stat{
		name: string(data[from+1 : to]), state: f[0][0],
		ppid: int(number(4)), pgrp: int(number(5)), sid: int(number(6)),
		threads: int(number(20)), start: number(22), rss: int64(number(24)),
		sp: number(29), pc: number(30),
	}, nil
}
