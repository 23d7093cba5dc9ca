package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	patternFile = "/proc/sys/kernel/core_pattern"
	limitFile   = "/proc/sys/kernel/core_pipe_limit"
)

// patternWait is how long others may have the core pattern: the tests of
// several packages run at a time, and take turns.
const patternWait = 5 * time.Minute

// TakeCorePattern is HoldCorePattern for a test: until release or its end,
// whichever is first. The pattern becomes the one given, unless that is "";
// by "core" a program's core appears in its working directory. Others wait
// meanwhile, so take it late and release it early. Where the pattern cannot
// be set, as in a container without root, the test is skipped, in CI too.
func TakeCorePattern(t testing.TB, pattern string) (release func()) {
	t.Helper()
	restore, err := HoldCorePattern()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		t.Skipf("the core pattern cannot be set here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		t.Helper()
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(release)
	if pattern != "" {
		if err := os.WriteFile(patternFile, []byte(pattern), 0); err != nil {
			t.Fatal(err)
		}
	}
	return release
}

// HoldCorePattern makes the host's core pattern the caller's: it is of the whole
// machine, so programs that change it take turns. What it was is put back by
// release, and what a run that was killed left behind is repaired first. An
// error that is os.ErrPermission, or syscall.EROFS, says that it cannot be set
// here; if others have it for too long, the error says who.
func HoldCorePattern() (release func() error, err error) {
	f, err := os.OpenFile(patternFile, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_ = f.Close() // nothing was written
	lock, err := lockPattern(filepath.Join(os.TempDir(), "inquest-core-pattern.lock"), patternWait)
	if err != nil {
		return nil, err
	}
	pattern, err1 := CorePattern()
	limit, err2 := os.ReadFile(limitFile)
	if err := errors.Join(err1, err2); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	restore := func() error {
		err := errors.Join(os.WriteFile(patternFile, []byte(pattern), 0), os.WriteFile(limitFile, limit, 0))
		if err != nil {
			err = fmt.Errorf("restore core pattern %q: %w", pattern, err)
		}
		return err
	}
	if strings.Contains(pattern, "inquest-") {
		pattern, limit = "core", []byte("0")
		if err := restore(); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	return func() error { return errors.Join(restore(), lock.Close()) }, nil
}

// CorePattern is the host's core pattern now.
func CorePattern() (string, error) {
	data, err := os.ReadFile(patternFile)
	return strings.TrimSpace(string(data)), err
}

// lockPattern waits until the file is locked by nobody else, and writes into
// it who has it now. No error of it is one of permission, which would say
// that the pattern cannot be set.
func lockPattern(name string, bound time.Duration) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("lock of the core pattern: %v", err)
	}
	locked := make(chan error, 1)
	go func() { // it waits in line; who asks again and again may never be the first to ask
		err := error(syscall.EINTR)
		for err == syscall.EINTR {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		}
		locked <- err
	}()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case err = <-locked:
	case <-timer.C:
		holder, _ := os.ReadFile(name) // an empty one says nothing
		go func() {
			<-locked
			_ = f.Close() // others may have it
		}()
		return nil, fmt.Errorf("the core pattern is not free after %v; who has taken it last: %q", bound, strings.TrimSpace(string(holder)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "process %d, %s\n", os.Getpid(), filepath.Base(os.Args[0]))
	}
	if err != nil {
		_ = f.Close() // the first error says more
		return nil, fmt.Errorf("lock %s: %v", name, err)
	}
	return f, nil
}
