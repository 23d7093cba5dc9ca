package profile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/goinquest/inquest"
	"github.com/klauspost/compress/gzip"
)

// gunzipper unpacks gzip bodies of any number of members, reusing its memory:
// usual ones in one go, all others, and those in error, with a streaming reader.
type gunzipper struct {
	fast inflater
	in   bytes.Reader
	zr   *gzip.Reader
}

// gunzip unpacks body into dst's memory, growing it as far as limit bytes.
func (g *gunzipper) gunzip(dst, body []byte, limit int64) ([]byte, error) {
	dst = sized(dst, body, limit)
	if out, ok := g.fast.gunzip(dst, body); ok && int64(len(out)) <= limit {
		return out, nil
	}
	return g.stream(dst, body, limit)
}

// stream is gunzip with a streaming reader; dst has some capacity.
func (g *gunzipper) stream(dst, body []byte, limit int64) ([]byte, error) {
	g.in.Reset(body)
	defer g.in.Reset(nil)
	var err error
	if g.zr == nil {
		g.zr, err = gzip.NewReader(&g.in)
	} else {
		err = g.zr.Reset(&g.in)
	}
	if err != nil {
		return dst[:0], g.failed(err, len(body), 0)
	}
	for {
		n, err := g.zr.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return dst[:0], tooBig(limit)
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst[:0], g.failed(err, len(body), len(dst))
		}
		if len(dst) == cap(dst) {
			grown := make([]byte, len(dst), min(int64(2*cap(dst)), limit+inflateSlack))
			copy(grown, dst)
			dst = grown
		}
	}
}

// sized returns dst, emptied, with at least the capacity that the size in the
// last member's trailer promises. That is a hint that anyone can forge: it is
// trusted only as far as profiles are compressible.
func sized(dst, body []byte, limit int64) []byte {
	const usualRatio, always = 16, 64 << 10
	hint := int64(always)
	if len(body) >= gzipHeaderBytes+gzipTrailerBytes {
		promised := int64(binary.LittleEndian.Uint32(body[len(body)-4:]))
		hint = max(hint, min(promised, usualRatio*int64(len(body))))
	}
	hint = min(hint, limit) + inflateSlack
	if int64(cap(dst)) >= hint {
		return dst[:0]
	}
	return make([]byte, 0, hint)
}

func tooBig(limit int64) error {
	return inquest.Errorf(inquest.ErrTooLarge, "decompressed profile has more than %d bytes, the limit", limit)
}

// failed says where unpacking stopped.
func (g *gunzipper) failed(err error, size, out int) error {
	at := size - g.in.Len()
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return inquest.Errorf(inquest.ErrInvalid, "gzip body is cut off after %d bytes (%d decompressed)", size, out)
	case errors.Is(err, gzip.ErrHeader) && out > 0:
		return inquest.Errorf(inquest.ErrInvalid, "gzip body has something that is not gzip behind its end, before byte %d of %d", at, size)
	case errors.Is(err, gzip.ErrChecksum):
		return inquest.Errorf(inquest.ErrInvalid, "gzip body is damaged: checksum or size is wrong before byte %d of %d", at, size)
	}
	return inquest.Errorf(inquest.ErrInvalid, "gzip body is damaged before byte %d of %d: %v", at, size, err)
}
