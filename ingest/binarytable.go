package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
)

// tableVersion is raised when tables are to be made anew.
const tableVersion = 1

// BinaryTable is an open table of a stored binary.
type BinaryTable struct {
	*symbolize.Table
	blob store.Blob
}

// Close closes the table, which nobody may use any more.
func (t *BinaryTable) Close() error { return t.blob.Close() }

// Table opens the table of a binary by its SHA-256, making it if that was not
// done. It waits for its turn as long as ctx lasts. ErrNotFound if there is no
// such binary, or nothing in it tells functions.
func (b *Binaries) Table(ctx context.Context, sha string) (*BinaryTable, error) {
	blob, err := b.o.Store.OpenTable(sha, tableVersion)
	if errors.Is(err, inquest.ErrNotFound) {
		if err := b.makeTable(ctx, sha); err != nil {
			return nil, err
		}
		blob, err = b.o.Store.OpenTable(sha, tableVersion)
	}
	if err != nil {
		return nil, err
	}
	size, err := blob.Size()
	if err == nil {
		var t *symbolize.Table
		if t, err = symbolize.OpenTable(blob, size); err == nil {
			return &BinaryTable{t, blob}, nil
		}
	}
	_ = blob.Close()
	return nil, fmt.Errorf("open table of binary %s: %w", sha, err)
}

// makeTable makes the table of a binary, unless somebody does.
func (b *Binaries) makeTable(ctx context.Context, sha string) error {
	b.mu.Lock()
	done := b.making[sha]
	mine := done == nil
	if mine {
		done = make(chan struct{})
		b.making[sha] = done
	}
	b.mu.Unlock()
	if !mine {
		select {
		case <-done:
			return nil // what became of it shows when it is opened
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		b.mu.Lock()
		delete(b.making, sha)
		b.mu.Unlock()
		close(done)
	}()
	select {
	case b.tables <- struct{}{}:
		defer func() { <-b.tables }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f, err := b.o.Store.OpenBinary(sha)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.o.Store.PutTable(sha, tableVersion, func(w io.Writer) error {
		return symbolize.WriteTable(w, symbolize.Input{ReaderAt: f, Size: f.Size()}, nil)
	})
}
