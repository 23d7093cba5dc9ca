package fleet

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest/profile"
)

// writer makes one body after the other: samples and times first, then the
// tables. Its memory is used again.
type writer struct {
	plain       []byte
	spliced     []byte
	values      []int64
	one, packed []byte
	out         bytes.Buffer
	gzip        *stdgzip.Writer
	flate       *flate.Writer
	zstd        *zstd.Encoder
}

// Tags of the fields of a pprof message that are written here (proto/profile.proto
// of github.com/google/pprof): number << 3 | wire type.
const (
	tagSample   = 2<<3 | 2
	tagTime     = 9 << 3
	tagDuration = 10 << 3

	tagStack  = 1<<3 | 2 // of a sample
	tagValues = 2<<3 | 2
	tagLabel  = 3<<3 | 2

	tagKey, tagStr, tagNum, tagUnit = 1 << 3, 2 << 3, 3 << 3, 4 << 3 // of a label
)

func (w *writer) begin() { w.plain = w.plain[:0] }

// sample writes a sample of the encoded stack and labels with w.values.
func (w *writer) sample(stack, labels []byte) {
	w.packed = w.packed[:0]
	for _, v := range w.values {
		w.packed = binary.AppendUvarint(w.packed, uint64(v))
	}
	w.one = append(w.one[:0], stack...)
	w.one = appendBytes(w.one, tagValues, w.packed)
	w.one = append(w.one, labels...)
	w.plain = appendBytes(w.plain, tagSample, w.one)
}

func (w *writer) times(start, end time.Time) {
	w.plain = binary.AppendUvarint(append(w.plain, tagTime), uint64(start.UnixNano()))
	w.plain = binary.AppendUvarint(append(w.plain, tagDuration), uint64(end.Sub(start)))
}

// finish adds the tables and returns the compressed body, the caller's own.
func (w *writer) finish(t tables, e Encoding) ([]byte, error) {
	w.out.Reset()
	switch e {
	case GzipLight:
		return w.light(t)
	case Zstd:
		if w.zstd == nil {
			var err error
			if w.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
				return nil, err
			}
		}
		w.plain = append(w.plain, t.plain...)
		return w.zstd.EncodeAll(w.plain, make([]byte, 0, len(w.plain)/2)), nil
	}
	if w.gzip == nil {
		var err error
		if w.gzip, err = stdgzip.NewWriterLevel(&w.out, stdgzip.BestSpeed); err != nil {
			return nil, err
		}
	}
	w.gzip.Reset(&w.out)
	w.plain = append(w.plain, t.plain...)
	if _, err := w.gzip.Write(w.plain); err != nil {
		return nil, err
	}
	if err := w.gzip.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(w.out.Bytes()), nil
}

// light writes gzip whose last part was compressed before: a deflate stream
// may be continued by another one that refers to nothing before it.
func (w *writer) light(t tables) ([]byte, error) {
	if w.flate == nil {
		var err error
		if w.flate, err = flate.NewWriter(&w.out, flate.BestSpeed); err != nil {
			return nil, err
		}
	}
	w.out.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff}) // as compress/gzip: no name, no time, fastest, unknown system
	w.flate.Reset(&w.out)
	if _, err := w.flate.Write(w.plain); err != nil {
		return nil, err
	}
	if err := w.flate.Flush(); err != nil {
		return nil, err
	}
	w.out.Write(t.deflate)
	sum := crc32.Update(crc32.ChecksumIEEE(w.plain), crc32.IEEETable, t.plain)
	var trailer [8]byte
	binary.LittleEndian.PutUint32(trailer[:], sum)
	binary.LittleEndian.PutUint32(trailer[4:], uint32(len(w.plain)+len(t.plain)))
	w.out.Write(trailer[:])
	return bytes.Clone(w.out.Bytes()), nil
}

// appendStack appends the field that holds the ids of a stack, leaf first.
func appendStack(dst []byte, leaf, root []uint64) []byte {
	n := 0
	for _, ids := range [2][]uint64{leaf, root} {
		for _, id := range ids {
			for n++; id >= 0x80; id >>= 7 {
				n++
			}
		}
	}
	dst = binary.AppendUvarint(append(dst, tagStack), uint64(n))
	for _, ids := range [2][]uint64{leaf, root} {
		for _, id := range ids {
			dst = binary.AppendUvarint(dst, id)
		}
	}
	return dst
}

// appendLabels appends the fields that hold the labels of a sample.
func appendLabels(dst []byte, labels []profile.Label) []byte {
	for _, l := range labels {
		var b []byte
		for _, f := range []struct {
			tag byte
			v   uint64
		}{{tagKey, uint64(l.Key)}, {tagStr, uint64(l.Str)}, {tagNum, uint64(l.Num)}, {tagUnit, uint64(l.NumUnit)}} {
			if f.v != 0 {
				b = binary.AppendUvarint(append(b, f.tag), f.v)
			}
		}
		dst = appendBytes(dst, tagLabel, b)
	}
	return dst
}

func appendBytes(dst []byte, tag byte, b []byte) []byte {
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(b)))
	return append(dst, b...)
}
