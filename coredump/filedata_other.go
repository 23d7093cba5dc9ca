//go:build !linux

package coredump

import "os"

// fileData returns the addresses of a segment whose bytes are not in holes of
// the file: where that cannot be asked, all of it.
func fileData(_ *os.File, l elfProgram, _ int64, _ int) ([]Extent, error) {
	return []Extent{{l.addr, l.filesz}}, nil
}
