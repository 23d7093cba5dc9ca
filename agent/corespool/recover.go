package corespool

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// reasonKilled is why a core has less than was wanted.
const reasonKilled = "the agent was ended while it copied the process"

// recoverCores finds the cores there are, and makes of those that were being
// written what can be made.
func (p *Pool) recoverCores() error {
	list, err := p.files.List(dirCores)
	if err != nil {
		return err
	}
	byID := map[string]map[string]time.Time{} // extensions of the files of a core, and how old they are
	for _, f := range list {
		id, ext := f.Name, ""
		if i := strings.LastIndexByte(f.Name, '.'); i >= 0 {
			id, ext = f.Name[:i], f.Name[i:]
		}
		if !validID(id) || !slices.Contains(coreFiles, ext) {
			p.quarantine(dirCores, f.Name, errors.New("the name is not that of a core's file"))
			continue
		}
		if byID[id] == nil {
			byID[id] = map[string]time.Time{}
		}
		byID[id][ext] = f.Info.ModTime()
	}
	for id, files := range byID {
		if err := p.recoverCore(id, files); err != nil {
			return err
		}
	}
	slices.SortFunc(p.cores, func(a, b *core) int { return cmp.Or(a.taken.Compare(b.taken), cmp.Compare(a.id, b.id)) })
	return nil
}

// recoverCore takes up one core. Errors are of the disk, not of what is on it.
func (p *Pool) recoverCore(id string, files map[string]time.Time) error {
	var c inquest.Crash
	err := p.readRecord(dirCores, id+extCrash, &c)
	if err == nil && c.ID != id {
		err = inquest.Errorf(inquest.ErrInvalid, "it is the record of crash %q", c.ID)
	}
	if err != nil {
		// Not even whose it is: nothing was promised of it, or the disk lost it.
		_, begun := files[extPart]
		if _, there := files[extCrash]; begun && len(files) == 1 || there && len(files) == 1 {
			return p.removeCoreFiles(id)
		}
		for ext := range files {
			p.quarantine(dirCores, id+ext, err)
		}
		return nil
	}
	_, part := files[extPart]
	_, image := files[extImage]
	var kept *core
	switch {
	case image:
		kept, err = p.reopen(c, extImage)
	case !part && c.Core != nil && c.Core.ID != "":
		return p.removeCoreFiles(id) // it was being removed
	case part && c.Core != nil && c.Core.ID != "" && p.finished(c):
		if err := p.files.Rename(dirCores+"/"+id+extPart, dirCores+"/"+id+extImage); err != nil {
			return err
		}
		if err := p.files.SyncDir(dirCores); err != nil {
			return err
		}
		if kept, err = p.reopen(c, extImage); err == nil {
			err = p.tell(kept.crash)
		}
	case part:
		if kept, err = p.salvage(c, reasonKilled); err == nil && kept != nil {
			p.counts.Salvaged++
		}
	}
	if errors.Is(err, inquest.ErrDiskFull) {
		p.fail("take up core of crash "+id, err) // it waits for the next start
		return nil
	}
	if kept != nil {
		kept.taken = files[extCrash]
		p.bytes += kept.size
		p.cores = append(p.cores, kept)
		return nil
	}
	return p.recoverLoss(c, files, err)
}

// recoverLoss settles a core of which nothing can be used.
func (p *Pool) recoverLoss(c inquest.Crash, files map[string]time.Time, why error) error {
	reason := reasonKilled
	if why != nil {
		reason = fmt.Sprintf("the core was damaged on the agent's disk: %v", why)
		p.counts.DroppedCores++
	}
	if p.tell(withoutCore(c, reason)) != nil {
		return nil // noted there; it waits for the next start
	}
	if why != nil {
		for _, ext := range []string{extLedger, extImage} {
			if _, ok := files[ext]; ok {
				p.quarantine(dirCores, c.ID+ext, why)
			}
		}
	}
	return p.removeCoreFiles(c.ID)
}

// finished reports whether all of a core was written but its name.
func (p *Pool) finished(c inquest.Crash) bool {
	k, err := p.reopen(c, extPart)
	return err == nil && !k.mini
}

// reopen takes up a core from its files.
func (p *Pool) reopen(c inquest.Crash, ext string) (*core, error) {
	if c.Core == nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "its record has no core")
	}
	data, err := os.ReadFile(p.files.Path(dirCores, c.ID+extLedger))
	if err != nil {
		return nil, err
	}
	l, err := coredump.ParseLedger(data)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(p.files.Path(dirCores, c.ID+ext))
	if err != nil {
		return nil, err
	}
	k := &core{id: c.ID, crash: c, image: info.Size(), size: info.Size() + int64(len(data))}
	if record, err := os.Stat(p.files.Path(dirCores, c.ID+extCrash)); err == nil {
		k.size += record.Size()
	}
	switch have := blocksIn(l, info.Size()); {
	case have == len(l.Blocks()):
	case have >= l.MiniBlocks():
		p.asMini(k, "cut down to a minicore in the agent's spool for want of room")
	default:
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d of %d blocks are there, %d make the minicore", have, len(l.Blocks()), l.MiniBlocks())
	}
	return k, nil
}

// salvage makes a core of what was written of an image that was cut short, and
// tells its crash. It returns nil if that is not even a minicore; the files are the caller's then.
func (p *Pool) salvage(c inquest.Crash, reason string) (*core, error) {
	l, err := p.ledgerOf(c.ID)
	if err != nil {
		return nil, nil // nothing of it can be read: it was hardly begun
	}
	if !miniWhole(l) {
		return nil, nil
	}
	k := l.Header().Core
	k.Crash, k.Tier, k.Complete = c.ID, inquest.TierMini, false
	k.Missing = append(slices.Clone(k.Missing), reason)
	c.Core, c.Tier, c.Reason = &k, inquest.TierMini, reason
	record, err := appendRecord(nil, c)
	if err != nil {
		return nil, err
	}
	if err := p.files.Write(dirCores, c.ID+extLedger, l.Bytes()); err != nil {
		return nil, diskError("keep core", err)
	}
	if err := p.files.Write(dirCores, c.ID+extCrash, record); err != nil {
		return nil, diskError("keep core", err)
	}
	if err := p.tell(c); err != nil {
		return nil, err
	}
	if err := p.files.Rename(dirCores+"/"+c.ID+extPart, dirCores+"/"+c.ID+extImage); err != nil {
		return nil, err
	}
	if err := p.files.SyncDir(dirCores); err != nil {
		return nil, err
	}
	return p.reopen(c, extImage)
}

// ledgerOf makes the ledger of the blocks that are whole in an image that is
// being written.
func (p *Pool) ledgerOf(id string) (*coredump.Ledger, error) {
	f, err := os.Open(p.files.Path(dirCores, id+extPart))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	im, err := coredump.OpenImage(f, info.Size())
	if err != nil {
		return nil, err
	}
	return im.Ledger(), nil
}

// readRecord reads a file of one record.
func (p *Pool) readRecord(dir, name string, v any) error {
	data, err := os.ReadFile(p.files.Path(dir, name))
	if err != nil {
		return err
	}
	return parseRecord(data, v)
}

// miniWhole reports whether an image that was cut short has all of its
// minicore.
func miniWhole(l *coredump.Ledger) bool {
	h := l.Header()
	if h.Mini == 0 {
		return false // all of it would be
	}
	var need, have uint64
	for _, e := range h.Extents[:h.Mini] {
		need += e.Size
	}
	for _, b := range l.Blocks() {
		have += uint64(b.Size)
	}
	return have >= need
}
