package crashtext

import (
	"fmt"
	"io/fs"
	"syscall"
)

// fileKey names a file as it is now.
func fileKey(info fs.FileInfo) string {
	return fmt.Sprintf("%s %d %d", inodeKey(info), info.Size(), info.ModTime().UnixNano())
}

// inodeKey names a file whatever is written to it.
func inodeKey(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	return info.Name()
}
