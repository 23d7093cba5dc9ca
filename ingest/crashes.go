package ingest

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/store"
)

// CrashesOptions configure a Crashes. Store is required; the zero value of
// everything else works.
type CrashesOptions struct {
	Store   *store.Store
	Logger  *slog.Logger
	Now     func() time.Time
	Capture Capture
}

// Crashes takes what agents and people tell of processes that died, and their
// cores, and decides what is wanted of them.
type Crashes struct {
	o CrashesOptions

	mu        sync.Mutex // one offer is decided at a time
	committed func()     // is told of a core that is whole; may be nil
	capture   Capture
	policy    inquest.CapturePolicy
	made      time.Time // of policy
}

// NewCrashes makes a Crashes. The error, of kind ErrInvalid, is about Capture.
func NewCrashes(o CrashesOptions) (*Crashes, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	x := &Crashes{o: o}
	return x, x.SetCapture(o.Capture)
}

// MaxCrashes is how many crashes one request may tell.
const MaxCrashes = 1000

// Put stores crashes, by the sender's clock if sent is not zero, and returns
// them as they are then, once they are durable. Telling one again does no harm.
// Errors are of kind ErrInvalid, naming the crash, ErrTooLarge, or those of
// store.PutCrashes.
func (x *Crashes) Put(ctx context.Context, told []inquest.Crash, sent time.Time) ([]store.StoredCrash, error) {
	if len(told) > MaxCrashes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "%d crashes are told at once, %d are the most", len(told), MaxCrashes)
	}
	for i := range told {
		if err := x.check(&told[i], sent); err != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "crash %d: %w", i, err)
		}
	}
	return x.o.Store.PutCrashes(ctx, told)
}

// TextPush is a crash text that somebody sends, with what is known of it.
// Service is required.
type TextPush struct {
	Service, Instance, Release, Build, Process string
	At                                         time.Time // zero: as the text says, else now
	Text                                       []byte    // borrowed until Text returns
	By                                         string    // source of the Crash
}

// Text stores a crash of which its text tells.
func (x *Crashes) Text(ctx context.Context, p *TextPush) (*store.StoredCrash, error) {
	t, err := coredump.ParseText(bytes.NewReader(p.Text), coredump.TextLimits{})
	if err != nil {
		return nil, err
	}
	at := p.At
	if at.IsZero() {
		at = t.At
	}
	c := inquest.Crash{
		ID: inquest.TextID(p.Service, p.Instance, at, t.Head), Kind: inquest.CrashDeath, At: at, Service: p.Service, Instance: p.Instance,
		Release: p.Release, Build: p.Build, Process: p.Process, Tier: inquest.TierText, Source: []string{p.By},
	}
	if p.Process != "" {
		c.ID = inquest.CrashID(p.Process)
	}
	if at.IsZero() {
		c.At = x.o.Now().UTC()
		if old, err := x.o.Store.Crash(c.ID); err == nil {
			c.At = old.At // it is sent again
		}
	}
	t.Crash(&c)
	if err := x.check(&c, time.Time{}); err != nil {
		return nil, err
	}
	if _, err := x.o.Store.PutCrashes(ctx, []inquest.Crash{c}); err != nil {
		return nil, err
	}
	if err := x.o.Store.PutCrashText(ctx, c.ID, t.Head); err != nil {
		return nil, err
	}
	return x.o.Store.Crash(c.ID)
}

// PutText stores the text of a crash that was told, and takes from it what is
// not known of the crash yet. ErrNotFound if it was not told.
func (x *Crashes) PutText(ctx context.Context, id string, text []byte) (*store.StoredCrash, error) {
	c, err := x.o.Store.Crash(id)
	if err != nil {
		return nil, err
	}
	if err := x.o.Store.PutCrashText(ctx, id, text); err != nil {
		return nil, err
	}
	if t, err := coredump.ParseText(bytes.NewReader(text), coredump.TextLimits{}); err == nil {
		told := c.Crash
		told.Core, told.Count, told.Text, told.Class, told.Message, told.Frames = nil, 0, nil, "", "", nil
		t.Crash(&told)
		told.Tier = inquest.TierText
		if err := x.check(&told, time.Time{}); err == nil {
			if _, err := x.o.Store.PutCrashes(ctx, []inquest.Crash{told}); err != nil {
				return nil, err
			}
		}
	}
	return x.o.Store.Crash(id)
}

// Offer decides what is wanted of a core, and says what of that is missing. by
// is who offers it. Errors are of kind ErrInvalid, or those of store.BeginCore.
func (x *Crashes) Offer(ctx context.Context, offer *inquest.CoreOffer, sent time.Time, by string) (*inquest.CoreAnswer, error) {
	ledger, err := coredump.ParseLedger(offer.Ledger)
	if err != nil {
		return nil, err
	}
	core := ledger.Header().Core
	if !core.Tier.Cores() {
		return nil, inquest.Errorf(inquest.ErrInvalid, "a core of tier %.20q: want %q or %q", core.Tier, inquest.TierMini, inquest.TierFull)
	}
	c := offer.Crash
	if core.Crash != "" && core.Crash != c.ID {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the core is of crash %.40q, it is offered for %.40q", core.Crash, c.ID)
	}
	core.Crash, core.Complete = c.ID, false
	if c.Core != nil && c.Core.Tier.Cores() { // of a full core nothing but the minicore may be left
		core.Tier = core.Tier.Min(c.Core.Tier)
	}
	c.Core = &core
	if err := x.check(&c, sent); err != nil {
		return nil, err
	}
	if c.Tier.Cores() { // that is said when it is here
		c.Tier = inquest.TierText.Min(c.Tier)
	}
	put, err := x.o.Store.PutCrashes(ctx, []inquest.Crash{c})
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	answer := &inquest.CoreAnswer{ID: ledger.ID(), Want: x.want(&put[0], &core)}
	if !answer.Want.Cores() {
		return answer, nil
	}
	told := put[0].Crash
	told.Core = &core
	st, err := x.o.Store.BeginCore(&told, ledger, answer.Want, by)
	if err != nil {
		return nil, err
	}
	x.made = time.Time{} // the policy may be another now
	return answered(answer, st), nil
}

func answered(a *inquest.CoreAnswer, st *store.CoreState) *inquest.CoreAnswer {
	if st.Stored != nil {
		core := st.Stored.Core
		a.Core, a.Want = &core, core.Tier
		return a
	}
	until := st.Until
	a.Missing, a.Until = st.Missing, &until
	return a
}

// Commit ends the upload of a core. With an ErrConflict the answer says which
// blocks are missing.
func (x *Crashes) Commit(ctx context.Context, id string) (*inquest.CoreAnswer, error) {
	st, err := x.o.Store.CommitCore(ctx, id)
	if st == nil {
		return nil, err
	}
	x.mu.Lock()
	committed := x.committed
	x.mu.Unlock()
	if committed != nil && st.Stored != nil {
		committed()
	}
	a := &inquest.CoreAnswer{ID: id}
	if c, cerr := x.o.Store.Core(id); cerr == nil {
		a.Want = c.Tier
	}
	return answered(a, st), err
}

// retention is how old a crash may be that is told.
func (x *Crashes) retention() time.Duration {
	r := x.o.Store.Retention()
	return cmp.Or(r.Crashes, 365*24*time.Hour)
}
