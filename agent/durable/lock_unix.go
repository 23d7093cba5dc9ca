//go:build unix

package durable

import (
	"os"

	"github.com/goinquest/inquest"
	"golang.org/x/sys/unix"
)

// Lock takes the lock that keeps a second agent out of the spool. It is
// gone with the process, however that ends.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written to it
		return nil, inquest.Errorf(inquest.ErrConflict, "%s is locked: another agent uses this spool directory; give each its own", path)
	}
	return f, nil
}
