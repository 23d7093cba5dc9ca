package spool

import (
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/goinquest/inquest"
)

// Claim hands out the oldest profile that nobody has claimed and that may be
// tried now. If there is none, ok is false and wait is how long until one may
// be tried again (0: none is waiting).
func (s *Spool) Claim() (it Item, wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.expire(now)
	for _, e := range s.entries {
		if e.claimed {
			continue
		}
		if d := e.notBefore.Sub(now); d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		e.claimed = true
		s.signalIfMore(e)
		return Item{Sequence: e.seq, Attempts: e.attempts}, 0, true
	}
	return Item{}, wait, false
}

// signalIfMore passes the wake-up on: several workers wait on one channel.
func (s *Spool) signalIfMore(e *entry) {
	if s.entries[len(s.entries)-1] != e {
		s.signal()
	}
}

// expire drops profiles so old that the collector may have forgotten their
// keys. Callers hold s.mu.
func (s *Spool) expire(now time.Time) {
	for len(s.entries) > 0 && !s.entries[0].claimed && now.Sub(s.entries[0].taken) > s.maxAge {
		s.drop(0)
	}
}

// Wake is signalled when a profile may have come that can be claimed.
func (s *Spool) Wake() <-chan struct{} { return s.wake }

// Read returns a claimed profile. A file that cannot be read is moved aside
// and counted; the error is then of kind inquest.ErrInvalid and the profile
// is gone from the queue.
func (s *Spool) Read(seq uint64) (Header, []byte, error) {
	name := profileName(seq)
	data, err := os.ReadFile(s.files.Path(dirQueue, name))
	if err == nil {
		var h Header
		var body []byte
		if h, body, err = ParseProfile(data); err == nil {
			return h, body, nil
		}
	}
	err = inquest.Errorf(inquest.ErrInvalid, "read spooled profile %d: %w", seq, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.take(seq); e != nil {
		s.bytes -= e.size
		s.quarantine(dirQueue, name, e.size, err.Error())
	}
	s.lastError = err.Error()
	return Header{}, nil, err
}

// Done removes a claimed profile that the collector has.
func (s *Spool) Done(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.take(seq); e != nil {
		s.shipped++
		s.lastError = ""
		s.removeProfile(e)
	}
}

// Refuse removes a claimed profile that the collector will never take, and
// keeps it with the reason to look at, as long as it is among the newest.
func (s *Spool) Refuse(seq uint64, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.take(seq)
	if e == nil {
		return
	}
	s.refused++
	s.lastError = reason
	name := profileName(seq)
	if err := s.files.Rename(dirQueue+"/"+name, dirRefused+"/"+name); err != nil {
		s.removeProfile(e)
		return
	}
	text := reason + "\n"
	if s.files.Write(dirRefused, name+extReason, []byte(text)) == nil {
		s.bytes += int64(len(text))
	}
	s.trim(dirRefused, 2*keptRefused) // each has two files
}

// Return gives a claimed profile back, to be tried again not before the time.
func (s *Spool) Return(seq uint64, notBefore time.Time, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.find(seq); ok {
		e := s.entries[i]
		e.claimed, e.notBefore = false, notBefore
		e.attempts++
		if reason != "" {
			s.lastError = reason
		}
		s.signal()
	}
}

// take removes an entry from the index. Callers hold s.mu.
func (s *Spool) take(seq uint64) *entry {
	i, ok := s.find(seq)
	if !ok {
		return nil
	}
	return s.takeAt(i)
}

// takeAt removes entry i from the index. It is nearly always near the front,
// so that the few before it are moved, not the many behind. Callers hold s.mu.
func (s *Spool) takeAt(i int) *entry {
	e := s.entries[i]
	copy(s.entries[1:i+1], s.entries[:i])
	s.entries[0] = nil
	s.entries = s.entries[1:]
	return e
}

func (s *Spool) find(seq uint64) (int, bool) {
	i := sort.Search(len(s.entries), func(i int) bool { return s.entries[i].seq >= seq })
	return i, i < len(s.entries) && s.entries[i].seq == seq
}

// SetLastError tells what Stats shows as the newest error.
func (s *Spool) SetLastError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError = fmt.Sprint(err)
}

// Stats returns the state of the spool.
func (s *Spool) Stats() inquest.Spool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := inquest.Spool{
		Profiles: int64(len(s.entries)), Bytes: s.bytes, QuotaBytes: s.quota,
		Shipped: s.shipped, Dropped: s.dropped, Refused: s.refused, LastError: s.lastError,
	}
	if len(s.entries) > 0 {
		st.Oldest = s.entries[0].taken.UTC()
	}
	return st
}

// Damaged is how many files could not be read since the spool was opened.
func (s *Spool) Damaged() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged
}
