package symbolize

import (
	"encoding/binary"

	"github.com/goinquest/inquest"
)

const segmentRowBytes = 32 // flags, offset in the file, address, size in the file: 8 bytes each

// segments are the loaded parts of the file, those with code first.
type segments []segment

// loaded picks the segments of a file that are loaded from it.
func (f *image) loaded() segments {
	var code, rest segments
	for _, s := range f.segments {
		switch {
		case s.kind != segmentLoad || s.filesz == 0:
		case s.flags&segmentExec != 0:
			code = append(code, s)
		default:
			rest = append(rest, s)
		}
	}
	return append(code, rest...)
}

func (ss segments) encode() []byte {
	le := binary.LittleEndian
	var b []byte
	for _, s := range ss {
		b = le.AppendUint64(b, uint64(s.flags))
		b = le.AppendUint64(b, s.off)
		b = le.AppendUint64(b, s.addr)
		b = le.AppendUint64(b, s.filesz)
	}
	return b
}

func decodeSegments(b []byte) (segments, error) {
	if len(b)%segmentRowBytes != 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "table of symbols: segments of %d bytes", len(b))
	}
	le := binary.LittleEndian
	var ss segments
	for ; len(b) > 0; b = b[segmentRowBytes:] {
		ss = append(ss, segment{
			kind: segmentLoad, flags: uint32(le.Uint64(b)),
			off: le.Uint64(b[8:]), addr: le.Uint64(b[16:]), filesz: le.Uint64(b[24:]),
		})
	}
	return ss, nil
}

// address is where an offset in the file is linked to. An offset that several
// segments have is one of code if it can be.
func (ss segments) address(off uint64) (uint64, bool) {
	for _, s := range ss {
		if off >= s.off && off-s.off < s.filesz {
			return s.addr + (off - s.off), true
		}
	}
	return 0, false
}

// offset is where an address as linked is in the file.
func (ss segments) offset(addr uint64) (uint64, bool) {
	for _, s := range ss {
		if addr >= s.addr && addr-s.addr < s.filesz {
			return s.off + (addr - s.addr), true
		}
	}
	return 0, false
}
