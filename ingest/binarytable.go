package ingest

import (
	"cmp"
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
	size int64 // of blob
}

// Close closes the table, which nobody may use any more.
func (t *BinaryTable) Close() error { return t.blob.Close() }

// tableSource is what a table is made of.
type tableSource struct {
	exe, debug string // SHA-256 of a program and of its companion, "" if there is none
}

// key is the binary the table is kept with.
func (t tableSource) key() string { return cmp.Or(t.debug, t.exe) }

// table opens a table, making it if that was not done. It waits for its turn as
// long as ctx lasts. ErrNotFound if there is no such binary, or nothing in it
// tells functions.
func (b *Binaries) table(ctx context.Context, of tableSource) (*BinaryTable, error) {
	blob, err := b.o.Store.OpenTable(of.key(), tableVersion)
	if errors.Is(err, inquest.ErrNotFound) {
		if err := b.makeTable(ctx, of); err != nil {
			return nil, err
		}
		blob, err = b.o.Store.OpenTable(of.key(), tableVersion)
	}
	if err != nil {
		return nil, err
	}
	size, err := blob.Size()
	if err == nil {
		var t *symbolize.Table
		if t, err = symbolize.OpenTable(blob, size); err == nil {
			return &BinaryTable{t, blob, size}, nil
		}
	}
	_ = blob.Close()
	return nil, fmt.Errorf("open table of binary %s: %w", of.key(), err)
}

// makeTable makes a table, unless somebody does.
func (b *Binaries) makeTable(ctx context.Context, of tableSource) error {
	key := of.key()
	b.mu.Lock()
	done := b.making[key]
	mine := done == nil
	if mine {
		done = make(chan struct{})
		b.making[key] = done
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
		delete(b.making, key)
		b.mu.Unlock()
		close(done)
	}()
	select {
	case b.tables <- struct{}{}:
		defer func() { <-b.tables }()
	case <-ctx.Done():
		return ctx.Err()
	}
	exe, err := b.o.Store.OpenBinary(of.exe)
	if err != nil {
		return err
	}
	defer exe.Close()
	var debug *symbolize.Input
	if of.debug != "" {
		f, err := b.o.Store.OpenBinary(of.debug)
		if err != nil {
			return err
		}
		defer f.Close()
		debug = &symbolize.Input{ReaderAt: f, Size: f.Size()}
	}
	return b.o.Store.PutTable(key, tableVersion, func(w io.Writer) error {
		return symbolize.WriteTable(w, symbolize.Input{ReaderAt: exe, Size: exe.Size()}, debug)
	})
}
