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
// other sources do not. A rollup is made of blocks with profiles, and stands beside them, or
// of rollups, and replaces those.
func resolveSources(all []*foundBlock, unreadable map[string]error) []*foundBlock {
	found := map[string]*foundBlock{}
	for _, b := range all {
		found[b.info.id] = b
	}
	gone := map[string]bool{}
	rolled := map[string]bool{}
	for _, b := range all {
		sources := b.list.sources
		missing := slices.ContainsFunc(sources, func(id string) bool { return found[id] == nil && unreadable[id] == nil })
		ofRollups := slices.ContainsFunc(sources, func(id string) bool { return found[id] != nil && found[id].info.level == levelRollup })
		switch {
		case len(sources) == 0:
		case b.info.level == levelRollup && !ofRollups:
			for _, id := range sources {
				rolled[id] = true
			}
		case missing:
			for _, id := range sources {
				gone[id] = true
			}
		default:
			gone[b.info.id] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(all), func(b *foundBlock) bool { return gone[b.info.id] })
	for _, b := range out {
		b.info.rolled = b.info.level == levelMerged || b.info.level == levelHead && rolled[b.info.id]
	}
	return out
}
