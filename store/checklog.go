package store

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"go.etcd.io/bbolt"
)

// logWalk reads the log as replay does.
type logWalk struct {
	c      *checker
	last   uint64          // number of the newest commit; 0 before the first
	open   map[uint64]bool // epochs with records that are in no block
	dicts  map[uint64]*dict
	broken map[uint64]bool
	max    uint64 // highest epoch
	buf    samples
}

// log checks the files of a log, in order.
func (c *checker) log(files []*logFile) error {
	w := &logWalk{c: c, open: map[uint64]bool{}, dicts: map[uint64]*dict{}, broken: map[uint64]bool{}}
	for i, f := range files {
		if err := w.file(f, i == len(files)-1); err != nil {
			return err
		}
	}
	c.epochs(w)
	return nil
}

func logName(f *logFile) string {
	return path.Join(logDir, fmt.Sprintf("%08d%s", f.number, logSuffix))
}

// file reads one file; final says that it is the newest.
func (w *logWalk) file(lf *logFile, final bool) error {
	f, err := os.Open(lf.path)
	if errors.Is(err, os.ErrNotExist) && w.c.online {
		w.last = 0 // its epochs have ended meanwhile
		return nil
	}
	if err != nil {
		w.c.problem(CheckProblem{Where: logName(lf), What: err.Error(), Lost: &CheckLoss{}})
		return nil
	}
	defer f.Close()
	w.c.report.LogFiles++
	win := &fileWindow{r: f, size: lf.size}
	head, err := win.at(0, logHeaderSize)
	if err == nil {
		_, err = readLogHeader(head)
	}
	if errors.Is(err, errVersion) {
		return fmt.Errorf("%s: %w", logName(lf), err)
	}
	if err != nil {
		if lf.size <= logHeaderSize {
			w.c.note("%s: it was being made when the process ended", logName(lf))
			return nil
		}
		w.c.problem(CheckProblem{Where: logName(lf), What: err.Error() + "; what follows is read all the same"})
	}
	for at := int64(logHeaderSize); at < lf.size; {
		if err := w.c.ctx.Err(); err != nil {
			return err
		}
		fr, err := readFrameAt(win, at)
		if err != nil {
			next := findFrame(win, at+1)
			if next < 0 {
				w.tail(lf, at, err, final)
				return nil
			}
			w.c.problem(CheckProblem{
				Where: fmt.Sprintf("%s bytes %d to %d", logName(lf), at, next), What: "no commit can be read there", Lost: &CheckLoss{},
			})
			at = next
			continue
		}
		w.c.advance(logName(lf), fr.size)
		w.frame(lf, f, at, fr)
		at += fr.size
	}
	return nil
}

// tail reports the end of a file that cannot be read. Cut short, it is what a
// power cut leaves of a commit that nobody was told of.
func (w *logWalk) tail(lf *logFile, at int64, err error, final bool) {
	if errors.Is(err, errShort) {
		w.c.note("%s: the commit at byte %d was being written when the process ended; it was not acknowledged", logName(lf), at)
		return
	}
	what := "no commit can be read there: damaged, or torn by a power cut before it was acknowledged"
	if !final {
		what += "; if any is missing, the next file says so"
	}
	w.c.problem(CheckProblem{Where: fmt.Sprintf("%s bytes %d to %d", logName(lf), at, lf.size), What: what, Lost: &CheckLoss{}})
}

// frame checks one commit, whose header and index are right.
func (w *logWalk) frame(lf *logFile, f *os.File, at int64, fr *frame) {
	c := w.c
	c.report.Commits++
	where := fmt.Sprintf("%s commit %d at byte %d", logName(lf), fr.number, at)
	if w.last > 0 && fr.number > w.last+1 {
		c.problem(CheckProblem{
			Where: where, What: fmt.Sprintf("commits %d to %d before it are missing", w.last+1, fr.number-1), Lost: &CheckLoss{},
		})
	}
	w.last = max(w.last, fr.number)
	recs, err := fr.records()
	if err != nil {
		c.problem(CheckProblem{Where: where, What: err.Error(), Lost: &CheckLoss{}})
		return
	}
	c.report.Logged += int64(len(recs))
	for i := range recs {
		w.max = max(w.max, recs[i].epoch)
		w.open[recs[i].epoch] = true
	}
	r := &replay{s: &Store{pk: c.pk}}
	_, payload, err := r.readFrame(f, framePlace{lf, at, fr.size, fr.number})
	if err != nil {
		c.problem(CheckProblem{Where: where, What: err.Error(), Lost: w.loss(recs)})
		for i := range recs {
			w.broken[recs[i].epoch] = true // if this is deep, what builds on it is not looked at
		}
		return
	}
	// Of a store that is open the heads have what records build on, and files
	// with the first of them may be gone by now.
	if !c.o.Deep || c.online {
		return
	}
	for i := range recs {
		x := &recs[i]
		if err := w.record(x, payload[:x.size]); err != nil {
			w.broken[x.epoch] = true
			c.problem(CheckProblem{Where: fmt.Sprintf("%s record %d", where, i), What: err.Error(), Lost: w.loss(recs[i : i+1])})
		}
		payload = payload[x.size+x.state:]
	}
}

// loss is what records hold that are in no block.
func (w *logWalk) loss(recs []indexed) *CheckLoss {
	l := &CheckLoss{}
	for i := range recs {
		x := &recs[i]
		if w.c.content.closed[x.epoch] {
			continue
		}
		l.Profiles++
		if !slices.Contains(l.Services, x.service) && len(l.Services) < 10 {
			l.Services = append(l.Services, x.service)
		}
		if at := unixTime(x.start); l.From.IsZero() || at.Before(l.From) {
			l.From = at
		}
		if at := unixTime(x.start); at.After(l.Until) {
			l.Until = at
		}
	}
	if l.Profiles == 0 {
		return nil
	}
	return l
}

// record decodes a record of an epoch that is in no block.
func (w *logWalk) record(x *indexed, payload []byte) error {
	if w.c.content.closed[x.epoch] || w.broken[x.epoch] {
		return nil
	}
	d := w.dicts[x.epoch]
	if d == nil {
		d = newDict()
		w.dicts[x.epoch] = d
	}
	cur := cursor{b: payload}
	if err := readGrowth(&cur, d); err != nil {
		return err
	}
	layout := cur.id(len(d.layouts))
	if cur.bad {
		return errors.New("record is damaged")
	}
	r := &row{start: x.start, samples: x.samples}
	readRow(&cur, r, &d.tables, len(d.layouts[layout].types), &w.buf)
	if cur.bad {
		return errors.New("record is damaged")
	}
	for col, want := range r.totals {
		sum := int64(0)
		for _, v := range w.buf.vals[col] {
			sum += v
		}
		if sum != want {
			return fmt.Errorf("values of column %d add up to %d, the record says %d", col, sum, want)
		}
	}
	return nil
}

// epochs checks that what blocks closed stays closed, and that epochs to come
// get numbers that were never used.
func (c *checker) epochs(w *logWalk) {
	highest := w.max
	for _, id := range sortedKeys(c.blocks) {
		for _, e := range c.blocks[id].epochs {
			highest = max(highest, e)
			if !w.open[e] || c.content.closed[e] {
				continue
			}
			n := c.problem(CheckProblem{
				Where: fmt.Sprintf("%s %s epoch %d", catalogFile, bucketClosed, e), Repair: "the epoch is closed",
				What: fmt.Sprintf("it is in %s, but not closed: its part of the log is read again", blockFile(id)),
			})
			c.fixEntry(n, func(tx *bbolt.Tx) error { return put(tx, bucketClosed, closedKey(maxLogNumber, e), nil) })
		}
	}
	for e := range c.content.closed {
		highest = max(highest, e)
	}
	if next := highest>>runEpochBit + 1; c.content.nextLog < next && highest > 0 {
		n := c.problem(CheckProblem{
			Where: fmt.Sprintf("%s %s %s", catalogFile, bucketMeta, metaNextLog), Repair: fmt.Sprintf("it is raised to %d", next),
			What: fmt.Sprintf("it is %d, but epochs of run %d are there: new ones could be taken for them", c.content.nextLog, next-1),
		})
		c.fixEntry(n, func(tx *bbolt.Tx) error { return setNextLog(tx, next) })
	}
}
