package query

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// jsonBuffer appends JSON to a buffer: encoding/json would take longer for a
// flame graph than reading and merging it.
type jsonBuffer struct {
	buf []byte
	dec int // values are integers of 10^-dec
}

func (j *jsonBuffer) text(s string) { j.buf = append(j.buf, s...) }

// values appends an array of scaled values.
func (j *jsonBuffer) values(vs []int64) {
	j.buf = append(j.buf, '[')
	for i, v := range vs {
		if i > 0 {
			j.buf = append(j.buf, ',')
		}
		if v == 0 {
			j.buf = append(j.buf, '0')
			continue
		}
		j.value(v)
	}
	j.buf = append(j.buf, ']')
}

// value appends v × 10^-dec exactly, without zeros at its end.
func (j *jsonBuffer) value(v int64) {
	if j.dec == 0 {
		j.buf = strconv.AppendInt(j.buf, v, 10)
		return
	}
	if v < 0 {
		j.buf = append(j.buf, '-')
	}
	m, unit := magnitude(v), uint64(1)
	for range j.dec {
		unit *= 10
	}
	j.buf = strconv.AppendUint(j.buf, m/unit, 10)
	rest := m % unit
	if rest == 0 {
		return
	}
	j.buf = append(j.buf, '.')
	for unit /= 10; rest > 0; unit /= 10 {
		j.buf = append(j.buf, byte('0'+rest/unit))
		rest %= unit
	}
}

// magnitude is |v|, that of the least int64 too.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// integers appends an array of indexes.
func integers[T int32 | uint32](j *jsonBuffer, vs []T) {
	j.buf = append(j.buf, '[')
	for i, v := range vs {
		if i > 0 {
			j.buf = append(j.buf, ',')
		}
		j.buf = strconv.AppendInt(j.buf, int64(v), 10)
	}
	j.buf = append(j.buf, ']')
}

func (j *jsonBuffer) strings(vs []string) {
	j.buf = append(j.buf, '[')
	for i, s := range vs {
		if i > 0 {
			j.buf = append(j.buf, ',')
		}
		j.string(s)
	}
	j.buf = append(j.buf, ']')
}

// string appends s quoted, spelled as encoding/json does: safe inside HTML,
// bytes that are not UTF-8 replaced.
func (j *jsonBuffer) string(s string) {
	const hex = "0123456789abcdef"
	j.buf = append(j.buf, '"')
	begin := 0 // of what is still to be copied
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			j.buf = append(j.buf, s[begin:i]...)
			switch c {
			case '"', '\\':
				j.buf = append(j.buf, '\\', c)
			default:
				j.buf = append(j.buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			begin = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
			j.buf = append(j.buf, s[begin:i]...)
			j.buf = append(j.buf, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			begin = i + n
		}
		i += n
	}
	j.buf = append(j.buf, s[begin:]...)
	j.buf = append(j.buf, '"')
}

// plain are the ASCII bytes that stand for themselves.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(0x20); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0x7f
	}
	return t
}()

// marshal appends anything, the slow way.
func (j *jsonBuffer) marshal(v any) error {
	b, err := json.Marshal(v)
	j.buf = append(j.buf, b...)
	return err
}
