//go:build !linux

package crashtext

import (
	"fmt"
	"io/fs"
)

// fileKey names a file as it is now.
func fileKey(info fs.FileInfo) string {
	return fmt.Sprintf("%s %d %d", info.Name(), info.Size(), info.ModTime().UnixNano())
}

// inodeKey names a file whatever is written to it.
func inodeKey(info fs.FileInfo) string { return info.Name() }
