package store

import (
	"container/list"
	"sync"
)

// lru keeps the values that were used last, within a bound in bytes. Values
// are shared: nobody may change one that is in it.
type lru[K comparable, V any] struct {
	max int64

	mu    sync.Mutex
	bytes int64
	order *list.List // of *lruEntry, newest first
	at    map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	bytes int64
}

func newLRU[K comparable, V any](max int64) *lru[K, V] {
	return &lru[K, V]{max: max, order: list.New(), at: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

// put keeps a value of about that many bytes, unless it is too large to be
// worth the room.
func (c *lru[K, V]) put(key K, v V, bytes int64) {
	if bytes > c.max/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.at[key]; ok {
		return
	}
	c.at[key] = c.order.PushFront(&lruEntry[K, V]{key, v, bytes})
	c.bytes += bytes
	for c.bytes > c.max {
		c.drop(c.order.Back())
	}
}

func (c *lru[K, V]) drop(e *list.Element) {
	old := c.order.Remove(e).(*lruEntry[K, V])
	delete(c.at, old.key)
	c.bytes -= old.bytes
}

// forget lets a value go.
func (c *lru[K, V]) forget(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.at[key]; ok {
		c.drop(e)
	}
}
