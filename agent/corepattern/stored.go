package corepattern

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The kinds of files that systemd-coredump stores, by how their names end.
const (
	packedZstd = ".zst"
	packedLZ4  = ".lz4"
	packedXZ   = ".xz"
)

// stored is what the name of a file of systemd-coredump tells:
// core.COMM.UID.BOOT.PID.TIME[.zst], TIME in microseconds since 1970; older
// releases count it in seconds.
type stored struct {
	comm   string
	uid    int
	boot   string
	pid    int
	at     time.Time
	packed string // "" if it is not
}

// parseStored reads such a name; false if it is none.
func parseStored(name string) (s stored, ok bool) {
	rest, ok := strings.CutPrefix(name, "core.")
	if !ok {
		return s, false
	}
	switch ext := filepath.Ext(rest); ext {
	case packedZstd, packedLZ4, packedXZ:
		s.packed, rest = ext, strings.TrimSuffix(rest, ext)
	}
	f := strings.Split(rest, ".") // the name of the program may have dots, the rest has none
	n := len(f) - 4
	if n < 1 || len(f[n+1]) != 32 {
		return s, false
	}
	uid, err := strconv.ParseUint(f[n], 10, 31)
	pid, err2 := strconv.ParseUint(f[n+2], 10, 31)
	at, err3 := strconv.ParseInt(f[n+3], 10, 64)
	if err != nil || err2 != nil || err3 != nil {
		return s, false
	}
	s.comm, s.uid, s.boot, s.pid = strings.Join(f[:n], "."), int(uid), f[n+1], int(pid)
	if s.at = time.UnixMicro(at); at < 1e12 {
		s.at = time.Unix(at, 0)
	}
	return s, true
}
