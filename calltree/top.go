package calltree

import (
	"cmp"
	"slices"
)

// Row is one line of a table of functions, or of groups of them.
type Row struct {
	Name string
	Self int64 // value of the stacks that end in it
	Cum  int64 // value of the stacks it is in, each counted once however often it recurs
}

// Top returns a row per key(name), or per name if key is nil, sorted by
// descending Self, then descending Cum, then name. key is asked once per name.
// The root is no row: what it holds itself are stacks without frames.
func (t *Tree) Top(key func(name string) string) []Row {
	group, rows := t.groups(key)
	open := make([]int32, len(rows)) // calls of the group on the current path
	path := make([]int32, 0, 64)     // nodes from below the root to the current one
	for i := 1; i < t.Len(); i++ {
		for len(path) > 0 && path[len(path)-1] != t.Parent[i] {
			open[group[t.Name[path[len(path)-1]]]]--
			path = path[:len(path)-1]
		}
		g := group[t.Name[i]]
		if open[g] == 0 {
			rows[g].Cum += t.Cum[i]
		}
		rows[g].Self += t.Self[i]
		open[g]++
		path = append(path, int32(i))
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(b.Cum, a.Cum), cmp.Compare(a.Name, b.Name))
	})
	return rows
}

// groups gives every name of the tree but the root's a row.
func (t *Tree) groups(key func(string) string) (group []uint32, rows []Row) {
	group = make([]uint32, len(t.Names))
	rows = make([]Row, 0, len(t.Names))
	if key == nil {
		for i, n := range t.Names[1:] {
			group[i+1] = uint32(i)
			rows = append(rows, Row{Name: n})
		}
		return group, rows
	}
	ids := make(map[string]uint32)
	for i, n := range t.Names[1:] {
		k := key(n)
		id, ok := ids[k]
		if !ok {
			id = uint32(len(rows))
			ids[k] = id
			rows = append(rows, Row{Name: k})
		}
		group[i+1] = id
	}
	return group, rows
}
