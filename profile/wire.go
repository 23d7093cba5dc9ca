package profile

import (
	"encoding/binary"
	"math/bits"

	"github.com/goinquest/inquest"
)

// Wire types of protocol buffers. The deprecated groups (3, 4) are errors, as
// they are for google/pprof.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// Names of the format's fields, by number, for messages about a field whose
// wire type is wrong. A field beyond the end, or of number 0, is skipped.
var (
	profileFields   = []string{"", "sample_type", "sample", "mapping", "location", "function", "string_table", "drop_frames", "keep_frames", "time_nanos", "duration_nanos", "period_type", "period", "comment", "default_sample_type", "doc_url"}
	valueTypeFields = []string{"", "type", "unit"}
	sampleFields    = []string{"", "location_id", "value", "label"}
	labelFields     = []string{"", "key", "str", "num", "num_unit"}
	mappingFields   = []string{"", "id", "memory_start", "memory_limit", "file_offset", "filename", "build_id", "has_functions", "has_filenames", "has_line_numbers", "has_inline_frames"}
	locationFields  = []string{"", "id", "mapping_id", "address", "line", "is_folded"}
	lineFields      = []string{"", "function_id", "line", "column"}
	functionFields  = []string{"", "id", "name", "system_name", "filename", "start_line"}
)

// varint reads the varint at b[i:] and returns it with the index after it,
// which is negative if there is none: it is cut off or longer than ten bytes.
// Bits beyond the 64th are dropped, as google/pprof does.
func varint(b []byte, i int) (v uint64, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return longVarint(b, i)
}

// longVarint is varint for numbers that are not one byte long. It looks at
// the bytes of the message behind b, too: they are part of b's capacity.
//
//go:noinline
func longVarint(b []byte, i int) (v uint64, next int) {
	if i+8 <= cap(b) {
		w := binary.LittleEndian.Uint64(b[i : i+8])
		if stop := ^w & 0x8080808080808080; stop != 0 {
			// The number ends within the word: keep its bytes and close the gaps
			// that their top bits leave, in pairs, fours and eights.
			w &= (stop ^ (stop - 1)) & 0x7f7f7f7f7f7f7f7f
			w = w&0x007f007f007f007f | w&0x7f007f007f007f00>>1
			w = w&0x00003fff00003fff | w&0x3fff00003fff0000>>2
			if next = i + bits.TrailingZeros64(stop)/8 + 1; next > len(b) {
				return 0, -1
			}
			return w&0x000000000fffffff | w>>32<<28, next
		}
	}
	return slowVarint(b, i)
}

func slowVarint(b []byte, i int) (v uint64, next int) {
	for shift := uint(0); shift < 70 && i < len(b); shift += 7 {
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, -1
}

// numbers reads a message all of whose fields are numbers: field n goes to
// v[n], names are those of the fields the format has. A field that comes
// again counts as it came last.
func numbers(v *[11]uint64, b []byte, from int, names []string, what string) error {
	for i := from; i < len(b); {
		if n := b[i] >> 3; b[i]&(0x80|7) == 0 && int(n) < min(len(names), len(v)) {
			// A number with a tag of one byte, or one without number, to skip.
			// As varint does, which is too large to be inlined.
			if i+1 < len(b) && b[i+1] < 0x80 {
				v[n] = uint64(b[i+1])
				i += 2
				continue
			}
			if i+2 < len(b) && b[i+2] < 0x80 {
				v[n] = uint64(b[i+1]&0x7f) | uint64(b[i+2])<<7
				i += 3
				continue
			}
			x, next := longVarint(b, i+1)
			if next < 0 {
				return fieldError(b, i, what)
			}
			v[n] = x
			i = next
			continue
		}
		tag, x, next := field(b, i)
		switch {
		case next < 0:
			return fieldError(b, i, what)
		case tag&7 == wireVarint && tag>>3 < uint64(min(len(names), len(v))):
			v[tag>>3] = x
		default:
			if err := unexpected(names, tag, i, what); err != nil {
				return err
			}
		}
		i = next
	}
	return nil
}

// field reads the field at b[i:]: its tag (number<<3 | wire type), its value
// and the index after it, negative if the field is malformed. For wireBytes
// the value is the length n, and the bytes are b[next-n : next].
func field(b []byte, i int) (tag, v uint64, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		tag = uint64(b[i])
		i++
	} else if tag, i = longVarint(b, i); i < 0 {
		return tag, 0, -1
	}
	switch tag & 7 {
	case wireVarint:
		if uint(i) < uint(len(b)) && b[i] < 0x80 {
			return tag, uint64(b[i]), i + 1
		}
		v, i = longVarint(b, i)
		return tag, v, i
	case wireBytes:
		if uint(i) < uint(len(b)) && b[i] < 0x80 {
			v = uint64(b[i])
			i++
		} else if v, i = longVarint(b, i); i < 0 {
			return tag, v, -1
		}
		if v > uint64(len(b)-i) {
			return tag, v, -1
		}
		return tag, v, i + int(v)
	case wireFixed64:
		if len(b)-i < 8 {
			return tag, 0, -1
		}
		return tag, binary.LittleEndian.Uint64(b[i:]), i + 8
	case wireFixed32:
		if len(b)-i < 4 {
			return tag, 0, -1
		}
		return tag, uint64(binary.LittleEndian.Uint32(b[i:])), i + 4
	}
	return tag, 0, -1
}

// fieldError says what is wrong with the field at b[i:], for which field
// returned a negative index.
func fieldError(b []byte, i int, what string) error {
	tag, next := varint(b, i)
	if next < 0 {
		return invalidAt(i, "%s: malformed or cut off field number", what)
	}
	switch tag & 7 {
	case wireVarint:
		return invalidAt(next, "%s: malformed or cut off number in field %d", what, tag>>3)
	case wireBytes:
		n, start := varint(b, next)
		if start < 0 {
			return invalidAt(next, "%s: malformed or cut off length of field %d", what, tag>>3)
		}
		return invalidAt(start, "%s: field %d wants %d bytes, %d are left", what, tag>>3, n, len(b)-start)
	case wireFixed64, wireFixed32:
		return invalidAt(next, "%s: field %d is cut off", what, tag>>3)
	}
	return invalidAt(i, "%s: unknown wire type %d of field %d", what, tag&7, tag>>3)
}

// unexpected decides about a field whose tag no case matched: a number that
// the format does not have is skipped, a known one has the wrong wire type.
func unexpected(names []string, tag uint64, at int, what string) error {
	if n := tag >> 3; n > 0 && n < uint64(len(names)) {
		return invalidAt(at, "%s: wrong wire type %d of field %d (%s)", what, tag&7, n, names[n])
	}
	return nil
}

// invalidAt makes an error about the message's byte at.
func invalidAt(at int, format string, args ...any) error {
	return inquest.Errorf(inquest.ErrInvalid, "not a valid pprof profile: at byte %d: "+format, append([]any{at}, args...)...)
}
