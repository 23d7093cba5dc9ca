// Package fleet makes the profiles of an imagined fleet out of real ones: any
// number of services and instances, every body different, the same bodies for
// the same seed. The fleet simulator, benchmarks and tests send them.
//
// What a program's profiles have in common (names, files, addresses) is decoded
// and encoded once; a body is made by writing samples around that, which
// takes less time than unpacking it does.
package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
)

// Encoding is how bodies are compressed.
type Encoding int

const (
	// GzipGo is gzip as Go's runtime writes it: compress/gzip at BestSpeed.
	GzipGo Encoding = iota
	// GzipLight is gzip made with less work: what does not change between bodies
	// was compressed before. As large as GzipGo, and as fast to unpack.
	GzipLight
	// Zstd is zstd at its fastest level, as our agent sends.
	Zstd
)

// Options describe the fleet. Zero fields mean the defaults.
type Options struct {
	Seed      uint64
	Services  int           // default 10; every tenth is the large one (the Go compiler)
	Instances int           // per service, default 4
	Kinds     []string      // kinds of profile each instance sends, default cpu and heap
	Interval  time.Duration // between two profiles of a kind and instance, default 60 s
	From      time.Time     // no profile starts earlier; required
	// Window is the time in which profiles start; Len counts them. Item goes on
	// behind it. Default one hour.
	Window time.Duration
	// Releases is how many releases every service has, one after the other, in
	// the window: each with a build id and addresses of its own. 0 means one that
	// has no name. At most MaxReleases.
	Releases int
	// KeepHeap leaves heap values as they were. By default every pair of heap
	// values is multiplied by a random factor, which makes them incompressible:
	// the hardest case, not the usual one.
	KeepHeap bool
	// Novelty is the share of samples whose stack is cut and continued with the
	// leaf part of another one. Up to recurring of all samples this happens in one
	// of a few ways that each stack of a service has, so that new stacks keep
	// coming for a long time and come back; what is beyond gets stacks that were
	// never seen before. Default 0.05; negative means none.
	Novelty  float64
	Encoding Encoding
	// Bodies are the real profiles, at least one of each kind. Default
	// corpus.Selection.
	Bodies []corpus.Body
}

// MaxReleases bounds Options.Releases: every release keeps its names and
// addresses in memory.
const MaxReleases = 8

// recurring is the largest share of samples with stacks that come back.
const recurring = 0.05

// WithDefaults fills in the zero fields.
func (o Options) WithDefaults() Options {
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
	if o.Window == 0 {
		o.Window = time.Hour
	}
	if o.Novelty == 0 {
		o.Novelty = recurring
	}
	if o.Bodies == nil {
		o.Bodies = corpus.Selection(o.Kinds...)
	}
	return o
}

// Fleet makes Items. It is not safe for use by several goroutines; each of
// them takes a Clone.
type Fleet struct {
	o     Options
	bases *bases
	writer
}

// New prepares a fleet. The error says which body cannot be used.
func New(o Options) (*Fleet, error) {
	o = o.WithDefaults()
	if o.Releases > MaxReleases {
		return nil, fmt.Errorf("%d releases, at most %d are possible", o.Releases, MaxReleases)
	}
	b, err := newBases(o)
	if err != nil {
		return nil, err
	}
	return &Fleet{o: o, bases: b}, nil
}

// Clone returns a Fleet that makes the same Items, for another goroutine.
func (f *Fleet) Clone() *Fleet { return &Fleet{o: f.o, bases: f.bases} }

// Len is the number of Items that start in the window.
func (f *Fleet) Len() int {
	return int(f.o.Window/f.o.Interval) * f.o.Services * f.o.Instances * len(f.o.Kinds)
}

// ServiceName is the name of service i, of any fleet.
func ServiceName(i int) string { return "svc-" + strconv.Itoa(i) }

// ServicePattern matches the names of all services, as a regular expression.
const ServicePattern = "svc-[0-9]+"

// Item makes profile number i. The numbers run over kinds, then instances,
// then services, then time.
func (f *Fleet) Item(i int) (Item, error) {
	kind := i % len(f.o.Kinds)
	instance := i / len(f.o.Kinds) % f.o.Instances
	service := i / len(f.o.Kinds) / f.o.Instances % f.o.Services
	tick := i / len(f.o.Kinds) / f.o.Instances / f.o.Services

	start := f.o.From.Add(time.Duration(tick)*f.o.Interval + f.phase(service, instance))
	release := f.release(service, instance, start)
	it := Item{
		Service:  ServiceName(service),
		Instance: "host-" + strconv.Itoa(instance) + ":8080",
		Process:  fmt.Sprintf("boot-%d:%d:%d", instance, 1000+service, release+1),
		Kind:     f.o.Kinds[kind],
		Start:    start,
		End:      start.Add(f.o.Interval),
		Interval: f.o.Interval,
		Zstd:     f.o.Encoding == Zstd,
	}
	if it.Kind == string(inquest.KindCPU) {
		it.End = start.Add(min(10*time.Second, f.o.Interval))
	}
	if f.o.Releases > 0 {
		it.Release = "v" + strconv.Itoa(release+1)
		sum := sha256.Sum256([]byte(it.Service + " " + it.Release))
		it.Build = hex.EncodeToString(sum[:20])
	}
	base := f.bases.pick(service, kind, tick+instance)
	r := rand.New(rand.NewPCG(f.o.Seed, uint64(i)))
	f.begin()
	f.samples(base, f.o, uint64(service), r)
	f.times(it.Start, it.End)
	var err error
	it.Body, err = f.finish(base.tables(release), f.o.Encoding)
	return it, err
}

// golden spreads what is multiplied with it evenly over [0, 1).
const golden = math.Phi - 1

// phase is when in each interval an instance is profiled: not all at once.
func (f *Fleet) phase(service, instance int) time.Duration {
	_, part := math.Modf(golden * float64(service*f.o.Instances+instance))
	return time.Duration(part * float64(f.o.Interval)).Truncate(time.Millisecond)
}

// release is the release an instance has at a time, from 0. The services take
// turns in changing theirs, each within an equal part of the window around
// where one release gives way to the next, instance by instance.
func (f *Fleet) release(service, instance int, at time.Time) int {
	if f.o.Releases < 2 {
		return 0
	}
	_, turn := math.Modf(golden * float64(service))
	turn += float64(instance) / float64(f.o.Instances) / float64(f.o.Services)
	done := at.Sub(f.o.From).Seconds() / f.o.Window.Seconds() * float64(f.o.Releases)
	return min(max(int(done+0.5-turn), 0), f.o.Releases-1)
}
