package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// Sizes of block files: a service whose part is smaller than ownFileBytes
// shares a file of up to sharedFileBytes with others.
const (
	ownFileBytes    = 1 << 20
	sharedFileBytes = 8 << 20
)

const (
	closerTick  = 250 * time.Millisecond
	retryPause  = 5 * time.Second // between attempts to write a block that failed
	runEpochBit = 32              // epoch = number of the run's first log file << runEpochBit | count
)

// closer ends epochs and packs row groups: one goroutine.
type closer struct {
	s *Store
	w *grouper

	mu      sync.Mutex
	packing map[*head]bool // heads with full sections
	flushes []chan error
	wake    chan struct{}
	quit    chan struct{}
	ended   chan struct{}
	retryAt time.Time
	closed  []uint64 // epochs in blocks whose log is not released yet
}

func newCloser(s *Store) *closer {
	return &closer{
		s: s, w: &grouper{pk: s.pk}, packing: map[*head]bool{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
}

// packSoon asks for row groups to be made of a head's full sections.
func (c *closer) packSoon(h *head) {
	c.mu.Lock()
	c.packing[h] = true
	c.mu.Unlock()
	c.poke()
}

func (c *closer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// flush ends every open epoch into blocks and waits for it.
func (c *closer) flush(ctx context.Context) error {
	done := make(chan error, 1)
	c.mu.Lock()
	c.flushes = append(c.flushes, done)
	c.mu.Unlock()
	c.poke()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return inquest.Errorf(inquest.ErrUnavailable, "the store is closed")
	}
}

func (c *closer) stop() {
	close(c.quit)
	<-c.ended
}

func (c *closer) run() {
	defer close(c.ended)
	tick := time.NewTicker(closerTick)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-c.wake:
			c.packFull()
			c.answerFlushes()
			if c.s.memory.crowded() {
				c.endDue()
			}
		case <-tick.C:
			c.endDue()
		}
	}
}

func (c *closer) packFull() {
	c.mu.Lock()
	heads := c.packing
	c.packing = map[*head]bool{}
	c.mu.Unlock()
	for h := range heads {
		if err := h.pack(c.w, false); err != nil {
			c.s.warn("pack row group", err)
		}
	}
}

func (c *closer) answerFlushes() {
	c.mu.Lock()
	flushes := c.flushes
	c.flushes = nil
	c.mu.Unlock()
	if len(flushes) == 0 {
		return
	}
	err := c.end(c.s.openHeads(func(*head) bool { return true }))
	for _, f := range flushes {
		f <- err
	}
}

// endDue ends the epochs whose time has come, and tries again what failed.
func (c *closer) endDue() {
	s := c.s
	now := s.o.Now()
	due := map[*head]bool{}
	old := false
	heads := s.openHeads(func(*head) bool { return true })
	for _, h := range heads {
		old = old || now.Sub(h.born) >= s.o.Epoch
	}
	for _, h := range heads {
		// Those that are half through come along, so that small ones share files.
		due[h] = old && now.Sub(h.born) >= s.o.Epoch/2
	}
	c.markLarge(heads, due)
	if s.log.bytes() > s.o.LogBytes {
		for _, e := range s.log.oldest() {
			for _, h := range heads {
				due[h] = due[h] || h.epoch == e
			}
		}
	}
	heads = slices.DeleteFunc(heads, func(h *head) bool { return !due[h] })
	if len(heads) == 0 && (!s.hasClosing() || now.Before(c.retryAt)) {
		return
	}
	if err := c.end(heads); err != nil {
		c.retryAt = now.Add(retryPause)
		s.warn("end epochs", err)
	}
}

// markLarge marks the largest open heads while all heads take too much memory.
func (c *closer) markLarge(heads []*head, due map[*head]bool) {
	if !c.s.memory.crowded() {
		return
	}
	open := int64(0)
	sizes := make(map[*head]int64, len(heads))
	for _, h := range heads {
		sizes[h] = h.memory() + c.s.baselines.memory(h.epoch)
		open += sizes[h]
	}
	bySize := slices.Clone(heads)
	slices.SortFunc(bySize, func(a, b *head) int { return cmp.Compare(sizes[b], sizes[a]) })
	for _, h := range bySize {
		if open <= c.s.o.HeadBytes/8*3 {
			return
		}
		due[h] = true
		open -= sizes[h]
	}
}

// end closes heads, and writes them and those that wait since an earlier
// failure to blocks.
func (c *closer) end(heads []*head) error {
	s := c.s
	s.mu.Lock()
	for _, h := range heads {
		delete(s.heads, h.service)
		s.closing = append(s.closing, h)
	}
	closing := slices.Clone(s.closing)
	s.mu.Unlock()
	if len(closing) == 0 {
		return nil
	}
	for _, h := range closing {
		h.close()
		if err := h.pack(c.w, true); err != nil {
			return fmt.Errorf("pack head of %s: %w", h.service, err)
		}
	}
	var errs []error
	for _, file := range fileOf(closing) {
		if err := s.checkSpace(0); err != nil {
			return err
		}
		err := c.writeFile(file)
		if err != nil {
			errs = append(errs, s.writeError(err))
		}
		s.letGo(file, err == nil)
	}
	return errors.Join(errs...)
}

// letGo frees the memory of heads that are in a block now; without certainty,
// of those that are not waiting for one any more.
func (s *Store) letGo(heads []*head, written bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, h := range heads {
		if written || !slices.Contains(s.closing, h) {
			h.drop()
		}
	}
}

// fileOf divides heads into files.
func fileOf(heads []*head) (files [][]*head) {
	var shared []*head
	bytes := int64(0)
	slices.SortStableFunc(heads, func(a, b *head) int { return strings.Compare(a.service, b.service) })
	for _, h := range heads {
		// In a block the dictionary takes about a tenth of what it takes here.
		n := h.packed + h.dict.memory()/10
		if n >= ownFileBytes {
			files = append(files, []*head{h})
			continue
		}
		if bytes+n > sharedFileBytes {
			files = append(files, shared)
			shared, bytes = nil, 0
		}
		shared = append(shared, h)
		bytes += n
	}
	if len(shared) > 0 {
		files = append(files, shared)
	}
	return files
}

// writeFile makes one block of heads and puts it in their place.
func (c *closer) writeFile(heads []*head) error {
	s := c.s
	began := time.Now()
	now := s.o.Now()
	rows := int64(0)
	epochs := map[uint64]bool{}
	for _, h := range heads {
		rows += h.rows
		epochs[h.epoch] = true
	}
	list := make([]uint64, 0, len(heads))
	for _, h := range heads {
		list = append(list, h.epoch)
	}
	var info *blockInfo
	var keys []storedKey
	if rows > 0 {
		id, err := newBlockID(now)
		if err != nil {
			return err
		}
		err = s.blobs.Put(id, func(w io.Writer) (err error) {
			info, keys, err = writeBlock(w, s.pk, id, now.UnixNano(), heads)
			return err
		})
		if err != nil {
			return err
		}
	}
	err := s.catalog.addBlock(info, list, s.baselines.of(epochs), s.log.highest(), s.log.lowest())
	if err != nil && (info == nil || !s.catalog.has(info.id)) {
		return errors.Join(err, s.discard(info))
	}
	c.replace(heads, info, keys, now)
	s.baselines.stored(epochs)
	s.stats.blockWritten(time.Since(began))
	c.closed = append(c.closed, list...)
	if err != nil {
		return err // the log stays until a transaction is durable
	}
	s.commit.fresh.Store(true)
	list, c.closed = c.closed, nil
	return s.releaseLog(list)
}

// discard deletes a block that did not get into the catalog.
func (s *Store) discard(info *blockInfo) error {
	if info == nil {
		return nil
	}
	return s.blobs.Delete(info.id)
}

// replace puts the block in the place of its heads, for readers and for keys.
func (c *closer) replace(heads []*head, info *blockInfo, keys []storedKey, now time.Time) {
	s := c.s
	var runs keyRuns
	gone := make([]inquest.Key, 0, len(keys))
	for _, k := range keys {
		who, seq := keyHalves(k.key)
		runs.add(who, seq, 1)
		gone = append(gone, k.key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = slices.DeleteFunc(s.closing, func(h *head) bool { return slices.Contains(heads, h) })
	if info == nil {
		return
	}
	b := &block{info: info, blobs: s.blobs}
	s.blocks = append(s.blocks, b)
	s.index.add(b)
	s.keys.moved(b, &runs, gone, now, s.o.KeyAge)
}

// releaseLog deletes the log files that are not needed once epochs are
// closed. Until replay has read them, files of earlier runs stay.
func (s *Store) releaseLog(epochs []uint64) error {
	replayed := s.replayed.Load()
	return s.log.release(epochs, func(number uint64) bool { return replayed || number >= s.run })
}

// newBlockID names a block: when it was written, in milliseconds, and random
// bits, so that names never come back.
func newBlockID(now time.Time) (string, error) {
	var r [6]byte
	if _, err := rand.Read(r[:]); err != nil {
		return "", fmt.Errorf("name block: %w", err)
	}
	return fmt.Sprintf("%012x-%s", now.UnixMilli(), hex.EncodeToString(r[:])), nil
}
