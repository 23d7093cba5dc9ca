package corespool

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// roomStep is how many bytes of a core are made room for at once.
const roomStep = 4 << 20

// core is one core of the pool.
type core struct {
	id        string // of its crash
	taken     time.Time
	crash     inquest.Crash // with its Core once complete
	size      int64         // of all its files, counted in Pool.bytes
	image     int64         // of the image's file
	writing   bool
	claimed   bool // being shipped: not to be touched
	mini      bool // cut down to the minicore's blocks
	notBefore time.Time
	attempts  int
}

// Writer writes the image of one core. It belongs to one goroutine; Commit or
// Abort ends it.
type Writer struct {
	pool     *Pool
	core     *core
	file     *os.File
	written  int64
	reserved int64
	err      error
	ended    bool
}

// Begin makes room for the core of a crash. The crash is kept as Crash would
// keep it, but told only with Commit or Abort, or when the pool is opened after
// a kill; a loss of power before may lose it. Of kind inquest.ErrConflict if
// there is a core of the crash already, inquest.ErrDiskFull if there is no room.
func (p *Pool) Begin(c inquest.Crash) (*Writer, error) {
	w, err := p.begin(c)
	p.tellLost()
	return w, err
}

func (p *Pool) begin(c inquest.Crash) (*Writer, error) {
	if !validID(c.ID) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%q is not the id of a crash", c.ID)
	}
	record, err := appendRecord(nil, c)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "the core spool is closed")
	}
	if p.core(c.ID) != nil {
		return nil, inquest.Errorf(inquest.ErrConflict, "the core spool has a core of crash %s already", c.ID)
	}
	if err := p.room(int64(len(record)), true); err != nil {
		return nil, err
	}
	w := &Writer{pool: p, core: &core{id: c.ID, taken: p.now(), crash: c, writing: true, size: int64(len(record))}}
	// Not synced: the process is held meanwhile.
	if err := os.WriteFile(p.files.Path(dirCores, c.ID+extCrash), record, 0o600); err != nil {
		return nil, errors.Join(diskError("begin core", err), p.removeCoreFiles(c.ID))
	}
	p.files.Did("create " + c.ID + extCrash)
	if w.file, err = os.OpenFile(p.files.Path(dirCores, c.ID+extPart), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600); err != nil {
		return nil, errors.Join(diskError("begin core", err), p.removeCoreFiles(c.ID))
	}
	p.files.Did("create " + c.ID + extPart)
	p.bytes += w.core.size
	p.cores = append(p.cores, w.core)
	return w, nil
}

// Write appends to the image. Of kind inquest.ErrDiskFull if there is no room.
func (w *Writer) Write(b []byte) (int, error) {
	if w.err == nil && w.written+int64(len(b)) > w.reserved {
		n := w.written + int64(len(b)) - w.reserved
		if w.err = w.reserve(max(n, roomStep)); w.err != nil {
			w.err = w.reserve(n)
		}
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.file.Write(b)
	w.written += int64(n)
	w.err = diskError("write core", err)
	w.pool.files.Did("write " + w.core.id + extPart)
	return n, w.err
}

// reserve makes room for n bytes.
func (w *Writer) reserve(n int64) error {
	p := w.pool
	defer p.tellLost()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.room(n, true); err != nil {
		return err
	}
	p.bytes += n
	w.core.size += n
	w.reserved += n
	return nil
}

// Commit ends a core whose image is whole: it is durable, and its crash, with
// all of Core filled in, is to be told. After an error the core is gone and the
// crash as after Abort.
func (w *Writer) Commit(c inquest.Crash, l *coredump.Ledger) error {
	if w.ended {
		return inquest.Errorf(inquest.ErrConflict, "the core of crash %s was ended before", w.core.id)
	}
	if err := w.keep(c, l.Bytes()); err != nil {
		return errors.Join(err, w.Abort(err.Error()))
	}
	w.ended = true
	return nil
}

// keep makes what was written a complete core. The order is what recovery
// relies on: with ledger and record there, the image is whole.
func (w *Writer) keep(c inquest.Crash, ledger []byte) error {
	p, id := w.pool, w.core.id
	if w.err != nil {
		return w.err
	}
	if c.ID != id || c.Core == nil {
		return inquest.Errorf(inquest.ErrInvalid, "crash %q does not go with the core of crash %s", c.ID, id)
	}
	if err := w.reserve(int64(len(ledger))); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return diskError("write core", err)
	}
	p.files.Did("sync " + id + extPart)
	record, err := appendRecord(nil, c)
	if err != nil {
		return err
	}
	if err := p.files.Write(dirCores, id+extLedger, ledger); err != nil {
		return diskError("write core", err)
	}
	if err := p.files.Write(dirCores, id+extCrash, record); err != nil {
		return diskError("write core", err)
	}
	if err := p.tell(c); err != nil {
		return err
	}
	if err := p.files.Rename(dirCores+"/"+id+extPart, dirCores+"/"+id+extImage); err != nil {
		return err
	}
	if err := p.files.SyncDir(dirCores); err != nil {
		return err
	}
	w.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	w.core.image, w.core.crash, w.core.writing = w.written, c, false
	p.resize(w.core, w.written+int64(len(ledger)+len(record)))
	p.signal()
	return nil
}

// Abort ends a core that cannot become whole, for the reason given. If all
// that a minicore needs was written it is kept as one; else the crash alone is.
func (w *Writer) Abort(reason string) error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.close()
	p := w.pool
	p.mu.Lock()
	c := w.core.crash
	p.mu.Unlock()
	kept, err := p.salvage(c, reason)
	if kept == nil {
		// The record goes after the crash is told, so that it is not lost.
		err = errors.Join(err, p.Crash(withoutCore(c, reason)))
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dropCore(w.core)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resize(w.core, kept.size)
	w.core.image, w.core.crash, w.core.writing = kept.image, kept.crash, false
	p.signal()
	return err
}

func (w *Writer) close() {
	if w.file != nil {
		_ = w.file.Close() // synced, or given up
		w.file = nil
	}
}

// withoutCore is a crash whose core is lost.
func withoutCore(c inquest.Crash, reason string) inquest.Crash {
	c.Core, c.Reason = nil, reason
	c.Tier = c.Tier.Min(inquest.TierNone)
	if c.Text != nil {
		c.Tier = inquest.TierText
	}
	return c
}

// core finds a core by its crash. Callers hold p.mu.
func (p *Pool) core(id string) *core {
	for _, c := range p.cores {
		if c.id == id {
			return c
		}
	}
	return nil
}

// resize corrects what a core takes. Callers hold p.mu.
func (p *Pool) resize(c *core, size int64) {
	p.bytes += size - c.size
	c.size = size
}

// forget takes a core out of the pool; its files are the caller's. Callers
// hold p.mu.
func (p *Pool) forget(c *core) {
	p.cores = slices.DeleteFunc(p.cores, func(o *core) bool { return o == c })
	p.bytes -= c.size
}

// coreFiles are the extensions of a core's files. The record goes last: as long
// as it is there, recovery knows whose the others are.
var coreFiles = []string{extPart, extImage, extLedger, extCrash}

func (p *Pool) removeCoreFiles(id string) error {
	var errs []error
	for _, ext := range coreFiles {
		errs = append(errs, p.files.Remove(dirCores+"/"+id+ext))
	}
	return errors.Join(errs...)
}

// Core is a core that was claimed to be shipped.
type Core struct {
	Crash    inquest.Crash // with its Core
	Ledger   *coredump.Ledger
	Blocks   int // how many of the ledger's blocks are here, from the first
	Attempts int // times it was given back before

	file *os.File
}

// Block reads the stored bytes of block n into buf, which it grows if need be.
// Of kind inquest.ErrInvalid if the file does not have what the ledger says.
func (c *Core) Block(n int, buf []byte) ([]byte, error) {
	if n < 0 || n >= c.Blocks {
		return nil, inquest.Errorf(inquest.ErrNotFound, "block %d is not in the spool any more", n)
	}
	b := c.Ledger.Blocks()[n]
	buf = slices.Grow(buf[:0], int(b.Stored))[:b.Stored]
	if _, err := c.file.ReadAt(buf, b.Offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = inquest.Errorf(inquest.ErrInvalid, "%w", io.ErrUnexpectedEOF)
		}
		return nil, inquest.Errorf(inquest.ErrInvalid, "read block %d of the core of crash %s: %w", n, c.Crash.ID, err)
	}
	if b.Stored > 0 && sha256.Sum256(buf) != b.Sum { // else all of it is zero
		return nil, inquest.Errorf(inquest.ErrInvalid, "block %d of the core of crash %s is damaged on this host's disk", n, c.Crash.ID)
	}
	return buf, nil
}
