package coredump

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/goinquest/inquest"
)

const (
	// What is kept of the executable's memory to identify it by.
	keptBytes        = 16 << 20
	keptMappingBytes = 4 << 20
)

func sortSegments(s []Segment) {
	slices.SortFunc(s, func(a, b Segment) int { return cmp.Compare(a.Addr, b.Addr) })
}

// ImportStream writes the image of a core that comes as a stream, as out of a
// decompressor. What is zero takes no space, a MiB at a time; what is behind
// the end of a stream that was cut off is missing. The error is ErrNotGo, as
// soon as that is known, if it is not of a Go program: what was written by then
// is of no use.
func ImportStream(ctx context.Context, r io.Reader, w io.Writer, o ImportOptions) (*Ledger, error) {
	n, err := ReadNotes(r)
	if err != nil {
		return nil, fmt.Errorf("import a core: %w", err)
	}
	l, err := n.importStream(ctx, &counted{r: r, off: n.read}, w, o)
	if err != nil {
		return nil, fmt.Errorf("import the core of %q: %w", n.Name, err)
	}
	return l, nil
}

func (n *Notes) importStream(ctx context.Context, r *counted, w io.Writer, o ImportOptions) (*Ledger, error) {
	slices.SortStableFunc(n.loads, func(a, b elfProgram) int { return cmp.Compare(a.off, b.off) })
	h := &Header{Core: n.describe(o.Core, nil), Notes: n.Raw, Machine: n.Machine, Segments: n.Segments}
	h.Core.Tier = inquest.TierFull
	at := n.read
	for _, l := range n.loads {
		if l.off < at {
			return nil, inquest.Errorf(inquest.ErrInvalid, "its segments overlap in the file, at %d", l.off)
		}
		at = l.off + l.filesz
		h.Extents = append(h.Extents, Extent{l.addr, l.filesz})
	}
	iw, err := NewWriter(w, h)
	if err != nil {
		return nil, err
	}
	s := &streamImport{ctx: ctx, r: r, w: iw, o: &o, notes: n, buf: make([]byte, importBytes)}
	s.wanted()
	for _, l := range n.loads {
		if err := s.load(l); err != nil {
			return nil, err
		}
		if s.cut {
			break
		}
	}
	if err := s.identify(); err != nil {
		return nil, err
	}
	c := n.describe(h.Core, s.build)
	if s.cut {
		c.Missing = append(c.Missing, fmt.Sprintf("the core was cut off after %d of %d bytes", r.off, n.FileBytes))
	}
	iw.Describe(c)
	return iw.Close()
}

// streamImport is a stream on its way into an image.
type streamImport struct {
	ctx   context.Context
	r     *counted
	w     *Writer
	o     *ImportOptions
	notes *Notes
	buf   []byte
	cut   bool

	want  []Extent // of the executable's memory, by address
	kept  keptMemory
	asked bool // for the build
	build *inquest.Build
}

// wanted notes which memory says what the executable is.
func (s *streamImport) wanted() {
	_, mappings := s.notes.Process.executable()
	left := uint64(keptBytes)
	for _, m := range mappings {
		n := min(m.Size, keptMappingBytes, left)
		left -= n
		if n > 0 {
			s.want = append(s.want, Extent{m.Addr, n})
		}
	}
	var here []Extent
	for _, l := range s.notes.loads {
		here = append(here, Extent{l.addr, l.filesz})
	}
	s.want = common(merged(s.want, 0), merged(here, 0))
}

// load copies one segment.
func (s *streamImport) load(l elfProgram) error {
	if !s.cut && l.off > s.r.off {
		if err := s.r.skip(l.off); errors.Is(err, inquest.ErrInvalid) {
			s.cut = true
		} else if err != nil {
			return err
		}
	}
	for e := (Extent{l.addr, l.filesz}); e.Size > 0; {
		if s.cut {
			return nil // what is not written is missing
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		b := s.buf[:min(e.Size, importBytes)]
		k, err := io.ReadFull(s.r.r, b)
		s.r.off += uint64(k)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			s.cut = true
		case err != nil:
			return err
		}
		b = b[:k]
		s.keep(b, e.Addr)
		if err := s.o.write(s.w, b, e.Addr); err != nil {
			return err
		}
		e.Addr += uint64(k)
		e.Size -= uint64(k)
		if len(s.want) == 0 {
			if err := s.identify(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep takes what is wanted out of bytes that pass.
func (s *streamImport) keep(b []byte, addr uint64) {
	got := []Extent{{addr, uint64(len(b))}}
	for _, e := range common(s.want, got) {
		s.kept.add(e.Addr, b[e.Addr-addr:e.End()-addr])
	}
	s.want = without(s.want, got)
}

// identify finds out what the executable is, once.
func (s *streamImport) identify() error {
	if s.asked {
		return nil
	}
	s.asked = true
	p := *s.notes.Process
	p.Memory = &s.kept
	build, _, err := p.Identify()
	s.kept = keptMemory{}
	if errors.Is(err, inquest.ErrNotFound) {
		if s.cut {
			return nil // what says so may have been cut off
		}
		return ErrNotGo
	}
	s.build = build
	return err
}

// keptMemory is a few pieces of memory.
type keptMemory struct {
	pieces []keptPiece // by address
}

type keptPiece struct {
	addr  uint64
	bytes []byte
}

func (m *keptMemory) add(addr uint64, b []byte) {
	if k := len(m.pieces); k > 0 {
		last := &m.pieces[k-1]
		if last.addr+uint64(len(last.bytes)) == addr {
			last.bytes = append(last.bytes, b...)
			return
		}
	}
	m.pieces = append(m.pieces, keptPiece{addr, append([]byte(nil), b...)})
}

// ReadAt reads at an address.
func (m *keptMemory) ReadAt(p []byte, off int64) (int, error) {
	addr := uint64(off)
	for _, k := range m.pieces {
		if addr >= k.addr && addr < k.addr+uint64(len(k.bytes)) {
			if n := copy(p, k.bytes[addr-k.addr:]); n == len(p) {
				return n, nil
			} else {
				return n, inquest.Errorf(inquest.ErrNotFound, "no memory at %#x", addr+uint64(n))
			}
		}
	}
	return 0, inquest.Errorf(inquest.ErrNotFound, "no memory at %#x", addr)
}
