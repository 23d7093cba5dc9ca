package query

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/goinquest/inquest/calltree"
)

// tally adds up the tables of the parts of a selection, in 10^-dec units.
type tally struct {
	s   *selection
	key func(string) string // what the name of a function counts as, "" for nothing; nil: itself

	held atomic.Int64 // bytes reserved for rows

	mu           sync.Mutex
	bytes        int64 // of rows
	rows         map[string]*tallyRow
	total        int64
	unsymbolized int64
}

type tallyRow struct {
	name      string
	self, cum int64
}

// add adds the units of a part. Parts may be added at the same time.
func (t *tally) add(ctx context.Context, units []*unit) error { return t.addAs(ctx, units, t.key) }

// addAs is add with another key.
func (t *tally) addAs(ctx context.Context, units []*unit, key func(string) string) error {
	f, self, cum, err := t.s.partTable(ctx, units)
	if err != nil {
		return err
	}
	group, names := groups(f.Names, key)
	var selfs, cums []int64
	if units[0].sec.Fleet {
		selfs, cums = foldTable(group, len(names), f.Name, self), foldTable(group, len(names), f.Name, cum)
	} else {
		selfs, cums = calltree.Fold(group, len(names), f.Name, f.Parent, self)
	}
	without, total := withoutSymbol(f, self), int64(0)
	for _, v := range self {
		total += v
	}
	return t.s.mem.upTo(&t.held, t.sum(names, selfs, cums, total, without))
}

// foldTable adds up the values of functions, which are nodes of a table, by
// group.
func foldTable(group []uint32, groups int, name []uint32, values []int64) []int64 {
	out := make([]int64, groups)
	for i, v := range values {
		if i > 0 {
			out[group[name[i]]] += v
		}
	}
	return out
}

// sum adds the table of a part, and returns how many bytes all rows take.
func (t *tally) sum(names []string, selfs, cums []int64, total, without int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total += total
	t.unsymbolized += without
	for i, name := range names {
		if name == "" || selfs[i] == 0 && cums[i] == 0 {
			continue
		}
		row := t.rows[name]
		if row == nil {
			row = &tallyRow{name: strings.Clone(name)} // it would keep all names of the part
			t.rows[row.name] = row
			t.bytes += tableRowBytes + int64(len(name))
		}
		row.self += selfs[i]
		row.cum += cums[i]
	}
	return t.bytes
}

// groups gives every name of a part's tree but the root's the row it counts
// in, see tally.key.
func groups(names []string, key func(string) string) (group []uint32, rows []string) {
	group = make([]uint32, len(names))
	if key == nil {
		for i := range group {
			group[i] = uint32(i)
		}
		return group, names
	}
	ids := make(map[string]uint32)
	for i, n := range names[1:] {
		k := key(n)
		id, ok := ids[k]
		if !ok {
			id = uint32(len(rows))
			ids[k] = id
			rows = append(rows, k)
		}
		group[i+1] = id
	}
	return group, rows
}

// sorted lists the rows by descending self, then descending cumulative value,
// then name.
func (t *tally) sorted() []*tallyRow {
	rows := make([]*tallyRow, 0, len(t.rows))
	for _, row := range t.rows {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b *tallyRow) int {
		return cmp.Or(cmp.Compare(b.self, a.self), cmp.Compare(b.cum, a.cum), cmp.Compare(a.name, b.name))
	})
	return rows
}

// answer is the table of what was added.
func (t *tally) answer(by string, limit int) (*TopAnswer, error) {
	rows, s := t.sorted(), t.s
	c := s.coverage()
	c.Unsymbolized = scaled(t.unsymbolized, s.dec)
	a := s.table(by, len(rows), t.total, c)
	for _, row := range cut(rows, limit) {
		a.Rows = append(a.Rows, TopRow{Name: strings.Clone(row.name), Self: scaled(row.self, s.dec), Cum: scaled(row.cum, s.dec)})
	}
	return a, s.mem.keep(answerRowBytes * int64(len(a.Rows)))
}
