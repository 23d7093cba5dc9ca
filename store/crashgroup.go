package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// CrashGroup is crashes that are alike: of one service, class and place.
type CrashGroup struct {
	ID      string          `json:"id"`
	Service string          `json:"service"`
	Kind    string          `json:"kind"`
	Class   string          `json:"class"`
	Key     string          `json:"key,omitempty"`
	Message string          `json:"message,omitempty"` // of the newest
	Frames  []inquest.Frame `json:"frames,omitempty"`  // of the newest, the innermost
	First   time.Time       `json:"first"`
	Last    time.Time       `json:"last"`
	Count   int64           `json:"count"` // deaths, ever: also those whose records are gone

	// Not stored:
	Records int         `json:"records"` // that are here
	Cores   int         `json:"cores"`
	Newest  string      `json:"newest,omitempty"` // crash
	Hours   []CrashHour `json:"hours,omitempty"`  // with deaths, the oldest first
}

// CrashHour is how many deaths there were in an hour.
type CrashHour struct {
	At    time.Time `json:"at"` // its beginning
	Count int64     `json:"count"`
}

// groupFrames is how many frames are kept of a group, and by how many crashes
// without a key are told apart.
const groupFrames = 4

// crashGroup says which group a crash belongs to. Whatever tells crashes apart
// in a finer way takes its place.
func crashGroup(c *inquest.Crash) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00", c.Service, c.Kind, c.Class)
	if c.Key != "" {
		fmt.Fprintf(h, "key\x00%s", c.Key)
	} else {
		for i := range c.Frames[:min(len(c.Frames), groupFrames)] {
			fmt.Fprintf(h, "%s\x00", c.Frames[i].Function)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// group is a group as this transaction sees it, nil if there is none.
func (t *crashTx) group(id string) *CrashGroup {
	if g, ok := t.groups[id]; ok {
		return g
	}
	return t.x.groups[id]
}

// add adds deaths to the group of a crash. A group without any goes.
func (t *crashTx) add(c *StoredCrash, n int64) error {
	g := &CrashGroup{ID: c.Group, Service: c.Service, Kind: c.Kind, Class: c.Class, Key: c.Key, First: c.At, Last: c.At}
	if old := t.group(c.Group); old != nil {
		*g = *old
	}
	g.Count += n
	if c.At.Before(g.First) {
		g.First = c.At
	}
	if !c.At.Before(g.Last) {
		g.Last, g.Message = c.At, cmp.Or(c.Message, g.Message)
		if len(c.Frames) > 0 {
			g.Frames = slices.Clone(c.Frames[:min(len(c.Frames), groupFrames)])
		}
	}
	if n != 0 {
		if err := addHour(t.tx, c.Group, c.At, n); err != nil {
			return err
		}
	}
	if g.Count <= 0 {
		return t.dropGroup(c.Group)
	}
	return t.putGroup(g)
}

func (t *crashTx) putGroup(g *CrashGroup) error {
	raw, err := json.Marshal(g)
	if err != nil {
		return err
	}
	t.groups[g.ID] = g
	return put(t.tx, bucketGroups, []byte(g.ID), raw)
}

// dropGroup forgets a group with its counts.
func (t *crashTx) dropGroup(id string) error {
	t.groups[id] = nil
	if err := t.tx.Bucket([]byte(bucketGroups)).Delete([]byte(id)); err != nil {
		return err
	}
	return dropHours(t.tx, id, func(int64) bool { return true })
}

// boundGroups drops the groups that were met longest ago, beyond n, with their
// records.
func (t *crashTx) boundGroups(n int) error {
	all := map[string]*CrashGroup{}
	have := len(t.x.groups)
	for id, g := range t.groups {
		switch {
		case g == nil && t.x.groups[id] != nil:
			have--
		case g != nil && t.x.groups[id] == nil:
			have++
		}
	}
	if have <= n {
		return nil
	}
	for id := range t.x.groups {
		all[id] = t.group(id)
	}
	for id, g := range t.groups {
		all[id] = g
	}
	var groups []*CrashGroup
	for _, g := range all {
		if g != nil {
			groups = append(groups, g)
		}
	}
	slices.SortFunc(groups, func(a, b *CrashGroup) int { return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.ID, b.ID)) })
	for _, g := range groups[:have-n] {
		for _, row := range t.surplus(g.ID, 0) {
			if err := t.drop(row); err != nil {
				return err
			}
		}
		if err := t.dropGroup(g.ID); err != nil {
			return err
		}
	}
	return nil
}

// hourKey is the key of a group's count of an hour since 1970.
func hourKey(group string, hour int64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(group), 0), uint64(hour))
}

func deathHour(at time.Time) int64 {
	return floorTo(at.UnixNano(), int64(time.Hour)) / int64(time.Hour)
}

// addHour adds to a count.
func addHour(tx *bbolt.Tx, group string, at time.Time, n int64) error {
	k := hourKey(group, deathHour(at))
	have, err := hourCount(tx, k)
	if err != nil {
		return err
	}
	if have+n <= 0 {
		return tx.Bucket([]byte(bucketHours)).Delete(k)
	}
	return put(tx, bucketHours, k, strconv.AppendInt(nil, have+n, 10))
}

// hourCount reads a count; one that is damaged is 0.
func hourCount(tx *bbolt.Tx, k []byte) (int64, error) {
	v, err := get(tx, bucketHours, k)
	if err != nil && !errors.Is(err, errSeal) {
		return 0, err
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 {
		return 0, nil
	}
	return n, nil
}

// dropHours deletes counts of a group.
func dropHours(tx *bbolt.Tx, group string, drop func(hour int64) bool) error {
	prefix := append([]byte(group), 0)
	b := tx.Bucket([]byte(bucketHours))
	var keys [][]byte
	cur := b.Cursor()
	for k, _ := cur.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cur.Next() {
		if len(k) == len(prefix)+8 && drop(int64(binary.BigEndian.Uint64(k[len(prefix):]))) {
			keys = append(keys, bytes.Clone(k))
		}
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// hours reads the counts of a group in a window.
func hours(tx *bbolt.Tx, group string, w inquest.Window) (out []CrashHour) {
	prefix := append([]byte(group), 0)
	from, until := windowNanos(w)
	first, last := floorTo(from, int64(time.Hour))/int64(time.Hour), until/int64(time.Hour)
	cur := tx.Bucket([]byte(bucketHours)).Cursor()
	for k, v := cur.Seek(hourKey(group, max(first, 0))); bytes.HasPrefix(k, prefix) && len(k) == len(prefix)+8; k, v = cur.Next() {
		hour := int64(binary.BigEndian.Uint64(k[len(prefix):]))
		if hour > last {
			break
		}
		raw, err := unseal(bucketHours, k, v)
		if n, perr := strconv.ParseInt(string(raw), 10, 64); err == nil && perr == nil {
			out = append(out, CrashHour{time.Unix(hour*3600, 0).UTC(), n})
		}
	}
	return out
}
