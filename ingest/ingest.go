// Package ingest turns outside bytes into checked records. It unpacks and
// decodes pushed profiles within limits, decides what they are, when they
// were taken and whether they are known already, makes deltas of cumulative
// bodies, and hands columns to the store. Fleet is the registry of the agents
// and of the commands waiting for them.
//
// It speaks no HTTP and keeps nothing durable itself: the state that deltas
// need lives in the store, written in one commit with the profile it belongs
// to. Everything here is safe for use by several goroutines at once.
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// Options configure an Ingest. Store is required; the zero value of everything
// else works.
type Options struct {
	Store        *store.Store
	Logger       *slog.Logger
	Now          func() time.Time
	Registerer   prometheus.Registerer // nil: metrics are not shown
	MaxBodyBytes int64                 // as received; default 32 MiB
	Limits       profile.Limits        // after decompression; default 64 MiB, and twice that in columns
	MaxKept      int                   // samples kept of a profile, the rest folded into one; default 65,536
	Retention    time.Duration         // profiles that started longer ago are refused, where the store keeps them for ever; default 15 days
	Decoders     int                   // bodies decoded and interned at once; default GOMAXPROCS + 1, as one may wait for its service. Each takes up to Limits' memory
	WaitingBytes int64                 // memory of decoded profiles waiting to be durable; default 64 MiB
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = 32 << 20
	}
	if o.Limits.MaxRawBytes <= 0 {
		o.Limits.MaxRawBytes = 64 << 20
	}
	if o.Limits.MaxColumnBytes <= 0 {
		o.Limits.MaxColumnBytes = 2 * o.Limits.MaxRawBytes
	}
	if o.MaxKept <= 0 {
		o.MaxKept = 1 << 16
	}
	if o.Retention <= 0 {
		o.Retention = 15 * 24 * time.Hour
	}
	if o.Decoders <= 0 {
		o.Decoders = runtime.GOMAXPROCS(0) + 1
	}
	if o.WaitingBytes <= 0 {
		o.WaitingBytes = 64 << 20
	}
	return o
}

// Ingest takes profiles. It has no goroutines of its own.
type Ingest struct {
	o        Options
	mt       *metrics
	decoding *semaphore.Weighted // one per body being unpacked and decoded
	waiting  *semaphore.Weighted // bytes of decoded profiles on their way to disk
	workers  workers
	locks    *locks
}

// New makes an Ingest.
func New(o Options) *Ingest {
	o = o.withDefaults()
	return &Ingest{
		o:        o,
		mt:       newMetrics(o.Registerer),
		decoding: semaphore.NewWeighted(int64(o.Decoders)),
		waiting:  semaphore.NewWeighted(o.WaitingBytes),
		workers:  workers{limits: o.Limits},
		locks:    newLocks(),
	}
}

// Push is one POST /api/v1/profiles, parameters as text already split.
type Push struct {
	Service, Instance, Release, Build, Process string        // Service is required
	Kind                                       string        // kind or any type of it; "" = from the body
	Temporality                                string        // "", "delta", "cumulative"
	Start, End                                 time.Time     // sender's clock; zero = from the body (time_nanos, duration_nanos), else now
	Interval                                   time.Duration // see inquest.ProfileMeta.Hold; 0 unknown
	Labels                                     map[string]string
	Key                                        string    // idempotency key, 32 hex digits; "" = made from what was sent
	SentAt                                     time.Time // sender's clock when sending; zero = not given
	Encoding                                   string    // Content-Encoding: "", "identity", "gzip", "zstd"
	Body                                       []byte    // pprof, plain or gzip; borrowed until Profile returns
}

// Ack says what became of a profile that is stored now.
type Ack struct {
	ID         string `json:"id"`
	Series     string `json:"series"` // labels spelled as a selector
	Samples    int    `json:"samples"`
	Bytes      int64  `json:"bytes"`                 // of the body as received
	Duplicate  bool   `json:"duplicate,omitempty"`   // it was stored before; nothing was written
	Truncated  int    `json:"truncated,omitempty"`   // samples folded into one
	Baseline   bool   `json:"baseline,omitempty"`    // cumulative, and there was nothing to subtract: instants only
	ClockShift string `json:"clock_shift,omitempty"` // what was added to the sender's times
}

// Profile checks, decodes and stores one profile, and returns once it is
// durable. Errors are of the kinds ErrInvalid, ErrTooLarge, ErrConflict (the
// key is taken by another body), and those of store.Append.
func (in *Ingest) Profile(ctx context.Context, p *Push) (*Ack, error) {
	began := time.Now()
	kind, ack, err := in.profile(ctx, p)
	in.mt.observe(kind, outcome(ack, err), len(p.Body), time.Since(began))
	return ack, err
}

// profile is Profile; it also says which kind it found.
func (in *Ingest) profile(ctx context.Context, p *Push) (inquest.Kind, *Ack, error) {
	h, err := in.check(p)
	if err != nil {
		return "", nil, err
	}
	key, bodyHash := h.identity(p)
	if ack, err := in.seen(p, h, key, bodyHash); ack != nil || err != nil {
		return h.kind, ack, err
	}
	d, err := in.decode(ctx, p)
	if err != nil {
		return h.kind, nil, err
	}
	defer d.close()
	kind, err := profile.KindOf(d.profile, h.kind)
	if err != nil {
		return h.kind, nil, err
	}
	ack, err := in.append(ctx, p, h, kind, d, key, bodyHash)
	return kind, ack, err
}

// seen answers for a profile that is stored already; both results are nil if
// it is not.
func (in *Ingest) seen(p *Push, h *header, key inquest.Key, bodyHash uint64) (*Ack, error) {
	a, seen, err := in.o.Store.Seen(key, bodyHash)
	if err != nil || !seen {
		return nil, err
	}
	return &Ack{ID: a.ID, Series: h.labels("").String(), Samples: a.Samples, Bytes: int64(len(p.Body)), Duplicate: true}, nil
}

// append stores a decoded profile.
func (in *Ingest) append(ctx context.Context, p *Push, h *header, kind inquest.Kind, d *decoded, key inquest.Key, bodyHash uint64) (*Ack, error) {
	ts, err := in.times(p, kind, d.profile)
	if err != nil {
		return nil, err
	}
	rec := &store.Record{Key: key, BodyHash: bodyHash, Profile: d.profile, Taken: d.release}
	rec.Meta = inquest.ProfileMeta{
		Kind: kind, Labels: h.labels(mainBuild(d.profile)), Process: p.Process,
		Start: ts.start, End: ts.end, ClockShift: ts.shift,
	}
	planned := p.Interval
	ack := &Ack{Series: rec.Meta.Labels.String(), Bytes: int64(len(p.Body))}
	if ts.shift != 0 {
		ack.ClockShift = ts.shift.String()
	}
	if h.cumulative(kind) {
		d.endTurn() // bodies of one process wait for each other
		unlock, err := in.subtract(ctx, h, rec, ack)
		if err != nil {
			return nil, err
		}
		defer unlock()
	} else if instantsOnly(kind, d.profile) {
		// It was found at one moment and observed no time: a span that the
		// sender gives is what it stands for.
		if planned == 0 {
			planned = ts.end.Sub(ts.start)
		}
		rec.Meta.End = rec.Meta.Start
	}
	if err := checkTotals(d.profile); err != nil {
		return nil, err
	}
	rec.Meta.Hold = hold(planned, &rec.Meta)
	if ack.Truncated = d.profile.Truncate(in.o.MaxKept); ack.Truncated > 0 {
		rec.Meta.Truncated = true
	}
	a, err := in.o.Store.Append(ctx, rec)
	if err != nil {
		return nil, err
	}
	ack.ID, ack.Samples, ack.Duplicate = a.ID, a.Samples, a.Duplicate
	return ack, nil
}

// maxTotal is the most that the values of one column may add up to, signs
// aside: sums of a few such profiles still fit 64 bits.
const maxTotal = 1 << 60

// checkTotals refuses values that no counter of a real program reaches and
// that sums would overflow with.
func checkTotals(p *profile.Profile) error {
	for k, t := range p.SampleTypes {
		var sum uint64
		for i := k; i < len(p.Values); i += len(p.SampleTypes) {
			v := p.Values[i]
			sum += uint64(max(v, -v)) // -v of the least int64 is itself: 1<<63, too much as well
			if sum > maxTotal {
				return inquest.Errorf(inquest.ErrInvalid, "the values of type %q add up to more than 2^60: they are damaged, or in a unit that is too fine", p.String(t.Type))
			}
		}
	}
	return nil
}

// outcome names what became of a push, for the metrics.
func outcome(ack *Ack, err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case err != nil:
		name, _ := inquest.ErrorStatus(err)
		return name
	case ack.Duplicate:
		return "duplicate"
	}
	return "stored"
}
