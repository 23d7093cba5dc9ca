package store

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/goinquest/inquest"
)

// What heads take is known from the capacity of their tables, so that it is
// true to within some percent for few large heads and for very many small
// ones. headMemory adds it up over all of them, however they end.

// Bytes of memory that no capacity tells.
const (
	headBytes       = 2 << 10 // a head without entries
	mapEntryBytes   = 64      // an entry of a small map, its key's text besides
	liveKeyBytes    = 112     // a key in keyIndex.live, and its groupKey later
	sectionBytes    = 256     // a section of a head
	baselineBytes   = 160     // a cumulative state, its name and bytes besides
	recordBytesBase = 256     // a record on its way, its payload besides
)

func sliceBytes[T any](s []T) int64 {
	var t T
	return int64(cap(s)) * int64(unsafe.Sizeof(t))
}

func (t *idTable) memory() int64 { return sliceBytes(t.slots) }

func (x *childIndex) memory() int64 { return sliceBytes(x.first) + x.more.memory() }

// memory is what the dictionary takes.
func (d *dict) memory() int64 {
	t := &d.tables
	return d.bytes + sliceBytes(t.strings) + sliceBytes(t.functions) + sliceBytes(t.mappings) + sliceBytes(t.locations) +
		sliceBytes(t.lines) + sliceBytes(t.stackUp) + sliceBytes(t.stackLoc) + sliceBytes(t.stackFunc) +
		sliceBytes(t.labelEnds) + sliceBytes(t.labels) + sliceBytes(t.leaves) + sliceBytes(t.labelSet) +
		sliceBytes(t.metaSets) + sliceBytes(t.processes) + sliceBytes(t.forms) + sliceBytes(t.layouts) +
		sliceBytes(t.names) + sliceBytes(t.noSymbol) + sliceBytes(t.funcUp) + sliceBytes(t.funcName) + sliceBytes(t.series) +
		sliceBytes(d.nameOf) + d.children.memory() + mapEntryBytes*int64(len(d.nameID)+len(d.addrID))
}

// memory is what the interner takes, its dictionary included.
func (in *interner) memory() int64 {
	n := in.dict.memory() + in.stacks.memory()
	for _, t := range [...]*idTable{
		&in.bySample, &in.byText, &in.byFunction, &in.byMapping, &in.byLocation, &in.byLabels, &in.byMeta, &in.byProcess,
	} {
		n += t.memory()
	}
	return n + (mapEntryBytes+64)*int64(len(in.byForm)) + sliceBytes(in.scratch)
}

// memory is what the head takes.
func (h *head) memory() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.size()
}

// size is memory with h.mu held.
func (h *head) size() int64 {
	n := headBytes + h.packed + h.open + h.flight + liveKeyBytes*h.rows + sectionBytes*int64(len(h.sections))
	if h.in != nil {
		return n + h.in.memory()
	}
	return n + h.dict.memory()
}

// count brings the sum over all heads up to date. h.mu is held.
func (h *head) count() {
	if h.all == nil {
		return
	}
	size := h.size()
	if h.dropped {
		size = 0
	}
	h.all.add(size - h.counted)
	h.counted = size
}

// drop lets everything go that a block has now. Snapshots keep what they have.
func (h *head) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in, h.dict, h.sections = nil, newDict(), nil
	h.dropped = true
	h.count()
}

// headMemory is the memory of all heads and of the cumulative states that are
// in no block yet, and its bound.
type headMemory struct {
	max  int64
	used atomic.Int64

	mu   sync.Mutex
	room chan struct{} // closed and made again when there is room again
}

func newHeadMemory(max int64) *headMemory {
	return &headMemory{max: max, room: make(chan struct{})}
}

func (m *headMemory) add(bytes int64) {
	used := m.used.Add(bytes)
	if used < m.max && used-bytes >= m.max {
		m.mu.Lock()
		close(m.room)
		m.room = make(chan struct{})
		m.mu.Unlock()
	}
}

// crowded says whether epochs should end early.
func (m *headMemory) crowded() bool { return m.used.Load() > m.max/4*3 }

// more returns a channel that is closed when there is room again.
func (m *headMemory) more() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.room
}

// roomPatience is how long a writer waits for heads to become blocks.
const roomPatience = 3 * time.Second

// waitRoom waits, for a while, until heads take less than they may: blocks are
// written meanwhile. The error is of kind ErrUnavailable.
func (s *Store) waitRoom(ctx context.Context) error {
	m := s.memory
	if m.used.Load() < m.max {
		return nil
	}
	s.stats.crowded.Add(1)
	s.closer.poke()
	timer := time.NewTimer(roomPatience)
	defer timer.Stop()
	for {
		more := m.more()
		if m.used.Load() < m.max {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			s.stats.crowdedOut.Add(1)
			return inquest.Errorf(inquest.ErrUnavailable, "profiles that wait to be written to blocks take %d MiB of memory, which is all there is for them; send it again later", m.max>>20)
		}
	}
}

// ownText copies strings that are part of something larger.
func ownText(ss []string) (bytes int64) {
	var b strings.Builder
	for _, s := range ss {
		bytes += int64(len(s))
	}
	b.Grow(int(bytes))
	for _, s := range ss {
		b.WriteString(s)
	}
	all := b.String()
	for i, s := range ss {
		ss[i], all = all[:len(s)], all[len(s):]
	}
	return bytes
}
