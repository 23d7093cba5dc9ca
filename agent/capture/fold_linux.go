package capture

import (
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// fold gathers deaths of which there are too many to tell one by one: those at
// one place become one event that stands for them. It is safe for concurrent
// use.
type fold struct {
	mu     sync.Mutex
	events map[string]*inquest.Crash
}

// maxFolded is how many places are gathered at once; those beyond become one
// event per service.
const maxFolded = 256

// add adds a death to those like it.
func (f *fold) add(c inquest.Crash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := place(c.Service, c.Key)
	if f.events[name] == nil && len(f.events) >= maxFolded {
		name = c.Service
		c.Key, c.Class, c.Message, c.Frames = "", inquest.ClassUnknown, "", nil
	}
	if e := f.events[name]; e != nil {
		e.Count += c.Deaths()
		e.Held = max(e.Held, c.Held)
		return
	}
	c.Count = c.Deaths()
	f.events[name] = &c
}

// flush takes out what was gathered, oldest first.
func (f *fold) flush() []inquest.Crash {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]inquest.Crash, 0, len(f.events))
	for _, e := range f.events {
		out = append(out, *e)
	}
	clear(f.events)
	slices.SortFunc(out, func(a, b inquest.Crash) int { return a.At.Compare(b.At) })
	return out
}

// every calls f at the given times until stop is closed.
func every(d time.Duration, stop <-chan struct{}, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			f()
		}
	}
}
