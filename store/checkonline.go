package store

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/goinquest/inquest"
)

// Check verifies the store while it is in use: blocks and catalog as they are
// at one moment, and the log. Files that no row names are not looked for, since
// they come and go. It takes half of a processor at most. What it finds is
// reported and nothing else: Check with Repair needs the store closed.
func (s *Store) Check(ctx context.Context, deep bool, progress func(CheckProgress)) (*CheckReport, error) {
	if !s.checking.TryLock() {
		return nil, inquest.Errorf(inquest.ErrBusy, "another check is under way")
	}
	defer s.checking.Unlock()
	snap, err := s.freeze(ctx)
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	defer snap.close()
	c := &checker{
		o: CheckOptions{Dir: s.o.Dir, Deep: deep, Now: s.o.Now, Progress: progress}, ctx: ctx, dir: s.o.Dir,
		pk: newPacker(), blobs: s.blobs, online: true, there: s.hasBinary, named: s.hasPostmortem, blocks: map[string]*checkedBlock{},
		report: &CheckReport{Deep: deep, Online: true, Began: s.o.Now().UTC(), Problems: []CheckProblem{}},
	}
	began := time.Now()
	if err := c.readCatalog(snap.catalog, snap.size); err != nil {
		c.problem(CheckProblem{Where: catalogFile, What: "it cannot be used: " + err.Error(), Lost: &CheckLoss{}})
		c.report.Seconds = time.Since(began).Seconds()
		return c.report, nil
	}
	for _, id := range sortedKeys(c.content.badRows) {
		c.problem(CheckProblem{
			Where: rowName(id), What: "the row cannot be read: " + c.content.badRows[id].Error(),
			Repair: "the row is made again",
		})
	}
	if err := c.everything(s.logFiles()); err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	c.report.Seconds = time.Since(began).Seconds()
	return c.report, nil
}

// logFiles lists the files of the log with what of them is durable.
func (s *Store) logFiles() []*logFile {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var out []*logFile
	for _, f := range s.log.files {
		out = append(out, &logFile{f.number, filepath.Join(s.log.dir, filepath.Base(f.path)), f.size, nil})
	}
	return out
}

// rest pauses for as long as was worked since, so that readers and writers of
// an open store have the machine too.
func (c *checker) rest(since time.Time) {
	if !c.online {
		return
	}
	select {
	case <-time.After(time.Since(since)):
	case <-c.ctx.Done():
	}
}
