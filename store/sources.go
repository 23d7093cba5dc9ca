package store

import "slices"

// foundBlock is what a block's file says of itself.
type foundBlock struct {
	info *blockInfo
	list *blockListing
}

// resolveSources says which of the blocks whose files were found count, when
// no catalog says so, and marks those whose profiles are in rollups. unreadable are
// files that do not say what they are.
//
// Blocks made of others are written while their sources count, and take their
// place in one step when all that were made together are complete; only then the
// sources' files go. So as long as all of its sources are there, a block may be one
// of several of which the others are missing, while the sources have everything:
// they count and it does not. As soon as one is gone the block counts, and the
// other sources do not. Rollups that a crash left unfinished do not count.
func resolveSources(all []*foundBlock, unreadable map[string]error) []*foundBlock {
	found := map[string]*foundBlock{}
	for _, b := range all {
		found[b.info.id] = b
	}
	gone := map[string]bool{}
	for _, b := range all {
		sources := b.list.sources
		missing := slices.ContainsFunc(sources, func(id string) bool { return found[id] == nil && unreadable[id] == nil })
		switch {
		case len(sources) == 0:
		case missing:
			for _, id := range sources {
				gone[id] = true
			}
		default:
			gone[b.info.id] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(all), func(b *foundBlock) bool { return gone[b.info.id] })
	out = withoutUnfinished(out)
	rolled := map[string]bool{}
	for _, b := range out {
		for _, id := range b.list.beside {
			rolled[id] = true
		}
	}
	for _, b := range out {
		b.info.rolled = b.info.level == levelMerged || b.info.level == levelHead && rolled[b.info.id]
	}
	return out
}

// withoutUnfinished leaves out rollups of which others, made together with them,
// are missing: those of profiles are made day by day, the earliest first, and
// count when all are complete. So those that stand beside a block of whose last
// day there is none are left out, if everything they were made of is there to
// be rolled up again.
func withoutUnfinished(all []*foundBlock) []*foundBlock {
	heads := map[string]*blockInfo{}
	for _, b := range all {
		if b.info.level == levelHead {
			heads[b.info.id] = b.info
		}
	}
	for {
		last := map[string]int64{} // block → the last day it has rollups of
		for _, r := range all {
			_, day := daysOf(r.info.from, r.info.from)
			for _, id := range r.list.beside {
				have, ok := last[id]
				if last[id] = day; ok {
					last[id] = max(day, have)
				}
			}
		}
		n := len(all)
		all = slices.DeleteFunc(all, func(r *foundBlock) bool {
			if r.info.level != levelRollup || len(r.list.sources) > 0 || slices.ContainsFunc(r.list.beside, func(id string) bool { return heads[id] == nil }) {
				return false
			}
			return slices.ContainsFunc(r.list.beside, func(id string) bool {
				_, until := daysOf(heads[id].from, heads[id].to)
				return last[id] < until
			})
		})
		if len(all) == n {
			return all
		}
	}
}
