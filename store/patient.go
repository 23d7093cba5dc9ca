package store

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// What cannot be read when a store is opened counts as lost: epochs end
// without it, keys are not known. So while it is the disk that fails, reading
// is tried again for about half a minute.
const (
	patientTries = 12
	patientPause = 20 * time.Millisecond // the first; each is twice as long as the one before, up to retryPause
)

// patiently does something until the disk does not fail, ctx ends or patience
// does.
func (s *Store) patiently(ctx context.Context, do func() error) error {
	pause := patientPause
	for try := 1; ; try++ {
		err := do()
		if !diskFailed(err) || try == patientTries || ctx.Err() != nil {
			return err
		}
		s.warn("disk cannot be read, trying again", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
		pause = min(2*pause, retryPause)
	}
}

// diskFailed says whether an error of reading comes from the operating system:
// it may pass, while content that does not fit stays.
func diskFailed(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !errors.Is(err, os.ErrNotExist)
}

// patientFile is a log file that is read patiently.
type patientFile struct {
	ctx context.Context
	s   *Store
	f   file
}

func (r *replay) open(ctx context.Context, path string) (*patientFile, error) {
	p := &patientFile{ctx: ctx, s: r.s}
	err := r.s.patiently(ctx, func() (err error) {
		p.f, err = r.s.ops.OpenFile(path, os.O_RDONLY, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *patientFile) ReadAt(b []byte, off int64) (n int, err error) {
	err = p.s.patiently(p.ctx, func() (err error) {
		n, err = p.f.ReadAt(b, off)
		return err
	})
	return n, err
}

func (p *patientFile) Close() error { return p.f.Close() }
