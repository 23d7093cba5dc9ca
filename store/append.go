package store

import (
	"context"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

// Record is one profile to append. Everything in it is borrowed until Taken is
// called or Append returns.
type Record struct {
	Key      inquest.Key
	BodyHash uint64 // of the body as sent: the same key with another hash is a conflict
	Meta     inquest.ProfileMeta
	Profile  *profile.Profile
	// Baseline, if not nil, replaces the durable cumulative state named BaselineName in the same commit.
	BaselineName string
	Baseline     []byte
	// Taken, if not nil, is called when everything is copied and only the wait
	// for the disk is left, so that the caller can use the memory again. It is
	// not called if Append returns before that.
	Taken func()
}

// Appended is what became of a Record.
type Appended struct {
	ID        string // for Find and the API
	Duplicate bool   // the key was there with the same body: nothing was written
	Samples   int
	Bytes     int64 // what it added to the log; 0 for a duplicate
}

// Append returns once the record is durable. When ctx ends before, the record
// may become durable all the same; sending it again with the same key tells.
// Errors are of kind ErrInvalid (the record is wrong), ErrConflict (the key is
// taken by another body), ErrDiskFull or ErrUnavailable (try again later).
func (s *Store) Append(ctx context.Context, r *Record) (Appended, error) {
	if err := checkRecord(r); err != nil {
		return Appended{}, err
	}
	if err := s.beginWrite(); err != nil {
		return Appended{}, err
	}
	defer s.writers.Done()
	if err := s.writable(ctx); err != nil {
		return Appended{}, err
	}
	if err := s.waitRoom(ctx); err != nil {
		return Appended{}, err
	}
	start := r.Meta.Start.UnixNano()
	for {
		taken, candidates := s.keys.reserve(r.Key, r.BodyHash, start, uint32(r.Profile.NumSamples()))
		if taken == nil && len(candidates) == 0 {
			return s.write(ctx, r, start)
		}
		a, found, err := s.known(ctx, r.Key, r.BodyHash, taken, candidates)
		if found && a.ID == "" {
			a.ID = newID(r.Key, start)
		}
		if found || err != nil {
			return a, err
		}
		if taken == nil {
			// A run of keys that blocks have says so, but no block has it any
			// more: the blocks were removed.
			s.keys.claim(r.Key, r.BodyHash, start, uint32(r.Profile.NumSamples()))
			return s.write(ctx, r, start)
		}
		// The writer that had the key failed; now it is free.
	}
}

// Limits on one record, so that what is logged can be read back within
// maxStreamBytes.
const (
	maxRecordBytes   = maxStreamBytes / 4
	maxBaselineBytes = maxStreamBytes / 8
	maxBaselineName  = 1 << 12 // bbolt's keys end at 32 KiB
)

// recordBytes is about the most a profile can take in the log.
func recordBytes(p *profile.Profile) (n int64) {
	for _, s := range p.Strings {
		n += int64(len(s))
	}
	return n + 8*int64(len(p.Stacks)+len(p.Values)+2*len(p.Labels)+3*len(p.Lines)+3*len(p.Locations)+4*len(p.Functions))
}

func checkRecord(r *Record) error {
	cols := len(r.Profile.SampleTypes)
	switch {
	case r.Meta.Service() == "":
		return inquest.Errorf(inquest.ErrInvalid, "the profile has no %s label", inquest.LabelService)
	case r.Meta.Kind == "":
		return inquest.Errorf(inquest.ErrInvalid, "the profile has no kind")
	case cols == 0 || cols > maxColumns:
		return inquest.Errorf(inquest.ErrInvalid, "the profile has %d sample types, 1 to %d are allowed", cols, maxColumns)
	case len(r.Profile.Values) != cols*r.Profile.NumSamples():
		return inquest.Errorf(inquest.ErrInvalid, "the profile has %d values, want %d for %d samples",
			len(r.Profile.Values), cols*r.Profile.NumSamples(), r.Profile.NumSamples())
	case r.Baseline != nil && (r.BaselineName == "" || len(r.BaselineName) > maxBaselineName):
		return inquest.Errorf(inquest.ErrInvalid, "the name of the cumulative state has %d bytes, want 1 to %d", len(r.BaselineName), maxBaselineName)
	case len(r.Baseline) > maxBaselineBytes || recordBytes(r.Profile) > maxRecordBytes:
		return inquest.Errorf(inquest.ErrTooLarge, "the profile is too large to be stored: %d MB, %d are allowed",
			recordBytes(r.Profile)>>20, maxRecordBytes>>20)
	case r.Meta.Start.Year() < 1678 || r.Meta.Start.Year() > 2261 || r.Meta.End.Year() < 1678 || r.Meta.End.Year() > 2261:
		return inquest.Errorf(inquest.ErrInvalid, "the profile is from %s to %s, want years 1678 to 2261", r.Meta.Start, r.Meta.End)
	}
	return nil
}

func (s *Store) beginWrite() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed()
	}
	s.writers.Add(1)
	return nil
}

// write interns and commits a record whose key is reserved.
func (s *Store) write(ctx context.Context, r *Record, start int64) (Appended, error) {
	// Here already, so that what cannot be stored is not interned. While there
	// was room at the last commit, the next one looks again.
	if s.stats.free.Load() < s.o.MinFreeBytes {
		if err := s.checkSpace(0); err != nil {
			s.keys.release(r.Key)
			return Appended{}, s.writeError(err)
		}
	}
	s.noteSeen(&r.Meta, r.Profile) // now, as the profile belongs to others soon
	b := s.bodies.Get().(*body)
	b.hash(r.Profile)
	rec := s.enqueue(b, r)
	b.p = nil
	s.bodies.Put(b)
	key := r.Key
	if r.Taken != nil {
		r.Taken()
	}
	select {
	case <-rec.done:
	case <-ctx.Done():
		return Appended{}, ctx.Err()
	}
	if rec.err != nil {
		return Appended{}, rec.err
	}
	return Appended{ID: newID(key, start), Samples: int(rec.row.samples), Bytes: rec.bytes}, nil
}

// enqueue interns a body into the head of its service and hands the record to
// the committer.
func (s *Store) enqueue(b *body, r *Record) *record {
	for {
		h := s.headOf(r.Meta.Service())
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock() // its epoch has just ended; the next one is open
			continue
		}
		rec := h.record(b, r)
		s.commit.enqueue(rec)
		h.mu.Unlock()
		return rec
	}
}

// known answers for a key that is taken: by a write under way, an open epoch
// or maybe a block. found is false if it turns out to be free.
func (s *Store) known(ctx context.Context, key inquest.Key, hash uint64, taken *liveKey, candidates []*block) (a Appended, found bool, err error) {
	if taken == nil {
		b, k, err := s.storedKey(key, candidates)
		if err != nil {
			return Appended{}, false, inquest.Errorf(inquest.ErrUnavailable, "%w", err)
		}
		if b == nil {
			return Appended{}, false, nil
		}
		defer b.release()
		if k.part == lostPart {
			return Appended{Duplicate: true}, true, nil
		}
		if k.hash != hash {
			return Appended{}, false, conflict(key)
		}
		row, err := s.rowOf(b, k)
		if err != nil {
			if err = s.quarantine(b, int(k.part), "", err); diskFailed(err) {
				return Appended{}, false, err
			}
			return Appended{Duplicate: true}, true, nil
		}
		return Appended{ID: newID(key, row.start), Duplicate: true, Samples: int(row.samples)}, true, nil
	}
	if taken.hash != hash {
		return Appended{}, false, conflict(key)
	}
	if taken.wait != nil {
		select {
		case <-taken.wait:
		case <-ctx.Done():
			return Appended{}, false, ctx.Err()
		}
		if again, candidates := s.keys.lookup(key); again == nil && len(candidates) == 0 {
			return Appended{}, false, nil
		} else if again == nil || again.wait != nil {
			return s.known(ctx, key, hash, again, candidates)
		}
	}
	return Appended{ID: newID(key, taken.start), Duplicate: true, Samples: int(taken.samples)}, true, nil
}

func conflict(key inquest.Key) error {
	return inquest.Errorf(inquest.ErrConflict, "key %s is taken by another body; a key names one body for ever", key)
}

// Seen says whether a key is stored, or on its way into the log with success,
// so that ingest can answer before it computes deltas. The error is
// ErrConflict if the key is taken by another body.
func (s *Store) Seen(key inquest.Key, bodyHash uint64) (a Appended, seen bool, err error) {
	ctx := context.Background()
	if err := s.writable(ctx); err != nil {
		return Appended{}, false, err
	}
	taken, candidates := s.keys.lookup(key)
	if taken == nil && len(candidates) == 0 {
		return Appended{}, false, nil
	}
	a, seen, err = s.known(ctx, key, bodyHash, taken, candidates)
	return a, seen && a.ID != "", err // of one that is damaged Append makes the id
}

// claim reserves a key without looking.
func (x *keyIndex) claim(key inquest.Key, hash uint64, start int64, samples uint32) {
	x.mu.Lock()
	x.live[key] = liveKey{hash, start, samples, make(chan struct{})}
	x.mu.Unlock()
}
