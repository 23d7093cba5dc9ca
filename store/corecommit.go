package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// CommitCore ends the upload of a core: every wanted block is read and
// verified. It returns when all of it is durable. Of an ErrConflict blocks are
// missing, which the state names; ErrNotFound, ErrDiskFull.
func (s *Store) CommitCore(ctx context.Context, id string) (*CoreState, error) {
	if err := s.beginWrite(); err != nil {
		return nil, err
	}
	defer s.writers.Done()
	d := &s.cores
	u, err := d.upload(id)
	if err != nil {
		return nil, err
	}
	if u == nil {
		c, err := s.Core(id)
		return &CoreState{Stored: c}, err
	}
	if missing := u.missing(); len(missing) > 0 {
		return u.state(), inquest.Errorf(inquest.ErrConflict, "blocks of core %s are missing, the first is number %d", id, missing[0][0])
	}
	select {
	case d.take <- struct{}{}:
		defer func() { <-d.take }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	u.use.Lock()
	defer u.use.Unlock()
	if again, err := d.upload(id); err != nil || again != u {
		if err != nil {
			return nil, err
		}
		c, err := s.Core(id)
		return &CoreState{Stored: c}, err
	}
	if err := u.verify(ctx); err != nil {
		if len(u.missing()) > 0 {
			return u.state(), err
		}
		return nil, err
	}
	c, err := u.store()
	return &CoreState{Stored: c}, err
}

// verify reads every wanted block. Those that are wrong are missing again.
func (u *coreUpload) verify(ctx context.Context) error {
	s, bad := u.d.s, 0
	f, err := s.ops.OpenFile(u.d.path(u.id, uploadSuffix), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return s.writeError(err)
	}
	defer f.Close()
	if err := f.Datasync(); err != nil {
		return s.writeError(err)
	}
	blocks := u.offer.ledger.Blocks()
	buf := make([]byte, 0, coredump.BlockBytes)
	for n := range u.offer.blocks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := &blocks[n]
		if b.Stored == 0 {
			continue
		}
		buf = resize(buf, int(b.Stored))
		err := readFull(f, buf, b.Offset)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return inquest.Errorf(inquest.ErrUnavailable, "read block %d of core %s: %w", n, u.id, err)
		}
		if err != nil || sha256.Sum256(buf) != b.Sum {
			bad++
			u.mu.Lock()
			u.have[n/64] &^= 1 << (n % 64)
			u.mu.Unlock()
		}
	}
	if bad == 0 {
		return nil
	}
	s.o.Logger.Warn("blocks of a core are not as they came", "core", u.id, "blocks", bad)
	if err := u.rewriteHave(); err != nil {
		return s.writeError(err)
	}
	return inquest.Errorf(inquest.ErrConflict, "%d blocks of core %s are damaged here: send them again", bad, u.id)
}

// rewriteHave writes the journal anew.
func (u *coreUpload) rewriteHave() (err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ops, name := u.d.s.ops, u.d.path(u.id, haveSuffix)
	f, err := ops.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var raw []byte
	for n := range u.offer.ledger.Blocks() {
		if u.have[n/64]>>(n%64)&1 != 0 {
			raw = haveLine(raw, u.id, n)
		}
	}
	_, err = f.Write(raw)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// store makes a stored core of an upload whose blocks were verified; u.use is
// held.
func (u *coreUpload) store() (*StoredCore, error) {
	d, s := u.d, u.d.s
	if err := s.ops.Rename(d.path(u.id, uploadSuffix), d.path(u.id, coreSuffix)); err != nil {
		return nil, s.writeError(err)
	}
	if err := s.ops.SyncDir(d.dir); err != nil {
		return nil, s.writeError(errors.Join(err, s.ops.Rename(d.path(u.id, coreSuffix), d.path(u.id, uploadSuffix))))
	}
	row := u.offer.row(s.o.Now().UTC())
	err := s.changeCrashes(func(t *crashTx) error {
		d.mu.RLock()
		deleted := d.open[u.id] == nil
		d.mu.RUnlock()
		if deleted {
			return errNoCore(u.id)
		}
		c, err := t.get(row.Crash)
		if err != nil {
			return err
		}
		if c == nil {
			if c, err = t.tell(&u.offer.Crash); err != nil {
				return err
			}
		}
		next := *c
		core := row.Core
		next.Core, next.CoreGone, next.Tier = &core, "", higher(c.Tier, core.Tier)
		if err := t.put(c, &next); err != nil {
			return err
		}
		row.Group = next.Group
		return putCore(t.tx, row)
	})
	if errors.Is(err, inquest.ErrNotFound) {
		d.removeFiles(u.id) // it was deleted meanwhile
		return nil, err
	}
	if err != nil {
		if v, _ := s.catalog.get(bucketCores, u.id); v == nil {
			return nil, errors.Join(err, s.ops.Rename(d.path(u.id, coreSuffix), d.path(u.id, uploadSuffix)))
		}
		// It is in force, and is said to be so the next time it is asked.
	}
	d.mu.Lock()
	delete(d.open, u.id)
	d.rows[u.id] = row
	d.bytes += row.StoredBytes
	d.mu.Unlock()
	_ = s.ops.Remove(d.path(u.id, haveSuffix)) // else the next start does
	if err != nil {
		return nil, err
	}
	s.o.Logger.Info("core stored", "core", row.ID, "crash", row.Crash, inquest.LogService, row.Service, "tier", row.Tier, inquest.LogBytes, row.StoredBytes)
	c := *row
	return &c, nil
}
