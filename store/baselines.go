package store

import "sync"

// baselines are the cumulative states that are in the log and not in the
// catalog yet.
type baselines struct {
	mu    sync.Mutex
	dirty map[string]dirtyBaseline
}

type dirtyBaseline struct {
	epoch uint64
	state []byte
}

func newBaselines() *baselines { return &baselines{dirty: map[string]dirtyBaseline{}} }

func (b *baselines) put(name string, epoch uint64, state []byte) {
	b.mu.Lock()
	b.dirty[name] = dirtyBaseline{epoch, state}
	b.mu.Unlock()
}

// putOlder is put for what replay finds: what this run wrote is newer.
func (b *baselines) putOlder(name string, epoch, firstOfRun uint64, state []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if have, ok := b.dirty[name]; !ok || have.epoch < firstOfRun {
		b.dirty[name] = dirtyBaseline{epoch, state}
	}
}

// get returns a copy of the state of a name, if it is of epoch first or a
// later one.
func (b *baselines) get(name string, first uint64) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.dirty[name]
	if !ok || d.epoch < first {
		return nil, false
	}
	return append([]byte{}, d.state...), true
}

// of returns the states whose newest version is of one of the epochs.
func (b *baselines) of(epochs map[uint64]bool) map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string][]byte{}
	for name, d := range b.dirty {
		if epochs[d.epoch] {
			out[name] = d.state
		}
	}
	return out
}

// stored forgets states that are in the catalog now.
func (b *baselines) stored(epochs map[uint64]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, d := range b.dirty {
		if epochs[d.epoch] {
			delete(b.dirty, name)
		}
	}
}
