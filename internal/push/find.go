package push

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goinquest/inquest"
)

// place is a file to look at.
type place struct {
	path  string
	named bool // by the caller, not found in a directory
}

// find lists the files that are named, and the ELF files in directories that
// are. Links in directories are not followed; what may not be read is an error.
func find(ctx context.Context, paths []string) ([]place, error) {
	var out []place
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			is, err := isELF(path)
			if err != nil {
				return nil, err
			}
			if !is {
				return nil, inquest.Errorf(inquest.ErrInvalid, "%s is no ELF file: only executables, libraries and debug companions of Linux can be pushed", path)
			}
			out = append(out, place{path, true})
			continue
		}
		err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if is, err := isELF(name); err != nil || !is {
				return err
			}
			out = append(out, place{name, false})
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isELF(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	_ = f.Close() // only read
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return string(magic[:]) == "\x7fELF", err
}
