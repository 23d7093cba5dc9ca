package ingest

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
)

// maxOpenTables is how many tables are open at once beside those in use, and
// builds known to have none.
const maxOpenTables = 64

// symbolTables are the tables that were asked last.
type symbolTables struct {
	mu    sync.Mutex
	order *list.List               // of *symbolTable, newest first
	at    map[string]*list.Element // by build id as it was asked for
	gen   uint64
	bytes int64 // of open tables
	max   int64 // for these, but for the one used last
}

// symbolTable is the table of a build id.
type symbolTable struct {
	id    string
	gen   uint64 // of when it was looked for
	table *BinaryTable
	bytes int64 // of memory it takes at most, about
	users int   // Frames that read it
	gone  bool  // nobody new gets it
}

// Generation changes when a binary comes.
func (b *Binaries) Generation() uint64 {
	b.symbols.mu.Lock()
	defer b.symbols.mu.Unlock()
	return b.symbols.gen
}

// renew has tables looked for again, of builds that had none, too.
func (s *symbolTables) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
}

// Frames says which functions are at offsets of the file with a build id, as
// store.Symbols wants it. What it cannot read it logs, and knows nothing of.
func (b *Binaries) Frames(ctx context.Context, build string, offsets []uint64) ([][]inquest.Frame, error) {
	out := make([][]inquest.Frame, len(offsets))
	t, err := b.symbolTable(ctx, build)
	if err != nil || t == nil {
		return out, err
	}
	defer b.symbols.release(t)
	for i, off := range offsets {
		if addr, ok := t.table.Address(off); ok {
			out[i] = t.table.Frames(nil, addr)
		}
	}
	if err := t.table.Err(); err != nil {
		b.o.Logger.Warn("table of a binary not read", inquest.LogBuildID, build, inquest.LogErr, err)
	}
	return out, nil
}

// symbolTable opens the table of a build id, for the caller to release; nil
// where there is none. The error is that of ctx.
func (b *Binaries) symbolTable(ctx context.Context, build string) (*symbolTable, error) {
	s := &b.symbols
	if t := s.get(build); t != nil {
		return t.orNil(), nil
	}
	gen := b.Generation()
	table, err := b.tableOf(ctx, storedID(build))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && !errors.Is(err, inquest.ErrNotFound) {
		b.o.Logger.Warn("table of a binary not opened", inquest.LogBuildID, build, inquest.LogErr, err)
	}
	t := &symbolTable{id: build, gen: gen, table: table}
	if table != nil {
		t.bytes = table.size / 4 * 3 // see symbolize.OpenTable
	}
	return s.put(t).orNil(), nil
}

// orNil is nil where it is known that there is no table.
func (t *symbolTable) orNil() *symbolTable {
	if t.table == nil {
		return nil
	}
	return t
}

// storedID is the id the store has for a build id as profiles spell it: that
// of the GNU note, or Go's own, which has slashes.
func storedID(build string) string {
	if strings.Contains(build, "/") {
		sum := sha256.Sum256([]byte(build))
		return "go-" + hex.EncodeToString(sum[:])
	}
	return strings.ToLower(build)
}

func (s *symbolTables) get(build string) *symbolTable {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.at[build]
	if !ok {
		return nil
	}
	t := e.Value.(*symbolTable)
	if t.gen != s.gen {
		s.drop(e)
		return nil
	}
	s.order.MoveToFront(e)
	if t.table != nil {
		t.users++
	}
	return t
}

// put keeps a table in use by the caller; that of somebody who was faster.
func (s *symbolTables) put(t *symbolTable) *symbolTable {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.order, s.at = list.New(), map[string]*list.Element{}
	}
	if e, ok := s.at[t.id]; ok {
		s.drop(e)
	}
	if t.table != nil {
		t.users++
	}
	s.at[t.id] = s.order.PushFront(t)
	s.bytes += t.bytes
	for s.order.Len() > 1 && (s.order.Len() > maxOpenTables || s.bytes > s.max) {
		s.drop(s.order.Back())
	}
	return t
}

// drop gives a table to nobody any more; s.mu is held.
func (s *symbolTables) drop(e *list.Element) {
	t := s.order.Remove(e).(*symbolTable)
	delete(s.at, t.id)
	s.bytes -= t.bytes
	t.gone = true
	t.close()
}

func (s *symbolTables) release(t *symbolTable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.users--
	t.close()
}

// close closes a table that nobody has or gets.
func (t *symbolTable) close() {
	if t.gone && t.users == 0 && t.table != nil {
		_ = t.table.Close() // it was only read
		t.table = nil
	}
}

// closeAll closes all tables that are not in use.
func (s *symbolTables) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.order != nil && s.order.Len() > 0 {
		s.drop(s.order.Back())
	}
}

// tableOf opens the table of a build id: of its program, with what a companion
// that is proved to be its own says of code that is not Go's. ErrNotFound if
// nothing of it is stored; then other servers are asked, see Want.
func (b *Binaries) tableOf(ctx context.Context, id string) (*BinaryTable, error) {
	exe, err := b.Executable(id)
	if err != nil {
		return nil, err
	}
	if !exe.DWARF {
		if debug := b.companion(exe); debug != nil {
			return b.table(ctx, tableSource{exe: exe.SHA256, debug: debug.SHA256})
		}
	}
	return b.table(ctx, tableSource{exe: exe.SHA256})
}

// companion finds the debug information of a program, nil if there is none that
// is proved to be its own.
func (b *Binaries) companion(exe *store.StoredBinary) *store.StoredBinary {
	whole, err := b.o.Store.Binary(exe.SHA256)
	if err != nil {
		return nil
	}
	for _, c := range b.o.Store.Binaries(exe.ID) {
		if !c.DWARF || c.Kind != inquest.BinaryDebug {
			continue
		}
		debug, err := b.o.Store.Binary(c.SHA256)
		if err != nil {
			continue // it has just gone
		}
		if trust, _ := symbolize.Pair(&whole.Binary, &debug.Binary); trust == inquest.TrustExact {
			return debug
		}
	}
	return nil
}
