package ingest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

const (
	minZstdWindow   = 8 << 20 // what RFC 8878 asks decoders to support
	keepBufferBytes = 4 << 20 // larger buffers are not kept between bodies
)

// worker is what one body needs to be unpacked and decoded, used again and
// again.
type worker struct {
	decoder *profile.Decoder
	zstd    *zstd.Decoder // made when first needed
	gzip    *gzip.Reader  // made when first needed
	source  bytes.Reader
	raw     []byte // unpacked body

}

// workers keeps idle workers.
type workers struct {
	limits profile.Limits
	pool   sync.Pool // of *worker
}

func (ws *workers) get() *worker {
	if w, ok := ws.pool.Get().(*worker); ok {
		return w
	}
	return &worker{decoder: profile.NewDecoder(ws.limits)}
}

func (ws *workers) put(w *worker) {
	w.decoder.Release()
	w.source.Reset(nil)
	if cap(w.raw) > keepBufferBytes {
		w.raw = nil
	}
	ws.pool.Put(w)
}

// decoded is a body on its way to the disk.
type decoded struct {
	in      *Ingest
	turn    bool             // it has one of Ingest.decoding
	worker  *worker          // nil once it is back with the others
	profile *profile.Profile // the worker's; nil as well then
	bytes   int64            // as reserved in Ingest.waiting
}

// decode unpacks and decodes a body, waiting for its turn as long as ctx
// lasts. The result must be closed.
//
// Turn and worker go back as soon as the store has taken the profile, so that
// there are no more workers than turns: the wait for the disk that follows is
// bounded by the memory of the profiles that wait.
func (in *Ingest) decode(ctx context.Context, p *Push) (*decoded, error) {
	in.mt.queue.Inc()
	err := in.decoding.Acquire(ctx, 1)
	in.mt.queue.Dec()
	if err != nil {
		return nil, err
	}
	w := in.workers.get()
	d := &decoded{in: in, turn: true, worker: w}
	body, err := w.unpack(p, in.o.Limits.MaxRawBytes)
	if err == nil {
		d.profile, err = w.decoder.Decode(body)
	}
	if err == nil {
		// As much again for the body it is part of, and for its hashes.
		size := min(3*memory(d.profile), in.o.WaitingBytes)
		if err = in.waiting.Acquire(ctx, size); err == nil {
			d.bytes = size
			return d, nil
		}
	}
	d.release()
	return nil, err
}

// endTurn lets others have the turn, before a wait that may be long.
func (d *decoded) endTurn() {
	if d.turn {
		d.in.decoding.Release(1)
		d.turn = false
	}
}

// release gives turn and worker back; the profile is gone with it.
func (d *decoded) release() {
	d.endTurn()
	if d.worker != nil {
		d.in.workers.put(d.worker)
		d.worker, d.profile = nil, nil
	}
}

// close ends the way of the body.
func (d *decoded) close() {
	d.release()
	d.in.waiting.Release(d.bytes)
}

// unpack removes the transfer's compression. What it returns is part of the
// worker or of the body.
func (w *worker) unpack(p *Push, limit int64) ([]byte, error) {
	switch p.Encoding {
	case "zstd":
		return w.unzstd(p.Body, limit)
	case "gzip":
		return w.gunzip(p.Body, limit)
	}
	return p.Body, nil
}

func (w *worker) unzstd(body []byte, limit int64) ([]byte, error) {
	// The window is part of the output buffer here, so it may be as large as that.
	window := max(limit, minZstdWindow)
	if w.zstd == nil {
		var err error
		w.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderMaxWindow(uint64(window)))
		if err != nil {
			return nil, err
		}
	}
	raw, err := w.zstd.DecodeAll(body, w.raw[:0])
	if raw != nil {
		w.raw = raw[:0]
	}
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return nil, tooLarge(limit)
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, inquest.Errorf(inquest.ErrTooLarge, "the zstd body needs a window of more than %d bytes", window)
	case err != nil:
		return nil, inquest.Errorf(inquest.ErrInvalid, "the body is not the zstd that Content-Encoding says: %v", err)
	case len(raw) == 0:
		return nil, inquest.Errorf(inquest.ErrInvalid, "the zstd body holds nothing; it must hold a pprof profile")
	}
	return raw, nil
}

func (w *worker) gunzip(body []byte, limit int64) ([]byte, error) {
	w.source.Reset(body)
	var err error
	if w.gzip == nil {
		w.gzip, err = gzip.NewReader(&w.source)
	} else {
		err = w.gzip.Reset(&w.source)
	}
	if err == nil {
		w.raw, err = readUpTo(w.raw[:0], w.gzip, limit+1)
	}
	switch {
	case err != nil:
		return nil, inquest.Errorf(inquest.ErrInvalid, "the body is not the gzip that Content-Encoding says: %v", err)
	case int64(len(w.raw)) > limit:
		return nil, tooLarge(limit)
	case len(w.raw) == 0:
		return nil, inquest.Errorf(inquest.ErrInvalid, "the gzip body holds nothing; it must hold a pprof profile")
	}
	return w.raw, nil
}

// readUpTo appends what r holds to buf, at most limit bytes in all, and never
// makes room for more than that.
func readUpTo(buf []byte, r io.Reader, limit int64) ([]byte, error) {
	for int64(len(buf)) < limit {
		if len(buf) == cap(buf) {
			larger := make([]byte, len(buf), min(max(2*int64(cap(buf)), 64<<10), limit))
			copy(larger, buf)
			buf = larger
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), limit)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

func tooLarge(limit int64) error {
	return inquest.Errorf(inquest.ErrTooLarge, "the body has more than %d bytes once decompressed, which is the limit", limit)
}

// memory is about how many bytes a decoded profile takes.
func memory(p *profile.Profile) int64 {
	n := 24*len(p.Strings) + 24*len(p.Functions) + 48*len(p.Mappings) + 32*len(p.Locations) + 24*len(p.Lines) +
		4*len(p.Stacks) + 8*len(p.StackEnds) + 8*len(p.Values) + 24*len(p.Labels)
	for _, s := range p.Strings {
		n += len(s)
	}
	return int64(n)
}
