package calltree

// Fold returns, per group, the self and the cumulative value of a tree given
// as columns, as AddTree takes them: node i is a call of a name of group
// group[name[i]]. A stack counts once for a group however often the group
// recurs in it. Node 0 is the root and belongs to no group. Adding up what
// Fold gives for several trees is what it gives for the merged one. The
// results have groups elements and are the caller's.
func Fold(group []uint32, groups int, name []uint32, parent []int32, self []int64) (selfs, cums []int64) {
	selfs, cums = make([]int64, groups), make([]int64, groups)
	n := len(name)
	if n == 0 {
		return selfs, cums
	}
	cum := make([]int64, n)
	copy(cum, self)
	links := make([]int32, 2*n) // first child and next sibling of nodes with a value below them; 0 = none
	first, next := links[:n], links[n:]
	for i := n - 1; i > 0; i-- {
		if self[i] == 0 && first[i] == 0 {
			continue
		}
		p := parent[i]
		cum[p] += cum[i]
		next[i], first[p] = first[p], int32(i)
	}
	open := make([]int32, groups) // calls of the group on the way down
	node := first[0]
	for node > 0 {
		g := group[name[node]]
		selfs[g] += self[node]
		if open[g] == 0 {
			cums[g] += cum[node]
		}
		if first[node] != 0 {
			open[g]++
			node = first[node]
			continue
		}
		for next[node] == 0 {
			if node = parent[node]; node <= 0 {
				return selfs, cums
			}
			open[group[name[node]]]--
		}
		node = next[node]
	}
	return selfs, cums
}
