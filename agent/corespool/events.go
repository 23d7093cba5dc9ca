package corespool

import (
	"bytes"
	"errors"
	"os"
	"slices"

	"github.com/goinquest/inquest"
)

const (
	segmentRecords = 1000    // what one request may have
	segmentBytes   = 1 << 20 // unless one record alone is larger
	mostRecord     = 1 << 20
)

// segment is one file of events.
type segment struct {
	seq     uint64
	size    int64
	records int // as far as known; a damaged one may be counted
}

// Crash keeps a crash to be told. It is durable when Crash returns without an
// error. Of kind inquest.ErrDiskFull if there is no room, and
// inquest.ErrTooLarge if its record has more than 1 MiB.
func (p *Pool) Crash(c inquest.Crash) error {
	err := p.tell(c)
	p.tellLost()
	return err
}

func (p *Pool) tell(crashes ...inquest.Crash) error {
	var lines []byte
	for _, c := range crashes {
		from := len(lines)
		var err error
		if lines, err = appendRecord(lines, c); err != nil {
			return err
		}
		if n := len(lines) - from; n > mostRecord {
			return inquest.Errorf(inquest.ErrTooLarge, "record of crash %s has %d bytes, at most %d are allowed", c.ID, n, mostRecord)
		}
	}
	p.eventMu.Lock()
	defer p.eventMu.Unlock()
	err := p.append(lines, len(crashes))
	for err != nil && noSpace(err) && p.makeSpace() {
		err = p.append(lines, len(crashes))
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.counts.DroppedEvents += int64(len(crashes))
		p.fail("keep crash", err)
	}
	p.signal()
	return err
}

// makeSpace drops something because the disk is full, though the quota is not.
func (p *Pool) makeSpace() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropLeast()
}

// append writes records to the newest segment and syncs it. Callers hold
// p.eventMu.
func (p *Pool) append(lines []byte, records int) error {
	g, err := p.writable(int64(len(lines)), records)
	if err != nil {
		return err
	}
	_, err = p.open.Write(lines)
	p.files.Did("append " + eventsName(g.seq))
	if err == nil {
		err = p.open.Sync()
		p.files.Did("sync " + eventsName(g.seq))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		g.size, g.records = g.size+int64(len(lines)), g.records+records
		return nil
	}
	// Whoever called is told that it is not there, so it must not be. A part
	// of a record that stays would only be passed over.
	p.bytes -= int64(len(lines))
	err = errors.Join(diskError("write crash", err), p.open.Truncate(g.size), p.seal())
	return err
}

// writable is the segment that n bytes more are to be written to; they are
// counted already. Callers hold p.eventMu.
func (p *Pool) writable(n int64, records int) (*segment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "the core spool is closed")
	}
	if err := p.room(n, false); err != nil {
		return nil, err
	}
	var g *segment
	if p.open != nil && len(p.segments) > 0 {
		if g = p.segments[len(p.segments)-1]; g.records+records > segmentRecords || g.size+n > segmentBytes {
			g = nil
		}
	}
	if g == nil {
		var err error
		if g, err = p.newSegment(); err != nil {
			return nil, diskError("begin crashes", err)
		}
	}
	p.bytes += n
	return g, nil
}

// newSegment opens a segment behind all others. Callers hold both locks.
func (p *Pool) newSegment() (*segment, error) {
	if err := p.seal(); err != nil {
		p.fail("close crashes", err)
	}
	g := &segment{seq: 1}
	if n := len(p.segments); n > 0 {
		g.seq = p.segments[n-1].seq + 1
	}
	f, err := os.OpenFile(p.files.Path(dirEvents, eventsName(g.seq)), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p.files.Did("create " + eventsName(g.seq))
	if err := p.files.SyncDir(dirEvents); err != nil {
		return nil, errors.Join(err, f.Close(), p.files.Remove(dirEvents+"/"+eventsName(g.seq)))
	}
	p.open, p.segments = f, append(p.segments, g)
	return g, nil
}

// seal ends the newest segment. Callers hold both locks.
func (p *Pool) seal() error {
	if p.open == nil {
		return nil
	}
	f := p.open
	p.open = nil
	return f.Close()
}

// Batch is crashes that are told together.
type Batch struct {
	Crashes []inquest.Crash // at most 1,000
	seq     uint64
}

// Events returns the oldest crashes that wait, nil if there are none. They
// stay until Told; crashes that come meanwhile are in a later batch.
func (p *Pool) Events() *Batch {
	p.eventMu.Lock()
	defer p.eventMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.segments) > 0 {
		g := p.segments[0]
		if len(p.segments) == 1 {
			p.fail("close crashes", p.seal())
		}
		if b := p.readSegment(g); len(b.Crashes) > 0 {
			return b
		}
		p.removeSegment(g)
	}
	return nil
}

// readSegment reads a segment as far as it is whole. Callers hold p.mu.
func (p *Pool) readSegment(g *segment) *Batch {
	b := &Batch{seq: g.seq}
	data, err := os.ReadFile(p.files.Path(dirEvents, eventsName(g.seq)))
	if err != nil {
		p.counts.Damaged++
		p.fail("read crashes", err)
		return b
	}
	bad := 0
	for line := range bytes.Lines(data) {
		var c inquest.Crash
		if err := parseRecord(line, &c); err == nil && line[len(line)-1] == '\n' {
			b.Crashes = append(b.Crashes, c)
			continue
		}
		bad++
	}
	// One that was being written when the agent died has no newline and was
	// never promised.
	if torn := len(data) > 0 && data[len(data)-1] != '\n'; bad > 0 && !(bad == 1 && torn) {
		p.counts.Damaged += int64(bad)
		p.log.Error("crashes in the core spool are damaged and passed over", "file", eventsName(g.seq), "records", bad)
	}
	g.records = len(b.Crashes)
	return b
}

// Told removes crashes that the collector knows.
func (p *Pool) Told(b *Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.segments, func(g *segment) bool { return g.seq == b.seq }); i >= 0 {
		p.removeSegment(p.segments[i])
	}
}

// removeSegment removes a segment that is not open. Callers hold p.mu.
func (p *Pool) removeSegment(g *segment) {
	p.segments = slices.DeleteFunc(p.segments, func(o *segment) bool { return o == g })
	p.bytes -= g.size
	if err := p.files.Remove(dirEvents + "/" + eventsName(g.seq)); err != nil {
		p.fail("remove crashes", err)
	}
}

// recoverEvents finds the segments there are.
func (p *Pool) recoverEvents() error {
	list, err := p.files.List(dirEvents)
	if err != nil {
		return err
	}
	for _, f := range list {
		seq, ok := parseEventsName(f.Name)
		if !ok {
			p.quarantine(dirEvents, f.Name, errors.New("the name is not that of crashes"))
			continue
		}
		g := &segment{seq: seq, size: f.Info.Size()}
		p.segments = append(p.segments, g) // by name, so by sequence
		if p.readSegment(g); g.records == 0 {
			p.removeSegment(g)
			p.bytes += g.size // was not counted
			continue
		}
		p.bytes += g.size
	}
	return nil
}
