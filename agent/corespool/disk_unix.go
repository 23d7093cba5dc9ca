//go:build unix

package corespool

import (
	"errors"

	"golang.org/x/sys/unix"
)

// freeBytes is how much the file system of dir has left for this process.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// noSpace reports whether an error says that the disk or a quota on it is full.
func noSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
