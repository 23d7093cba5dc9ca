package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// StoredCrash is a crash as the store has it.
type StoredCrash struct {
	inquest.Crash
	Group    string    `json:"group"`    // CrashGroup.ID
	Received time.Time `json:"received"` // when it was first told
	// TextBytes is how much of its text is here, 0 if there is none.
	TextBytes int64 `json:"text_bytes,omitempty"`
	// CoreGone says why its core is not here any more.
	CoreGone string `json:"core_gone,omitempty"`

	TextBlob string `json:"text_blob,omitempty"` // name of the text's blob
}

// crashBounds are how much is kept of crashes beside bytes.
type crashBounds struct {
	records  int // in all
	ofGroup  int // records of one group
	groups   int
	textSize int64
}

var defaultCrashBounds = crashBounds{records: 20_000, ofGroup: 500, groups: 10_000, textSize: 16 << 20}

// maxCrashBytes bounds the record of a crash, unpacked.
const maxCrashBytes = 4 << 20

// PutCrashes stores crashes and returns when they are durable. What is told of
// one that is there already is merged with it: telling the same again changes
// nothing. The returned records are as they are now, in the order given. They
// were checked by the caller. Errors are of kind ErrTooLarge, ErrDiskFull or
// ErrUnavailable; then none of them is stored, or all are.
func (s *Store) PutCrashes(ctx context.Context, told []inquest.Crash) ([]StoredCrash, error) {
	if err := s.beginWrite(); err != nil {
		return nil, err
	}
	defer s.writers.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.checkSpace(0); err != nil {
		return nil, err
	}
	out := make([]StoredCrash, len(told))
	err := s.changeCrashes(func(t *crashTx) error {
		for i := range told {
			c, err := t.tell(&told[i])
			if err != nil {
				return err
			}
			out[i] = *c
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// crashTx is one change of crashes: a transaction of the catalog, and what it
// means for the index in memory.
type crashTx struct {
	s   *Store
	tx  *bbolt.Tx
	x   *crashIndex // what was there before; not to be changed
	set map[string]*crashRow
	// groups that changed, nil: gone
	groups map[string]*CrashGroup
	gone   []string // blobs of texts that no record names any more
	noted  []string // crashes that are gone
}

// changeCrashes does a transaction on crashes. Files that no record names any
// more go afterwards; if that fails the next start does it.
func (s *Store) changeCrashes(change func(*crashTx) error) error {
	x := &s.crashes
	x.writes.Lock()
	defer x.writes.Unlock()
	var t *crashTx
	err := s.catalog.update(func(tx *bbolt.Tx) error {
		t = s.newCrashTx(tx)
		if err := change(t); err != nil {
			return err
		}
		return t.bound()
	})
	return s.crashesChanged(t, err)
}

func (s *Store) newCrashTx(tx *bbolt.Tx) *crashTx {
	return &crashTx{s: s, tx: tx, x: &s.crashes, set: map[string]*crashRow{}, groups: map[string]*CrashGroup{}}
}

// crashesChanged brings the index up to what a transaction did; x.writes is
// held.
func (s *Store) crashesChanged(t *crashTx, err error) error {
	x := &s.crashes
	if err != nil {
		if refused(err) {
			return err // it was refused, nothing is changed
		}
		// It may be in force all the same.
		if rerr := s.readCrashes(); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return s.writeError(err)
	}
	x.mu.Lock()
	for _, id := range t.noted {
		x.remove(id)
	}
	for id, row := range t.set {
		x.remove(id)
		x.add(row)
	}
	for id, g := range t.groups {
		if g == nil {
			delete(x.groups, id)
		} else {
			x.groups[id] = g
		}
	}
	x.mu.Unlock()
	for _, name := range t.gone {
		if err := x.texts.Delete(name); err != nil {
			s.warn("delete the text of a crash", err)
		}
	}
	return nil
}

// row is the index row of a crash as this transaction sees it, nil if there is
// none.
func (t *crashTx) row(id string) *crashRow {
	if r, ok := t.set[id]; ok {
		return r
	}
	for _, gone := range t.noted {
		if gone == id {
			return nil
		}
	}
	return t.x.rows[id]
}

// get reads a record, nil if there is none or it is damaged.
func (t *crashTx) get(id string) (*StoredCrash, error) {
	raw, err := get(t.tx, bucketCrashes, []byte(id))
	if errors.Is(err, errSeal) || raw == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := readCrash(t.s.pk, id, raw)
	if err != nil {
		return nil, nil // it is told anew
	}
	return c, nil
}

// tell takes what is told of a crash.
func (t *crashTx) tell(told *inquest.Crash) (*StoredCrash, error) {
	old, err := t.get(told.ID)
	if err != nil {
		return nil, err
	}
	if old == nil {
		c := &StoredCrash{Crash: *told, Received: t.s.o.Now().UTC()}
		if c.Core != nil { // what is here of it decides, not who tells it
			core := *c.Core
			core.Complete = false
			c.Core = &core
		}
		return c, t.put(nil, c)
	}
	c := mergeCrash(old, told)
	return c, t.put(old, c)
}

// put stores a record in the place of the one there was, nil if there was none.
func (t *crashTx) put(old, c *StoredCrash) error {
	c.Group = crashGroup(&c.Crash)
	if err := t.count(old, c); err != nil {
		return err
	}
	doc, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if len(doc) > maxCrashBytes {
		return inquest.Errorf(inquest.ErrTooLarge, "crash %s takes %d bytes, %d are the most", c.ID, len(doc), maxCrashBytes)
	}
	if err := put(t.tx, bucketCrashes, []byte(c.ID), appendPacked(nil, t.s.pk, doc)); err != nil {
		return err
	}
	row := newCrashRow(c)
	if err := row.put(t.tx); err != nil {
		return err
	}
	if old != nil && old.TextBlob != "" && old.TextBlob != c.TextBlob {
		t.gone = append(t.gone, old.TextBlob)
	}
	t.set[c.ID] = row
	return nil
}

// drop deletes a record. What was counted stays.
func (t *crashTx) drop(row *crashRow) error {
	if err := t.tx.Bucket([]byte(bucketCrashes)).Delete([]byte(row.ID)); err != nil {
		return err
	}
	if err := t.tx.Bucket([]byte(bucketTimes)).Delete(row.key()); err != nil {
		return err
	}
	if row.Text != "" {
		t.gone = append(t.gone, row.Text)
	}
	delete(t.set, row.ID)
	t.noted = append(t.noted, row.ID)
	return nil
}

// count moves what a record stands for to where it belongs now.
func (t *crashTx) count(old, c *StoredCrash) error {
	if old != nil && old.Group == c.Group {
		return t.add(c, c.Deaths()-old.Deaths())
	}
	if old != nil {
		if err := t.add(old, -old.Deaths()); err != nil {
			return err
		}
	}
	return t.add(c, c.Deaths())
}

// bound drops the oldest records beyond what is kept: those with a core last.
func (t *crashTx) bound() error {
	b := t.s.o.crashes
	n := len(t.x.rows) - len(t.noted)
	for id := range t.set {
		if t.x.rows[id] == nil {
			n++
		}
	}
	for group := range t.groups {
		for _, row := range t.surplus(group, b.ofGroup) {
			if err := t.drop(row); err != nil {
				return err
			}
			n--
		}
	}
	for _, row := range t.x.byTime {
		if n <= b.records {
			break
		}
		if r := t.row(row.ID); r != nil && r.Core == "" {
			if err := t.drop(r); err != nil {
				return err
			}
			n--
		}
	}
	return t.boundGroups(b.groups)
}

// surplus lists the oldest records of a group beyond n.
func (t *crashTx) surplus(group string, n int) (out []*crashRow) {
	var rows []*crashRow
	for _, row := range t.x.ofGroup[group] {
		if r := t.row(row.ID); r != nil && r.Group == group {
			rows = append(rows, r)
		}
	}
	for _, r := range t.set {
		if before := t.x.rows[r.ID]; r.Group == group && (before == nil || before.Group != group) {
			rows = append(rows, r)
		}
	}
	if len(rows) <= n {
		return nil
	}
	sortRows(rows)
	more := len(rows) - n
	for _, r := range rows {
		if more > 0 && r.Core == "" {
			out = append(out, r)
			more--
		}
	}
	return out
}

// Crash returns a crash. ErrNotFound if there is none.
func (s *Store) Crash(id string) (*StoredCrash, error) {
	v, err := s.catalog.get(bucketCrashes, id)
	if errors.Is(err, errSeal) {
		s.quarantineEntry(err)
		v, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read crash: %w", err)
	}
	if v == nil {
		return nil, errNoCrash(id)
	}
	return readCrash(s.pk, id, v)
}

func errNoCrash(id string) error {
	return inquest.Errorf(inquest.ErrNotFound, "there is no crash with the id %.64q", id)
}

// readCrash reads a record.
func readCrash(pk *packer, id string, v []byte) (*StoredCrash, error) {
	doc, err := readPacked(pk, v, maxCrashBytes)
	if err != nil {
		return nil, fmt.Errorf("crash %s in catalog: %w", id, err)
	}
	c := &StoredCrash{}
	if err := json.Unmarshal(doc, c); err != nil {
		return nil, fmt.Errorf("crash %s in catalog: %w", id, err)
	}
	if c.ID != id {
		return nil, fmt.Errorf("crash %s in catalog: is that of %.64q", id, c.ID)
	}
	return c, nil
}

// appendPacked appends bytes as they are stored alone: how they are compressed,
// their length, and then they.
func appendPacked(dst []byte, pk *packer, raw []byte) []byte {
	packed, codec := pk.pack(nil, raw)
	dst = append(dst, codec)
	dst = binary.AppendUvarint(dst, uint64(len(raw)))
	return append(dst, packed...)
}

// readPacked reads what appendPacked has written, of that many bytes at most.
// The result does not share memory with v.
func readPacked(pk *packer, v []byte, most int64) ([]byte, error) {
	if len(v) == 0 {
		return nil, errors.New("it is empty")
	}
	n, w := binary.Uvarint(v[1:])
	if w <= 0 || n > uint64(most) {
		return nil, fmt.Errorf("it claims %d bytes, %d are the most", n, most)
	}
	raw, err := pk.unpack(v[1+w:], v[0], int(n))
	return bytes.Clone(raw), err
}

// refused says that an error is about what was asked for, not about the disk.
func refused(err error) bool {
	return errors.Is(err, inquest.ErrTooLarge) || errors.Is(err, inquest.ErrNotFound) || errors.Is(err, inquest.ErrInvalid) || errors.Is(err, inquest.ErrConflict)
}
