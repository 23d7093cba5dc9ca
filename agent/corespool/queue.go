package corespool

import (
	"os"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// Core hands out the oldest core that may be shipped now; it stays as it is
// until Done, Refuse or Return, which must be called. If there is none,
// wait is how long until one may be tried again (0: none waits).
func (p *Pool) Core() (c *Core, wait time.Duration) {
	defer p.tellLost()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for i := 0; i < len(p.cores); i++ {
		it := p.cores[i]
		if it.writing || it.claimed {
			continue
		}
		if d := it.notBefore.Sub(now); d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		c, err := p.openCore(it)
		if err == nil {
			it.claimed = true
			return c, 0
		}
		p.refuse(it, err.Error())
		i--
	}
	return nil, wait
}

func (p *Pool) openCore(it *core) (*Core, error) {
	data, err := os.ReadFile(p.files.Path(dirCores, it.id+extLedger))
	if err != nil {
		return nil, err
	}
	l, err := coredump.ParseLedger(data)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p.files.Path(dirCores, it.id+extImage))
	if err != nil {
		return nil, err
	}
	return &Core{Crash: it.crash, Ledger: l, Blocks: blocksIn(l, it.image), Attempts: it.attempts, file: f}, nil
}

// blocksIn is how many of the first blocks an image file of a size has.
func blocksIn(l *coredump.Ledger, size int64) int {
	for n, b := range l.Blocks() {
		if b.Offset+int64(b.Stored) > size {
			return n
		}
	}
	return len(l.Blocks())
}

// Done removes a core that the collector has; wanted says whether it asked for
// any of it.
func (p *Pool) Done(c *Core, wanted bool) {
	p.end(c, func(it *core) {
		p.counts.Shipped++
		if !wanted {
			p.counts.Unwanted++
		}
		p.counts.LastError = ""
		p.dropCore(it)
	})
}

// Refuse ends a core that cannot be shipped, and keeps it, as long as it is
// among the newest, with the reason to look at.
func (p *Pool) Refuse(c *Core, reason string) {
	p.end(c, func(it *core) { p.refuse(it, reason) })
}

// Return gives a core back, to be tried again not before the time.
func (p *Pool) Return(c *Core, notBefore time.Time, reason string) {
	p.end(c, func(it *core) {
		it.claimed, it.notBefore = false, notBefore
		it.attempts++
		if reason != "" {
			p.counts.LastError = reason
		}
		p.signal()
	})
}

// end settles a claimed core.
func (p *Pool) end(c *Core, settle func(it *core)) {
	defer p.tellLost()
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.file == nil {
		return
	}
	_ = c.file.Close() // only read
	c.file = nil
	if it := p.core(c.Crash.ID); it != nil {
		settle(it)
	}
}

// dropCore removes a core and its files. Callers hold p.mu.
func (p *Pool) dropCore(it *core) {
	p.forget(it)
	if err := p.removeCoreFiles(it.id); err != nil {
		p.fail("remove core", err)
	}
}

// refuse sets a core aside. Callers hold p.mu.
func (p *Pool) refuse(it *core, reason string) {
	p.log.Error("core set aside", "crash", it.id, inquest.LogErr, reason)
	p.counts.DroppedCores++
	p.counts.LastError = reason
	p.forget(it)
	// The record goes last, as when a core is removed.
	for _, ext := range []string{extImage, extLedger, extCrash} {
		if _, err := os.Stat(p.files.Path(dirCores, it.id+ext)); err == nil {
			p.aside(dirCores, it.id+ext, dirRefused)
		}
	}
	text := reason + "\n"
	if p.files.Write(dirRefused, it.id+extReason, []byte(text)) == nil {
		p.bytes += int64(len(text))
	}
	p.lost = append(p.lost, withoutCore(it.crash, "the core cannot be shipped: "+reason))
}
