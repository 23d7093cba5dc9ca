package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// files does the spool's file operations, and tells after every one of them
// that it happened.
type files struct {
	root  string
	after func(op string)
}

func (f *files) path(elem ...string) string {
	return filepath.Join(append([]string{f.root}, elem...)...)
}

func (f *files) did(op string) {
	if f.after != nil {
		f.after(op)
	}
}

// write makes dir/name hold data: written beside it, synced, renamed. The
// directory is not synced.
func (f *files) write(dir, name string, data []byte) error {
	temp := f.path(dir, prefixTemp+name)
	if err := f.writeTemp(temp, data); err != nil {
		_ = os.Remove(temp) // the first error is the one to tell
		return err
	}
	if err := os.Rename(temp, f.path(dir, name)); err != nil {
		_ = os.Remove(temp)
		return err
	}
	f.did("rename " + name)
	return nil
}

func (f *files) writeTemp(temp string, data []byte) error {
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	f.did("create " + temp)
	_, err = file.Write(data)
	f.did("write " + temp)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes the names in a directory durable.
func (f *files) syncDir(dir string) error {
	d, err := os.Open(f.path(dir))
	if err != nil {
		return err
	}
	err = d.Sync()
	f.did("sync " + dir)
	return errors.Join(err, d.Close())
}

func (f *files) rename(from, to string) error {
	err := os.Rename(f.path(from), f.path(to))
	f.did("rename " + to)
	return err
}

// remove removes a file; that it is gone already is no error.
func (f *files) remove(name string) error {
	err := os.Remove(f.path(name))
	f.did("remove " + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// found is one file of a directory.
type found struct {
	name string
	info fs.FileInfo
}

// list returns the regular files of a directory by name, and removes what was
// being written when the agent died.
func (f *files) list(dir string) ([]found, error) {
	entries, err := os.ReadDir(f.path(dir))
	if err != nil {
		return nil, err
	}
	out := make([]found, 0, len(entries))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefixTemp) {
			if err := f.remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		out = append(out, found{e.Name(), info})
	}
	return out, nil
}
