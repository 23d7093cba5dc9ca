package coredump

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileData returns the addresses of a segment whose bytes are not in holes of
// the file, as no more than most extents. Holes the file system does not know
// of, and those that are too many, count as data.
func fileData(f *os.File, l elfProgram, size int64, most int) ([]Extent, error) {
	var out []Extent
	at, end := int64(l.off), min(int64(l.off+l.filesz), size)
	for at < end {
		if len(out) >= most-1 {
			return append(out, Extent{l.addr + uint64(at) - l.off, uint64(end - at)}), nil
		}
		from, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if errors.Is(err, syscall.EINVAL) {
			return append(out, Extent{l.addr + uint64(at) - l.off, uint64(end - at)}), nil
		}
		if err != nil {
			return nil, fmt.Errorf("find the holes of a core: %w", err)
		}
		if from >= end {
			break
		}
		to, err := f.Seek(from, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("find the holes of a core: %w", err)
		}
		to = min(to, end)
		if to <= from {
			break
		}
		out = append(out, Extent{l.addr + uint64(from) - l.off, uint64(to - from)})
		at = to
	}
	return out, nil
}
