package store

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// CrashQuery says which crashes are asked for; the zero value is all of them.
type CrashQuery struct {
	Service string
	Group   string
	Build   string
	Window  inquest.Window // of At; a zero end is open
	After   string         // the cursor that came with the page before
	Limit   int            // of a page; default and most 1,000
}

const mostCrashes = 1000

// Crashes lists crashes, the newest first. next is the cursor of the next page,
// "" at the end. ErrInvalid for a cursor that is none.
func (s *Store) Crashes(q CrashQuery) (out []StoredCrash, next string, err error) {
	if q.Limit <= 0 || q.Limit > mostCrashes {
		q.Limit = mostCrashes
	}
	rows, err := s.crashRows(&q)
	if err != nil {
		return nil, "", err
	}
	if len(rows) > q.Limit {
		rows = rows[:q.Limit]
		last := rows[q.Limit-1]
		next = strconv.FormatInt(last.At, 10) + "." + last.ID
	}
	out = make([]StoredCrash, 0, len(rows))
	err = s.catalog.view(func(tx *bbolt.Tx) error {
		for _, r := range rows {
			v, err := get(tx, bucketCrashes, []byte(r.ID))
			if err == nil && v != nil {
				var c *StoredCrash
				if c, err = readCrash(s.pk, r.ID, v); err == nil {
					out = append(out, *c)
				}
			}
			if err != nil { // it counts as not there, and is reported when it is asked for alone
				continue
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("read crashes: %w", err)
	}
	return out, next, nil
}

// crashRows lists the rows of a query, one more than its limit if there are.
func (s *Store) crashRows(q *CrashQuery) ([]*crashRow, error) {
	from, until := windowNanos(q.Window)
	end := &crashRow{At: until}
	if q.After != "" {
		text, id, _ := strings.Cut(q.After, ".")
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "after=%.80q is not what came with a page", q.After)
		}
		if c := (&crashRow{At: at, ID: id}); compareRows(c, end) < 0 {
			end = c
		}
	}
	x := &s.crashes
	x.mu.RLock()
	defer x.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(x.byTime, end, compareRows)
	var out []*crashRow
	for i--; i >= 0 && len(out) <= q.Limit; i-- {
		r := x.byTime[i]
		if r.At < from {
			break
		}
		if (q.Service == "" || r.Service == q.Service) && (q.Group == "" || r.Group == q.Group) && (q.Build == "" || r.Build == q.Build) {
			out = append(out, r)
		}
	}
	return out, nil
}

// CrashGroups lists the groups with deaths in the window of a query, those met
// last first, with their counts in it. Limit and After do not count.
func (s *Store) CrashGroups(q CrashQuery) ([]CrashGroup, error) {
	from, until := windowNanos(q.Window)
	var out []CrashGroup
	x := &s.crashes
	x.mu.RLock()
	for id, g := range x.groups {
		if q.Service != "" && g.Service != q.Service || q.Group != "" && id != q.Group ||
			g.Last.UnixNano() < from || g.First.UnixNano() >= until {
			continue
		}
		c := *g
		c.Records = len(x.ofGroup[id])
		var newest *crashRow
		for _, r := range x.ofGroup[id] {
			if r.Core != "" {
				c.Cores++
			}
			if newest == nil || compareRows(r, newest) > 0 {
				newest = r
			}
		}
		if newest != nil {
			c.Newest = newest.ID
		}
		out = append(out, c)
	}
	x.mu.RUnlock()
	err := s.catalog.view(func(tx *bbolt.Tx) error {
		for i := range out {
			out[i].Hours = hours(tx, out[i].ID, q.Window)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read counts of crashes: %w", err)
	}
	slices.SortFunc(out, func(a, b CrashGroup) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// CrashBuilds are the builds of the newest crashes, n at most.
func (s *Store) CrashBuilds(n int) []string {
	x := &s.crashes
	x.mu.RLock()
	defer x.mu.RUnlock()
	out, seen := []string{}, map[string]bool{"": true}
	for i := len(x.byTime) - 1; i >= 0 && len(out) < n; i-- {
		if b := x.byTime[i].Build; !seen[b] {
			seen[b] = true
			out = append(out, b)
		}
	}
	return out
}
