package store

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest"
)

// head is one epoch of one service: a dictionary that grows, and a section
// per kind. Its rows are those that are durable in the log. Once closed it
// takes no more and becomes part of a block.
type head struct {
	service string
	epoch   uint64
	born    time.Time

	// gen counts the log's failures that concerned this head. A record made
	// under an older one may refer to entries that were never logged, and is
	// refused.
	gen atomic.Uint64

	mu       sync.Mutex
	in       *interner // nil in a head made by replay
	dict     *dict     // in's, or replay's
	sections []*headSection
	logged   marks // entries that are in the log or on the way there
	durable  marks // entries that are in the log
	pending  int   // records on the way
	idle     chan struct{}
	closed   bool
	packed   int64 // bytes of groups
	open     int64 // bytes of rows not in a group yet
	flight   int64 // bytes of records on the way
	rows     int64

	all     *headMemory // of all heads; nil: not counted
	counted int64       // what all has of this one
	dropped bool        // a block has what was in it
}

// headSection is one layout of a head: groups, then the newest rows.
type headSection struct {
	cols    int
	groups  []*group
	rows    []*row // not in a group yet
	packing bool   // somebody makes a group of the first rows
}

func newHead(service string, epoch uint64, born time.Time, s *seeds) *head {
	h := &head{service: service, epoch: epoch, born: born, logged: firstMarks, durable: firstMarks}
	if s != nil {
		h.in = newInterner(s)
		h.dict = &h.in.dict
	} else {
		h.dict = newDict()
	}
	return h
}

// section returns the section of a layout. h.mu is held.
func (h *head) section(layout uint32) *headSection {
	for len(h.sections) <= int(layout) {
		l := &h.dict.layouts[len(h.sections)]
		h.sections = append(h.sections, &headSection{cols: len(l.types)})
	}
	return h.sections[layout]
}

// record is one profile on its way into the log.
type record struct {
	head     *head
	gen      uint64
	layout   uint32
	row      *row
	payload  []byte
	marks    marks // of the dictionary after this record
	name     string
	baseline []byte
	bytes    int64 // its share of the log
	err      error
	done     chan struct{}
}

// record interns a hashed body and makes the log record of it. h.mu is held;
// the caller enqueues the record before letting go, so that the log has the
// dictionary's entries in order.
func (h *head) record(b *body, r *Record) *record {
	in := h.in
	in.samples(b)
	m, p := &r.Meta, b.p
	row := &row{
		key: r.Key, hash: r.BodyHash,
		start: m.Start.UnixNano(), end: m.End.UnixNano(), hold: int64(m.Hold), shift: int64(m.ClockShift),
		timeNanos: p.TimeNanos, duration: p.DurationNanos, period: p.Period,
		labels: in.metaSetOf(m.Labels), process: in.processOf(m.Process), form: in.formOf(b),
		samples: uint32(len(b.samples)), totals: make([]int64, len(p.SampleTypes)),
	}
	if m.Truncated {
		row.flags |= FlagTruncated
	}
	if m.ClockShift != 0 {
		row.flags |= FlagShifted
	}
	b.out = appendSamples(b.out[:0], b, row.totals)
	row.data = append([]byte(nil), b.out...)
	rec := &record{head: h, gen: h.gen.Load(), layout: in.layoutOf(b, m.Kind), row: row, done: make(chan struct{})}
	rec.marks = h.dict.marks()
	b.out = appendGrowth(b.out[:0], &h.dict.tables, h.logged, rec.marks)
	b.out = appendUvarint32(b.out, rec.layout)
	b.out = appendRow(b.out, row)
	rec.payload = append([]byte(nil), b.out...)
	if r.Baseline != nil {
		rec.name, rec.baseline = r.BaselineName, append([]byte(nil), r.Baseline...)
	}
	h.logged = rec.marks
	h.section(rec.layout)
	h.pending++
	h.flight += rec.memory()
	h.count()
	return rec
}

func (r *record) memory() int64 {
	return recordBytesBase + r.row.memory() + int64(cap(r.payload)+cap(r.baseline))
}

// publish makes a durable record visible. full says that a section has rows
// enough for a group.
func (h *head) publish(rec *record) (full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.durable = rec.marks
	s := h.sections[rec.layout]
	s.rows = append(s.rows, rec.row)
	h.open += rec.row.memory()
	h.rows++
	h.settle(rec)
	h.count()
	return s.full() && !s.packing
}

func (r *row) memory() int64 { return rowBytes + int64(cap(r.data)) + 8*int64(len(r.totals)) }

// full says whether the section's first rows should become a group.
func (s *headSection) full() bool {
	_, full := groupEnd(s.rows)
	return full
}

// settle counts one record less on the way. h.mu is held.
func (h *head) settle(rec *record) {
	h.pending--
	h.flight -= rec.memory()
	if h.pending == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// refuse takes back a record that did not get into the log: what it logged
// will be logged again by the next one.
func (h *head) refuse(rec *record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen.Load() == rec.gen { // else an earlier one has done it
		h.gen.Add(1)
		h.logged = h.durable
	}
	h.settle(rec)
	h.count()
}

// close lets no more records in and waits for those on the way.
func (h *head) close() {
	h.mu.Lock()
	h.closed = true
	var idle chan struct{}
	if h.pending > 0 {
		if h.idle == nil {
			h.idle = make(chan struct{})
		}
		idle = h.idle
	}
	h.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// pack makes groups of full runs of rows, or of all rows. Readers go on
// meanwhile.
func (h *head) pack(w *grouper, all bool) error {
	h.mu.Lock()
	n := len(h.sections)
	h.mu.Unlock()
	for i := range n {
		for {
			more, err := h.packSection(w, i, all)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

func (h *head) packSection(w *grouper, i int, all bool) (more bool, err error) {
	h.mu.Lock()
	s := h.sections[i]
	if s.packing || len(s.rows) == 0 || !all && !s.full() {
		h.mu.Unlock()
		return false, nil
	}
	s.packing = true
	n, _ := groupEnd(s.rows)
	rows := s.rows[:n]
	t := h.dict.tables
	h.mu.Unlock()

	g, err := w.group(rows, &t, uint32(i))

	h.mu.Lock()
	defer h.mu.Unlock()
	s.packing = false
	if err != nil {
		return false, err
	}
	for _, r := range rows {
		h.open -= r.memory()
	}
	h.packed += g.memory()
	s.groups = append(s.groups, g)
	// A new slice, so that the packed rows are let go.
	s.rows = append([]*row(nil), s.rows[len(rows):]...)
	h.count()
	return len(s.rows) > 0, nil
}

// groupEnd is how many of the rows the next group takes, and whether it would
// not take more.
func groupEnd(rows []*row) (n int, full bool) {
	samples := 0
	for i, r := range rows {
		if i > 0 && (samples+int(r.samples) > groupSamples || r.start-rows[0].start >= groupSpan) {
			return i, true
		}
		samples += int(r.samples)
		if i+1 == groupRows || samples >= groupSamples {
			return i + 1, true
		}
	}
	return len(rows), false
}

// snapshot is a head at one moment.
type snapshot struct {
	tables   tables
	sections []headSection
}

func (h *head) snapshot() *snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &snapshot{tables: h.dict.tables, sections: make([]headSection, len(h.sections))}
	s.tables.labelText, s.tables.metaText = s.tables.strings, s.tables.strings
	for i, sec := range h.sections {
		s.sections[i] = *sec
	}
	return s
}

// newID spells the id of a stored profile.
func newID(key inquest.Key, start int64) string {
	return key.String() + "-" + formatMillis(start)
}
