package debug

import (
	"bytes"
	"strconv"
)

// disarm replaces, in JSON, control characters other than tabs and ends of
// lines: strings of a dead process end up in terminals. It works in place.
func disarm(b []byte) []byte {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\\' && i+5 < len(b) && b[i+1] == 'u':
			if n, err := strconv.ParseUint(string(b[i+2:i+6]), 16, 16); err == nil && control(rune(n)) {
				copy(b[i+2:], "fffd")
			}
			i += 5
		case b[i] == '\\':
			i++
		case b[i] == 0x7f:
			b[i] = '?'
		case b[i] == 0xc2 && i+1 < len(b) && b[i+1] >= 0x80 && b[i+1] < 0xa0: // U+0080 to U+009F
			copy(b[i:], "??")
		case b[i] == 0xe2 && i+2 < len(b) && (bytes.HasPrefix(b[i:], []byte("\u202d")) || bytes.HasPrefix(b[i:], []byte("\u202e"))):
			copy(b[i:], "???")
		}
	}
	return b
}

func control(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r < 0xa0 || r == 0x202d || r == 0x202e
}
