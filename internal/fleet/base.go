package fleet

import (
	"bytes"
	"compress/flate"
	"fmt"
	"slices"
	"sync"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// programs in the order services take them; every tenth service is the large
// one.
var programs = []string{"etcd", "prometheus", "nats", "alertmanager", "caddy", "gocompile"}

// bases are the real profiles of a fleet, decoded. They do not change and are
// shared by the Clones.
type bases struct {
	kinds int
	all   [][]*base // [program × kind], in the order they were taken
}

func newBases(o Options) (*bases, error) {
	b := &bases{kinds: len(o.Kinds), all: make([][]*base, len(programs)*len(o.Kinds))}
	for _, body := range o.Bodies {
		program, kind := slices.Index(programs, body.Program), slices.Index(o.Kinds, body.Kind)
		if program < 0 || kind < 0 {
			continue
		}
		d, err := newBase(body, o.Releases)
		if err != nil {
			return nil, err
		}
		b.all[program*len(o.Kinds)+kind] = append(b.all[program*len(o.Kinds)+kind], d)
	}
	for kind, name := range o.Kinds {
		found := false
		for program := range programs {
			found = found || len(b.all[program*len(o.Kinds)+kind]) > 0
		}
		if !found {
			return nil, fmt.Errorf("no real profile of kind %q to make others from", name)
		}
	}
	return b, nil
}

// pick returns the profile that a service varies: number n of its program's
// sequence. Not every program has every kind; another one stands in.
func (b *bases) pick(service, kind, n int) *base {
	program := service % (len(programs) - 1)
	if service%10 == 9 {
		program = len(programs) - 1
	}
	for {
		if seq := b.all[program*b.kinds+kind]; len(seq) > 0 {
			return seq[n%len(seq)]
		}
		program = (program + 1) % len(programs)
	}
}

// base is one real profile: its samples as columns, and everything else as
// bytes of a pprof message, of which the order of fields does not matter.
type base struct {
	kind   string
	period int64
	values int // columns

	// Of sample i: the ids of its stack, and the encoded fields that stay the
	// same: stack and labels.
	stacks [][]uint64
	stack  [][]byte
	labels [][]byte
	value  []int64 // values per sample

	releases []releaseTables
}

// tables are the fields of a message beside samples and times.
type tables struct {
	plain   []byte
	deflate []byte // plain as the last part of a deflate stream
}

// releaseTables are the tables of one release, made when first wanted.
type releaseTables struct {
	once func() tables
}

func newBase(body corpus.Body, releases int) (*base, error) {
	// A decoder of its own: the profile is part of it.
	p, err := profile.NewDecoder(profile.Limits{}).Decode(body.Data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", body.Name, err)
	}
	b := &base{kind: body.Kind, period: p.Period, values: len(p.SampleTypes), value: slices.Clone(p.Values)}
	for i := range p.NumSamples() {
		ids := make([]uint64, len(p.Stack(i)))
		for j, l := range p.Stack(i) {
			ids[j] = uint64(l) + 1
		}
		b.stacks = append(b.stacks, ids)
		b.stack = append(b.stack, appendStack(nil, ids, nil))
		b.labels = append(b.labels, appendLabels(nil, p.SampleLabels(i)))
	}
	rest := *p
	rest.Stacks, rest.StackEnds, rest.Values, rest.Labels, rest.LabelEnds = nil, nil, nil, nil, nil
	rest.TimeNanos, rest.DurationNanos = 0, 0
	for release := range max(releases, 1) {
		b.releases = append(b.releases, releaseTables{sync.OnceValue(func() tables { return makeTables(rest, release) })})
	}
	return b, nil
}

// tables returns what is not samples, of a release.
func (b *base) tables(release int) tables { return b.releases[release].once() }

// makeTables encodes p, with the addresses of a release: another build has its
// code elsewhere.
func makeTables(p profile.Profile, release int) tables {
	if release > 0 {
		p.Locations = slices.Clone(p.Locations)
		for i := range p.Locations {
			p.Locations[i].Address += uint64(release) << 6
		}
	}
	t := tables{plain: p.AppendPprof(nil)}
	var out bytes.Buffer
	z, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		panic(err) // the level exists
	}
	// Writing to a bytes.Buffer does not fail.
	_, _ = z.Write(t.plain)
	_ = z.Close()
	t.deflate = bytes.Clone(out.Bytes())
	return t
}
