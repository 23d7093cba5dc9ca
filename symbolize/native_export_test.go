package symbolize

import (
	"io"

	"github.com/goinquest/inquest"
)

// The native part of a table, for tests of this part alone.
type NativeTable = nativeTable

func EncodeNative(r io.ReaderAt, size int64, goText ...[2]uint64) ([]byte, error) {
	return encodeNative(r, size, goText...)
}

func OpenNative(b []byte) (*NativeTable, error) { return openNative(b) }

func (t *nativeTable) Frames(dst []inquest.Frame, addr uint64) []inquest.Frame {
	return t.frames(dst, addr)
}

func (t *nativeTable) Source(addr uint64) string         { return t.source(addr) }
func (t *nativeTable) Functions(name string) [][2]uint64 { return t.functions(name) }
func (t *nativeTable) Damaged() string                   { return t.damaged }
