package corepattern

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// ownership is the right of this process to change the core pattern. Only one
// agent of a directory has it, until its process ends.
type ownership struct {
	dir  string
	boot string
	lock *os.File
}

// own takes the right to change the core pattern, with the state in dir.
func own(dir string) (*ownership, error) {
	boot, err := readSysctl(bootFile)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(lockPath(dir))
	if err != nil {
		return nil, err
	}
	return &ownership{dir, boot, lock}, nil
}

// lockFile takes the lock of an agent that listens. It goes with the process:
// neither children nor the handlers they run inherit it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, inquest.Errorf(inquest.ErrConflict, "another agent of this host takes the cores: it holds %s", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func (o *ownership) release() { o.lock.Close() }

// install makes pattern the host's, with room for pipes at once if limit is
// not "", and returns what was there before. gaps counts the times that an
// agent before this one left the pattern without restoring it at once.
func (o *ownership) install(pattern, limit string) (st state, gaps int64, err error) {
	if len(pattern) > maxPattern {
		return st, 0, inquest.Errorf(inquest.ErrInvalid, "the core pattern %q is longer than the %d bytes that the kernel keeps; a shorter directory is needed", pattern, maxPattern)
	}
	if st, err = readState(o.dir, o.boot); err != nil {
		return st, 0, err
	}
	now, err := readSysctl(patternFile)
	if err != nil {
		return st, 0, err
	}
	if st, err = o.before(st, now); err != nil {
		return st, 0, err
	}
	gaps, st.Gaps = st.Gaps, 0
	st.Pattern = pattern
	if limit != "" {
		if st.OldLimit == "" {
			if st.OldLimit, err = readSysctl(limitFile); err != nil {
				return st, gaps, err
			}
		}
		st.Limit = limit
	}
	if err := st.write(o.dir); err != nil {
		return st, gaps, err
	}
	if limit != "" {
		// First, so that no handler is started that nobody waits for.
		if err := writeSysctl(limitFile, limit); err != nil {
			return st, gaps, errors.Join(err, o.restore())
		}
	}
	if err := writeSysctl(patternFile, pattern); err != nil {
		return st, gaps, errors.Join(err, o.restore())
	}
	return st, gaps, nil
}

// before is st with what the host had before any agent came, now being the
// pattern in force. Patterns that agents left behind are seen through.
func (o *ownership) before(st state, now string) (state, error) {
	if st.Pattern != "" && st.Pattern == now {
		st.Gaps++ // nobody has restored it
		return st, nil
	}
	dir := patternDir(now)
	if dir == "" {
		return state{Boot: o.boot, OldPattern: now, Limit: st.Limit, OldLimit: st.OldLimit, Gaps: st.Gaps}, nil
	}
	left := st
	if filepath.Clean(dir) != filepath.Clean(o.dir) {
		lock, err := lockFile(lockPath(dir))
		if err == nil {
			left, err = readState(dir, o.boot)
			lock.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return st, err
		}
	}
	return state{Boot: o.boot, OldPattern: left.old(), Limit: left.Limit, OldLimit: left.OldLimit, Gaps: st.Gaps + 1}, nil
}

// restore gives the host what it had before, if it still has ours.
func (o *ownership) restore() error {
	_, err := restore(o.dir, o.boot, false)
	return err
}

// Restore gives the host the core handler back that it had before an agent
// with its state in dir came, unless an agent is at work there. It says
// whether there was something to restore, and then notes for the next agent
// that cores may have been lost.
func Restore(dir string) (bool, error) {
	if _, err := os.Stat(statePath(dir)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	o, err := own(dir)
	if err != nil {
		return false, err
	}
	defer o.release()
	return restore(dir, o.boot, true)
}

func restore(dir, boot string, gap bool) (bool, error) {
	st, err := readState(dir, boot)
	if err != nil || st.Pattern == "" {
		return false, err
	}
	now, err := readSysctl(patternFile)
	if err != nil {
		return false, err
	}
	if now == st.Pattern {
		err = writeSysctl(patternFile, st.OldPattern)
	}
	if limit, e := readSysctl(limitFile); e == nil && st.Limit != "" && limit == st.Limit {
		err = errors.Join(err, writeSysctl(limitFile, st.OldLimit))
	}
	if err != nil {
		return false, err
	}
	st.Pattern, st.Limit, st.OldLimit = "", "", ""
	if gap {
		st.Gaps++
	}
	return true, st.write(dir)
}
