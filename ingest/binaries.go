package ingest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
)

// BinariesOptions configure a Binaries. Store is required; the zero value of
// everything else works.
type BinariesOptions struct {
	Store  *store.Store
	Logger *slog.Logger
	Now    func() time.Time

	// TableBytes bounds the memory of open tables, but for one; default 64 MiB.
	TableBytes int64

	// Upstreams are base URLs of debuginfod servers that are asked for binaries
	// nobody uploaded; none: nobody is asked.
	Upstreams       []string
	UpstreamBytes   int64         // largest file taken of one; default 2 GiB
	UpstreamTimeout time.Duration // for one file; default 10 min
	UpstreamPause   time.Duration // before one is asked again that did not have it; default 1 h
}

func (o BinariesOptions) withDefaults() BinariesOptions {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.TableBytes <= 0 {
		o.TableBytes = 64 << 20
	}
	if o.UpstreamBytes <= 0 {
		o.UpstreamBytes = 2 << 30
	}
	if o.UpstreamTimeout <= 0 {
		o.UpstreamTimeout = 10 * time.Minute
	}
	if o.UpstreamPause <= 0 {
		o.UpstreamPause = time.Hour
	}
	return o
}

// Binaries joins the store of binaries with what reads them: it says what an
// uploaded file is, which belong together and which are missing, makes the
// tables that addresses are looked up in (it is a store.Symbols), and fetches from other servers. Stop
// ends its goroutines.
type Binaries struct {
	o         BinariesOptions
	client    *http.Client
	upstreams []*url.URL
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup
	tables    chan struct{} // held while a table is made: it takes a part of the binary in memory
	asking    chan struct{} // bounds how many are fetched at once

	symbols symbolTables

	mu      sync.Mutex
	arrived func()                   // is told of a binary that came; may be nil
	making  map[string]chan struct{} // tables under way by SHA-256, closed when done
	wants   map[string]want          // what upstreams were asked for, by id
	leases  map[string]lease         // who was asked to upload what, by id
	// What upstreams said of source files, by host, id and path.
	sources     map[string]keptSource
	sourceBytes int
}

// NewBinaries makes a Binaries. ErrInvalid if an upstream is no URL.
func NewBinaries(o BinariesOptions) (*Binaries, error) {
	b := &Binaries{
		o: o.withDefaults(), client: upstreamClient(), tables: make(chan struct{}, 1), asking: make(chan struct{}, upstreamsAtOnce),
		making: map[string]chan struct{}{}, wants: map[string]want{}, leases: map[string]lease{}, sources: map[string]keptSource{},
	}
	b.symbols.max = b.o.TableBytes
	for _, base := range o.Upstreams {
		u, err := parseUpstream(base)
		if err != nil {
			return nil, err
		}
		b.upstreams = append(b.upstreams, u)
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Stop ends what is done in the background.
func (b *Binaries) Stop() {
	b.cancel()
	b.work.Wait()
	b.symbols.closeAll()
	b.client.CloseIdleConnections()
}

// BinaryUpload is one PUT of a binary, or of a part of it.
type BinaryUpload struct {
	store.Provenance
	SHA256 string // of the whole, in hex; "" if it is not known: then it comes in one piece
	Bytes  int64  // of the whole; needed with SHA256
	Offset int64  // where Body begins
	Body   io.Reader
}

// Receive takes a binary or a part of it and returns how many of its bytes are
// here, and what is stored once these are all of them. With an error, too, an
// upload with a SHA256 goes on from there. The errors are those of
// store.BeginUpload, AppendUpload and CommitUpload.
func (b *Binaries) Receive(ctx context.Context, u *BinaryUpload) (have int64, stored *store.StoredBinary, err error) {
	if u.SHA256 == "" {
		stored, err = b.o.Store.PutBinary(ctx, u.Body, maxUnannounced, u.Provenance, b.identify)
	} else if have, err = b.Progress(u.SHA256, u.Bytes); err == nil {
		if have < u.Bytes {
			have, err = b.o.Store.AppendUpload(ctx, u.SHA256, u.Offset, u.Body)
		}
		if err == nil && have == u.Bytes {
			stored, err = b.o.Store.CommitUpload(u.SHA256, u.Provenance, b.identify)
		}
	}
	if err != nil || stored == nil {
		return have, nil, err
	}
	b.came(stored)
	return stored.Bytes, stored, nil
}

// maxUnannounced is the largest binary taken of which the size is not known
// before; the store's bound is smaller, usually.
const maxUnannounced = 1 << 40

// Progress says how many bytes of a binary are here.
func (b *Binaries) Progress(sha string, bytes int64) (have int64, err error) {
	have, _, err = b.o.Store.BeginUpload(sha, bytes)
	return have, err
}

// came makes the table of a binary that is stored now, and notes its build, by
// which past data get their release.
func (b *Binaries) came(s *store.StoredBinary) {
	if s.GoVersion != "" {
		known, err := b.o.Store.Build(s.ID)
		if err == nil && (known == nil || known.Modules == nil) {
			err = b.o.Store.PutBuilds([]inquest.Build{s.Build})
		}
		if err != nil {
			b.o.Logger.Warn("build of a binary not noted", inquest.LogBuildID, s.ID, inquest.LogErr, err)
		}
	}
	b.mu.Lock()
	for _, id := range s.IDs() {
		delete(b.leases, id)
		delete(b.wants, id)
	}
	arrived := b.arrived
	b.mu.Unlock()
	if arrived != nil {
		arrived()
	}
	b.symbols.renew()
	b.background(func() {
		t, err := b.tableOf(b.ctx, s.ID)
		if err == nil {
			err = t.Close()
		}
		if err != nil && b.ctx.Err() == nil && !errors.Is(err, inquest.ErrNotFound) {
			b.o.Logger.Warn("table of a binary not made", inquest.LogBuildID, s.ID, "sha256", s.SHA256, inquest.LogErr, err)
		}
	})
}

// background does something until Stop.
func (b *Binaries) background(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() == nil { // else Stop may have ended waiting
		b.work.Go(do)
	}
}

// identify says what a file is. A debug companion is refused if programs of
// its id are here and it belongs to none of them.
func (b *Binaries) identify(r io.ReaderAt, size int64) (*inquest.Binary, error) {
	is, err := symbolize.Identify(r, size)
	if errors.Is(err, inquest.ErrNotFound) {
		if is, err := identifySource(r, size); is != nil || err != nil {
			return is, err
		}
		return nil, inquest.Errorf(inquest.ErrInvalid, "this is no ELF file: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if is.Program() {
		return is, nil
	}
	if trust, reason := b.pair(is); trust == inquest.TrustNone && reason != "" {
		return nil, inquest.Errorf(inquest.ErrConflict, "the debug information does not belong to the program of build %s that is stored: %s", is.ID, reason)
	}
	return is, nil
}

// pair says how far a debug companion belongs to a stored program, and why it
// does not; without a reason there is none to compare with.
func (b *Binaries) pair(debug *inquest.Binary) (trust inquest.Trust, reason string) {
	trust = inquest.TrustNone
	for _, exe := range b.o.Store.Binaries(debug.ID) {
		if !exe.Program() {
			continue
		}
		whole, err := b.o.Store.Binary(exe.SHA256)
		if err != nil {
			continue // it has just gone
		}
		switch t, why := symbolize.Pair(&whole.Binary, debug); t {
		case inquest.TrustExact:
			return t, why
		case inquest.TrustNames:
			trust, reason = t, why
		default:
			if trust == inquest.TrustNone {
				reason = why
			}
		}
	}
	return trust, reason
}

// Executable returns the best executable of an id. ErrNotFound if there is
// none; then other servers are asked, see Want.
func (b *Binaries) Executable(id string) (*store.StoredBinary, error) {
	for _, c := range b.o.Store.Binaries(id) {
		if c.Program() {
			return &c, nil
		}
	}
	b.Want(id)
	return nil, inquest.Errorf(inquest.ErrNotFound, "there is no executable of build %.200q; upload it with PUT /api/v1/builds/ID", id)
}

// Debug returns what has the best debug information of an id: a program that
// has it inside, or a companion. ErrNotFound if there is none.
func (b *Binaries) Debug(id string) (*store.StoredBinary, error) {
	for _, c := range b.o.Store.Binaries(id) {
		if !c.DWARF {
			break // the others have none either
		}
		if c.Program() || b.fits(&c) {
			return &c, nil
		}
	}
	b.Want(id)
	return nil, inquest.Errorf(inquest.ErrNotFound, "there is no debug information of build %.200q", id)
}

// fits says whether a stored companion belongs to a stored program, or there
// is none that says otherwise.
func (b *Binaries) fits(c *store.StoredBinary) bool {
	whole, err := b.o.Store.Binary(c.SHA256)
	if err != nil {
		return false
	}
	trust, reason := b.pair(&whole.Binary)
	return trust != inquest.TrustNone || reason == ""
}

// Trust says how far a stored binary stands for the programs of its build that
// are stored, and for people why. A program stands for itself, unless another
// one of the same id has other code. ErrNotFound if it is not stored.
func (b *Binaries) Trust(c *store.StoredBinary) (trust inquest.Trust, reason string, err error) {
	if c.Kind != inquest.BinaryDebug {
		if c.Conflict {
			return inquest.TrustNone, "another binary of the same id has other code, so which of them ran is not known", nil
		}
		return inquest.TrustExact, "it has the id of the build", nil
	}
	whole, err := b.o.Store.Binary(c.SHA256)
	if err != nil {
		return inquest.TrustNone, "", err
	}
	if trust, reason = b.pair(&whole.Binary); reason == "" {
		reason = "there is no program to compare it with"
	}
	return trust, reason, nil
}

// Open opens a stored binary for reading ranges.
func (b *Binaries) Open(sha string) (*store.BinaryFile, error) { return b.o.Store.OpenBinary(sha) }

// Binary returns all that is known of a stored binary.
func (b *Binaries) Binary(sha string) (*store.StoredBinary, error) { return b.o.Store.Binary(sha) }

// Missing returns those of some ids of which no executable is stored, once
// each.
func (b *Binaries) Missing(ids []string) []string {
	missing := []string{}
	for _, id := range ids {
		if id != "" && !slices.Contains(missing, id) && !b.has(id) {
			missing = append(missing, id)
		}
	}
	return missing
}

func (b *Binaries) has(id string) bool {
	return slices.ContainsFunc(b.o.Store.Binaries(id), func(c store.StoredBinary) bool { return c.Program() })
}

// lease is that an agent was asked to upload a binary.
type lease struct {
	agent   string
	started time.Time // the agent's life
	at      time.Time
}

const (
	leaseTime   = 5 * time.Minute  // in which nobody else is asked
	leaseRest   = 30 * time.Minute // before the same agent is asked again, which could not
	maxLeases   = 20_000
	maxAsked    = 4      // of one report
	maxAskedIDs = 10_000 // looked at of one report
)

// Lease returns which of the builds that run beside an agent it should upload:
// few at a time, and each is asked of one agent at a time, so that many hosts
// do not upload the same. started tells the lives of an agent apart: after a
// restart it is asked again at once, for what it was at is forgotten there.
func (b *Binaries) Lease(agent string, started time.Time, ids []string) []string {
	asked := []string{}
	now := b.o.Now()
	for _, id := range ids[:min(len(ids), maxAskedIDs)] {
		if len(asked) == maxAsked {
			break
		}
		if id == "" || slices.Contains(asked, id) || b.has(id) {
			continue
		}
		if b.lease(lease{agent, started, now}, id) {
			asked = append(asked, id)
		}
	}
	return asked
}

func (b *Binaries) lease(next lease, id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := next.at
	l, ok := b.leases[id]
	wait := leaseTime
	switch {
	case l.agent != next.agent:
	case l.started.Equal(next.started):
		wait = leaseRest
	default:
		wait = 0
	}
	if ok && now.Sub(l.at) < wait {
		return false
	}
	if len(b.leases) >= maxLeases {
		for id, l := range b.leases {
			if now.Sub(l.at) >= leaseRest {
				delete(b.leases, id)
			}
		}
		if len(b.leases) >= maxLeases {
			return false
		}
	}
	b.leases[id] = next
	return true
}
