//go:build !unix

package spool

import "os"

// lockFile only opens the file: there is no flock here, so that nothing keeps
// a second agent out of the spool.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
