package host

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
)

// The readers of the text files in /proc (proc(5)). They take whatever comes:
// a container runtime or a user can put other things there.

// Stat is what is needed of /proc/PID/stat.
type Stat struct {
	Comm   string // name of the program as the kernel keeps it, at most 15 bytes
	Kernel bool   // a thread of the kernel
	Zombie bool   // ended, not waited for
	Start  uint64 // clock ticks since boot
}

// pfKthread is PF_KTHREAD of the kernel's include/linux/sched.h.
const pfKthread = 0x00200000

// ParseStat reads /proc/PID/stat. The error is of kind inquest.ErrInvalid.
func ParseStat(data []byte) (Stat, error) {
	// The name stands in parentheses and may hold some itself.
	from, to := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if from < 0 || to < from {
		return Stat{}, inquest.Errorf(inquest.ErrInvalid, "stat line %.40q has no name in parentheses", data)
	}
	fields := strings.Fields(string(data[to+1:]))
	if len(fields) < 20 {
		return Stat{}, inquest.Errorf(inquest.ErrInvalid, "stat line has %d fields after the name, want at least 20", len(fields))
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	if err != nil {
		return Stat{}, inquest.Errorf(inquest.ErrInvalid, "stat flags: %w", err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return Stat{}, inquest.Errorf(inquest.ErrInvalid, "stat start time: %w", err)
	}
	return Stat{
		Comm: string(data[from+1 : to]), Kernel: flags&pfKthread != 0,
		Zombie: fields[0] == "Z" || fields[0] == "X", Start: start,
	}, nil
}

// Listener is a TCP socket that accepts connections.
type Listener struct {
	Addr  netip.AddrPort
	Inode uint64
}

// tcpListen is TCP_LISTEN of the kernel's include/net/tcp_states.h.
const tcpListen = "0A"

// ParseListeners reads /proc/PID/net/tcp or tcp6; lines it cannot read are
// left out.
func ParseListeners(data []byte) []Listener {
	var out []Listener
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) < 10 || string(f[3]) != tcpListen {
			continue
		}
		addr, ok := parseAddr(string(f[1]))
		inode, err := strconv.ParseUint(string(f[9]), 10, 64)
		if ok && err == nil && inode != 0 {
			out = append(out, Listener{addr, inode})
		}
	}
	return out
}

// parseAddr reads an address as the kernel prints it: 32-bit words in the
// machine's order, then the port. Every machine we run on is little-endian.
func parseAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	if !ok {
		return netip.AddrPort{}, false
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || p == 0 {
		return netip.AddrPort{}, false
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), true
}

// ParseSocket reads the inode out of a link in /proc/PID/fd.
func ParseSocket(link string) (inode uint64, ok bool) {
	s, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	s, ok = strings.CutSuffix(s, "]")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(s, 10, 64)
	return inode, err == nil
}

// ParseUnit reads the systemd unit out of /proc/PID/cgroup: "foo" for
// foo.service and foo@1.service, "" for sessions, scopes, containers and the
// managers of users.
func ParseUnit(data []byte) string {
	for line := range bytes.Lines(data) {
		// hierarchy:controllers:path; systemd's own is 0:: or name=systemd.
		f := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(f) != 3 || f[1] != "" && f[1] != "name=systemd" {
			continue
		}
		if unit := unitOf(f[2]); unit != "" {
			return unit
		}
	}
	return ""
}

func unitOf(path string) string {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if strings.HasSuffix(parts[i], ".scope") {
			return ""
		}
		name, ok := strings.CutSuffix(parts[i], ".service")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "@")
		name = unescapeUnit(name)
		if name == "user" || inquest.ValidateLabel(inquest.LabelService, name) != nil {
			return ""
		}
		return name
	}
	return ""
}

// unescapeUnit undoes systemd-escape's \xNN.
func unescapeUnit(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if v, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// The only variables that are read out of a process's environment, the
// better one first.
const (
	envOTel    = "OTEL_SERVICE_NAME="
	envService = "SERVICE_NAME="
)

// ParseServiceName reads the service's name out of /proc/PID/environ, "" if
// it is not there or cannot be a label. Nothing else is looked at.
func ParseServiceName(environ []byte) string {
	var name string
	for len(environ) > 0 {
		var entry []byte
		entry, environ, _ = bytes.Cut(environ, []byte{0})
		if v, ok := bytes.CutPrefix(entry, []byte(envOTel)); ok && usable(v) {
			return string(v)
		}
		if v, ok := bytes.CutPrefix(entry, []byte(envService)); ok && usable(v) && name == "" {
			name = string(v)
		}
	}
	return name
}

func usable(v []byte) bool {
	return len(v) > 0 && inquest.ValidateLabel(inquest.LabelService, string(v)) == nil
}

// ProgramName is what people call a Go program: the last element of its main
// package's path, without a major version; exe is the executable's path, for
// programs that were built from files.
func ProgramName(mainPath, exe string) string {
	parts := strings.Split(mainPath, "/")
	last := parts[len(parts)-1]
	if len(parts) > 1 && isMajor(last) {
		last = parts[len(parts)-2]
	}
	if last == "" || last == "command-line-arguments" {
		last = exe[strings.LastIndexByte(exe, '/')+1:]
	}
	return last
}

// isMajor reports whether a path element is a major version as modules have
// it: v2, v3, …
func isMajor(s string) bool {
	n, ok := strings.CutPrefix(s, "v")
	v, err := strconv.ParseUint(n, 10, 32)
	return ok && err == nil && v >= 2 && n[0] != '0'
}
