package store

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// committer makes records durable: one goroutine takes what has gathered,
// writes it to the log as one frame, syncs, and lets all its writers go.
type committer struct {
	s      *Store
	frames frameWriter

	mu      sync.Mutex
	queue   []*record
	bytes   int64
	closing bool
	wake    chan struct{} // one token: the queue changed

	fresh  atomic.Bool // begin a new file: epochs ended, so that the old one can go
	number uint64      // of the next frame
	last   int         // records in the commit before
	ended  chan struct{}
}

func newCommitter(s *Store, number uint64) *committer {
	return &committer{s: s, frames: frameWriter{pk: s.pk}, wake: make(chan struct{}, 1), number: number, ended: make(chan struct{})}
}

// enqueue takes a record; it is called with the record's head locked, so that
// records of one head are logged in the order in which they were made.
func (c *committer) enqueue(r *record) {
	c.mu.Lock()
	c.queue = append(c.queue, r)
	c.bytes += int64(len(r.payload) + len(r.baseline))
	c.mu.Unlock()
	c.poke()
}

func (c *committer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// stop ends the goroutine once the queue is empty. Nothing may be enqueued
// afterwards.
func (c *committer) stop() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.poke()
	<-c.ended
}

func (c *committer) run() {
	defer close(c.ended)
	var delay *time.Timer
	for {
		n, bytes, closing := c.waiting()
		switch {
		case n == 0 && closing:
			return
		case n == 0:
			delay = nil
			if <-c.wake; c.idle() && c.fresh.Swap(false) {
				c.rotate()
			}
			continue
		case n >= c.last || bytes >= c.s.o.CommitBytes || closing:
			// As many as last time: whoever waited for that commit is back,
			// so waiting longer would hold them up for nobody.
		default:
			if delay == nil {
				delay = time.NewTimer(c.s.o.CommitDelay)
			}
			select {
			case <-c.wake:
				continue
			case <-delay.C:
			}
		}
		delay = nil
		batch := c.take()
		c.last = len(batch)
		c.commit(batch)
	}
}

func (c *committer) idle() bool {
	n, _, _ := c.waiting()
	return n == 0
}

func (c *committer) waiting() (records int, bytes int64, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue), c.bytes, c.closing
}

// take removes records of about CommitBytes from the queue, at least one.
func (c *committer) take() []*record {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(c.queue) && (n == 0 || bytes < c.s.o.CommitBytes) {
		bytes += int64(len(c.queue[n].payload) + len(c.queue[n].baseline))
		n++
	}
	batch := append([]*record(nil), c.queue[:n]...)
	rest := copy(c.queue, c.queue[n:])
	clear(c.queue[rest:])
	c.queue = c.queue[:rest]
	c.bytes -= bytes
	return batch
}

// commit writes a batch. Every record in it is settled when it returns.
func (c *committer) commit(batch []*record) {
	began := time.Now()
	good := batch[:0]
	for _, r := range batch {
		if r.gen != r.head.gen.Load() {
			c.refuse(r, errStale)
			continue
		}
		good = append(good, r)
	}
	if len(good) == 0 {
		return
	}
	if c.fresh.Swap(false) {
		c.rotate()
	}
	frame := c.frames.frame(c.number, good)
	err := c.s.checkSpace(int64(len(frame)))
	if err == nil {
		err = c.write(frame, good)
	}
	if err != nil {
		err = c.s.writeError(err)
		for _, r := range good {
			c.refuse(r, err)
		}
		return
	}
	c.number++
	c.s.stats.committed(len(good), len(frame), time.Since(began))
	payload := 0
	for _, r := range good {
		payload += len(r.payload) + len(r.baseline)
	}
	for _, r := range good {
		r.bytes = int64(len(frame)) * int64(len(r.payload)+len(r.baseline)) / int64(max(payload, 1))
		c.s.keys.durable(r.row)
		if r.name != "" {
			c.s.baselines.put(r.name, r.head.epoch, r.baseline)
		}
		if r.head.publish(r) {
			c.s.closer.packSoon(r.head)
		}
		close(r.done)
	}
	if c.s.log.activeSize() >= c.s.o.LogBytes/logFilesPerBound {
		c.rotate()
	}
}

// rotate ends the file written to, and deletes it if no open epoch needs it.
func (c *committer) rotate() {
	if err := errors.Join(c.s.log.rotate(), c.s.releaseLog(nil)); err != nil {
		c.s.warn("rotate log", err)
	}
}

// logFilesPerBound is how many files the log's bound is divided into.
const logFilesPerBound = 8

func (c *committer) write(frame []byte, recs []*record) error {
	began := time.Now()
	err := c.s.log.append(frame, func(yield func(uint64)) {
		for _, r := range recs {
			yield(r.head.epoch)
		}
	})
	c.s.stats.synced(time.Since(began))
	return err
}

var errStale = inquest.Errorf(inquest.ErrUnavailable, "the profile before this one could not be stored; send it again")

func (c *committer) refuse(r *record, err error) {
	r.err = err
	c.s.keys.refused(r.row)
	r.head.refuse(r)
	close(r.done)
}

// writeError gives an error of writing the kind a caller can act on.
func (s *Store) writeError(err error) error {
	switch {
	case errors.Is(err, inquest.ErrDiskFull):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return inquest.Errorf(inquest.ErrDiskFull, "the disk of %s is full: %w", s.o.Dir, err)
	}
	return inquest.Errorf(inquest.ErrUnavailable, "the disk of %s cannot be written: %w", s.o.Dir, err)
}

// checkSpace refuses to write where less than the floor would stay free.
func (s *Store) checkSpace(n int64) error {
	free, err := s.ops.Free(s.o.Dir)
	if err != nil {
		return err
	}
	s.stats.free.Store(free)
	if free-n < s.o.MinFreeBytes {
		return inquest.Errorf(inquest.ErrDiskFull, "the disk of %s has %d MB left, %d MB are kept free: make room there",
			s.o.Dir, free>>20, s.o.MinFreeBytes>>20)
	}
	return nil
}
