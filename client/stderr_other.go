//go:build !linux

package client

import "errors"

// CaptureStderr works on Linux only.
func CaptureStderr(Options) error {
	return errors.New("capture stderr: only on Linux")
}
