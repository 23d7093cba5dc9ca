package crashtext

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

const (
	sumBytes   = 256      // of a file's beginning that tell it from another
	backlog    = 16 << 20 // of a file nothing is remembered of, while the agent was away
	readBytes  = 256 << 10
	bornBefore = 5 * time.Second // the process that has it as standard error
	patience   = 10              // polls without anything new of a process that still lives
	quietPolls = 2               // without anything new end a text, and a file that was renamed
)

// follower reads one log file as it grows, and the one that takes its place.
type follower struct {
	w       *Watcher
	path    string
	file    *os.File
	inode   string
	sum     string
	offset  int64  // that was read
	partial []byte // of the last line
	done    int64  // of the last line that is of no unfinished text
	begun   int64  // where the text begins that is being read
	quiet   int    // polls without anything new
	scanner *coredump.Scanner
	past    bool // what is read was written before the agent was there
}

// openFollower opens a file where it was left, at its end if it is history, or
// at its beginning. A file that nobody named, but a process that was started at
// since writes to, is history if it is older than that. It returns nil if it
// cannot be read.
func openFollower(w *Watcher, path string, pos position, known bool, since time.Time) *follower {
	f := &follower{w: w, path: path}
	f.scanner = coredump.NewScanner(w.options.Limits, f.found)
	name := path
	if known {
		name = findRenamed(path, pos)
	}
	size, err := f.open(name)
	if err != nil {
		w.options.Logger.Warn("read log file", "path", path, "err", err)
		return nil
	}
	switch {
	case known && f.inode == pos.Inode && size >= pos.Offset && sumOf(f.file, pos.Offset) == pos.Sum:
		f.offset, f.past = pos.Offset, true
	case w.first, !since.IsZero() && born(f.file).Before(since.Add(-bornBefore)):
		f.offset = size
	default:
		f.offset, f.past = max(0, size-backlog), known
	}
	f.done, f.begun = f.offset, f.offset
	return f
}

// findRenamed is where the file is that was being read: at its path, or beside
// it under a longer name.
func findRenamed(path string, pos position) string {
	if info, err := os.Stat(path); err != nil || inodeKey(info) == pos.Inode {
		return path
	}
	dir, base := filepath.Split(path)
	list, _ := os.ReadDir(dir) // then it is not found
	for _, e := range list {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), base) && inodeKey(info) == pos.Inode {
			return filepath.Join(dir, e.Name())
		}
	}
	return path
}

func (f *follower) open(name string) (size int64, err error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = inquest.Errorf(inquest.ErrInvalid, "%s is no file", name)
	}
	if err != nil {
		_ = file.Close() // nothing was read
		return 0, err
	}
	f.close()
	f.file, f.inode, f.sum = file, inodeKey(info), ""
	f.offset, f.done, f.begun, f.quiet, f.partial, f.past = 0, 0, 0, 0, nil, false
	return info.Size(), nil
}

func (f *follower) close() {
	if f.file != nil {
		_ = f.file.Close() // it was only read
	}
}

// position is from where it must be read again.
func (f *follower) position() position {
	if len(f.sum) == 0 || f.done < sumBytes {
		f.sum = sumOf(f.file, f.done)
	}
	return position{f.inode, f.done, f.sum}
}

// sumOf is of the beginning of a file of which so much was read.
func sumOf(file *os.File, read int64) string {
	buf := make([]byte, min(read, sumBytes))
	n, _ := file.ReadAt(buf, 0) // what cannot be read does not match
	sum := sha256.Sum256(buf[:n])
	return hex.EncodeToString(sum[:8])
}

// poll reads what is new. It returns false if the file is gone.
func (f *follower) poll(ctx context.Context) bool {
	info, err := f.file.Stat()
	if err != nil {
		return false
	}
	if info.Size() < f.offset { // it was emptied, and is written from its beginning
		f.flush(true)
		f.offset, f.done, f.begun, f.partial, f.sum = 0, 0, 0, nil, ""
	}
	if f.read(ctx) {
		f.quiet = 0
		return true
	}
	f.past = false
	if f.quiet++; f.quiet < quietPolls {
		return true
	}
	if f.quiet == quietPolls || f.scanner.Inside() {
		if gone, living := f.w.owners.writers(f.inode, f.path); gone == nil && living && f.quiet < patience {
			return true // it may be busy with its core
		}
		f.flush(false)
	}
	at, err := os.Stat(f.path)
	if err != nil {
		f.flush(true)
		return false
	}
	if inodeKey(at) == f.inode {
		return true
	}
	f.flush(true)
	_, err = f.open(f.path)
	return err == nil
}

// read reads lines until the end; it returns whether there were any.
func (f *follower) read(ctx context.Context) bool {
	buf := make([]byte, readBytes)
	any := false
	for ctx.Err() == nil {
		n, err := f.file.ReadAt(buf, f.offset)
		f.lines(buf[:n])
		any = any || n > 0
		if n == 0 || err != nil && err != io.EOF {
			break
		}
	}
	return any
}

func (f *follower) lines(data []byte) {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		f.offset += int64(len(data) - len(rest))
		data = rest
		if len(f.partial) > 0 || !ended {
			f.partial = append(f.partial, line[:min(len(line), maxLine-len(f.partial))]...)
			line = f.partial
		}
		if !ended {
			return
		}
		f.scanner.Line(line)
		f.partial = f.partial[:0]
		f.mark()
	}
}

// mark notes how far nothing is left unfinished.
func (f *follower) mark() {
	if !f.scanner.Inside() {
		f.done = f.offset
	}
	f.begun = f.done
}

// flush ends a text that has begun. A line without an end may still go on,
// unless last.
func (f *follower) flush(last bool) {
	if last && len(f.partial) > 0 {
		f.scanner.Line(f.partial)
		f.partial = f.partial[:0]
	}
	if !last && f.scanner.Inside() {
		gone, _ := f.w.owners.writers(f.inode, f.path)
		last = gone != nil
	}
	f.scanner.Flush(last)
	f.done = f.offset - int64(len(f.partial))
	f.begun = f.done
}

// found tells a text. Whose it is, is only known when it was just written.
func (f *follower) found(t *coredump.Text) {
	at := t.At
	if at.IsZero() {
		at = time.Now().UTC()
	}
	source := "file"
	var c inquest.Crash
	if p := f.w.owners.died(f.inode, f.path, f.past); p != nil {
		c = p.crash(source)
	} else {
		c = inquest.Crash{Kind: inquest.CrashDeath, Tier: inquest.TierText, Source: []string{source}, Service: serviceOfLog(f.path)}
		c.ID = inquest.TextID(c.Service, fmt.Sprintf("%s@%s@%d", f.path, f.inode, f.begun), t.At, t.Head)
	}
	if facts := containerOfLog(f.path); facts != nil {
		c.Facts = facts
	}
	c.At = at
	f.w.options.Joiner.Tell(c, t)
}
