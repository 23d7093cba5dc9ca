package corepattern

import (
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// maxWindow is how far back a packed core may refer, in bytes. It bounds the
// memory that unpacking takes.
const maxWindow = 128 << 20

// unpack reads a core that was packed as its file's name says, one piece at a
// time.
func unpack(r io.Reader, packed string) (io.ReadCloser, error) {
	switch packed {
	case packedZstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case packedLZ4:
		return io.NopCloser(lz4.NewReader(r)), nil
	case packedXZ:
		d, err := xz.ReaderConfig{DictCap: 1 << 20, SingleStream: false}.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	}
	return io.NopCloser(r), nil
}
