package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// subtract makes deltas of a cumulative body, by the newest one of the same
// process and kind, and puts the new state into the record, so that both
// become durable together. Bodies of one process wait for each other until
// unlock is called, after the record was appended: else two of them would
// subtract the same state.
func (in *Ingest) subtract(ctx context.Context, h *header, rec *store.Record, ack *Ack) (unlock func(), err error) {
	name := baselineName(h, rec.Meta.Kind)
	unlock, err = in.locks.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	// A retry may have been waiting here for the first attempt.
	if _, seen, err := in.o.Store.Seen(rec.Key, rec.BodyHash); err != nil {
		return unlock, err
	} else if seen {
		return unlock, nil // Append answers for it
	}
	at := rec.Meta.End
	last, snapshot, err := in.baseline(name)
	if err != nil {
		return unlock, err
	}
	rec.Meta.Start = at
	if !at.After(last) {
		// Newer ones were subtracted from each other already, and this one lies
		// within what they cover.
		new(profile.Snapshot).Delta(rec.Meta.Kind, rec.Profile)
		ack.Baseline = true
		return unlock, nil
	}
	if last.Before(in.o.Now().Add(-in.retention(h.service, rec.Meta.Kind))) {
		snapshot = new(profile.Snapshot) // the time since then is longer than anything is kept
	}
	if snapshot.Delta(rec.Meta.Kind, rec.Profile) == profile.Difference {
		rec.Meta.Start = last
	} else {
		ack.Baseline = true
	}
	rec.BaselineName, rec.Baseline = name, appendBaseline(nil, at, snapshot)
	return unlock, nil
}

// baseline loads the newest cumulative state of that name and its time; the
// zero time and an empty state if there is none, or none that can be read:
// then the next difference is lost, not the profile.
func (in *Ingest) baseline(name string) (time.Time, *profile.Snapshot, error) {
	data, err := in.o.Store.Baseline(name)
	if err != nil {
		return time.Time{}, nil, err
	}
	if data == nil {
		return time.Time{}, new(profile.Snapshot), nil
	}
	at, snapshot, err := parseBaseline(data)
	if err != nil {
		in.o.Logger.Warn("stored cumulative state is not readable; starting anew", "baseline", name, inquest.LogErr, err)
		return time.Time{}, new(profile.Snapshot), nil
	}
	return at, snapshot, nil
}

// baselineVersion is the first byte of a stored baseline; then come the time
// of the snapshot (unix ns, big endian) and the snapshot's own form.
const baselineVersion = 1

const baselineHeader = 1 + 8

func appendBaseline(dst []byte, at time.Time, s *profile.Snapshot) []byte {
	dst = append(dst, baselineVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.UnixNano()))
	return s.AppendBinary(dst)
}

func parseBaseline(data []byte) (time.Time, *profile.Snapshot, error) {
	if len(data) < baselineHeader || data[0] != baselineVersion {
		return time.Time{}, nil, fmt.Errorf("baseline of %d bytes is not of version %d", len(data), baselineVersion)
	}
	s := new(profile.Snapshot)
	if err := s.UnmarshalBinary(data[baselineHeader:]); err != nil {
		return time.Time{}, nil, err
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(data[1:]))).UTC(), s, nil
}

// baselineName names the cumulative state of one process and kind. No part
// can hold the border, which is a control character. The store deletes states by
// the service they begin with.
func baselineName(h *header, kind inquest.Kind) string {
	return h.service + store.BaselineBorder + h.instance + "\x00" + h.process + "\x00" + string(kind)
}

// locks are locks by name; names may share one.
type locks struct {
	stripes [512]chan struct{} // holds one value while locked
}

func newLocks() *locks {
	l := &locks{}
	for i := range l.stripes {
		l.stripes[i] = make(chan struct{}, 1)
	}
	return l
}

// lock waits for the lock of that name, or for ctx to end.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	stripe := l.stripes[xxhash.Sum64String(name)%uint64(len(l.stripes))]
	select {
	case stripe <- struct{}{}:
		return func() { <-stripe }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
