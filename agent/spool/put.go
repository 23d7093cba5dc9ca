package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/goinquest/inquest"
)

// syncsAtOnce is how many files of one batch are written at the same time.
const syncsAtOnce = 16

// Baseline is the cumulative state that goes with a profile made from it.
type Baseline struct {
	Key   string    // which state, for example process and kind
	Taken time.Time // when the state was true
	Data  []byte
}

// Item is a profile that was put or claimed.
type Item struct {
	Sequence uint64
	Key      inquest.Key
	Attempts int // times it was given back before
}

// put is one Put on its way through a commit.
type put struct {
	header   Header
	body     []byte
	baseline *Baseline
	claim    bool

	data []byte // the profile's file
	base []byte // the baseline's file
	room int64  // bytes taken for it
	item Item
	err  error
	done chan struct{}
}

// Put stores a profile durably, and with it the baseline it leaves behind
// (nil if it has none): after an error neither is there. The sequence and key
// of h are given here. claim hands the profile to the caller as Claim does.
// Puts that come while another is being written are committed together.
func (s *Spool) Put(h Header, body []byte, b *Baseline, claim bool) (Item, error) {
	p := &put{header: h, body: body, baseline: b, claim: claim, done: make(chan struct{})}
	s.pendMu.Lock()
	s.pending = append(s.pending, p)
	s.pendMu.Unlock()

	s.commitMu.Lock()
	select {
	case <-p.done: // somebody else's batch took it along
	default:
		s.pendMu.Lock()
		batch := s.pending
		s.pending = nil
		s.pendMu.Unlock()
		s.commit(batch)
	}
	s.commitMu.Unlock()
	return p.item, p.err
}

// commit writes a batch; see the package comment for the order.
func (s *Spool) commit(batch []*put) {
	s.prepare(batch)
	for _, p := range batch {
		p.fail(s.clearStage(p))
	}
	together(batch, func(p *put) {
		if p.baseline != nil {
			p.fail(s.files.Write(dirBaselines, fileKey(p.baseline.Key)+extNext, p.base))
		}
	})
	s.sync(dirBaselines, batch)
	together(batch, func(p *put) {
		if err := s.files.Write(dirQueue, profileName(p.item.Sequence), p.data); err != nil {
			p.fail(fmt.Errorf("spool profile: %w", err))
			s.unstage(p)
		}
	})
	s.sync(dirQueue, batch)
	for _, p := range batch {
		if p.err == nil && p.baseline != nil {
			k := fileKey(p.baseline.Key)
			s.unpromoted[k] = true
			s.promote(k)
		}
	}
	s.sync(dirBaselines, batch)
	s.publish(batch)
}

// together does the same for every put that has not failed, several at once:
// a file system makes the files that are synced at the same time durable by
// one write of its journal.
func together(batch []*put, do func(*put)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, syncsAtOnce)
	for _, p := range batch {
		if p.err != nil {
			continue
		}
		if len(batch) == 1 {
			do(p)
			return
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(p)
		})
	}
	wg.Wait()
}

// fail marks the put as failed, once.
func (p *put) fail(err error) {
	if p.err == nil && err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = inquest.Errorf(inquest.ErrDiskFull, "%w", err)
		}
		p.err = err
	}
}

// prepare gives every put its sequence and bytes, and makes room.
func (s *Spool) prepare(batch []*put) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.reserve(uint64(len(batch)))
	if s.closed {
		err = inquest.Errorf(inquest.ErrUnavailable, "the spool is closed")
	}
	keys := map[string]bool{}
	for _, p := range batch {
		if p.fail(err); p.err != nil {
			continue
		}
		if p.baseline != nil {
			if keys[p.baseline.Key] {
				p.fail(inquest.Errorf(inquest.ErrConflict, "baseline %q is put twice at once", p.baseline.Key))
				continue
			}
			keys[p.baseline.Key] = true
		}
		p.item.Sequence = s.next
		s.next++
		copy(p.item.Key[:], s.prefix[:])
		binary.BigEndian.PutUint64(p.item.Key[8:], p.item.Sequence)
		p.fail(p.encode())
		if p.err == nil {
			p.fail(s.makeRoom(p))
		}
	}
}

func (p *put) encode() (err error) {
	p.header.Sequence, p.header.Key, p.header.KeyText = p.item.Sequence, p.item.Key, p.item.Key.String()
	if p.data, err = appendFrame(nil, magicProfile, &p.header, p.body); err != nil {
		return err
	}
	if b := p.baseline; b != nil {
		h := baselineHeader{Key: b.Key, Sequence: p.item.Sequence, Taken: b.Taken}
		p.base, err = appendFrame(nil, magicBaseline, &h, b.Data)
	}
	return err
}

// makeRoom drops the oldest profiles until a put's files fit, and takes the
// room; publish gives it back if the put fails. Callers hold s.mu.
func (s *Spool) makeRoom(p *put) error {
	n := int64(len(p.data) + len(p.base))
	for i := 0; s.bytes+n > s.quota && i < len(s.entries); {
		if s.entries[i].claimed {
			i++
			continue
		}
		s.drop(i)
	}
	if s.bytes+n > s.quota {
		return inquest.Errorf(inquest.ErrDiskFull, "profile of %d bytes does not fit the spool: quota %d bytes, %d taken by what cannot be dropped", n, s.quota, s.bytes)
	}
	s.bytes += n
	p.room = n
	return nil
}

// drop removes entry i, which is not claimed, and counts it as lost. Callers
// hold s.mu.
func (s *Spool) drop(i int) {
	s.dropped++
	s.removeProfile(s.takeAt(i))
}

// removeProfile removes an entry's file. Callers hold s.mu.
func (s *Spool) removeProfile(e *entry) {
	s.bytes -= e.size
	if err := s.files.Remove(dirQueue + "/" + profileName(e.seq)); err != nil {
		s.lastError = err.Error()
	}
}

// sync makes a directory's names durable if the batch changed it. That it
// cannot be done is told, and no reason to give up: the names are there, only
// a loss of power could take them back.
func (s *Spool) sync(dir string, batch []*put) {
	for _, p := range batch {
		if p.err != nil || dir == dirBaselines && p.baseline == nil {
			continue
		}
		if err := s.files.SyncDir(dir); err != nil {
			s.SetLastError(fmt.Errorf("sync spool: %w", err))
		}
		return
	}
}

// publish hands the committed profiles out.
func (s *Spool) publish(batch []*put) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, p := range batch {
		if p.err != nil {
			s.bytes -= p.room
			s.lastError = p.err.Error()
			continue
		}
		if b := p.baseline; b != nil {
			k := fileKey(b.Key)
			s.bytes -= s.baselines[k]
			s.baselines[k] = int64(len(p.base))
		}
		s.entries = append(s.entries, &entry{
			seq: p.item.Sequence, size: int64(len(p.data)), taken: now, claimed: p.claim,
		})
	}
	s.signal()
	for _, p := range batch {
		close(p.done)
	}
}

// signal wakes one waiter for the queue.
func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
