package symbolize

import (
	"encoding/binary"
	"slices"

	"github.com/goinquest/inquest"
)

// A record is what is known of one function, in varints (z: zigzag, +1: so
// that 0 is none). Names and files are offsets in the strings.
//
//	name+1, start line z
//	count of files; offset of each
//	count of inlined calls; of each: name+1, start line z, caller, file of the call +1, line of the call z
//	spans: (bytes of code << 2 | call changed << 1 | file changed), [call], [file+1], line z to the one before
//
// Calls are numbered from 1; the function itself is 0. A caller is a number
// +1, and 0 where the stack of this function ends. It is the next frame that
// is shown: what the runtime hides was left out when the record was written.

// span is a range of code with one position, up to end.
type span struct {
	end  uint32 // from the function's entry, exclusive
	call int32  // innermost
	file int32  // index in the function's files, -1 if unknown
	line int32
}

// call is an inlined call, or the function itself.
type call struct {
	name   uint32 // +1
	start  int32
	caller int32 // -1: none
	file   int32 // where in the caller; -1 if unknown
	line   int32
}

// record is one function, as it is written.
type record struct {
	files []uint32 // offsets in the strings
	calls []call   // [0] is the function itself
	spans []span
}

func (r *record) reset() {
	r.files, r.calls, r.spans = r.files[:0], r.calls[:0], r.spans[:0]
}

// add appends a span, or makes the last one longer.
func (r *record) add(s span) {
	if n := len(r.spans); n > 0 {
		if last := &r.spans[n-1]; last.call == s.call && last.file == s.file && last.line == s.line {
			last.end = s.end
			return
		}
	}
	r.spans = append(r.spans, s)
}

// at finds the span of an offset.
func (r *record) at(off int32) span {
	lo, hi := 0, len(r.spans) // the first that ends behind off
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); r.spans[mid].end <= uint32(off) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if off < 0 || lo == len(r.spans) {
		return span{file: -1}
	}
	return r.spans[lo]
}

// file returns the index of a file, and adds it if it is new.
func (r *record) file(off uint32) int32 {
	i := slices.Index(r.files, off)
	if i < 0 {
		i = len(r.files)
		r.files = append(r.files, off)
	}
	return int32(i)
}

func zigzag(v int32) uint64 { return uint64(uint32(v<<1 ^ v>>31)) }

func unzigzag(v uint64) int32 { return int32(uint32(v)>>1) ^ -int32(v&1) }

// append writes the record.
func (r *record) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.calls[0].name))
	b = binary.AppendUvarint(b, zigzag(r.calls[0].start))
	b = binary.AppendUvarint(b, uint64(len(r.files)))
	for _, f := range r.files {
		b = binary.AppendUvarint(b, uint64(f))
	}
	b = binary.AppendUvarint(b, uint64(len(r.calls)-1))
	for _, c := range r.calls[1:] {
		b = binary.AppendUvarint(b, uint64(c.name))
		b = binary.AppendUvarint(b, zigzag(c.start))
		b = binary.AppendUvarint(b, uint64(c.caller+1))
		b = binary.AppendUvarint(b, uint64(c.file+1))
		b = binary.AppendUvarint(b, zigzag(c.line))
	}
	prev := span{file: -1}
	for _, s := range r.spans {
		head := uint64(s.end-prev.end) << 2
		if s.call != prev.call {
			head |= 2
		}
		if s.file != prev.file {
			head |= 1
		}
		b = appendShort(b, head)
		if s.call != prev.call {
			b = appendShort(b, uint64(s.call))
		}
		if s.file != prev.file {
			b = appendShort(b, uint64(s.file+1))
		}
		b = appendShort(b, zigzag(s.line-prev.line))
		prev = s
	}
	return b
}

// appendShort appends a varint that is most likely a single byte.
func appendShort(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return binary.AppendUvarint(b, v)
}

var errRecord = inquest.Errorf(inquest.ErrInvalid, "table of symbols: a record is damaged")

// recordReader reads varints until the first that is wrong.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) next() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // most are so short
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// index reads a number below n, after taking one off; -1 is none.
func (r *recordReader) index(n int) int32 {
	v := r.next()
	if v > uint64(n) {
		r.bad = true
		return -1
	}
	return int32(v) - 1
}

// decode reads a record up to the span that off is in, and returns that. All
// indices in what was read are good. ok is false if no span has it.
func (r *record) decode(b []byte, off uint32) (at span, ok bool, err error) {
	r.reset()
	in := recordReader{b: b}
	self := call{name: uint32(in.next()), start: unzigzag(in.next()), caller: -1, file: -1}
	for n := in.next(); n > 0 && !in.bad; n-- {
		r.files = append(r.files, uint32(in.next()))
	}
	r.calls = append(r.calls, self)
	n := in.next()
	if n > uint64(len(in.b)) {
		return span{}, false, errRecord
	}
	for range n {
		r.calls = append(r.calls, call{
			name: uint32(in.next()), start: unzigzag(in.next()),
			caller: in.index(int(n) + 1), file: in.index(len(r.files)), line: unzigzag(in.next()),
		})
	}
	at.file = -1
	for len(in.b) > 0 && !in.bad {
		head := in.next()
		at.end += uint32(head >> 2)
		if head&2 != 0 {
			at.call = in.index(len(r.calls)-1) + 1
		}
		if head&1 != 0 {
			at.file = in.index(len(r.files))
		}
		at.line += unzigzag(in.next())
		if off < at.end && !in.bad {
			return at, true, nil
		}
	}
	if in.bad {
		return span{}, false, errRecord
	}
	return span{}, false, nil
}
