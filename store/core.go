package store

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// A core is kept as it came: its stored blocks in a file, each at the place it
// has in an image, and its offer, a file that says what it is: the crash and
// the ledger. While blocks are missing the first is called .part, and a journal
// says which are here. A block is believed if it has the hash that the ledger
// says, whoever wrote it.

// StoredCore is a core that is here as far as it was wanted.
type StoredCore struct {
	inquest.Core
	Service  string    `json:"service"`
	Instance string    `json:"instance,omitempty"`
	Group    string    `json:"group"`
	Key      string    `json:"key,omitempty"`
	At       time.Time `json:"at"`       // of the crash
	Received time.Time `json:"received"` // when it was whole
	Pinned   bool      `json:"pinned,omitempty"`
	PinnedBy string    `json:"pinned_by,omitempty"`
}

// coreDepot is the store of cores: files, and what is in memory of their rows.
type coreDepot struct {
	s    *Store
	dir  string
	take chan struct{} // bounds how many are verified at once

	mu      sync.RWMutex
	rows    map[string]*StoredCore // by id; never changed in place
	open    map[string]*coreUpload
	reports map[string]uint64 // keys of the reports there are, by id
	bytes   int64             // stored, of rows
	evicted atomic.Int64      // for want of space
}

func (d *coreDepot) path(id, suffix string) string { return filepath.Join(d.dir, id+suffix) }

// coresIn are the files of cores of a data directory with one suffix.
func coresIn(ops fileOps, data, suffix string) *dirBlobs {
	return &dirBlobs{ops, filepath.Join(data, coreDir), suffix, "core"}
}

// isCoreID says whether text is 32 hex digits in lower case.
func isCoreID(text string) bool {
	return len(text) == 32 && strings.Trim(text, "0123456789abcdef") == ""
}

// coreOffer is what the file of an offer says.
type coreOffer struct {
	Crash inquest.Crash `json:"crash"` // with its Core
	Want  inquest.Tier  `json:"want"`  // of it
	By    string        `json:"by,omitempty"`

	ledger *coredump.Ledger
}

// blocks is how many leading blocks are wanted.
func (o *coreOffer) blocks() int {
	if o.Want == inquest.TierMini {
		return o.ledger.MiniBlocks()
	}
	return len(o.ledger.Blocks())
}

// tier is what a core is of which so much is wanted.
func (o *coreOffer) tier() inquest.Tier {
	if o.blocks() < len(o.ledger.Blocks()) {
		return inquest.TierMini
	}
	return o.ledger.Header().Core.Tier
}

// core is what is said of it once the wanted blocks are here.
func (o *coreOffer) core() inquest.Core {
	c := o.ledger.Header().Core
	c.Crash, c.Tier, c.Blocks, c.Complete = o.Crash.ID, o.tier(), o.blocks(), true
	blocks := o.ledger.Blocks()
	if rest := blocks[c.Blocks:]; len(rest) > 0 {
		c.StoredBytes, c.MemoryBytes = 0, 0
		for i := range blocks[:c.Blocks] {
			c.StoredBytes += int64(blocks[i].Stored)
			c.MemoryBytes += int64(blocks[i].Size)
		}
		c.Missing = append(slices.Clone(c.Missing), "all but the minicore: no more of it was wanted here")
	}
	return c
}

const offerHead = 16 // magic, version, length and checksum of the document

func (o *coreOffer) write(w io.Writer) error {
	doc, err := json.Marshal(o)
	if err != nil {
		return err
	}
	head := binary.LittleEndian.AppendUint32([]byte(magicOffer), offerVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(doc)))
	head = binary.LittleEndian.AppendUint32(head, checksum(doc))
	for _, b := range [...][]byte{head, doc, o.ledger.Bytes()} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

var errOffer = errors.New("offer of a core is damaged")

// readOffer reads the file of an offer and checks all of it.
func readOffer(ops fileOps, path, id string) (*coreOffer, error) {
	f, err := ops.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < offerHead || size > maxOfferBytes {
		return nil, fmt.Errorf("%w: it has %d bytes", errOffer, size)
	}
	raw := make([]byte, size)
	if err := readFull(f, raw, 0); err != nil {
		return nil, err
	}
	if string(raw[:4]) != magicOffer || binary.LittleEndian.Uint32(raw[4:]) != offerVersion {
		return nil, fmt.Errorf("%w: it does not begin as one", errOffer)
	}
	n := int64(binary.LittleEndian.Uint32(raw[8:]))
	if n > size-offerHead || checksum(raw[offerHead:offerHead+n]) != binary.LittleEndian.Uint32(raw[12:]) {
		return nil, fmt.Errorf("%w: its checksum does not match", errOffer)
	}
	o := &coreOffer{}
	if err := json.Unmarshal(raw[offerHead:offerHead+n], o); err != nil {
		return nil, fmt.Errorf("%w: %w", errOffer, err)
	}
	if o.ledger, err = coredump.ParseLedger(raw[offerHead+n:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errOffer, err)
	}
	if o.ledger.ID() != id {
		return nil, fmt.Errorf("%w: it is that of core %s", errOffer, o.ledger.ID())
	}
	return o, nil
}

// row is the row of a core whose wanted blocks are here.
func (o *coreOffer) row(received time.Time) *StoredCore {
	return &StoredCore{
		Core: o.core(), Service: o.Crash.Service, Instance: o.Crash.Instance, Group: crashGroup(&o.Crash), Key: o.Crash.Key,
		At: o.Crash.At, Received: received,
	}
}

func putCore(tx *bbolt.Tx, c *StoredCore) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return put(tx, bucketCores, []byte(c.ID), raw)
}

func readCoreRow(k, sealed []byte) (*StoredCore, error) {
	v, err := unseal(bucketCores, k, sealed)
	if err != nil {
		return nil, err
	}
	c := &StoredCore{}
	if err := json.Unmarshal(v, c); err != nil {
		return nil, err
	}
	if c.ID != string(k) {
		return nil, fmt.Errorf("is that of core %.32q", c.ID)
	}
	return c, nil
}

// deleteCoreRows deletes rows in a transaction.
func deleteCoreRows(tx *bbolt.Tx, ids []string) error {
	for _, id := range ids {
		if err := tx.Bucket([]byte(bucketCores)).Delete([]byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// Cores lists the cores that are here, those of the newest crashes first, and
// those of which blocks are to come: these are not Complete. With a group or
// service those of it.
func (s *Store) Cores(service, group string) []StoredCore {
	d := &s.cores
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := []StoredCore{}
	for _, c := range d.rows {
		if (service == "" || c.Service == service) && (group == "" || c.Group == group) {
			out = append(out, *c)
		}
	}
	for _, u := range d.open {
		c := u.offer.row(time.Time{})
		if c.Complete = false; (service == "" || c.Service == service) && (group == "" || c.Group == group) {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b StoredCore) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.ID, b.ID)) })
	return out
}

// Core returns a core; one of which blocks are still to come is not Complete.
// ErrNotFound if there is none.
func (s *Store) Core(id string) (*StoredCore, error) {
	d := &s.cores
	d.mu.RLock()
	defer d.mu.RUnlock()
	if c := d.rows[id]; c != nil {
		out := *c
		return &out, nil
	}
	if u := d.open[id]; u != nil {
		c := u.offer.row(time.Time{})
		c.Complete = false
		return c, nil
	}
	return nil, errNoCore(id)
}

func errNoCore(id string) error {
	return inquest.Errorf(inquest.ErrNotFound, "there is no core with the id %.32q", id)
}

// CoreReader reads a core, also one of which blocks are missing. It is safe for
// concurrent use, and stays good when the core is deleted.
type CoreReader struct {
	Ledger *coredump.Ledger
	f      file
	here   func(n int) bool
}

// OpenCore opens a core for reading. ErrNotFound if there is none.
func (s *Store) OpenCore(id string) (*CoreReader, error) {
	d := &s.cores
	if !isCoreID(id) {
		return nil, errNoCore(id)
	}
	d.mu.RLock()
	row, u := d.rows[id], d.open[id]
	d.mu.RUnlock()
	name, r := d.path(id, coreSuffix), &CoreReader{}
	switch {
	case row != nil:
		r.here = func(n int) bool { return n < row.Blocks }
	case u != nil:
		name, r.here, r.Ledger = d.path(id, uploadSuffix), u.here, u.offer.ledger
	default:
		return nil, errNoCore(id)
	}
	f, err := s.ops.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "nothing of core %s is here", id)
	}
	if err != nil {
		return nil, fmt.Errorf("open core %s: %w", id, err)
	}
	r.f = f
	if r.Ledger == nil {
		o, err := readOffer(s.ops, d.path(id, offerSuffix), id)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("open core %s: %w", id, err)
		}
		r.Ledger = o.ledger
	}
	return r, nil
}

// Image is the core as coredump reads it. It is good until Close.
func (r *CoreReader) Image() *coredump.Image { return coredump.NewImage(r.Ledger, r.Block, r.here) }

// Block returns the stored bytes of a block, which are not verified.
// ErrNotFound if it is not here.
func (r *CoreReader) Block(n int) ([]byte, error) {
	blocks := r.Ledger.Blocks()
	if n < 0 || n >= len(blocks) || !r.here(n) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "block %d of the core is not here", n)
	}
	b := make([]byte, blocks[n].Stored)
	if len(b) == 0 {
		return b, nil
	}
	if err := readFull(r.f, b, blocks[n].Offset); err != nil {
		return nil, fmt.Errorf("read block %d: %w", n, err)
	}
	return b, nil
}

// Close gives the file back.
func (r *CoreReader) Close() error { return r.f.Close() }

// PinCore keeps a core from being deleted by age and for want of space, or
// lets it go again. ErrNotFound if there is none.
func (s *Store) PinCore(id string, pinned bool, by string) (*StoredCore, error) {
	d := &s.cores
	s.crashes.writes.Lock()
	defer s.crashes.writes.Unlock()
	d.mu.RLock()
	old := d.rows[id]
	d.mu.RUnlock()
	if old == nil {
		return nil, errNoCore(id)
	}
	c := *old
	c.Pinned, c.PinnedBy = pinned, ""
	if pinned {
		c.PinnedBy = by
	}
	if err := s.catalog.update(func(tx *bbolt.Tx) error { return putCore(tx, &c) }); err != nil {
		return nil, s.writeError(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[id] = &c
	return &c, nil
}

// CoreStats is what cores take.
type CoreStats struct {
	Cores   int
	Bytes   int64 // on the disk
	Uploads int   // of which blocks are missing
	Evicted int64 // for want of space since the start
}

// CoreStats returns what cores take.
func (s *Store) CoreStats() CoreStats {
	d := &s.cores
	d.mu.RLock()
	defer d.mu.RUnlock()
	return CoreStats{Cores: len(d.rows), Bytes: d.bytes, Uploads: len(d.open), Evicted: d.evicted.Load()}
}
