package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	patternFile = "/proc/sys/kernel/core_pattern"
	limitFile   = "/proc/sys/kernel/core_pipe_limit"
)

// HoldCorePattern makes the host's core pattern the caller's: it is of the whole
// machine, so programs that change it take turns. What it was is put back by
// release, and what a run that was killed left behind is repaired first. An
// error that is os.ErrPermission, or syscall.EROFS, says that it cannot be set
// here.
func HoldCorePattern() (release func() error, err error) {
	f, err := os.OpenFile(patternFile, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_ = f.Close() // nothing was written
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "inquest-core-pattern.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	pattern, err1 := CorePattern()
	limit, err2 := os.ReadFile(limitFile)
	if err := errors.Join(err1, err2); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if strings.Contains(pattern, "inquest-") {
		pattern, limit = "core", []byte("0")
	}
	return func() error {
		err := errors.Join(os.WriteFile(patternFile, []byte(pattern), 0), os.WriteFile(limitFile, limit, 0))
		if err != nil {
			err = fmt.Errorf("restore core pattern %q: %w", pattern, err)
		}
		return errors.Join(err, lock.Close())
	}, nil
}

// CorePattern is the host's core pattern now.
func CorePattern() (string, error) {
	data, err := os.ReadFile(patternFile)
	return strings.TrimSpace(string(data)), err
}
