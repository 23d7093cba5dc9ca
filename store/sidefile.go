package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// sideFile is a small file beside the catalog: lines of JSON, each with its
// checksum. It says again what only the catalog has and no block could tell.
// It is not safe for concurrent use.
type sideFile struct {
	ops  fileOps
	dir  string
	name string
	size int64 // of what counts: what follows in the file is of an append that failed
}

// maxSideBytes bounds what is read of one.
const maxSideBytes = 1 << 28

func (f *sideFile) path() string { return filepath.Join(f.dir, f.name) }

// read returns what is in the file, nothing if it is not there.
func (f *sideFile) read() (raw []byte, err error) {
	r, err := f.ops.OpenFile(f.path(), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		f.size = 0
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	size, err := r.Size()
	if err != nil {
		return nil, err
	}
	if size > maxSideBytes {
		return nil, fmt.Errorf("%s has %d bytes, %d are the most", f.path(), size, maxSideBytes)
	}
	raw = make([]byte, size)
	if _, err := r.ReadAt(raw, 0); err != nil {
		return nil, err
	}
	f.size = int64(bytes.LastIndexByte(raw, '\n') + 1)
	return raw, nil
}

// append adds a line, durably. After an error there is none.
func (f *sideFile) append(line []byte) (err error) {
	w, err := f.ops.OpenFile(f.path(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = w.Truncate(f.size) // else the next append cuts it off
		}
		if e := w.Close(); err == nil {
			err = e
		}
	}()
	size, err := w.Size()
	if err == nil && size > f.size {
		err = w.Truncate(f.size)
	}
	if err == nil {
		_, err = w.Write(line)
	}
	if err == nil {
		err = w.Datasync()
	}
	if err == nil {
		err = f.ops.SyncDir(f.dir)
	}
	if err == nil {
		f.size += int64(len(line))
	}
	return err
}

// takeBack removes a line that was appended just before.
func (f *sideFile) takeBack(line []byte) {
	f.size -= int64(len(line))
	w, err := f.ops.OpenFile(f.path(), os.O_RDWR, 0)
	if err != nil {
		return // the next append cuts it off
	}
	_ = w.Truncate(f.size)
	_ = w.Close()
}

// replace puts other lines in the place of all there are. The old file is kept
// under the name aside, if that is not "".
func (f *sideFile) replace(lines []byte, aside string) (err error) {
	temp := f.path() + tempSuffix
	w, err := f.ops.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = w.Write(lines); err == nil {
		err = w.Datasync()
	}
	if e := w.Close(); err == nil {
		err = e
	}
	if err == nil && aside != "" {
		err = f.ops.Rename(f.path(), filepath.Join(f.dir, aside))
	}
	if err == nil {
		if err = f.ops.Rename(temp, f.path()); err != nil && aside != "" {
			err = errors.Join(err, f.ops.Rename(filepath.Join(f.dir, aside), f.path()))
		}
	}
	if err != nil {
		_ = f.ops.Remove(temp) // else the next one is written over it
		return err
	}
	f.size = int64(len(lines))
	return f.ops.SyncDir(f.dir)
}

// brokenName is the name under which a file is kept that could not be used.
func brokenName(name string, now time.Time) string {
	return name + brokenInfix + now.UTC().Format("20060102T150405.000Z")
}

// crcField is how the checksum of a line is written, behind its other fields.
const crcField = `,"crc":"%08x"}`

var crcFieldSize = len(fmt.Sprintf(crcField, 0))

var (
	errLineSum   = errors.New("checksum does not match")
	errLineNoSum = errors.New("it has no checksum")
)

// sealLine makes a line of an object. The checksum is that of the object
// without it.
func sealLine(object any) ([]byte, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return append(appendCRC(raw), '\n'), nil
}

func appendCRC(object []byte) []byte {
	return fmt.Appendf(slices.Clone(object[:len(object)-1]), crcField, checksum(object))
}

// openLine returns the object of a line, without its checksum, which is right.
func openLine(line []byte) ([]byte, error) {
	line = bytes.TrimSpace(line)
	at := len(line) - crcFieldSize
	if at < 1 || !bytes.HasPrefix(line[at:], []byte(`,"crc":"`)) {
		return nil, errLineNoSum
	}
	object := append(line[:at:at], '}')
	if !bytes.Equal(appendCRC(object), line) {
		return nil, errLineSum
	}
	return object, nil
}
