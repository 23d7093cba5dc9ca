package postmortem

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/remote"
)

// partSuffix is behind the name of what is here of a core that is being
// downloaded: its blocks, where they are in an image.
const partSuffix = ".inquest-part"

const (
	downloadTries = 6
	downloadPause = time.Second
)

// Download brings a core here as an ELF file with holes, mode 0600. What an
// earlier try brought is not fetched again: every block is verified by its
// hash, and so is the list of hashes. progress may be nil. The returned Core says
// what is missing in it.
func Download(ctx context.Context, c *remote.Client, id, name string, progress func(part float64, what string)) (*inquest.Core, error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, inquest.Errorf(inquest.ErrConflict, "%s is there already; remove it, or give another name with -o", name)
	}
	raw, err := c.Get(ctx, corePath(id)+"/ledger", nil)
	if err != nil {
		return nil, err
	}
	ledger, err := coredump.ParseLedger(raw)
	if err != nil {
		return nil, err
	}
	if ledger.ID() != id {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the collector answers with core %s, not %s", ledger.ID(), id)
	}
	part, err := os.OpenFile(name+partSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer part.Close()
	d := &download{c: c, id: id, ledger: ledger, part: part, here: make([]bool, len(ledger.Blocks()))}
	if err := d.blocks(ctx, progress); err != nil {
		return nil, fmt.Errorf("%w; the same command goes on from here", err)
	}
	core, err := d.write(name)
	if err != nil {
		return nil, err
	}
	return core, os.Remove(part.Name())
}

// download is one under way.
type download struct {
	c      *remote.Client
	id     string
	ledger *coredump.Ledger
	part   *os.File
	here   []bool
}

// blocks fetches what is not here.
func (d *download) blocks(ctx context.Context, progress func(float64, string)) error {
	var done, total int64
	blocks := d.ledger.Blocks()
	for i := range blocks {
		total += int64(blocks[i].Stored)
	}
	for n := range blocks {
		if err := d.block(ctx, n); errors.Is(err, inquest.ErrNotFound) {
			continue // the collector has not got it either
		} else if err != nil {
			return err
		}
		d.here[n] = true
		done += int64(blocks[n].Stored)
		if progress != nil {
			progress(float64(done)/float64(max(total, 1)), "core "+d.id)
		}
	}
	return nil
}

// block sees to it that a block is here.
func (d *download) block(ctx context.Context, n int) error {
	b := &d.ledger.Blocks()[n]
	if b.Stored == 0 {
		return nil
	}
	if _, err := d.stored(n); err == nil {
		return nil
	}
	for try := 1; ; try++ {
		raw, err := d.c.Get(ctx, corePath(d.id)+"/blocks/"+strconv.Itoa(n), url.Values{})
		if err == nil && (len(raw) != int(b.Stored) || sha256.Sum256(raw) != b.Sum) {
			err = inquest.Errorf(inquest.ErrUnavailable, "block %d came damaged", n)
		}
		if err == nil {
			_, err = d.part.WriteAt(raw, b.Offset)
			return err
		}
		var refusal *remote.Refusal
		if errors.Is(err, inquest.ErrNotFound) || errors.As(err, &refusal) && !refusal.Passing() || try == downloadTries || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(downloadPause << (try - 1)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stored reads a block that is here, if it is whole.
func (d *download) stored(n int) ([]byte, error) {
	b := &d.ledger.Blocks()[n]
	raw := make([]byte, b.Stored)
	if _, err := d.part.ReadAt(raw, b.Offset); err != nil && !errors.Is(err, io.EOF) || sha256.Sum256(raw) != b.Sum {
		return nil, inquest.Errorf(inquest.ErrNotFound, "block %d is not here", n)
	}
	return raw, nil
}

// write makes the ELF file of the blocks. It gets its name when it is whole.
func (d *download) write(name string) (_ *inquest.Core, err error) {
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	im := coredump.NewImage(d.ledger, d.stored, func(n int) bool { return d.here[n] })
	file := im.CoreFile()
	if err = file.WriteSparse(f); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	core := file.Core()
	return &core, os.Rename(f.Name(), name)
}
