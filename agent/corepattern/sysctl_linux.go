package corepattern

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readSysctl reads one value of the kernel.
func readSysctl(file string) (string, error) {
	data, err := os.ReadFile(file)
	return strings.TrimSuffix(string(data), "\n"), err
}

// writeSysctl writes one value of the kernel, which takes it whole or refuses.
func writeSysctl(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("set %s to %q: %w", file, value, err)
	}
	return nil
}

// sysctlWritable says why a value of the kernel cannot be written, nil if it
// can.
func sysctlWritable(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// kernelRelease is the kernel's version as numbers and as it is written.
func kernelRelease() (major, minor int, release string) {
	release, _ = readSysctl(releaseFile)
	first, rest, _ := strings.Cut(release, ".")
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		rest = rest[:digits]
	}
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(rest)
	return major, minor, release
}

// hasSocket says that the kernel connects to sockets and asks what to do. One
// that is older would take "@@/…" for the name of a file.
func hasSocket() bool {
	major, minor, _ := kernelRelease()
	return major > 6 || major == 6 && minor >= 17
}

// coreLimit is a process's soft RLIMIT_CORE in bytes; NoCoreLimit if it has
// none, 0 if that cannot be read.
func coreLimit(pid int) uint64 {
	var r unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &r) != nil {
		return 0
	}
	return r.Cur
}
