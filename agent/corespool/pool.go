// Package corespool keeps what an agent gathered of dying processes until the
// collector has it: crashes, what they wrote, their cores and, if need be,
// their executables, in a directory with a quota.
//
// What it promises, over a kill between any two file operations and over a
// loss of power: a crash whose Crash, Text, Commit or Abort returned without an
// error is told until Told is called or the quota takes it; a core is offered
// only when it is whole, or as much of it as a minicore needs; and a core that
// was being written when the agent died becomes one of these, or a crash that
// says what happened. Crashes are told at least once: the collector knows them
// by their id.
//
// When the quota or the disk has no room, the oldest complete cores are cut
// down to their minicores first, then executables, minicores, texts and at last
// crashes go, oldest first, all of them counted.
//
// The package knows no HTTP and no process. The layout on disk stands in
// layout.go. A Pool is safe for use by several goroutines and keeps none of its
// own; it has the directory to itself because its owner has the lock of the
// spool around it.
package corespool

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/durable"
)

// Options say where a pool is and how much it may hold. Dir must be given.
type Options struct {
	Dir          string           // made if it is not there
	QuotaBytes   int64            // most it takes on disk; default 4 GiB
	MinFreeBytes int64            // that stay free on the disk, cores go for that; default 1 GiB, negative: none
	Logger       *slog.Logger     // default: none
	Now          func() time.Time // default time.Now

	// AfterOp is called after every file operation, for tests that copy the
	// directory there to see what a crash would leave.
	AfterOp func(op string)
}

const (
	defaultQuotaBytes   = 4 << 30
	defaultMinFreeBytes = 1 << 30
	keptAside           = 16 // refused and damaged files kept to look at, each
)

// Pool is an open directory.
type Pool struct {
	files durable.Files
	quota int64
	floor int64 // bytes that stay free on the disk
	log   *slog.Logger
	now   func() time.Time
	wake  chan struct{}

	eventMu sync.Mutex // held while events are written; before mu
	open    *os.File   // the newest segment, nil if none is open; under eventMu

	mu       sync.Mutex
	segments []*segment      // by sequence
	texts    []*text         // oldest first
	cores    []*core         // oldest first, those being written too
	exes     []*exe          // oldest first
	bytes    int64           // on disk
	lost     []inquest.Crash // cores of them were lost, to be told
	counts   Stats           // counters of it
	closed   bool
}

// Stats is the state of a pool.
type Stats struct {
	Events, Texts, Cores, Exes int   // waiting
	Writing                    int   // cores being taken
	Bytes, Quota               int64 // on disk
	Shipped                    int64 // cores the collector has or did not want, since the pool was opened
	Unwanted                   int64 // of them, those it did not want
	Trimmed                    int64 // cores cut down to minicores for want of room
	DroppedCores               int64 // lost for want of room, or refused by the collector
	DroppedTexts               int64
	DroppedEvents              int64
	DroppedExes                int64
	Salvaged                   int64 // cores found incomplete when the pool was opened, and kept
	Damaged                    int64 // files and records that could not be read
	LastError                  string
}

// Open opens the pool in o.Dir, making it if it is not there, and repairs what
// a crash left. Damaged files are moved aside and counted, never an error.
func Open(o Options) (*Pool, error) {
	p := &Pool{
		files: durable.Files{Root: o.Dir, After: o.AfterOp}, quota: o.QuotaBytes, floor: max(o.MinFreeBytes, 0),
		log: o.Logger, now: o.Now, wake: make(chan struct{}, 1),
	}
	p.quota = cmp.Or(max(p.quota, 0), defaultQuotaBytes)
	if o.MinFreeBytes == 0 {
		p.floor = defaultMinFreeBytes
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	for _, d := range []string{"", dirEvents, dirTexts, dirCores, dirExes, dirRefused, dirDamaged} {
		if err := os.MkdirAll(p.files.Path(d), 0o700); err != nil {
			return nil, fmt.Errorf("make core spool: %w", err)
		}
	}
	if err := p.recover(); err != nil {
		return nil, fmt.Errorf("open core spool %s: %w", o.Dir, err)
	}
	return p, nil
}

// Close ends the use of the pool. Cores being written become what a crash of
// the agent would make of them.
func (p *Pool) Close() error {
	p.eventMu.Lock()
	defer p.eventMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.seal()
}

// Wake is signalled when something may have come that can be shipped.
func (p *Pool) Wake() <-chan struct{} { return p.wake }

func (p *Pool) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Stats returns the state of the pool.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.counts
	s.Texts, s.Exes, s.Bytes, s.Quota = len(p.texts), len(p.exes), p.bytes, p.quota
	for _, g := range p.segments {
		s.Events += g.records
	}
	for _, c := range p.cores {
		if c.writing {
			s.Writing++
		} else {
			s.Cores++
		}
	}
	return s
}

// fail notes an error that nobody is told of otherwise. Callers hold p.mu.
func (p *Pool) fail(what string, err error) {
	if err == nil {
		return
	}
	p.counts.LastError = fmt.Sprintf("%s: %v", what, err)
	p.log.Error("core spool", "op", what, inquest.LogErr, err)
}

// diskError gives an error of a file operation the kind it may have.
func diskError(what string, err error) error {
	if err == nil {
		return nil
	}
	if noSpace(err) {
		return inquest.Errorf(inquest.ErrDiskFull, "%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// quarantine moves a file that cannot be read out of the way. Callers hold
// p.mu or are the only user; the file's bytes are not counted yet.
func (p *Pool) quarantine(dir, name string, why error) {
	p.counts.Damaged++
	p.log.Error("core spool file damaged, moved aside", "file", dir+"/"+name, inquest.LogErr, why)
	p.aside(dir, name, dirDamaged)
}

// aside moves a file to a directory of those kept to look at.
func (p *Pool) aside(dir, name, to string) {
	if err := p.files.Rename(dir+"/"+name, to+"/"+name); err != nil {
		p.fail("move "+name+" aside", err)
		return
	}
	if info, err := os.Stat(p.files.Path(to, name)); err == nil {
		p.bytes += info.Size()
	}
	p.trim(to, keptAside)
}

// trim keeps the newest n files of a directory.
func (p *Pool) trim(dir string, n int) {
	kept, err := p.files.List(dir)
	if err != nil || len(kept) <= n {
		return
	}
	slices.SortFunc(kept, func(a, b durable.Found) int {
		return cmp.Or(a.Info.ModTime().Compare(b.Info.ModTime()), cmp.Compare(a.Name, b.Name))
	})
	for _, f := range kept[:len(kept)-n] {
		if p.files.Remove(dir+"/"+f.Name) == nil {
			p.bytes -= f.Info.Size()
		}
	}
}

// recover reads the directory.
func (p *Pool) recover() error {
	return errors.Join(p.recoverAside(), p.recoverEvents(), p.recoverTexts(), p.recoverExes(), p.recoverCores())
}

// recoverAside counts what is kept to look at.
func (p *Pool) recoverAside() error {
	if _, err := p.files.List(""); err != nil {
		return err
	}
	for _, dir := range []string{dirRefused, dirDamaged} {
		kept, err := p.files.List(dir)
		if err != nil {
			return err
		}
		for _, f := range kept {
			p.bytes += f.Info.Size()
		}
	}
	return nil
}
