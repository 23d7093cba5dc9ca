//go:build !unix

package durable

import "os"

// Lock only opens the file: there is no flock here, so that nothing keeps
// a second agent out of the spool.
func Lock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
