package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// crashIndex is what is in memory of crashes: rows by which they are found, and
// groups. Rows and groups are never changed in place.
type crashIndex struct {
	texts  *dirBlobs
	writes sync.Mutex // one change at a time

	mu      sync.RWMutex
	rows    map[string]*crashRow
	byTime  []*crashRow // the oldest first
	ofGroup map[string][]*crashRow
	groups  map[string]*CrashGroup
}

// crashRow is a row of the index by time.
type crashRow struct {
	ID       string       `json:"id"`
	At       int64        `json:"at"` // unix ns
	Service  string       `json:"service"`
	Group    string       `json:"group"`
	Kind     string       `json:"kind"`
	Build    string       `json:"build,omitempty"`
	Key      string       `json:"key,omitempty"`
	Tier     inquest.Tier `json:"tier"`
	Received int64        `json:"received"`       // unix ns
	Text     string       `json:"text,omitempty"` // name of its blob
	Core     string       `json:"core,omitempty"` // id, if it is here as a whole
}

func newCrashRow(c *StoredCrash) *crashRow {
	r := &crashRow{
		ID: c.ID, At: c.At.UnixNano(), Service: c.Service, Group: c.Group, Kind: c.Kind, Build: c.Build, Key: c.Key,
		Tier: c.Tier, Received: c.Received.UnixNano(), Text: c.TextBlob,
	}
	if c.Core != nil && c.Core.Complete {
		r.Core = c.Core.ID
	}
	return r
}

func (r *crashRow) key() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(r.At)^1<<63), r.ID...)
}

func (r *crashRow) put(tx *bbolt.Tx) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return put(tx, bucketTimes, r.key(), raw)
}

func compareRows(a, b *crashRow) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.ID, b.ID)) }

func sortRows(rows []*crashRow) { slices.SortFunc(rows, compareRows) }

// add takes a row into the index; x.mu is held.
func (x *crashIndex) add(r *crashRow) {
	x.rows[r.ID] = r
	at, _ := slices.BinarySearchFunc(x.byTime, r, compareRows)
	x.byTime = slices.Insert(x.byTime, at, r)
	x.ofGroup[r.Group] = append(x.ofGroup[r.Group], r)
}

// remove takes a row out of the index; x.mu is held.
func (x *crashIndex) remove(id string) {
	r := x.rows[id]
	if r == nil {
		return
	}
	delete(x.rows, id)
	if at, ok := slices.BinarySearchFunc(x.byTime, r, compareRows); ok {
		x.byTime = slices.Delete(x.byTime, at, at+1)
	}
	list := slices.DeleteFunc(slices.Clone(x.ofGroup[r.Group]), func(o *crashRow) bool { return o == r })
	if x.ofGroup[r.Group] = list; len(list) == 0 {
		delete(x.ofGroup, r.Group)
	}
}

// openCrashes reads what the catalog says of crashes and deletes texts that
// none of them names: those of a crash of the process, or of a deletion.
func (s *Store) openCrashes() error {
	s.crashes.texts = textsIn(s.ops, s.o.Dir)
	if err := s.crashes.texts.make(); err != nil {
		return err
	}
	if err := s.crashes.texts.sweep(); err != nil {
		return err
	}
	if err := s.readCrashes(); err != nil {
		return err
	}
	return s.sweepTexts()
}

// textsIn are the texts of crashes in a data directory.
func textsIn(ops fileOps, data string) *dirBlobs {
	return &dirBlobs{ops, filepath.Join(data, textDir), textSuffix, "crash text"}
}

// sweepTexts deletes texts that no row names.
func (s *Store) sweepTexts() error {
	names, err := s.crashes.texts.List()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	s.crashes.mu.RLock()
	for _, r := range s.crashes.rows {
		known[r.Text] = true
	}
	s.crashes.mu.RUnlock()
	for _, name := range names {
		if !known[name] {
			if err := s.crashes.texts.Delete(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// readCrashes makes the index of what the catalog says. Rows of the index by
// time that are missing or wrong are made again.
func (s *Store) readCrashes() error {
	rows, groups := map[string]*crashRow{}, map[string]*CrashGroup{}
	var fix []*StoredCrash
	var drop [][]byte
	err := s.catalog.view(func(tx *bbolt.Tx) (err error) {
		if rows, drop, err = readCrashRows(tx); err != nil {
			return err
		}
		if fix, err = s.crashesWithoutRows(tx, rows, &drop); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketGroups)).ForEach(func(k, v []byte) error {
			g := &CrashGroup{}
			raw, err := unseal(bucketGroups, k, v)
			if err == nil && json.Unmarshal(raw, g) == nil && g.ID == string(k) {
				groups[g.ID] = g
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read crashes in catalog: %w", err)
	}
	if len(fix)+len(drop) > 0 {
		if err := s.fixCrashRows(fix, drop); err != nil {
			return err
		}
		for _, c := range fix {
			rows[c.ID] = newCrashRow(c)
		}
	}
	x := &s.crashes
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rows, x.byTime, x.ofGroup, x.groups = map[string]*crashRow{}, nil, map[string][]*crashRow{}, groups
	for _, r := range rows {
		x.rows[r.ID] = r
		x.byTime = append(x.byTime, r)
		x.ofGroup[r.Group] = append(x.ofGroup[r.Group], r)
	}
	sortRows(x.byTime)
	return nil
}

// readCrashRows reads the index by time; drop are keys of rows that are wrong.
func readCrashRows(tx *bbolt.Tx) (rows map[string]*crashRow, drop [][]byte, err error) {
	rows = map[string]*crashRow{}
	records := tx.Bucket([]byte(bucketCrashes))
	err = tx.Bucket([]byte(bucketTimes)).ForEach(func(k, v []byte) error {
		r := &crashRow{}
		raw, err := unseal(bucketTimes, k, v)
		if err != nil || json.Unmarshal(raw, r) != nil || !bytes.Equal(r.key(), k) || records.Get([]byte(r.ID)) == nil {
			drop = append(drop, bytes.Clone(k))
			return nil
		}
		rows[r.ID] = r
		return nil
	})
	return rows, drop, err
}

// crashesWithoutRows lists records that the index by time lacks.
func (s *Store) crashesWithoutRows(tx *bbolt.Tx, rows map[string]*crashRow, drop *[][]byte) (out []*StoredCrash, err error) {
	err = tx.Bucket([]byte(bucketCrashes)).ForEach(func(k, v []byte) error {
		if rows[string(k)] != nil {
			return nil
		}
		raw, err := unseal(bucketCrashes, k, v)
		if err == nil {
			var c *StoredCrash
			if c, err = readCrash(s.pk, string(k), raw); err == nil {
				out = append(out, c)
				return nil
			}
		}
		s.quarantineEntry(fmt.Errorf("%w: crash %.64q", errors.Join(err, errEntry), k))
		return nil
	})
	return out, err
}

func (s *Store) fixCrashRows(fix []*StoredCrash, drop [][]byte) error {
	s.o.Logger.Warn("the index of crashes is made again", "rows", len(fix), "wrong", len(drop))
	err := s.catalog.update(func(tx *bbolt.Tx) error {
		for _, k := range drop {
			if err := tx.Bucket([]byte(bucketTimes)).Delete(k); err != nil {
				return err
			}
		}
		for _, c := range fix {
			if err := newCrashRow(c).put(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make the index of crashes again: %w", err)
	}
	return nil
}

// CrashStats is what crashes take.
type CrashStats struct {
	Records, Groups int
	Deaths          int64 // counted, of groups that are here
}

// CrashStats returns what crashes take.
func (s *Store) CrashStats() CrashStats {
	x := &s.crashes
	x.mu.RLock()
	defer x.mu.RUnlock()
	st := CrashStats{Records: len(x.rows), Groups: len(x.groups)}
	for _, g := range x.groups {
		st.Deaths += min(g.Count, math.MaxInt64/4)
	}
	return st
}
