package store

import (
	"container/list"
	"sync"
)

// treeCache keeps the function-level trees of block parts that were read
// last, within a bound in bytes: pages ask for the same ones again and again.
type treeCache struct {
	max int64

	mu    sync.Mutex
	bytes int64
	order *list.List // of *cachedTree, newest first
	at    map[treeKey]*list.Element
}

type treeKey struct {
	block string
	part  int
	gen   uint64 // of the symbols it was made with; 0: as it is stored
}

type cachedTree struct {
	key    treeKey
	tables *tables // names … labelSet, resolved only
	bytes  int64
}

func newTreeCache(max int64) *treeCache {
	return &treeCache{max: max, order: list.New(), at: map[treeKey]*list.Element{}}
}

// get returns the tree of a part, nil if it is not there or b is. It is shared.
func (c *treeCache) get(b *block, part int, gen uint64) *tables {
	if b == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[treeKey{b.info.id, part, gen}]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedTree).tables
}

func (c *treeCache) put(b *block, part int, gen uint64, t *tables) {
	kept := &tables{names: t.names, noSymbol: t.noSymbol, funcUp: t.funcUp, funcName: t.funcName, series: t.series, labelSet: t.labelSet, resolved: t.resolved, added: t.added}
	bytes := int64(len(t.funcUp)*8 + len(t.series)*8 + 256)
	for _, s := range t.names {
		bytes += int64(len(s)) + 17
	}
	if bytes > max(c.max, 0)/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := treeKey{b.info.id, part, gen}
	if _, ok := c.at[key]; ok {
		return
	}
	c.at[key] = c.order.PushFront(&cachedTree{key, kept, bytes})
	c.bytes += bytes
	for c.bytes > c.max {
		e := c.order.Back()
		old := c.order.Remove(e).(*cachedTree)
		delete(c.at, old.key)
		c.bytes -= old.bytes
	}
}

func (c *treeCache) memory() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
