package store

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
)

// openFiles opens everything on the disk and makes it consistent: what a
// crash left half done goes.
func (s *Store) openFiles() (*replay, error) {
	var err error
	if s.lock, err = lockDir(s.o.Dir); err != nil {
		return nil, err
	}
	var fresh bool
	if s.catalog, fresh, err = openCatalog(s.ops, s.o.Dir); err != nil {
		return nil, err
	}
	if s.blobs, err = newDirBlobs(s.ops, filepath.Join(s.o.Dir, blockDir)); err != nil {
		return nil, err
	}
	if err := s.blobs.sweep(); err != nil {
		return nil, err
	}
	if fresh {
		if err := s.rebuildCatalog(); err != nil {
			return nil, err
		}
	}
	st, err := s.catalog.load()
	if err != nil {
		return nil, err
	}
	if err := s.openBlocks(st); err != nil {
		return nil, err
	}
	if err := s.openReach(); err != nil {
		return nil, err
	}
	if err := s.openCuts(); err != nil {
		return nil, err
	}
	if s.log, err = openLog(s.ops, filepath.Join(s.o.Dir, logDir), max(st.nextLog, 1)); err != nil {
		return nil, err
	}
	s.run = s.log.next
	if err := s.catalog.setNextLog(s.run + 1); err != nil {
		return nil, err
	}
	return &replay{
		s: s, files: slices.Clone(s.log.files), closed: st.closed, baselines: map[string]framePlace{},
		heads: map[uint64]*head{}, need: map[uint64]int64{}, damaged: map[framePlace]bool{}, broken: map[uint64]bool{}, keys: map[inquest.Key]bool{}, w: &grouper{pk: s.pk},
	}, nil
}

// openBlocks takes the catalog's blocks whose files are there and deletes
// files that no row names: a crash came between file and row, and the log
// still has what is in them.
func (s *Store) openBlocks(st *catalogState) error {
	for key, reason := range st.broken {
		s.damaged[key] = reason
	}
	known := map[string]bool{}
	for key := range st.broken {
		known[key] = true // a row that cannot be read must not cost the file
	}
	for _, info := range st.blocks {
		known[info.id] = true
		path := s.blobs.path(info.id)
		fi, err := os.Stat(path)
		switch {
		case err != nil:
			s.damaged[info.id] = err.Error()
		case fi.Size() != info.size:
			s.damaged[info.id] = fmt.Sprintf("file has %d bytes, want %d", fi.Size(), info.size)
		}
		b := &block{info: info, blobs: s.blobs}
		s.blocks = append(s.blocks, b)
		s.index.add(b)
	}
	slices.SortFunc(s.blocks, func(a, b *block) int { return int(min(1, max(-1, a.info.created-b.info.created))) })
	names, err := s.blobs.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !known[name] {
			s.o.Logger.Info("unfinished block deleted", inquest.LogBlock, name)
			if err := s.blobs.Delete(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// rebuildCatalog fills a new catalog with the blocks that are there, so that
// losing the catalog loses no profiles.
func (s *Store) rebuildCatalog() error {
	names, err := s.blobs.List()
	if err != nil {
		return err
	}
	var all []*foundBlock
	unreadable := map[string]error{}
	for _, name := range names {
		b, err := s.inspect(name)
		if err != nil {
			unreadable[name] = err
			if err := s.catalog.damage(name, err.Error()); err != nil {
				return err
			}
			continue
		}
		all = append(all, b)
	}
	run := uint64(0)
	for _, b := range resolveSources(all, unreadable) { // the others have no row, so their files go
		if err := s.catalog.addBlock(b.info, b.list.epochs, nil, math.MaxInt64, 0); err != nil {
			return err
		}
		for _, e := range b.list.epochs {
			run = max(run, e>>runEpochBit)
		}
	}
	// Epochs of this run must not be taken for closed ones.
	if err := s.catalog.setNextLog(run + 1); err != nil {
		return err
	}
	if len(names) > 0 {
		s.o.Logger.Warn("catalog was lost and is made again from the blocks", "blocks", len(names))
	}
	return nil
}

// inspect reads what a block says of itself.
func (s *Store) inspect(name string) (*foundBlock, error) {
	b, err := s.blobs.Open(name)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	size, err := b.Size()
	if err != nil {
		return nil, err
	}
	l, at, err := openListing(b, size)
	if err != nil {
		return nil, err
	}
	if l.id != name {
		return nil, fmt.Errorf("is block %s", l.id)
	}
	return &foundBlock{l.info(size, at), l}, nil
}

// lockDir makes sure that no other process has the directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is in use by another process: %w", dir, err)
	}
	return f, nil
}

// loadBlockKeys takes the keys of the blocks that are young enough.
func (s *Store) loadBlockKeys(ctx context.Context) error {
	oldest := s.o.Now().Add(-s.o.KeyAge).UnixNano()
	for _, b := range s.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.info.created < oldest {
			continue
		}
		b.acquire()
		raw, err := b.read(s.pk, &b.info.keyList)
		b.release()
		var runs *keyRuns
		if err == nil {
			runs, err = readKeyRuns(raw)
		}
		if err != nil {
			s.quarantineKeys(b, err)
			continue
		}
		s.keys.mu.Lock()
		s.keys.add(b, runs, unixTime(b.info.created))
		s.keys.mu.Unlock()
	}
	return nil
}

// keysForgotten tells that keys do not fit into memory any more.
func (s *Store) keysForgotten(keys int, written time.Time) {
	s.stats.keysForgotten.Add(int64(keys))
	s.o.Logger.Warn("memory for keys is full, the oldest are forgotten early: what was stored before is stored again if it is sent again",
		"keys", keys, "before", written)
}

func (s *Store) quarantineKeys(b *block, err error) {
	s.mu.Lock()
	s.lostLog = append(s.lostLog, fmt.Sprintf("block %s: keys: %v", b.info.id, err))
	s.mu.Unlock()
	s.stats.quarantined.Add(1)
	s.o.Logger.Error("keys of a block cannot be read, its profiles could be stored twice", inquest.LogBlock, b.info.id, inquest.LogErr, err)
}
