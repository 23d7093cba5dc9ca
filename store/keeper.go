package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// keeper does what can be done behind the back of readers and writers, one
// goroutine: it makes rollups, merges blocks and deletes what need not be kept
// any longer. Each job is a list of steps of which every one leaves the store
// whole, so a kill between any two costs at most the work of one.
type keeper struct {
	s    *Store
	jobs []*job

	// Of its goroutine alone:
	resumed  time.Time       // when work began after the last pause
	bytes    int64           // that were read and written since
	made     []string        // blocks that the step under way has written
	unmerged map[string]bool // blocks whose keys are damaged, see bodyHashes
	unmade   map[int64]bool  // days whose damaged rollups cannot be made again
	lacking  map[int64]bool  // days of which rollups were written again without what is damaged

	mu     sync.Mutex
	waits  []chan error // answered when nothing is left to do
	served []chan error // those of waits that the work under way is for
	wake   chan struct{}
	cancel context.CancelFunc
	ended  chan struct{}
}

// job is a kind of work. step does a bounded piece of it, and says whether
// there was any.
type job struct {
	name string
	step func(context.Context) (did bool, err error)

	panics int       // in a row
	rests  time.Time // until when, after these, unless somebody waits for it
}

// panicPause is how long a job rests after a panic, twice as long after the
// next, maxPanicPause at most: what it stumbles over is likely to be there still.
const (
	panicPause    = time.Minute
	maxPanicPause = time.Hour
)

// keeperTick is the pause between two looks for work.
const keeperTick = 5 * time.Second

func newKeeper(s *Store) *keeper {
	return &keeper{
		s: s, unmerged: map[string]bool{}, unmade: map[int64]bool{}, lacking: map[int64]bool{}, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		jobs: []*job{
			{name: "read again", step: s.readAgain},
			{name: "deletion", step: s.takeOut},
			{name: "retention", step: s.retainer.step},
			{name: "roll up", step: s.rollUp},
			{name: "make rollups again", step: s.remakeRollups},
			{name: "merge rollups", step: s.compactRollups},
			{name: "merge", step: s.mergeBlocks},
			{name: "note builds", step: (&seenWriter{s: s}).step},
			{name: "binaries", step: (&binaryKeeper{s: s}).step},
			{name: "crashes", step: (&crashKeeper{s: s}).step},
			{name: "compact catalog", step: s.compactCatalog},
		},
	}
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	go k.run(ctx)
}

// rest is start of a keeper that does nothing.
func (k *keeper) rest() {
	k.cancel = func() {}
	close(k.ended)
}

// stop ends the goroutine; a step under way is given up, or finished if it is
// about to be.
func (k *keeper) stop() {
	k.cancel()
	<-k.ended
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.ended)
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-tick.C:
		}
		if k.s.settled() {
			k.work(ctx)
		}
	}
}

// settled says that what Open leaves for later is done.
func (s *Store) settled() bool {
	select {
	case <-s.started:
		return s.replayed.Load()
	default:
		return false
	}
}

// keeperSteps is how many steps of a job come before the next one's turn: one
// that never ends, as new blocks keep coming, does not keep the others from
// theirs.
const keeperSteps = 8

// work does all there is to do.
func (k *keeper) work(ctx context.Context) {
	var errs []error
	k.mu.Lock()
	k.served, k.waits = k.waits, nil
	k.mu.Unlock()
	putOff := map[*job]bool{}
	for more := true; more && ctx.Err() == nil; {
		more = false
		for _, j := range k.jobs {
			if putOff[j] || time.Now().Before(j.rests) && !k.hurried() {
				continue
			}
			left, err := k.do(ctx, j)
			if err != nil && ctx.Err() == nil {
				k.s.o.Logger.Warn("background job put off", "job", j.name, inquest.LogErr, err)
				errs = append(errs, fmt.Errorf("%s: %w", j.name, err))
				putOff[j] = true
			}
			more = more || left
		}
	}
	if ctx.Err() == nil {
		k.answer(errors.Join(errs...))
	}
}

// do does a job, step after step, and says whether there may be more of them.
func (k *keeper) do(ctx context.Context, j *job) (more bool, err error) {
	k.resumed = time.Now()
	for range keeperSteps {
		did, err := k.step(ctx, j)
		if err != nil || !did {
			return false, err
		}
		if err := k.pace(ctx, 0); err != nil {
			return false, err
		}
	}
	return true, nil
}

// step does a step of a job. A panic ends that job for a while and nothing
// else.
func (k *keeper) step(ctx context.Context, j *job) (did bool, err error) {
	err = k.contain(func() (err error) {
		did, err = j.step(ctx)
		return err
	})
	if !errors.Is(err, errPanic) {
		j.panics = 0
		return did, err
	}
	j.rests = time.Now().Add(min(panicPause<<min(j.panics, 10), maxPanicPause))
	j.panics++
	return false, err
}

var errPanic = errors.New("internal error")

// contain does something and makes a panic an error. Blocks that it has
// written and nobody knows of go.
func (k *keeper) contain(do func() error) (err error) {
	k.made = k.made[:0]
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		k.s.o.Logger.Error("background job panicked", inquest.LogErr, p, "stack", string(debug.Stack()))
		err = fmt.Errorf("%w: %v", errPanic, p)
		for _, id := range k.made {
			if !k.s.catalog.has(id) {
				err = errors.Join(err, k.s.blobs.Delete(id))
			}
		}
	}()
	return do()
}

// keeperPause is how many times as long as it worked a job pauses: a quarter
// of one processor is what it takes at most. It works keeperSpell at a time.
const (
	keeperPause = 3
	keeperSpell = 20 * time.Millisecond
)

// pace is called by jobs with the bytes they are about to read or write, and
// often enough: it lets the others have their share of the processor and of
// the disk, unless somebody waits for the job. The error is ctx's.
func (k *keeper) pace(ctx context.Context, bytes int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.bytes += int64(bytes)
	worked := time.Since(k.resumed)
	moved := time.Duration(float64(k.bytes) / float64(k.s.o.KeeperBytesPerSecond) * float64(time.Second))
	if max(worked, moved) < keeperSpell {
		return nil
	}
	if !k.hurried() {
		select {
		case <-time.After(max(keeperPause*worked, moved-worked)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.resumed, k.bytes = time.Now(), 0
	return nil
}

func (k *keeper) hurried() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.waits)+len(k.served) > 0
}

// answer tells those who wait for the work that ends now. Those who came while
// it was done wait for all of it to be done again.
func (k *keeper) answer(err error) {
	k.mu.Lock()
	served := k.served
	k.served = nil
	if len(k.waits) > 0 {
		k.poke()
	}
	k.mu.Unlock()
	for _, w := range served {
		w <- err
	}
}

func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Settle does at once what else is done in the background, rollups, merging
// and retention, and returns when nothing of it is left. It waits for replay.
func (s *Store) Settle(ctx context.Context) error {
	select {
	case <-s.started:
		if err := s.Ready(); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	s.keeper.mu.Lock()
	s.keeper.waits = append(s.keeper.waits, done)
	s.keeper.mu.Unlock()
	s.keeper.poke()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.keeper.ended:
		return errClosed()
	}
}

// putBlock writes the file of a block made of other blocks. It is not in the
// catalog yet, see swap.
func (s *Store) putBlock(ctx context.Context, write func(w io.Writer, id string, created int64) (*blockInfo, error)) (info *blockInfo, err error) {
	if err := s.checkSpace(0); err != nil {
		return nil, err
	}
	now := s.o.Now()
	id, err := newBlockID(now)
	if err != nil {
		return nil, err
	}
	err = s.blobs.Put(id, func(w io.Writer) (err error) {
		info, err = write(&pacedWriter{ctx, s.keeper, w}, id, now.UnixNano())
		return err
	})
	if err == nil {
		s.keeper.made = append(s.keeper.made, id)
	}
	return info, err
}

// pacedWriter is the writer of a job, which fails once ctx has ended.
type pacedWriter struct {
	ctx    context.Context
	keeper *keeper
	w      io.Writer
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	if err := p.keeper.pace(p.ctx, len(b)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// swap puts blocks, whose files are complete, in the place of others, for the
// catalog and for readers, and marks those whose profiles are in rollups now.
// Readers that hold the old ones finish. After an error the new files are
// gone. Blocks with something that is deleted stay until that is taken out.
func (s *Store) swap(add []*blockInfo, remove, rolled []*block) error {
	s.deletions.mu.Lock()
	defer s.deletions.mu.Unlock()
	for _, b := range append(slices.Clone(remove), rolled...) {
		if len(b.cuts) > 0 {
			err := fmt.Errorf("replace block %s: %w", b.info.id, errCut)
			for _, b := range add {
				err = errors.Join(err, s.discard(b))
			}
			return err
		}
	}
	return s.exchange(add, remove, rolled)
}

var errCut = inquest.Errorf(inquest.ErrUnavailable, "some of it was deleted meanwhile")

// exchange is swap for whoever has taken out what is deleted; s.deletions.mu is
// held.
func (s *Store) exchange(add []*blockInfo, remove, rolled []*block) error {
	var old, marked []*blockInfo
	for _, b := range remove {
		old = append(old, b.info)
	}
	for _, b := range rolled {
		marked = append(marked, b.info)
	}
	err := s.catalog.replace(add, old, marked)
	if err != nil && !s.inForce(add, old) {
		for _, b := range add {
			err = errors.Join(err, s.discard(b))
		}
		return err
	}
	s.mu.Lock()
	for _, b := range rolled {
		b.info.rolled = true
	}
	s.blocks = slices.DeleteFunc(slices.Clone(s.blocks), func(b *block) bool { return slices.Contains(remove, b) })
	for _, b := range remove {
		s.index.remove(b)
		if len(b.cuts) > 0 {
			s.deletions.n--
		}
	}
	var added []*block
	for _, info := range add {
		b := &block{info: info, blobs: s.blobs}
		added = append(added, b)
		s.index.add(b)
	}
	s.blocks = append(s.blocks, added...)
	for key := range s.damaged {
		if id, _, _ := strings.Cut(key, "/"); slices.ContainsFunc(remove, func(b *block) bool { return b.info.id == id }) {
			delete(s.damaged, key)
			delete(s.failing, key)
		}
	}
	s.keys.replaced(remove, added)
	s.mu.Unlock()
	for _, b := range remove {
		s.listings.forget(b.info.id)
		if err == nil { // else the next start deletes the file, if no row names it then
			b.doom()
		}
	}
	return err
}

// inForce says whether a replacement of which the transaction failed counts
// all the same.
func (s *Store) inForce(add, old []*blockInfo) bool {
	if len(add) > 0 {
		return s.catalog.has(add[0].id)
	}
	return len(old) > 0 && !s.catalog.has(old[0].id)
}
