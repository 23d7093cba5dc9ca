// Package store keeps everything durable: the log, blocks, and the catalog.
//
// Appended profiles go into the head of their service, a dictionary and
// encoded row groups in memory, and into the log, which is synced before
// Append returns. When an epoch ends, heads become self-contained immutable
// blocks, and the log files that no open epoch needs are deleted.
// docs/format.md describes every byte on the disk.
//
// A View is what readers see: parts, each one service's profiles in one head
// or block. Readers never wait for writers and the other way round, beyond
// short critical sections.
//
// The package is the only user of bbolt. It does not know what values mean:
// deltas, windows and selectors are others' business. A Store is safe for
// concurrent use; see Part for what is not.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goinquest/inquest"
)

// Options say where a store is and how much it may take. Only Dir has no
// default.
type Options struct {
	Dir         string                // data directory; created with mode 0700
	Logger      *slog.Logger          // default: none
	Now         func() time.Time      // default time.Now
	Registerer  prometheus.Registerer // nil = no metrics
	CommitDelay time.Duration         // most a record waits for others to share its commit; default 20 ms
	CommitBytes int64                 // of records that are committed without further waiting; default 1 MiB
	LogBytes    int64                 // of log files, beyond which the epochs in the oldest end; default 512 MiB
	Epoch       time.Duration         // after which a head becomes a block; default 30 min
	HeadBytes   int64                 // of memory of all heads: from three quarters on the largest end, beyond it writers wait, then get ErrUnavailable; default 128 MiB
	CacheBytes  int64                 // of trees, listings and directories of blocks kept in memory; default 48 MiB, negative: none
	KeyBytes    int64                 // of memory of keys in blocks, beyond which the oldest are forgotten before KeyAge; default 64 MiB
	KeyAge      time.Duration         // how long idempotency keys are remembered at least; default 25 h
	// RollupLabels names labels that rollups keep beside service, build and
	// release; default none.
	RollupLabels []string
	// RollupDelay is how long profiles of a new block wait for others before they
	// are rolled up; default 2 min, negative: not at all.
	RollupDelay  time.Duration
	MinFreeBytes int64 // of disk that stay free: below it writes get ErrDiskFull; default 64 MiB
	// Retention says what is deleted for its age or for want of space; default
	// nothing. See SetRetention.
	Retention  Retention
	MergeAge   time.Duration // after which blocks are merged though they are few; default 4 h
	MergeBytes int64         // of memory for making blocks of blocks: of the dictionary of a merged part; default 64 MiB
	// KeeperBytesPerSecond is how much background jobs read and write at most;
	// default 32 MiB.
	KeeperBytesPerSecond int64
	BinaryBytes          int64 // largest binary stored; default 2 GiB
	// Idle has nothing done in the background, and the policy of retention stays
	// the one that was in force: for a store that is opened to be copied.
	Idle bool

	files     fileOps    // tests put one in that fails
	merge     mergeSizes // tests make them small
	crashes   crashBounds
	rollBytes int64 // of cells of one resolution, and of digests, that are being rolled up
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	setDefault(&o.CommitDelay, 20*time.Millisecond)
	setDefault(&o.CommitBytes, 1<<20)
	setDefault(&o.LogBytes, 512<<20)
	setDefault(&o.Epoch, 30*time.Minute)
	setDefault(&o.HeadBytes, 128<<20)
	setDefault(&o.CacheBytes, 48<<20)
	setDefault(&o.KeyBytes, 64<<20)
	setDefault(&o.KeyAge, 25*time.Hour)
	setDefault(&o.RollupDelay, 2*time.Minute)
	setDefault(&o.MinFreeBytes, 64<<20)
	setDefault(&o.MergeAge, 4*time.Hour)
	setDefault(&o.MergeBytes, 64<<20)
	setDefault(&o.KeeperBytesPerSecond, 32<<20)
	setDefault(&o.rollBytes, o.MergeBytes/4)
	setDefault(&o.BinaryBytes, 2<<30)
	if o.merge == (mergeSizes{}) {
		o.merge = defaultMergeSizes
	}
	if o.crashes == (crashBounds{}) {
		o.crashes = defaultCrashBounds
	}
	if o.files == nil {
		o.files = osFiles{}
	}
}

func setDefault[T ~int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

var (
	minTime = int64(math.MinInt64)
	maxTime = int64(math.MaxInt64)
)

// Store is an open store.
type Store struct {
	o       Options
	ops     fileOps
	pk      *packer
	seeds   *seeds
	lock    *os.File
	catalog *catalog
	blobs   *dirBlobs
	log     *logSet
	keys    *keyIndex
	trees   *treeCache
	memory  *headMemory

	listings    *lru[string, *blockListing]
	directories *lru[partKey, *partDirectory]
	stats       *stats
	bodies      sync.Pool // *body

	baselines *baselines
	commit    *committer
	closer    *closer
	keeper    *keeper
	retainer  *retainer
	deletions deletions
	binaries  *binaries
	crashes   crashIndex
	cores     coreDepot
	audit     auditLog
	seen      *seen
	reach     atomic.Pointer[reach]
	reachFile sideFile

	run       uint64 // number of this run's first log file
	replay    *replay
	keysReady chan struct{} // closed when keys are loaded: writes may begin
	started   chan struct{} // closed when replay has ended
	startErr  error         // why keys could not be loaded; read after keysReady
	replayed  atomic.Bool
	cancel    context.CancelFunc // of replay
	epochs    atomic.Uint64      // heads made in this run
	writers   sync.WaitGroup     // Appends under way

	backingUp sync.Mutex // held while a backup is made
	checking  sync.Mutex // held while the store is checked

	mu        sync.RWMutex
	heads     map[string]*head // open, by service
	closing   []*head          // closed, no block yet
	recovered []*head          // being replayed
	blocks    []*block
	index     *blockIndex          // of blocks
	damaged   map[string]string    // block, or block "/" part → reason
	failing   map[string]time.Time // of damaged, since when: the disk failed, which may pass
	lostLog   []string
	closed    bool
}

// Open opens the store of a directory, making it if need be, and is ready to
// accept writes at once, or as soon as the keys of an unclean end are read;
// the rest of the log is replayed in the background (see Ready). ctx bounds
// Open alone. The directory is locked against other processes.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	if o.Dir == "" {
		return nil, errors.New("open store: no directory given")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := o.Retention.Validate(); err != nil {
		return nil, err
	}
	if err := o.files.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	s := &Store{
		o: o, ops: o.files, pk: newPacker(), seeds: newSeeds(),
		trees: newTreeCache(o.CacheBytes / 3 * 2), listings: newLRU[string, *blockListing](o.CacheBytes / 6),
		directories: newLRU[partKey, *partDirectory](o.CacheBytes / 6), memory: newHeadMemory(o.HeadBytes),
		keysReady: make(chan struct{}), started: make(chan struct{}),
		heads: map[string]*head{}, index: newBlockIndex(), damaged: map[string]string{}, failing: map[string]time.Time{},
	}
	s.baselines = newBaselines(s.memory)
	s.keys = newKeyIndex(o.KeyAge, o.KeyBytes, s.keysForgotten)
	s.bodies.New = func() any { return &body{seeds: s.seeds} }
	r, err := s.openFiles()
	if err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.replay = r
	s.replayed.Store(len(r.files) == 0) // after a clean end there is nothing to replay
	s.commit = newCommitter(s, 1)
	s.closer = newCloser(s)
	s.retainer = newRetainer(s)
	if s.stats, err = newStats(s, o.Registerer); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("open store: %w", err)
	}
	background, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.commit.run()
	go s.closer.run()
	s.keeper = newKeeper(s)
	if o.Idle {
		s.keeper.rest()
	} else {
		s.keeper.start()
	}
	go s.start(background, r)
	return s, nil
}

// Close ends open epochs into blocks and closes everything. Appends under way
// finish, later ones get ErrUnavailable. After an error the log keeps what is
// in no block.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.keeper.stop()
	<-s.started
	s.writers.Wait()
	err := s.closer.flush(context.Background())
	if e := s.flushSeen(); err == nil {
		err = e
	}
	s.closer.stop()
	s.commit.stop()
	if e := s.log.rotate(); err == nil {
		err = e
	}
	if e := s.releaseLog(nil); err == nil {
		err = e
	}
	s.stats.unregister()
	if e := s.closeFiles(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

func (s *Store) closeFiles() (err error) {
	if s.catalog != nil {
		err = s.catalog.close()
	}
	if s.lock != nil {
		if e := s.lock.Close(); err == nil {
			err = e
		}
	}
	return err
}

func errClosed() error { return inquest.Errorf(inquest.ErrUnavailable, "the store is closed") }

// Ready is nil once replay is complete; else an ErrUnavailable that says how
// far it is.
func (s *Store) Ready() error {
	if s.replayed.Load() {
		return nil
	}
	select {
	case <-s.started:
		return inquest.Errorf(inquest.ErrUnavailable, "the log could not be replayed")
	default:
		return inquest.Errorf(inquest.ErrUnavailable, "the log is being replayed, %.0f %% done", 100*s.replay.progress())
	}
}

// writable waits until the keys are loaded.
func (s *Store) writable(ctx context.Context) error {
	select {
	case <-s.keysReady:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.startErr != nil {
		return inquest.Errorf(inquest.ErrUnavailable, "the log of %s cannot be read: %w", s.o.Dir, s.startErr)
	}
	return nil
}

// Baseline returns the newest durable cumulative state of that name, nil if
// there is none. The slice is the caller's.
func (s *Store) Baseline(name string) ([]byte, error) {
	if err := s.writable(context.Background()); err != nil {
		return nil, err
	}
	if state, ok := s.baselines.get(name, s.run<<runEpochBit); ok {
		return state, nil
	}
	if !s.replayed.Load() {
		if p, ok := s.replay.baselines[name]; ok {
			return s.replay.baseline(name, p)
		}
	}
	if state, ok := s.baselines.get(name, 0); ok {
		return state, nil
	}
	state, err := s.catalog.baseline(name)
	if errors.Is(err, errSeal) {
		s.quarantineEntry(err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cumulative state: %w", err)
	}
	return state, nil
}

// PutBuilds stores what executables say of themselves, by their ids. Builds
// that are stored already cost nothing.
func (s *Store) PutBuilds(builds []inquest.Build) error {
	for i := range builds {
		if builds[i].ID == "" || len(builds[i].ID) > maxBuildID {
			return inquest.Errorf(inquest.ErrInvalid, "build id %.40q: want 1 to %d characters", builds[i].ID, maxBuildID)
		}
	}
	if err := s.catalog.putBuilds(builds); err != nil {
		return s.writeError(err)
	}
	return nil
}

const maxBuildID = 256

// Build returns what is known of a build, nil if nothing is.
func (s *Store) Build(id string) (*inquest.Build, error) {
	if id == "" {
		return nil, nil
	}
	b, err := s.catalog.build(id)
	if errors.Is(err, errSeal) {
		s.quarantineEntry(err)
		return nil, nil
	}
	return b, err
}

// Builds visits every build that was reported, by id. A damaged entry is left
// out.
func (s *Store) Builds(each func(*inquest.Build)) error {
	return s.catalog.builds(each)
}

// Flush ends every open epoch into blocks and returns when they are durable.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return errClosed()
	}
	return s.closer.flush(ctx)
}

// openHeads lists the open heads that the filter wants.
func (s *Store) openHeads(want func(*head) bool) []*head {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*head
	for _, h := range s.heads {
		if want(h) {
			out = append(out, h)
		}
	}
	return out
}

func (s *Store) hasClosing() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.closing) > 0
}

// headOf returns the open head of a service, making it if there is none.
func (s *Store) headOf(service string) *head {
	s.mu.RLock()
	h := s.heads[service]
	s.mu.RUnlock()
	if h != nil {
		return h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.heads[service]; h != nil {
		return h
	}
	h = newHead(service, s.run<<runEpochBit|s.epochs.Add(1), s.o.Now(), s.seeds)
	h.all = s.memory
	s.heads[service] = h
	return h
}

func (s *Store) warn(what string, err error) { s.o.Logger.Warn(what, inquest.LogErr, err) }
