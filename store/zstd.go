package store

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// packer compresses and unpacks streams. It is safe for concurrent use.
type packer struct {
	enc sync.Pool // *zstd.Encoder
	dec sync.Pool // *zstd.Decoder
	buf sync.Pool // *[]byte, for streams between the file and their unpacking
}

// maxKeptBuffer is the largest buffer that is used again.
const maxKeptBuffer = 1 << 20

// buffer lends n bytes, to be given to done.
func (p *packer) buffer(n int) *[]byte {
	b, _ := p.buf.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	*b = resize(*b, n)
	return b
}

func (p *packer) done(b *[]byte) {
	if cap(*b) <= maxKeptBuffer {
		p.buf.Put(b)
	}
}

func newPacker() *packer { return &packer{} }

// pack appends b, compressed if that makes it smaller, and says how.
func (p *packer) pack(dst, b []byte) (out []byte, codec uint8) {
	if len(b) < 32 {
		return append(dst, b...), codecRaw
	}
	e, _ := p.enc.Get().(*zstd.Encoder)
	if e == nil {
		// The options are constants and known to be right, so there is no error.
		e, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	}
	n := len(dst)
	out = e.EncodeAll(b, dst)
	p.enc.Put(e)
	if len(out)-n >= len(b) {
		return append(out[:n], b...), codecRaw
	}
	return out, codecZstd
}

// unpack returns the raw bytes of a stored stream. The result may be b
// itself.
func (p *packer) unpack(b []byte, codec uint8, rawLen int) ([]byte, error) {
	if rawLen < 0 || rawLen > maxStreamBytes {
		return nil, fmt.Errorf("stream claims %d bytes", rawLen)
	}
	switch codec {
	case codecRaw:
		if len(b) != rawLen {
			return nil, fmt.Errorf("stream has %d bytes, want %d", len(b), rawLen)
		}
		return b, nil
	case codecZstd:
	default:
		return nil, fmt.Errorf("unknown codec %d", codec)
	}
	d, _ := p.dec.Get().(*zstd.Decoder)
	if d == nil {
		d, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxStreamBytes))
	}
	defer p.dec.Put(d)
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	// The encoder leaves out sizes below 256.
	if h.FrameContentSize != uint64(rawLen) && (h.HasFCS && h.FrameContentSize != 0 || rawLen >= 256) {
		return nil, fmt.Errorf("stream of %d bytes claims %d in its frame", rawLen, h.FrameContentSize)
	}
	// Ordinary streams shrink by less than this; others grow as they unpack.
	out, err := d.DecodeAll(b, make([]byte, 0, min(rawLen, 64*len(b)+1024)+bitPad))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	if len(out) != rawLen {
		return nil, fmt.Errorf("stream has %d bytes, want %d", len(out), rawLen)
	}
	return out, nil
}
