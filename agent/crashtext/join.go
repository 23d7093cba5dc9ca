package crashtext

import (
	"bytes"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

const (
	defaultJoinWait = 3 * time.Second
	keptHead        = 32 << 10
	rememberDeaths  = 1024 // whose second text is still known to be one
)

// Joiner puts together the texts of one process that come by several ways. A
// text that says why the process died is told at once. One that does not, as
// the crash output of what the runtime throws, waits for one that does.
type Joiner struct {
	found func(inquest.Crash, []byte)
	wait  time.Duration

	mu     sync.Mutex
	deaths map[string]*death // by Crash.ID
	order  []string          // the oldest first
	closed bool
}

// death is what is known of one.
type death struct {
	crash inquest.Crash
	text  *coredump.Text
	timer *time.Timer // nil: it was told
}

// NewJoiner returns a Joiner that calls found with each death and its text, as
// far as TextLimits kept it. A death about which more is learned later is told
// again, with the same id. wait is how long a text that says too little waits
// for another, by default three seconds. found is called by one goroutine at a
// time, and must not call the Joiner.
func NewJoiner(wait time.Duration, found func(inquest.Crash, []byte)) *Joiner {
	if wait <= 0 {
		wait = defaultJoinWait
	}
	return &Joiner{found: found, wait: wait, deaths: map[string]*death{}}
}

// Tell takes a text of a crash. Both belong to the Joiner then.
func (j *Joiner) Tell(c inquest.Crash, t *coredump.Text) {
	t.Crash(&c)
	j.mu.Lock()
	defer j.mu.Unlock()
	d := j.deaths[c.ID]
	if d != nil {
		if !d.join(c, t) {
			return
		}
	} else {
		d = &death{crash: c, text: t}
		j.remember(d)
	}
	if d.crash.Class != inquest.ClassUnknown || j.closed {
		j.tell(d)
	} else if d.timer == nil {
		d.timer = time.AfterFunc(j.wait, func() { j.late(d) })
	}
}

// Close tells what still waits. Texts that come later are told at once.
func (j *Joiner) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, d := range j.deaths {
		if d.timer != nil {
			j.tell(d)
		}
	}
}

func (j *Joiner) late(d *death) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if d.timer != nil {
		j.tell(d)
	}
}

func (j *Joiner) tell(d *death) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	j.found(d.crash, d.text.Head)
	// It may be told again, then at least with its beginning.
	if kept := min(len(d.text.Head), keptHead); d.crash.Class == inquest.ClassUnknown {
		d.text.Head = bytes.Clone(d.text.Head[:kept])
	} else {
		d.text.Head = nil
	}
}

func (j *Joiner) remember(d *death) {
	if len(j.order) >= rememberDeaths {
		if old := j.deaths[j.order[0]]; old != nil && old.timer != nil {
			j.tell(old)
		}
		delete(j.deaths, j.order[0])
		j.order = j.order[1:]
	}
	j.deaths[d.crash.ID] = d
	j.order = append(j.order, d.crash.ID)
}

// join takes what another text tells; it returns false if that is nothing new.
func (d *death) join(c inquest.Crash, t *coredump.Text) bool {
	news := d.crash.Class == inquest.ClassUnknown && c.Class != inquest.ClassUnknown ||
		t.Text.Goroutines > d.text.Text.Goroutines
	for _, s := range c.Source {
		d.source(s)
	}
	if !news {
		return false
	}
	reason := t
	if t.Text.Goroutines < d.text.Text.Goroutines || t.Class == inquest.ClassUnknown && t.Text.Goroutines == d.text.Text.Goroutines {
		d.text.Crash(&d.crash)
	} else {
		reason, d.text = d.text, t
		t.Crash(&d.crash)
	}
	if reason != d.text && reason.Class != inquest.ClassUnknown && d.text.Class == inquest.ClassUnknown {
		d.crash.Class, d.crash.Message, d.crash.Signal = reason.Class, reason.Message, reason.Signal
	}
	d.fill(c)
	return true
}

func (d *death) source(s string) {
	for _, have := range d.crash.Source {
		if have == s {
			return
		}
	}
	d.crash.Source = append(d.crash.Source, s)
}

// fill takes what the other way knew of the process and this one did not.
func (d *death) fill(c inquest.Crash) {
	if d.crash.Service == "" {
		d.crash.Service = c.Service
	}
	if d.crash.Release == "" {
		d.crash.Release = c.Release
	}
	if d.crash.Build == "" {
		d.crash.Build = c.Build
	}
	if d.crash.Exe == "" {
		d.crash.Exe = c.Exe
	}
	if d.crash.Facts == nil {
		d.crash.Facts = c.Facts
	}
	if c.At.Before(d.crash.At) && !c.At.IsZero() {
		d.crash.At = c.At
	}
}
