package coredump

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/goinquest/inquest"
)

const importBytes = 256 << 10 // are copied at once

// ErrNotGo says that a core is not one of a Go program.
var ErrNotGo = inquest.Errorf(inquest.ErrInvalid, "not the core of a Go program")

// ImportOptions say what to make of a core.
type ImportOptions struct {
	// Core describes the image; its Crash and Tier are taken from here, what
	// the core says of itself is filled in. With TierMini only what Select
	// returns is kept.
	Core inquest.Core
	// Select returns what makes the minicore; nil: it is not told apart.
	Select func(p *Process) ([]Extent, error)
	// Blank overwrites what must not leave the host in bytes that are at an
	// address, BlankNotes in the notes; nil: nothing. Blank sees all bytes in
	// the order of the image.
	Blank      func(p []byte, addr uint64) int
	BlankNotes func(notes []byte) int
	// Describe completes what is said of the core once it is copied; nil: that
	// is all.
	Describe func(c *inquest.Core)
}

// ImportFile writes the image of a core file. Holes are passed over, and what
// a file that was cut off has not got is missing. The error is ErrNotGo,
// before anything is written, if it is not of a Go program.
func ImportFile(ctx context.Context, f *os.File, w io.Writer, o ImportOptions) (*Ledger, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("import a core: %w", err)
	}
	n, err := OpenCoreFile(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("import a core: %w", err)
	}
	build, _, err := n.Process.Identify()
	if err != nil {
		if errors.Is(err, inquest.ErrNotFound) {
			err = ErrNotGo
		}
		return nil, fmt.Errorf("import the core of %q: %w", n.Name, err)
	}
	core := n.describe(o.Core, build)
	if cut := n.FileBytes - info.Size(); cut > 0 {
		core.Missing = append(core.Missing, fmt.Sprintf("the core file was cut off after %d of %d bytes", info.Size(), n.FileBytes))
	}
	h, err := n.plan(f, info.Size(), core, o)
	if err != nil {
		return nil, fmt.Errorf("import the core of %q: %w", n.Name, err)
	}
	iw, err := NewWriter(w, h)
	if err != nil {
		return nil, fmt.Errorf("import the core of %q: %w", n.Name, err)
	}
	buf := make([]byte, importBytes)
	for _, e := range h.Extents {
		for e.Size > 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b := buf[:min(e.Size, importBytes)]
			k, err := n.Process.Memory.ReadAt(b, int64(e.Addr))
			if k == 0 {
				return nil, fmt.Errorf("import the core of %q: %w", n.Name, err)
			}
			if o.Blank != nil {
				o.Blank(b[:k], e.Addr)
			}
			if _, err := iw.Write(b[:k]); err != nil {
				return nil, err
			}
			e.Addr += uint64(k)
			e.Size -= uint64(k)
		}
	}
	if o.Describe != nil {
		o.Describe(&core)
		iw.Describe(core)
	}
	return iw.Close()
}

// describe fills in what a core says of itself.
func (n *Notes) describe(c inquest.Core, build *inquest.Build) inquest.Core {
	c.Arch, c.Threads = n.Process.Arch, len(n.Process.Threads)
	if build != nil {
		c.GoVersion, c.Build, c.GoBuildID = build.GoVersion, build.ID, build.GoBuildID
	}
	if c.Tier == "" {
		c.Tier = inquest.TierFull
	}
	if n.Core != nil { // it was made of an image
		c.Missing = append(c.Missing, n.Core.Missing...)
		c.Blanked = append(c.Blanked, n.Core.Blanked...)
	}
	return c
}

func sortSegments(s []Segment) {
	slices.SortFunc(s, func(a, b Segment) int { return cmp.Compare(a.Addr, b.Addr) })
}

// paged widens extents to whole pages.
func paged(extents []Extent) []Extent {
	for i, e := range extents {
		from := e.Addr &^ (corePage - 1)
		extents[i] = Extent{from, (e.End()+corePage-1)&^(corePage-1) - from}
	}
	return merged(extents, 0)
}

// plan decides what of a core file goes into an image, in which order.
func (n *Notes) plan(f *os.File, size int64, core inquest.Core, o ImportOptions) (*Header, error) {
	h := &Header{Core: core, Notes: bytes.Clone(n.Raw), Machine: n.Machine}
	if o.BlankNotes != nil {
		o.BlankNotes(h.Notes)
	}
	missing := merged(n.Missing, 0)
	var selected []Extent
	if o.Select != nil {
		s, err := o.Select(n.Process)
		if err != nil {
			return nil, fmt.Errorf("select a minicore: %w", err)
		}
		selected = merged(s, 0)
	}
	var mini, rest []Extent
	loads := n.loads
	for _, s := range n.Segments {
		if s.Fill == FillMissing {
			h.Segments = append(h.Segments, s)
			continue
		}
		l := loads[0]
		loads = loads[1:]
		data, err := fileData(f, l, size, MaxExtents/2-len(mini)-len(rest))
		if err != nil {
			return nil, err
		}
		whole := []Extent{s.Extent}
		here := without(whole, missing)
		data = common(paged(data), here)
		for _, e := range common(whole, missing) {
			h.Segments = append(h.Segments, Segment{e, s.Flags, FillMissing})
		}
		kept := common(data, selected)
		left := without(data, kept)
		fill := FillZero
		switch {
		case o.Select == nil || core.Tier != inquest.TierMini:
			rest = append(rest, left...)
		case len(left) > 0:
			kept, fill = common(here, selected), FillMissing
		}
		mini = append(mini, kept...)
		for _, e := range here {
			h.Segments = append(h.Segments, Segment{e, s.Flags, fill})
		}
	}
	sortSegments(h.Segments)
	h.Extents, h.Mini = append(mini, rest...), len(mini)
	return h, nil
}
