// Package durable does the file operations of the agent's spools: files that
// are whole or not there, names that survive a loss of power, and a hook by
// which tests see what a crash after any operation would leave. It keeps no
// state of its own and is safe for use by several goroutines.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// PrefixTemp begins the names of files that are being written.
const PrefixTemp = ".tmp-"

// Files does the operations below a directory, and tells after every one of
// them that it happened.
type Files struct {
	Root  string
	After func(op string) // may be nil
}

// Path is a name below the root.
func (f *Files) Path(elem ...string) string {
	return filepath.Join(append([]string{f.Root}, elem...)...)
}

// Did tells of an operation that was done without Files.
func (f *Files) Did(op string) {
	if f.After != nil {
		f.After(op)
	}
}

// Write makes dir/name hold data: written beside it, synced, renamed. The
// directory is not synced.
func (f *Files) Write(dir, name string, data []byte) error {
	temp := f.Path(dir, PrefixTemp+name)
	if err := f.writeTemp(temp, data); err != nil {
		_ = os.Remove(temp) // the first error is the one to tell
		return err
	}
	if err := os.Rename(temp, f.Path(dir, name)); err != nil {
		_ = os.Remove(temp)
		return err
	}
	f.Did("rename " + name)
	return nil
}

func (f *Files) writeTemp(temp string, data []byte) error {
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	f.Did("create " + temp)
	_, err = file.Write(data)
	f.Did("write " + temp)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// SyncDir makes the names in a directory durable.
func (f *Files) SyncDir(dir string) error {
	d, err := os.Open(f.Path(dir))
	if err != nil {
		return err
	}
	err = d.Sync()
	f.Did("sync " + dir)
	return errors.Join(err, d.Close())
}

// Rename renames a file below the root.
func (f *Files) Rename(from, to string) error {
	err := os.Rename(f.Path(from), f.Path(to))
	f.Did("rename " + to)
	return err
}

// Remove removes a file; that it is gone already is no error.
func (f *Files) Remove(name string) error {
	err := os.Remove(f.Path(name))
	f.Did("remove " + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Found is one file of a directory.
type Found struct {
	Name string
	Info fs.FileInfo
}

// List returns the regular files of a directory by name, and removes what was
// being written when the agent died.
func (f *Files) List(dir string) ([]Found, error) {
	entries, err := os.ReadDir(f.Path(dir))
	if err != nil {
		return nil, err
	}
	out := make([]Found, 0, len(entries))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), PrefixTemp) {
			if err := f.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		out = append(out, Found{e.Name(), info})
	}
	return out, nil
}
