package profile

import (
	"math"
	"unsafe"

	"github.com/goinquest/inquest"
)

// Limits bound what Decode accepts; zero fields mean the defaults.
type Limits struct {
	MaxRawBytes    int64 // decompressed size, default 128 MiB, at most 2 GiB - 1
	MaxSamples     int   // samples of one profile, default 1<<20
	MaxStackDepth  int   // locations of one sample, default 1<<16
	MaxColumnBytes int64 // memory of the decoded columns, default 4 × MaxRawBytes
}

// withDefaults fills in the zero fields.
func (l Limits) withDefaults() Limits {
	if l.MaxRawBytes <= 0 {
		l.MaxRawBytes = 128 << 20
	}
	l.MaxRawBytes = min(l.MaxRawBytes, math.MaxInt32)
	if l.MaxSamples <= 0 {
		l.MaxSamples = 1 << 20
	}
	if l.MaxStackDepth <= 0 {
		l.MaxStackDepth = 1 << 16
	}
	if l.MaxColumnBytes <= 0 {
		l.MaxColumnBytes = 4 * l.MaxRawBytes
	}
	return l
}

// maxSampleTypes is more than any producer has; what goes by column may
// rely on there being few.
const maxSampleTypes = 1 << 10

// retainBytes is how much memory a Decoder keeps between bodies: enough for
// all but outsized ones, little enough to keep one Decoder per connection.
const retainBytes = 8 << 20

// Decoder decodes bodies, reusing all its memory: once it has seen bodies of
// the usual size it allocates nothing. It is not safe for concurrent use.
type Decoder struct {
	lim Limits
	raw []byte // decompressed body
	gz  gunzipper

	p           Profile
	columnBytes int64 // memory of p's columns

	key       hashKey
	locations ids
	functions ids
	mappings  ids
	samples   []span // bodies of the sample messages
	values    int    // number of sample types
	// The largest string index that was read and where, checked once the
	// string table is complete.
	maxString   uint64
	maxStringAt int
	// The largest (id-1) that a line or location refers to, checked or mended
	// once the table is complete; an id of 0 is the largest possible.
	maxFunction   uint64
	maxFunctionAt int
	maxMapping    uint64
}

// span is a range of the message: msg[from:to].
type span struct{ from, to int32 }

// NewDecoder returns a Decoder that refuses what is beyond the limits.
func NewDecoder(lim Limits) *Decoder {
	return &Decoder{lim: lim.withDefaults(), key: newHashKey()}
}

// Decode reads one body, gzip (any number of members, found by its magic) or
// plain. Errors are of kind inquest.ErrInvalid, saying what is wrong and at
// which byte, or inquest.ErrTooLarge, naming the limit. Whatever google/pprof
// accepts as a profile message is accepted, what it refuses is refused; its
// legacy text formats are refused with advice.
//
// The Profile and all it refers to belong to the Decoder and are valid until
// its next Decode or Release; of a plain body the strings are part of body,
// which must not change as long.
func (d *Decoder) Decode(body []byte) (*Profile, error) {
	d.trim()
	msg := body
	if len(body) >= 2 && body[0] == 0x1f && body[1] == 0x8b {
		var err error
		if d.raw, err = d.gz.gunzip(d.raw, body, d.lim.MaxRawBytes); err != nil {
			return nil, err
		}
		msg = d.raw
	} else if int64(len(body)) > d.lim.MaxRawBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "profile has %d bytes, at most %d are accepted", len(body), d.lim.MaxRawBytes)
	}
	if len(msg) == 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the body is empty; a pprof profile was expected")
	}
	// The capacity ends with the message, so that reading words ahead does, too.
	if err := d.message(msg[:len(msg):len(msg)]); err != nil {
		if what := foreign(msg); what != "" {
			return nil, inquest.Errorf(inquest.ErrInvalid, "%s", what)
		}
		return nil, err
	}
	return &d.p, nil
}

// Release gives the memory of an outsized body back; what a Decoder needs for
// usual bodies is kept. The last Profile is invalid afterwards. Decode does
// this itself for the body before; call Release when a Decoder may stay idle.
func (d *Decoder) Release() { d.trim() }

// trim drops memory beyond retainBytes and empties the columns, so that no
// column holds on to a body of the caller's.
func (d *Decoder) trim() {
	if cap(d.raw) > retainBytes {
		d.raw = nil
	}
	if d.columnBytes > retainBytes {
		d.p, d.columnBytes = Profile{}, 0
		d.locations, d.functions, d.mappings, d.samples = ids{}, ids{}, ids{}, nil
	}
	p := &d.p
	clear(p.Strings)
	*p = Profile{
		Strings: p.Strings[:0], SampleTypes: p.SampleTypes[:0], Comments: p.Comments[:0],
		Functions: p.Functions[:0], Mappings: p.Mappings[:0], Locations: p.Locations[:0], Lines: p.Lines[:0],
		Stacks: p.Stacks[:0], StackEnds: p.StackEnds[:0], Values: p.Values[:0],
		Labels: p.Labels[:0], LabelEnds: p.LabelEnds[:0],
	}
}

// message decodes a plain message into d.p: first everything but the samples,
// then the samples, whose locations may come after them.
func (d *Decoder) message(msg []byte) error {
	if err := d.tables(msg); err != nil {
		return err
	}
	if err := d.resolve(msg); err != nil {
		return err
	}
	return d.allSamples(msg)
}

// grow returns s with room for n more elements. Columns only grow here, so
// that a small body cannot make large columns: beyond the limit ok is false.
func grow[T any](d *Decoder, s []T, n int) (grown []T, ok bool) {
	if cap(s)-len(s) >= n {
		return s, true
	}
	want := max(len(s)+n, 2*cap(s), 64)
	var zero T
	size := int64(unsafe.Sizeof(zero))
	d.columnBytes += int64(want-cap(s)) * size
	if d.columnBytes > d.lim.MaxColumnBytes {
		d.columnBytes -= int64(want-cap(s)) * size
		return s, false
	}
	grown = make([]T, len(s), want)
	copy(grown, s)
	return grown, true
}

// tooLarge is the error after grow said no.
func (d *Decoder) tooLarge() error {
	return inquest.Errorf(inquest.ErrTooLarge, "decoded profile would take more than %d bytes of memory, the limit", d.lim.MaxColumnBytes)
}

// room makes place for one more element behind *s; false if the limit on
// memory forbids it.
func room[T any](d *Decoder, s *[]T) bool {
	if len(*s) < cap(*s) {
		return true
	}
	var ok bool
	*s, ok = grow(d, *s, 1)
	return ok
}
