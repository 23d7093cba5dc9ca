package coredump

import (
	"hash/crc32"

	"github.com/goinquest/inquest"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is what stands before a block in an image file, so that a file that
// was cut off can be read too.
type frame struct {
	number uint32
	block  Block // without its offset
	skips  []byte
	absent bool
}

func (f *frame) append(b []byte) []byte {
	at := len(b)
	if f.absent {
		b = append(b, magicAbsent...)
	} else {
		b = append(b, magicBlock...)
	}
	b = wire.AppendUint32(b, f.number)
	b = wire.AppendUint32(b, f.block.Size)
	b = wire.AppendUint32(b, f.block.Stored)
	b = wire.AppendUint32(b, uint32(len(f.skips)/skipSize))
	b = append(b, f.block.Sum[:]...)
	sum := crc32.Update(crc32.Checksum(b[at:], castagnoli), castagnoli, f.skips)
	b = wire.AppendUint32(b, sum)
	return append(b, f.skips...)
}

var errFrame = inquest.Errorf(inquest.ErrInvalid, "image: a damaged frame")

// parseFrame reads the fixed part, and says how many bytes of skips follow.
func parseFrame(b []byte) (f frame, skips int, err error) {
	if len(b) < frameFixed {
		return f, 0, errFrame
	}
	switch string(b[:4]) {
	case magicBlock:
	case magicAbsent:
		f.absent = true
	default:
		return f, 0, errFrame
	}
	f.number, f.block.Size, f.block.Stored = wire.Uint32(b[4:]), wire.Uint32(b[8:]), wire.Uint32(b[12:])
	copy(f.block.Sum[:], b[20:52])
	n := wire.Uint32(b[16:])
	if n > maxBlockSkips || f.block.Stored > f.block.Size || f.block.Size > BlockBytes {
		return f, 0, errFrame
	}
	return f, int(n) * skipSize, nil
}

// checkFrame checks a frame with its skips.
func checkFrame(b []byte) error {
	sum := crc32.Update(crc32.Checksum(b[:frameFixed-4], castagnoli), castagnoli, b[frameFixed:])
	if sum != wire.Uint32(b[frameFixed-4:]) {
		return errFrame
	}
	return nil
}
