package load

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// peakMemory is the largest resident size that the process serving an address
// of this machine has had since its start, in bytes; 0 if it cannot be told,
// because it runs elsewhere or belongs to another user.
func peakMemory(base string) int64 {
	u, err := url.Parse(base)
	if err != nil {
		return 0
	}
	addrs, err := net.LookupIP(u.Hostname())
	if err != nil || len(addrs) == 0 || !addrs[0].IsLoopback() {
		return 0
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0
	}
	for _, inode := range listeners(port) {
		if pid := holder("socket:[" + inode + "]"); pid != "" {
			return highWater(pid)
		}
	}
	return 0
}

// listeners are the inodes of the TCP sockets that listen on a port (proc(5),
// /proc/net/tcp: local address, state 0A, inode).
func listeners(port int) []string {
	var inodes []string
	suffix := fmt.Sprintf(":%04X", port)
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[1], suffix) && f[3] == "0A" {
				inodes = append(inodes, f[9])
			}
		}
	}
	return inodes
}

// holder is the process that has a file open.
func holder(link string) string {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == link {
			return strings.Split(fd, "/")[2]
		}
	}
	return ""
}

func highWater(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	if f := strings.Fields(string(rest[:min(len(rest), 40)])); len(f) > 1 && f[1] == "kB" {
		if kb, err := strconv.ParseInt(f[0], 10, 64); err == nil {
			return kb << 10
		}
	}
	return 0
}
