package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goinquest/inquest"
)

// What was found out about a core is a file beside it. It can be made again, so
// no backup has it, and one that is damaged counts as not there.

const reportHead = 20 // magic, version, key, checksum of what follows

// PutCoreReport keeps what was found out about a core, in place of what was
// there. The key says what of: whoever wrote it makes it again if the key is
// another. ErrNotFound if the core is not here whole, ErrTooLarge, ErrDiskFull.
func (s *Store) PutCoreReport(ctx context.Context, id string, key uint64, report []byte) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	defer s.writers.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(report) > maxReportBytes {
		return inquest.Errorf(inquest.ErrTooLarge, "the report has %d bytes, %d are the most", len(report), maxReportBytes)
	}
	if err := s.checkSpace(int64(len(report))); err != nil {
		return err
	}
	packed := appendPacked(nil, s.pk, report)
	head := binary.LittleEndian.AppendUint32([]byte(magicReport), reportVersion)
	head = binary.LittleEndian.AppendUint64(head, key)
	head = binary.LittleEndian.AppendUint32(head, checksum(packed))
	d := &s.cores
	s.crashes.writes.Lock() // the core stays meanwhile
	defer s.crashes.writes.Unlock()
	d.mu.RLock()
	row := d.rows[id]
	d.mu.RUnlock()
	if row == nil {
		return errNoCore(id)
	}
	blobs := coresIn(s.ops, s.o.Dir, reportSuffix)
	_ = s.ops.Remove(blobs.path(id) + tempSuffix) // of a write whose disk failed
	if err := blobs.Put(id, func(w io.Writer) error {
		_, err := w.Write(append(head, packed...))
		return err
	}); err != nil {
		return s.writeError(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows[id] == nil { // it went meanwhile, its files too
		d.removeFiles(id)
		return errNoCore(id)
	}
	d.reports[id] = key
	return nil
}

// CoreReport returns what was found out about a core. ErrNotFound if that is
// nothing yet.
func (s *Store) CoreReport(id string) (report []byte, key uint64, err error) {
	d := &s.cores
	d.mu.RLock()
	_, ok := d.reports[id]
	d.mu.RUnlock()
	if !ok {
		return nil, 0, inquest.Errorf(inquest.ErrNotFound, "there is no report of core %.32q", id)
	}
	return d.readReport(id)
}

// CoreReports returns the keys of the reports there are, by core.
func (s *Store) CoreReports() map[string]uint64 {
	d := &s.cores
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make(map[string]uint64, len(d.reports))
	for id, key := range d.reports {
		out[id] = key
	}
	return out
}

var errReport = errors.New("report of a core is damaged")

func (d *coreDepot) readReport(id string) (report []byte, key uint64, err error) {
	f, err := d.s.ops.OpenFile(d.path(id, reportSuffix), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, inquest.Errorf(inquest.ErrNotFound, "there is no report of core %.32q", id)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the report of core %s: %w", id, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	if size < reportHead || size > maxReportBytes+2*reportHead {
		return nil, 0, fmt.Errorf("%w: it has %d bytes", errReport, size)
	}
	raw := make([]byte, size)
	if err := readFull(f, raw, 0); err != nil {
		return nil, 0, err
	}
	body := raw[reportHead:]
	if !bytes.HasPrefix(raw, []byte(magicReport)) || binary.LittleEndian.Uint32(raw[4:]) != reportVersion || checksum(body) != binary.LittleEndian.Uint32(raw[16:]) {
		return nil, 0, fmt.Errorf("%w: its checksum does not match, or it is of another version", errReport)
	}
	report, err = readPacked(d.s.pk, body, maxReportBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errReport, err)
	}
	return report, binary.LittleEndian.Uint64(raw[8:]), nil
}

// openReport takes up a report of an earlier run. What cannot be read is
// deleted, and made again.
func (d *coreDepot) openReport(id string) {
	if d.rows[id] != nil {
		_, key, err := d.readReport(id)
		if err == nil {
			d.reports[id] = key
			return
		}
		d.s.warn("read the report of a core", err)
	}
	if err := d.s.ops.Remove(d.path(id, reportSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.s.warn("delete the report of a core", err)
	}
}

// LentCore is a core as files that another process can read: those of its stored
// blocks, and of its ledger. Close gives them back; they are good until then,
// also when the core is deleted.
type LentCore struct {
	StoredCore
	Blocks *os.File // each at the place that the ledger says
	Ledger *os.File // its bytes
}

// LendCore opens a whole core to be handed on. ErrNotFound if there is none.
func (s *Store) LendCore(id string) (*LentCore, error) {
	d := &s.cores
	d.mu.RLock()
	row := d.rows[id]
	d.mu.RUnlock()
	if row == nil {
		return nil, errNoCore(id)
	}
	o, err := readOffer(s.ops, d.path(id, offerSuffix), id)
	if err != nil {
		return nil, fmt.Errorf("open core %s: %w", id, err)
	}
	f, err := os.Open(d.path(id, coreSuffix))
	if err != nil {
		return nil, fmt.Errorf("open core %s: %w", id, err)
	}
	ledger, err := d.lend(func(w io.Writer) error { _, err := w.Write(o.ledger.Bytes()); return err })
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &LentCore{*row, f, ledger}, nil
}

// Close gives the files back.
func (c *LentCore) Close() error { return errors.Join(c.Blocks.Close(), c.Ledger.Close()) }

// LendBinary unpacks a stored binary into a file without a name, to be handed on;
// the caller closes it. It takes the disk that the binary takes, and memory for
// one frame. ErrNotFound if there is none, ErrDiskFull.
func (s *Store) LendBinary(sha string) (*os.File, error) {
	b, err := s.OpenBinary(sha)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := s.checkSpace(b.Size()); err != nil {
		return nil, err
	}
	return s.cores.lend(func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(b, 0, b.Size()))
		return err
	})
}

// lend writes a file that has no name when it is returned, opened for reading.
func (d *coreDepot) lend(write func(io.Writer) error) (*os.File, error) {
	w, err := os.CreateTemp(d.dir, "lent-*"+tempSuffix) // a kill leaves it to the next start
	if err != nil {
		return nil, d.s.writeError(err)
	}
	defer w.Close()
	defer os.Remove(w.Name())
	if err := write(w); err != nil {
		return nil, d.s.writeError(err)
	}
	return os.Open(w.Name())
}
