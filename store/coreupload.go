package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// Bounds on cores of which blocks are missing.
const (
	maxCoreUploads = 64
	coreUploadAge  = 24 * time.Hour // after the last block
	coreRecheck    = 16             // blocks between two looks at the disk
	haveEntry      = 8              // of the journal: number of a block, its checksum
	mostLedgers    = 128 << 20      // bytes of the ledgers of all of them
)

// coreUpload is a core of which blocks are missing.
type coreUpload struct {
	d     *coreDepot
	id    string
	offer *coreOffer

	use sync.RWMutex // read by who writes a block, held by who takes the upload away

	mu      sync.Mutex
	have    []uint64 // bits
	touched time.Time
	written int // blocks since the disk was looked at
}

func newCoreUpload(d *coreDepot, o *coreOffer, touched time.Time) *coreUpload {
	u := &coreUpload{d: d, id: o.ledger.ID(), offer: o, touched: touched}
	u.have = make([]uint64, len(o.ledger.Blocks())/64+1)
	return u
}

// here says whether a block is here. A block of zeros is nothing to send.
func (u *coreUpload) here(n int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.has(n)
}

func (u *coreUpload) has(n int) bool {
	return u.have[n/64]>>(n%64)&1 != 0 || u.offer.ledger.Blocks()[n].Stored == 0
}

// missing lists the wanted blocks that are not here, as half-open ranges.
func (u *coreUpload) missing() (out [][2]int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n := range u.offer.blocks() {
		switch last := len(out) - 1; {
		case u.has(n):
		case last >= 0 && out[last][1] == n:
			out[last][1]++
		default:
			out = append(out, [2]int{n, n + 1})
		}
	}
	return out
}

// CoreState is how far the upload of a core is.
type CoreState struct {
	Missing [][2]int    // wanted blocks that are not here, as half-open ranges
	Until   time.Time   // when it is given up if nothing more comes
	Stored  *StoredCore // if all is here already
}

// BeginCore begins the upload of a core of a crash that is stored, or goes on
// with one: TierMini takes the blocks of the minicore alone. The crash has the
// Core with it. ErrTooLarge (Retention.CoresMaxBytes), ErrBusy (too many are
// unfinished), ErrUnavailable (the crash is gone), ErrDiskFull.
func (s *Store) BeginCore(crash *inquest.Crash, ledger *coredump.Ledger, want inquest.Tier, by string) (*CoreState, error) {
	if err := s.beginWrite(); err != nil {
		return nil, err
	}
	defer s.writers.Done()
	d, id := &s.cores, ledger.ID()
	s.crashes.writes.Lock() // a deletion cannot come between
	defer s.crashes.writes.Unlock()
	d.mu.RLock()
	row, u := d.rows[id], d.open[id]
	d.mu.RUnlock()
	if row != nil {
		c := *row
		return &CoreState{Stored: &c}, nil
	}
	if u != nil {
		return u.state(), nil
	}
	if s.crashes.rows[crash.ID] == nil {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "crash %s has just been deleted: tell it again", crash.ID)
	}
	o := &coreOffer{Crash: *crash, Want: want, By: by, ledger: ledger}
	o.Crash.Text = nil // the crash itself has it
	if err := d.room(o); err != nil {
		return nil, err
	}
	blobs := coresIn(s.ops, s.o.Dir, offerSuffix)
	_ = s.ops.Remove(blobs.path(id) + tempSuffix) // of a write whose disk failed
	if err := blobs.Put(id, o.write); err != nil {
		return nil, s.writeError(err)
	}
	u = newCoreUpload(d, o, s.o.Now())
	d.mu.Lock()
	d.open[id] = u
	d.mu.Unlock()
	return u.state(), nil
}

func (u *coreUpload) state() *CoreState {
	missing := u.missing()
	u.mu.Lock()
	defer u.mu.Unlock()
	return &CoreState{Missing: missing, Until: u.touched.Add(coreUploadAge).UTC()}
}

// room says whether one more core may come.
func (d *coreDepot) room(o *coreOffer) error {
	most := d.s.coreQuota()
	size := o.core().StoredBytes
	if size > most {
		return inquest.Errorf(inquest.ErrTooLarge, "the core takes %d bytes, %d are kept of all cores", size, most)
	}
	d.expire()
	d.mu.RLock()
	n, coming, ledgers := len(d.open), size, int64(len(o.ledger.Bytes()))
	for _, u := range d.open {
		coming += u.offer.core().StoredBytes
		ledgers += int64(len(u.offer.ledger.Bytes()))
	}
	d.mu.RUnlock()
	if n >= maxCoreUploads || n > 0 && (coming > most || ledgers > mostLedgers) {
		return inquest.Errorf(inquest.ErrBusy, "%d uploads of cores are unfinished: try again later", n)
	}
	return d.s.checkSpace(coming)
}

// upload returns one that is under way.
func (d *coreDepot) upload(id string) (*coreUpload, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if u := d.open[id]; u != nil {
		return u, nil
	}
	if d.rows[id] != nil {
		return nil, nil
	}
	return nil, inquest.Errorf(inquest.ErrNotFound, "no upload of core %.32q has begun, or it was given up: offer it again", id)
}

// PutCoreBlock stores one block of a core that was offered, if it has the hash
// that the ledger says. ErrNotFound, ErrInvalid (other bytes), ErrDiskFull.
func (s *Store) PutCoreBlock(ctx context.Context, id string, n int, stored []byte) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	defer s.writers.Done()
	u, err := s.cores.upload(id)
	if err != nil || u == nil { // it is here already
		return err
	}
	u.use.RLock()
	defer u.use.RUnlock()
	if again, err := s.cores.upload(id); err != nil || again != u {
		return err
	}
	blocks := u.offer.ledger.Blocks()
	if n < 0 || n >= len(blocks) {
		return inquest.Errorf(inquest.ErrNotFound, "core %s has %d blocks, none is number %d", id, len(blocks), n)
	}
	if int64(len(stored)) != int64(blocks[n].Stored) || sha256.Sum256(stored) != blocks[n].Sum {
		return inquest.Errorf(inquest.ErrInvalid, "the bytes of block %d are not those that the ledger says: send them again", n)
	}
	if err := ctx.Err(); err != nil || u.here(n) {
		return err
	}
	err = u.write(n, blocks[n].Offset, stored)
	if _, gone := s.cores.upload(id); gone != nil { // it was deleted meanwhile
		s.cores.removeFiles(id)
		return gone
	}
	return err
}

// write stores a block, then notes it.
func (u *coreUpload) write(n int, at int64, stored []byte) (err error) {
	s := u.d.s
	u.mu.Lock()
	u.written++
	look := u.written%coreRecheck == 1
	u.mu.Unlock()
	if look {
		if err := s.checkSpace(0); err != nil {
			return err
		}
	}
	f, err := s.ops.OpenFile(u.d.path(u.id, uploadSuffix), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return s.writeError(err)
	}
	_, err = f.WriteAt(stored, at)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return s.writeError(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.note(n); err != nil {
		return s.writeError(err)
	}
	u.have[n/64] |= 1 << (n % 64)
	u.touched = s.o.Now()
	return nil
}

// note adds a block to the journal; u.mu is held. It says what a killed process
// had: whether it is durable is found out at the end, when all is read.
func (u *coreUpload) note(n int) error {
	f, err := u.d.s.ops.OpenFile(u.d.path(u.id, haveSuffix), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(haveLine(nil, u.id, n))
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func haveLine(b []byte, id string, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	return binary.LittleEndian.AppendUint32(b, updateChecksum(checksum([]byte(id)), b[len(b)-4:]))
}

// readHave takes what the journal says. What is torn is passed over.
func (u *coreUpload) readHave() error {
	f, err := u.d.s.ops.OpenFile(u.d.path(u.id, haveSuffix), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	most := int64(len(u.offer.ledger.Blocks())) * 4 * haveEntry // after failures some are there twice
	raw := make([]byte, min(size, most))
	if len(raw) > 0 {
		if err := readFull(f, raw, 0); err != nil {
			return err
		}
	}
	for i := 0; i+haveEntry <= len(raw); {
		n := int(binary.LittleEndian.Uint32(raw[i:]))
		if n >= len(u.offer.ledger.Blocks()) || string(haveLine(nil, u.id, n)) != string(raw[i:i+haveEntry]) {
			i++ // torn: the next one begins somewhere behind
			continue
		}
		u.have[n/64] |= 1 << (n % 64)
		i += haveEntry
	}
	return nil
}

// old lists uploads that nobody goes on with.
func (d *coreDepot) old() (out []*coreUpload) {
	now := d.s.o.Now()
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, u := range d.open {
		u.mu.Lock()
		if now.Sub(u.touched) > coreUploadAge {
			out = append(out, u)
		}
		u.mu.Unlock()
	}
	return out
}

// expire gives up uploads that nobody goes on with.
func (d *coreDepot) expire() {
	for _, u := range d.old() {
		if d.drop(u) {
			d.s.o.Logger.Info("unfinished upload of a core given up", "core", u.id, "crash", u.offer.Crash.ID)
		}
	}
}

// settle makes cores of the minicores of uploads that nobody goes on with, and
// gives up those that have none.
func (d *coreDepot) settle(ctx context.Context) error {
	for _, u := range d.old() {
		if err := u.settleMini(ctx); err != nil {
			return err
		}
	}
	d.expire()
	return nil
}

// settleMini makes a core of an upload's minicore, if that is here.
func (u *coreUpload) settleMini(ctx context.Context) error {
	u.use.Lock()
	defer u.use.Unlock()
	if again, err := u.d.upload(u.id); err != nil || again != u {
		return nil // somebody was faster
	}
	mini := *u.offer
	mini.Want = inquest.TierMini
	for n := range mini.blocks() {
		if !u.here(n) {
			return nil
		}
	}
	if mini.blocks() == 0 {
		return nil
	}
	m := newCoreUpload(u.d, &mini, u.touched)
	copy(m.have, u.have)
	if err := m.verify(ctx); err != nil {
		return nil // it goes
	}
	blobs := coresIn(u.d.s.ops, u.d.s.o.Dir, offerSuffix)
	_ = u.d.s.ops.Remove(blobs.path(u.id) + tempSuffix)
	if err := blobs.Put(u.id, mini.write); err != nil { // it takes the place of the other
		return err
	}
	_, err := m.store()
	return err
}

// drop forgets an upload, unless somebody is at it.
func (d *coreDepot) drop(u *coreUpload) bool {
	if !u.use.TryLock() {
		return false
	}
	defer u.use.Unlock()
	d.mu.Lock()
	delete(d.open, u.id)
	d.mu.Unlock()
	d.removeFiles(u.id)
	return true
}

// removeFiles deletes the files of a core, that which says what it is first:
// without it the others are swept.
func (d *coreDepot) removeFiles(id string) {
	for _, suffix := range []string{offerSuffix, uploadSuffix, coreSuffix, haveSuffix, reportSuffix} {
		if err := d.s.ops.Remove(d.path(id, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			d.s.warn("delete a file of a core", fmt.Errorf("core %s: %w", id, err))
		}
	}
}
