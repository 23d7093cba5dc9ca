package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	s.blobs = blocksIn(s.ops, s.o.Dir)
	if err := s.blobs.make(); err != nil {
		return nil, err
	}
	if err := s.blobs.sweep(); err != nil {
		return nil, err
	}
	st, lost, err := s.openCatalog()
	if err != nil {
		return nil, err
	}
	if err := s.openBlocks(st); err != nil {
		return nil, err
	}
	if err := s.openReach(lost); err != nil {
		return nil, err
	}
	if err := s.openBinaries(lost); err != nil {
		return nil, err
	}
	if err := s.openAudit(); err != nil {
		return nil, err
	}
	if err := s.openCrashes(); err != nil {
		return nil, err
	}
	if err := s.openCores(lost); err != nil {
		return nil, err
	}
	if err := s.openSeen(); err != nil {
		return nil, err
	}
	old, err := s.openDeletions()
	if err != nil {
		return nil, err
	}
	if err := s.openCuts(); err != nil {
		return nil, err
	}
	if s.log, err = openLog(s.ops, filepath.Join(s.o.Dir, logDir), max(st.nextLog, 1, old>>runEpochBit+1)); err != nil {
		return nil, err
	}
	s.run = s.log.next
	if err := s.catalog.setNextLog(s.run + 1); err != nil {
		return nil, err
	}
	return &replay{
		s: s, files: slices.Clone(s.log.files), closed: st.closed, old: old, baselines: map[string]framePlace{},
		heads: map[uint64]*head{}, need: map[uint64]int64{}, damaged: map[framePlace]bool{}, broken: map[uint64]bool{}, keys: map[inquest.Key]bool{}, w: &grouper{pk: s.pk},
	}, nil
}

// openCatalog opens the catalog and reads what it says. A block whose row is
// lost gets a new one; else its file would be taken for one left by a crash. lost
// says that the catalog may not have its last state.
func (s *Store) openCatalog() (st *catalogState, lost bool, err error) {
	if s.catalog, lost, err = openCatalog(s.ops, s.o.Dir); errors.Is(err, ErrCatalog) {
		// Without a block it has nothing that is worth a person's time: the power
		// went while it was made.
		names, lerr := s.blobs.List()
		if lerr != nil || len(names) > 0 {
			return nil, false, err
		}
		aside, serr := setCatalogAside(s.ops, s.o.Dir, s.o.Now())
		if serr != nil {
			return nil, false, errors.Join(err, serr)
		}
		s.o.Logger.Warn("catalog is damaged and is made anew", "kept", aside, inquest.LogErr, err)
		s.catalog, lost, err = openCatalog(s.ops, s.o.Dir)
	}
	if err != nil {
		return nil, false, err
	}
	st, err = s.catalog.load()
	if err != nil || !lost && st.badRows == 0 {
		return st, false, err
	}
	n, err := rebuildRows(s.catalog, s.blobs)
	if err != nil {
		return nil, false, err
	}
	if n > 0 {
		s.o.Logger.Warn("rows of the catalog were lost and are made again from the blocks", "blocks", n)
	}
	st, err = s.catalog.load()
	return st, lost, err
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
		fi, err := s.ops.Stat(path)
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

// ErrInUse is what opening or checking a directory fails with that another
// process, which the message names, has open.
var ErrInUse = errors.New("is in use")

// lockPatience is how long a lock that another process has is waited for.
const lockPatience = 300 * time.Millisecond

// lockDir makes sure that no other process has the directory. The file holds
// the number of the process that has it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// A process that was just begun by one that has closed the directory holds
	// the lock until it runs its own program.
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for until := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(until); {
		time.Sleep(lockPatience / 20)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		who := lockHolder(f)
		_ = f.Close()
		return nil, fmt.Errorf("%s %w by %s: %w", dir, ErrInUse, who, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintln(f, os.Getpid()) // only for people to read
	}
	return f, nil
}

// lockHolder names the process that has a lock file locked.
func lockHolder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return "another process"
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
		return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm)))
	}
	return fmt.Sprintf("process %d", pid)
}

// loadBlockKeys takes the keys of the blocks that are young enough.
func (s *Store) loadBlockKeys(ctx context.Context) error {
	oldest := s.o.Now().Add(-s.o.KeyAge).UnixNano()
	s.mu.RLock()
	blocks := s.blocks // what comes from now on brings its keys along
	s.mu.RUnlock()
	for _, b := range blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.info.created < oldest || !b.hold() {
			continue
		}
		var raw []byte
		err := s.patiently(ctx, func() (err error) {
			raw, err = b.read(s.pk, &b.info.keyList)
			return err
		})
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
	what := fmt.Sprintf("block %s: keys: %v", b.info.id, err)
	s.mu.Lock()
	known := slices.Contains(s.lostLog, what)
	if !known {
		s.lostLog = append(s.lostLog, what)
	}
	s.mu.Unlock()
	if known {
		return
	}
	s.stats.quarantined.Add(1)
	s.o.Logger.Error("keys of a block cannot be read, its profiles could be stored twice", inquest.LogBlock, b.info.id, inquest.LogErr, err)
}
