//go:build !linux

package crashtext

import (
	"fmt"
	"io/fs"
	"os"
	"time"
)

// fileKey names a file as it is now.
func fileKey(info fs.FileInfo) string {
	return fmt.Sprintf("%s %d %d", info.Name(), info.Size(), info.ModTime().UnixNano())
}

// inodeKey names a file whatever is written to it.
func inodeKey(info fs.FileInfo) string { return info.Name() }

// born is when the file was made, zero if its file system does not say.
func born(*os.File) time.Time { return time.Time{} }
