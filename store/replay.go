package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest"
)

// replay brings back what an earlier run left in its log: first, quickly, the
// keys, so that writes can be taken; then, behind, the profiles.
type replay struct {
	s      *Store
	files  []*logFile
	closed map[uint64]bool // epochs that are in blocks
	old    uint64          // so are, or were, all up to this one

	frames    []framePlace
	baselines map[string]framePlace // newest frame with a cumulative state of that name
	last      uint64                // number of the newest frame
	total     atomic.Int64          // bytes of frames
	done      atomic.Int64          // of them replayed
	heads     map[uint64]*head
	need      map[uint64]int64     // about what the heads of open epochs will take
	broken    map[uint64]bool      // epochs that lost a record others build on
	damaged   map[framePlace]bool  // frames that cannot be read
	keys      map[inquest.Key]bool // found by scan; true once the profile is there
	w         *grouper
	samples   samples
}

type framePlace struct {
	file   *logFile
	offset int64
	size   int64
	number uint64
}

// scan reads the headers of all frames: keys, epochs, and where frames are.
func (r *replay) scan(ctx context.Context) error {
	for _, f := range r.files {
		if err := r.scanFile(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) scanFile(ctx context.Context, lf *logFile) error {
	f, err := r.open(ctx, lf.path)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	defer f.Close()
	w := &fileWindow{r: f, size: lf.size}
	head, err := w.at(0, logHeaderSize)
	if err == nil {
		_, err = readLogHeader(head)
	}
	switch {
	case errors.Is(err, errVersion):
		return fmt.Errorf("log file %s: %w", lf.path, err)
	case err != nil && lf.size > logHeaderSize: // else the power went while it was created
		r.s.quarantineLog(fmt.Sprintf("%08d%s: %v", lf.number, logSuffix, err))
	}
	for at := int64(logHeaderSize); at < lf.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		fr, err := readFrameAt(w, at)
		if err != nil {
			next := findFrame(w, at+1)
			if next < 0 {
				r.s.o.Logger.Warn("log tail cut off", "file", lf.path, inquest.LogBytes, lf.size-at)
				return nil
			}
			r.s.quarantineLog(fmt.Sprintf("%08d%s: bytes %d to %d cannot be read", lf.number, logSuffix, at, next))
			at = next
			continue
		}
		r.takeFrame(lf, at, fr)
		at += fr.size
	}
	return nil
}

func (r *replay) takeFrame(lf *logFile, at int64, fr *frame) {
	place := framePlace{lf, at, fr.size, fr.number}
	recs, err := fr.records()
	if err != nil {
		r.s.quarantineLog(fmt.Sprintf("%08d%s: frame at %d: %v", lf.number, logSuffix, at, err))
		return
	}
	if r.last > 0 && fr.number > r.last+1 {
		r.s.quarantineLog(fmt.Sprintf("%08d%s: commits %d to %d are missing before byte %d", lf.number, logSuffix, r.last+1, fr.number-1, at))
	}
	r.last = max(r.last, fr.number)
	open := false
	for i := range recs {
		x := &recs[i]
		if r.isClosed(x.epoch) {
			continue
		}
		open = true
		r.s.log.note(lf, x.epoch)
		r.s.keys.load(x)
		r.keys[x.key] = false
		r.need[x.epoch] += x.memory()
		if x.baseline != "" {
			r.baselines[x.baseline] = place
		}
	}
	if open {
		r.frames = append(r.frames, place)
		r.total.Add(fr.size)
	}
}

func (r *replay) isClosed(epoch uint64) bool { return epoch <= r.old || r.closed[epoch] }

var errShort = errors.New("file ends too early")

// fileWindow reads a file in large pieces.
type fileWindow struct {
	r    io.ReaderAt
	size int64
	buf  []byte
	from int64
}

// at returns n bytes at an offset, valid until the next call.
func (w *fileWindow) at(off int64, n int) ([]byte, error) {
	if off+int64(n) > w.size {
		return nil, errShort
	}
	if off >= w.from && off+int64(n) <= w.from+int64(len(w.buf)) {
		return w.buf[off-w.from:][:n], nil
	}
	want := int64(max(n, 1<<16))
	want = min(want, w.size-off)
	w.buf, w.from = resize(w.buf, int(want)), off
	if _, err := w.r.ReadAt(w.buf, off); err != nil {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:n], nil
}

// readFrameAt reads header and index of the frame at an offset, which must
// lie in the file as a whole.
func readFrameAt(w *fileWindow, at int64) (*frame, error) {
	h, err := w.at(at, frameHeaderSize)
	if err != nil {
		return nil, err
	}
	index, payload, err := frameLengths(h)
	if err != nil {
		return nil, err
	}
	if at+int64(frameHeaderSize+index+payload) > w.size {
		return nil, errShort
	}
	whole, err := w.at(at, frameHeaderSize+index)
	if err != nil {
		return nil, err
	}
	return readFrameHead(whole[:frameHeaderSize], whole[frameHeaderSize:])
}

// findFrame looks for the next frame that can be read, -1 if there is none.
func findFrame(w *fileWindow, at int64) int64 {
	for at < w.size {
		n := int(min(1<<16, w.size-at))
		b, err := w.at(at, n)
		if err != nil || n < frameHeaderSize {
			return -1
		}
		i := bytes.Index(b, []byte(magicLogFrame))
		if i < 0 {
			at += int64(n) - 3
			if n <= 4 {
				return -1
			}
			continue
		}
		at += int64(i)
		if _, err := readFrameAt(w, at); err == nil {
			return at
		}
		at++
	}
	return -1
}

// memory is about what a record adds to its head: entries of dictionaries grow
// as they are read, samples do not.
func (x *indexed) memory() int64 {
	return replayFactor*int64(x.size) + rowBytes + liveKeyBytes + baselineBytes + int64(x.state)
}

const replayFactor = 3

// passes divides the open epochs so that the heads of one pass take about half
// of the memory for heads. There is more than one only if that became less
// since the log was written: it holds what was in memory then.
func (r *replay) passes() []map[uint64]bool {
	var all []map[uint64]bool
	taken := int64(0)
	// In order of epochs, so that the newest cumulative states come last.
	for _, e := range slices.Sorted(maps.Keys(r.need)) {
		if n := r.need[e]; len(all) == 0 || taken+n > r.s.o.HeadBytes/2 {
			all, taken = append(all, map[uint64]bool{}), 0
		}
		all[len(all)-1][e] = true
		taken += r.need[e]
	}
	return all
}

// run replays the profiles. It is over when it returns nil; then the heads it
// made are ready to become blocks.
func (r *replay) run(ctx context.Context) error {
	passes := r.passes()
	r.total.Store(r.total.Load() * int64(len(passes)))
	for i, epochs := range passes {
		if err := r.runPass(ctx, epochs); err != nil {
			return err
		}
		if i == len(passes)-1 {
			break
		}
		if err := r.makeRoom(ctx); err != nil {
			return err
		}
	}
	// Profiles that could not be read may be sent again.
	for k, there := range r.keys {
		if !there && !r.s.inBlocks(ctx, k) {
			r.s.keys.release(k)
		}
	}
	return nil
}

// makeRoom waits until what was replayed so far is in blocks.
func (r *replay) makeRoom(ctx context.Context) error {
	s := r.s
	s.closeRecovered()
	clear(r.heads)
	for {
		err := s.closer.flush(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.warn("write replayed profiles to blocks", err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closeRecovered has the replayed heads become blocks.
func (s *Store) closeRecovered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = append(s.closing, s.recovered...)
	s.recovered = nil
}

// runPass replays the profiles of some epochs.
func (r *replay) runPass(ctx context.Context, epochs map[uint64]bool) error {
	var f *patientFile
	var of *logFile
	defer func() {
		if f != nil {
			_ = f.Close() // it was only read
		}
	}()
	for _, p := range r.frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if of != p.file {
			if f != nil {
				_ = f.Close()
			}
			var err error
			if f, err = r.open(ctx, p.file.path); err != nil {
				return fmt.Errorf("open log file: %w", err)
			}
			of = p.file
		}
		r.frame(ctx, f, p, epochs)
		r.done.Add(p.size)
	}
	return ctx.Err() // if it has ended, the last frame may not be damaged at all
}

// frame replays the records of some epochs in one frame.
func (r *replay) frame(ctx context.Context, f io.ReaderAt, p framePlace, epochs map[uint64]bool) {
	recs, payload, err := r.readFrame(f, p)
	if err != nil {
		if !r.damaged[p] { // else an earlier pass has told
			r.damaged[p] = true
			r.s.quarantineLog(fmt.Sprintf("%08d%s: frame at %d: %v", p.file.number, logSuffix, p.offset, err))
		}
		return
	}
	for i := range recs {
		x := &recs[i]
		if epochs[x.epoch] {
			r.record(ctx, x, payload[:x.size], payload[x.size:x.size+x.state])
		}
		payload = payload[x.size+x.state:]
	}
}

// readFrame reads a whole frame and unpacks it.
func (r *replay) readFrame(f io.ReaderAt, p framePlace) ([]indexed, []byte, error) {
	b := make([]byte, p.size)
	if _, err := f.ReadAt(b, p.offset); err != nil {
		return nil, nil, err
	}
	n, _, err := frameLengths(b)
	if err != nil {
		return nil, nil, err
	}
	fr, err := readFrameHead(b[:frameHeaderSize], b[frameHeaderSize:frameHeaderSize+n])
	if err != nil {
		return nil, nil, err
	}
	recs, err := fr.records()
	if err != nil {
		return nil, nil, err
	}
	fr.payload = b[frameHeaderSize+n:]
	payload, err := fr.unpack(r.s.pk, b)
	return recs, payload, err
}

// record replays one record, unless its epoch is closed or it is there
// already.
func (r *replay) record(ctx context.Context, x *indexed, payload, state []byte) {
	if r.isClosed(x.epoch) || r.broken[x.epoch] {
		return
	}
	h := r.heads[x.epoch]
	if h == nil {
		h = newHead(x.service, x.epoch, r.s.o.Now(), nil)
		h.all = r.s.memory
		r.heads[x.epoch] = h
		r.s.mu.Lock()
		r.s.recovered = append(r.s.recovered, h)
		r.s.mu.Unlock()
	}
	full, err := r.apply(ctx, h, x, payload)
	if err != nil {
		r.broken[x.epoch] = true
		r.s.quarantineLog(fmt.Sprintf("service %s, epoch %d: %v; profiles logged after that cannot be read", x.service, x.epoch, err))
		return
	}
	if x.baseline != "" {
		r.s.baselines.putOlder(x.baseline, x.epoch, r.s.run<<runEpochBit, append([]byte{}, state...))
	}
	if full {
		if err := h.pack(r.w, false); err != nil {
			r.s.warn("pack row group", err)
		}
	}
}

func (r *replay) apply(ctx context.Context, h *head, x *indexed, payload []byte) (full bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := cursor{b: payload}
	if err := readGrowth(&c, h.dict); err != nil {
		return false, err
	}
	layout := c.id(len(h.dict.layouts))
	if c.bad {
		return false, errors.New("record is damaged")
	}
	s := h.section(layout)
	row := &row{key: x.key, hash: x.hash, start: x.start, samples: x.samples, flags: x.flags}
	readRow(&c, row, &h.dict.tables, s.cols, &r.samples)
	if c.bad {
		return false, errors.New("record is damaged")
	}
	// A record that was refused may have reached the disk; then its sender's
	// second attempt is there too.
	if r.keys[x.key] || r.s.inBlocks(ctx, x.key) {
		return false, nil
	}
	r.keys[x.key] = true
	s.rows = append(s.rows, row)
	h.open += row.memory()
	h.rows++
	h.count()
	return s.full() && !s.packing, nil
}

// inBlocks says whether a block has the key.
func (s *Store) inBlocks(ctx context.Context, key inquest.Key) bool {
	s.keys.mu.Lock()
	candidates := s.keys.candidates(key)
	s.keys.mu.Unlock()
	var b *block
	_ = s.patiently(ctx, func() (err error) { // else there is no way to know
		b, _, err = s.storedKey(key, candidates)
		return err
	})
	if b != nil {
		b.release()
	}
	return b != nil
}

// progress says how far the replay is, 0 to 1.
func (r *replay) progress() float64 {
	if r.total.Load() == 0 {
		return 0
	}
	return float64(r.done.Load()) / float64(r.total.Load())
}

// start does what Open leaves for later.
func (s *Store) start(ctx context.Context, r *replay) {
	defer s.keeper.poke()
	defer close(s.started)
	began := time.Now()
	err := s.loadBlockKeys(ctx)
	if err == nil {
		err = r.scan(ctx)
	}
	if err != nil {
		s.startErr = err
		if ctx.Err() == nil {
			s.o.Logger.Error("log cannot be read, writes are refused", inquest.LogErr, err)
		}
		close(s.keysReady)
		return
	}
	s.commit.number = r.last + 1
	close(s.keysReady)
	if err := r.run(ctx); err != nil {
		if ctx.Err() == nil {
			s.o.Logger.Error("log cannot be replayed", inquest.LogErr, err)
		}
		return
	}
	s.closeRecovered()
	s.replayed.Store(true)
	r.heads, r.keys, r.w = nil, nil, nil
	if len(r.frames) > 0 {
		s.o.Logger.Info("log replayed", inquest.LogBytes, r.total.Load(), "frames", len(r.frames), inquest.LogDur, time.Since(began))
	}
	if err := s.releaseLog(nil); err != nil {
		s.warn("remove log files", err)
	}
}

// baseline reads a cumulative state that is in the log and not replayed yet.
func (r *replay) baseline(name string, p framePlace) ([]byte, error) {
	f, err := r.s.ops.OpenFile(p.file.path, os.O_RDONLY, 0)
	if err != nil {
		// Replay has just ended, and the file is gone with its epochs.
		return nil, inquest.Errorf(inquest.ErrUnavailable, "cumulative state %q is being moved, ask again: %w", name, err)
	}
	defer f.Close()
	recs, payload, err := r.readFrame(f, p)
	if diskFailed(err) {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "read cumulative state %q: %w", name, err)
	}
	if err != nil {
		return nil, nil // the frame is damaged: replay reports it
	}
	var state []byte
	for i := range recs {
		x := &recs[i]
		if x.baseline == name {
			state = append([]byte{}, payload[x.size:x.size+x.state]...)
		}
		payload = payload[x.size+x.state:]
	}
	return state, nil
}
