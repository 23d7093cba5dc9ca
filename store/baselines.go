package store

import "sync"

// baselines are the cumulative states that are in the log and not in the
// catalog yet.
type baselines struct {
	all   *headMemory
	mu    sync.Mutex
	dirty map[string]dirtyBaseline
	bytes map[uint64]int64 // by epoch
}

type dirtyBaseline struct {
	epoch uint64
	state []byte
}

func newBaselines(all *headMemory) *baselines {
	return &baselines{all: all, dirty: map[string]dirtyBaseline{}, bytes: map[uint64]int64{}}
}

func (b *baselines) put(name string, epoch uint64, state []byte) {
	b.mu.Lock()
	b.set(name, dirtyBaseline{epoch, state})
	b.mu.Unlock()
}

// set replaces the state of a name. b.mu is held.
func (b *baselines) set(name string, d dirtyBaseline) {
	b.forget(name)
	b.dirty[name] = d
	b.count(d.epoch, d.memory(name))
}

// forget takes a state out. b.mu is held.
func (b *baselines) forget(name string) {
	if d, ok := b.dirty[name]; ok {
		b.count(d.epoch, -d.memory(name))
		delete(b.dirty, name)
	}
}

func (d *dirtyBaseline) memory(name string) int64 {
	return baselineBytes + int64(len(name)+cap(d.state))
}

func (b *baselines) count(epoch uint64, bytes int64) {
	b.all.add(bytes)
	if b.bytes[epoch] += bytes; b.bytes[epoch] == 0 {
		delete(b.bytes, epoch)
	}
}

// memory is what the states of an epoch take, which end with its head.
func (b *baselines) memory(epoch uint64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes[epoch]
}

// putOlder is put for what replay finds: what this run wrote is newer.
func (b *baselines) putOlder(name string, epoch, firstOfRun uint64, state []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if have, ok := b.dirty[name]; !ok || have.epoch < firstOfRun {
		b.set(name, dirtyBaseline{epoch, state})
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
			b.forget(name)
		}
	}
}
