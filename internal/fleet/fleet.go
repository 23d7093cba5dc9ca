// Package fleet makes the profiles of an imagined fleet out of the corpus:
// any number of services and instances, every body different, the same bodies
// for the same seed. Benchmarks and load tests send them.
package fleet

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// Options describe the fleet. Zero fields mean the defaults.
type Options struct {
	Seed      uint64
	Services  int           // default 10; every tenth is the large one (the Go compiler)
	Instances int           // per service, default 4
	Kinds     []string      // corpus kinds each instance sends, default cpu and heap
	Interval  time.Duration // between two profiles of a kind and instance, default 60 s
	From      time.Time     // start of the first profiles; required
	// KeepHeap leaves heap values as they were. By default every pair of heap
	// values is multiplied by a random factor, which makes them incompressible:
	// the hardest case, not the usual one.
	KeepHeap bool
	// Spliced is the share of samples whose stack is cut and continued with the
	// leaf part of another one, in one of a few ways that each stack of a service
	// has, so that new stacks keep coming for a long time. Default 0.05; negative
	// means none.
	Spliced float64
}

// Item is one profile to send.
type Item struct {
	Service, Instance, Process, Kind string
	Start, End                       time.Time
	Body                             []byte // gzip as Go writes it; the caller's own
}

// Request is the request that pushes the item to the collector at base, as an
// agent would: amounts are of [Start, End), one profile a minute.
func (it *Item) Request(ctx context.Context, base string) (*http.Request, error) {
	q := url.Values{
		"service": {it.Service}, "instance": {it.Instance}, "process": {it.Process}, "kind": {it.Kind},
		"temporality": {"delta"}, "interval": {"60"},
		"start": {it.Start.UTC().Format(time.RFC3339Nano)}, "end": {it.End.UTC().Format(time.RFC3339Nano)},
	}
	return http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/v1/profiles?"+q.Encode(), bytes.NewReader(it.Body))
}

// Fleet makes Items. It is not safe for use by several goroutines.
type Fleet struct {
	o       Options
	bases   [][]corpus.Body // [program × kind]
	dec     *profile.Decoder
	plain   []byte
	changed profile.Profile
}

// programs in the order services take them; every tenth service is "gocompile".
var programs = []string{"etcd", "prometheus", "nats", "alertmanager", "caddy"}

// New prepares a fleet.
func New(o Options) *Fleet {
	if o.Services == 0 {
		o.Services = 10
	}
	if o.Instances == 0 {
		o.Instances = 4
	}
	if o.Kinds == nil {
		o.Kinds = []string{"cpu", "heap"}
	}
	if o.Interval == 0 {
		o.Interval = time.Minute
	}
	if o.Spliced == 0 {
		o.Spliced = 0.05
	}
	f := &Fleet{o: o, dec: profile.NewDecoder(profile.Limits{})}
	for _, program := range append(slices.Clone(programs), "gocompile") {
		for _, kind := range o.Kinds {
			var seq []corpus.Body
			for _, b := range corpus.Load(kind) {
				if b.Program == program {
					seq = append(seq, b)
				}
			}
			f.bases = append(f.bases, seq)
		}
	}
	return f
}

// Item makes profile number i. The numbers run over kinds, then instances,
// then services, then time.
func (f *Fleet) Item(i int) (Item, error) {
	kind := i % len(f.o.Kinds)
	instance := i / len(f.o.Kinds) % f.o.Instances
	service := i / len(f.o.Kinds) / f.o.Instances % f.o.Services
	tick := i / len(f.o.Kinds) / f.o.Instances / f.o.Services

	program := service % len(programs)
	if service%10 == 9 {
		program = len(programs)
	}
	seq := f.bases[program*len(f.o.Kinds)+kind]
	if len(seq) == 0 {
		seq = f.bases[kind]
	}
	r := rand.New(rand.NewPCG(f.o.Seed, uint64(i)))
	base := seq[(tick+instance)%len(seq)]
	p, err := f.dec.Decode(base.Data)
	if err != nil {
		return Item{}, fmt.Errorf("decode %s: %w", base.Name, err)
	}
	start := f.o.From.Add(time.Duration(tick)*f.o.Interval + time.Duration(instance)*time.Second)
	it := Item{
		Service:  "svc-" + strconv.Itoa(service),
		Instance: "host-" + strconv.Itoa(instance) + ":8080",
		Process:  fmt.Sprintf("boot-%d:%d:1", instance, 1000+service),
		Kind:     f.o.Kinds[kind],
		Start:    start,
		End:      start.Add(f.o.Interval),
	}
	if it.Kind == "cpu" {
		it.End = start.Add(10 * time.Second)
	}
	f.vary(p, it.Kind, uint64(service), r)
	it.Body, err = f.encode(it)
	return it, err
}

// variants is the number of ways to splice a stack.
const variants = 8

// vary copies p to f.changed with other values and, for some samples, other
// stacks.
func (f *Fleet) vary(p *profile.Profile, kind string, service uint64, r *rand.Rand) {
	c := &f.changed
	stacks, ends, values := c.Stacks[:0], c.StackEnds[:0], c.Values[:0]
	labels, labelEnds := c.Labels[:0], c.LabelEnds[:0]
	*c = *p
	n := p.NumSamples()
	for i := range n {
		if kind == "cpu" && r.Float64() < 0.2 {
			continue
		}
		stack := p.Stack(i)
		if r.Float64() < f.o.Spliced {
			way := rand.New(rand.NewPCG(f.o.Seed^service<<32, uint64(i*variants+r.IntN(variants))))
			other := p.Stack(way.IntN(n))
			stacks = append(stacks, other[:way.IntN(len(other)+1)]...)
			stacks = append(stacks, stack[min(1, len(stack)):]...)
		} else {
			stacks = append(stacks, stack...)
		}
		ends = append(ends, uint32(len(stacks)))
		labels = append(labels, p.SampleLabels(i)...)
		labelEnds = append(labelEnds, uint32(len(labels)))
		values = f.appendValues(values, p, i, kind, r)
	}
	c.Stacks, c.StackEnds, c.Values, c.Labels, c.LabelEnds = stacks, ends, values, labels, labelEnds
}

// appendValues appends the varied values of sample i. A cpu sample keeps
// time = count × period; the columns of a heap pair keep their ratio.
func (f *Fleet) appendValues(dst []int64, p *profile.Profile, i int, kind string, r *rand.Rand) []int64 {
	v := p.SampleValues(i)
	switch {
	case kind == "cpu" && len(v) == 2:
		count := max(1, v[0]+int64(r.IntN(3))-1)
		return append(dst, count, count*p.Period)
	case kind == "heap" && !f.o.KeepHeap:
		for j := 0; j+1 < len(v); j += 2 {
			factor := 0.5 + r.Float64()
			objects := int64(float64(v[j]) * factor)
			if v[j] > 0 && objects == 0 {
				objects = 1
			}
			dst = append(dst, objects, int64(float64(v[j+1])*factor))
		}
		return dst
	}
	return append(dst, v...)
}

func (f *Fleet) encode(it Item) ([]byte, error) {
	f.changed.TimeNanos = it.Start.UnixNano()
	f.changed.DurationNanos = it.End.Sub(it.Start).Nanoseconds()
	f.plain = f.changed.AppendPprof(f.plain[:0])
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(f.plain); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
