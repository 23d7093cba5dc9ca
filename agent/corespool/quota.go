package corespool

import (
	"cmp"
	"os"
	"slices"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// Room is how many bytes of cores can be taken now: what is free by quota and
// by disk, and what would make place for it.
func (p *Pool) Room() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0
	}
	var gives int64
	for _, c := range p.cores {
		if !c.writing && !c.claimed {
			gives += c.size
		}
	}
	for _, e := range p.exes {
		gives += e.size
	}
	room := p.quota - p.bytes
	if free, err := freeBytes(p.files.Root); err == nil {
		room = min(room, free-p.floor)
	}
	return max(0, room+gives)
}

// room drops what is worth least until n bytes more fit. floor says whether
// space must stay free on the disk: small things may use it. Callers hold p.mu.
func (p *Pool) room(n int64, floor bool) error {
	for {
		why := p.full(n, floor)
		if why == nil {
			return nil
		}
		if !p.dropLeast() {
			return why
		}
	}
}

// full says why n bytes more do not fit, nil if they do.
func (p *Pool) full(n int64, floor bool) error {
	if p.bytes+n > p.quota {
		return inquest.Errorf(inquest.ErrDiskFull, "the core spool has no room for %d bytes: quota %d bytes, %d taken", n, p.quota, p.bytes)
	}
	if !floor || p.floor == 0 {
		return nil
	}
	free, err := freeBytes(p.files.Root)
	if err == nil && free-n < p.floor {
		return inquest.Errorf(inquest.ErrDiskFull, "the disk of the core spool has %d bytes free, %d are to stay free", free, p.floor)
	}
	return nil
}

// dropLeast drops the one thing that is worth least. false: there is none.
func (p *Pool) dropLeast() bool {
	free := func(c *core) bool { return !c.writing && !c.claimed }
	if i := slices.IndexFunc(p.cores, func(c *core) bool { return free(c) && !c.mini && c.crash.Core.Tier == inquest.TierFull }); i >= 0 {
		p.cutDown(p.cores[i])
		return true
	}
	if len(p.exes) > 0 {
		p.counts.DroppedExes++
		p.removeExe(p.exes[0])
		return true
	}
	if i := slices.IndexFunc(p.cores, free); i >= 0 {
		c := p.cores[i]
		p.counts.DroppedCores++
		p.lost = append(p.lost, withoutCore(c.crash, "the core was dropped from the agent's spool for want of room"))
		p.dropCore(c)
		return true
	}
	if len(p.texts) > 0 {
		p.counts.DroppedTexts++
		p.removeText(p.texts[0])
		return true
	}
	// The newest segment may be open, and stays.
	if len(p.segments) > 1 {
		p.counts.DroppedEvents += int64(p.segments[0].records)
		p.removeSegment(p.segments[0])
		return true
	}
	return false
}

// cutDown cuts a complete core down to its minicore; one that has none is
// marked, and dropped when its turn comes. Callers hold p.mu.
func (p *Pool) cutDown(c *core) {
	c.mini = true
	data, err := os.ReadFile(p.files.Path(dirCores, c.id+extLedger))
	if err != nil {
		p.fail("cut core down", err)
		return
	}
	l, err := coredump.ParseLedger(data)
	if err != nil {
		p.fail("cut core down", err)
		return
	}
	size := miniSize(l)
	if size >= c.image {
		return
	}
	if err := os.Truncate(p.files.Path(dirCores, c.id+extImage), size); err != nil {
		p.fail("cut core down", err)
		return
	}
	p.files.Did("truncate " + c.id + extImage)
	p.counts.Trimmed++
	p.resize(c, c.size-(c.image-size))
	c.image = size
	p.asMini(c, "cut down to a minicore in the agent's spool for want of room")
}

// asMini says in a core's crash that it is a minicore now. What is on disk
// says so by its size.
func (p *Pool) asMini(c *core, reason string) {
	k := *c.crash.Core
	k.Tier, k.Complete = inquest.TierMini, false
	c.crash.Core, c.crash.Tier, c.crash.Reason = &k, inquest.TierMini, cmp.Or(c.crash.Reason, reason)
	c.mini = true
}

// miniSize is how many bytes of an image its minicore needs.
func miniSize(l *coredump.Ledger) (size int64) {
	for _, b := range l.Blocks()[:l.MiniBlocks()] {
		size = max(size, b.Offset+int64(b.Stored))
	}
	return size
}

// tellLost tells of crashes whose cores were lost. It is called without locks,
// after whatever may have made room.
func (p *Pool) tellLost() {
	p.mu.Lock()
	lost := p.lost
	p.lost = nil
	p.mu.Unlock()
	for len(lost) > 0 {
		n := min(len(lost), 100)
		if p.tell(lost[:n]...) != nil {
			return // counted there
		}
		lost = lost[n:]
	}
}
