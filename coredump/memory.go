package coredump

import (
	"container/list"
	"slices"
	"sync"

	"github.com/goinquest/inquest"
	"github.com/klauspost/compress/zstd"
)

// keptBlocks is how many unpacked blocks an image keeps.
const keptBlocks = 8

// memory reads an image by address.
type memory struct {
	runs   []run
	ledger *Ledger
	block  func(n int) ([]byte, error)

	mu    sync.Mutex
	dec   *zstd.Decoder
	order *list.List // of *keptBlock, newest first
	kept  map[int]*list.Element
}

// keptBlock is unpacked once, for all that wait for it.
type keptBlock struct {
	n   int
	do  sync.Once
	raw []byte
	err error
}

// ReadAt reads at an address. The error is of kind inquest.ErrNotFound where
// something is missing, inquest.ErrInvalid where a block is damaged.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	addr := uint64(off)
	i, _ := slices.BinarySearchFunc(m.runs, addr, func(r run, a uint64) int {
		return within(a, r.Addr, r.End())
	})
	done := 0
	for ; done < len(p); i++ {
		if i == len(m.runs) || m.runs[i].Addr > addr {
			return done, inquest.Errorf(inquest.ErrNotFound, "no memory at %#x in the core", addr)
		}
		r := m.runs[i]
		n := int(min(uint64(len(p)-done), r.End()-addr))
		k, err := m.read(p[done:done+n], r, addr-r.Addr)
		done += k
		addr += uint64(k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// read fills p from within a run.
func (m *memory) read(p []byte, r run, from uint64) (int, error) {
	if r.zero {
		clear(p)
		return len(p), nil
	}
	l := m.ledger
	done := 0
	for pos := r.pos + from; done < len(p); {
		n, start, _ := blockAt(pos, l.mini, l.total)
		raw, err := m.unpacked(n)
		if err != nil {
			return done, err
		}
		k := copy(p[done:], raw[pos-start:])
		done += k
		pos += uint64(k)
	}
	return done, nil
}

// unpacked returns the bytes of a block. They are shared.
func (m *memory) unpacked(n int) ([]byte, error) {
	m.mu.Lock()
	if m.kept == nil {
		m.kept, m.order = map[int]*list.Element{}, list.New()
		m.dec = newBlockDecoder()
	}
	e, dec := m.kept[n], m.dec
	if e == nil {
		e = m.order.PushFront(&keptBlock{n: n})
		m.kept[n] = e
		if m.order.Len() > keptBlocks {
			delete(m.kept, m.order.Remove(m.order.Back()).(*keptBlock).n)
		}
	} else {
		m.order.MoveToFront(e)
	}
	m.mu.Unlock()
	b := e.Value.(*keptBlock)
	b.do.Do(func() { b.raw, b.err = m.ledger.unpackBlock(dec, n, m.block) })
	if b.err != nil {
		m.mu.Lock()
		if m.kept[n] == e { // it may be there another time
			delete(m.kept, n)
			m.order.Remove(e)
		}
		m.mu.Unlock()
	}
	return b.raw, b.err
}

func newBlockDecoder() *zstd.Decoder {
	// The options are constants and known to be right, so there is no error.
	dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(BlockBytes))
	return dec
}

// unpackBlock reads, checks and unpacks a block.
func (l *Ledger) unpackBlock(dec *zstd.Decoder, n int, block func(int) ([]byte, error)) ([]byte, error) {
	b := &l.blocks[n]
	stored, err := l.checked(n, block)
	switch {
	case err != nil:
		return nil, err
	case b.Stored == 0:
		return make([]byte, b.Size), nil
	case b.Stored == b.Size:
		return stored, nil
	}
	raw, err := unpackWith(dec, stored, make([]byte, 0, b.Size))
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "unpack block %d of core %s: %w", n, l.ID(), err)
	}
	return raw, nil
}
