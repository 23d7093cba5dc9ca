package coredump_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

// writeWithGaps writes a sample in pieces of any size, some of them skipped,
// and returns which pages are not there.
func (s *sample) writeWithGaps(t *testing.T, w io.Writer, r *rand.Rand) (*coredump.Ledger, map[uint64]bool) {
	t.Helper()
	iw, err := coredump.NewWriter(w, s.header)
	if err != nil {
		t.Fatal(err)
	}
	var pages []uint64 // in the order of the stream
	for _, e := range s.header.Extents {
		for a := e.Addr; a < e.End(); a += page {
			pages = append(pages, a)
		}
	}
	gone := map[uint64]bool{}
	for i := 0; i < len(pages); {
		n := min(1+r.IntN(60), len(pages)-i)
		if r.IntN(3) == 0 {
			err = iw.Skip(uint64(n) * page)
			for _, a := range pages[i : i+n] {
				gone[a] = true
			}
		} else {
			_, err = iw.Write(s.bytes[i*page : (i+n)*page])
		}
		if err != nil {
			t.Fatal(err)
		}
		i += n
	}
	c := s.header.Core
	c.Blanked = []string{"3 values of the environment"}
	iw.Describe(c)
	l, err := iw.Close()
	if err != nil {
		t.Fatal(err)
	}
	return l, gone
}

// check compares a memory with the sample: pages that are gone are missing.
func (s *sample) check(t *testing.T, memory io.ReaderAt, gone func(addr uint64) bool) {
	t.Helper()
	b := make([]byte, page)
	at := 0
	for _, e := range s.header.Extents {
		for a := e.Addr; a < e.End(); a += page {
			want := s.bytes[at : at+page]
			at += page
			_, err := memory.ReadAt(b, int64(a))
			if gone(a) {
				if !errors.Is(err, inquest.ErrNotFound) {
					t.Fatalf("%#x is missing, but: %v", a, err)
				}
			} else if err != nil || !bytes.Equal(b, want) {
				t.Fatalf("%#x is not as it was written (%v)", a, err)
			}
		}
	}
}

// TestGaps skips parts of an image: they are missing, in the image, in what is
// left when it is cut off, and in the core file.
func TestGaps(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := newSample(seed)
		var file bytes.Buffer
		l, gone := s.writeWithGaps(t, &file, r)
		im := open(t, file.Bytes())
		if d := cmp.Diff(l.Header().Core, im.Ledger().Header().Core); d != "" {
			t.Error(d)
		}
		c := im.CoreFile().Core()
		if c.Complete || len(c.Missing) != 1 || len(c.Blanked) != 1 || c.MemoryBytes != int64(len(s.bytes)-len(gone)*page) {
			t.Errorf("%+v", c)
		}
		isGone := func(a uint64) bool { return gone[a] }
		s.check(t, process(t, im).Memory, isGone)
		f := im.CoreFile()
		n, err := coredump.OpenCoreFile(f, f.Size())
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, n.Process.Memory, isGone)
		if d := cmp.Diff([]string{c.Missing[0]}, n.Core.Missing); d != "" {
			t.Error(d)
		}
	}
}

// half is an image of which some blocks are here, as in the middle of an upload.
func half(im *coredump.Image, has func(int) bool) *coredump.Image {
	return coredump.NewImage(im.Ledger(), func(n int) ([]byte, error) {
		if !has(n) {
			return nil, inquest.Errorf(inquest.ErrNotFound, "not here")
		}
		return im.Stored(n)
	}, has)
}

// TestHalfUploaded has any set of blocks: what is in others is missing in the
// image, in its core file, and in an image file that is made of it.
func TestHalfUploaded(t *testing.T) {
	s := newSample(4)
	var file bytes.Buffer
	l := s.write(t, &file)
	all := open(t, file.Bytes())
	for mask := range 1 << len(l.Blocks()) {
		has := func(n int) bool { return mask>>n&1 == 1 }
		im := half(all, has)
		readable := process(t, im).Memory
		gone := func(a uint64) bool {
			k, err := readable.ReadAt(make([]byte, 1), int64(a))
			return k == 0 && errors.Is(err, inquest.ErrNotFound)
		}
		if mask == 0 && !gone(s.header.Extents[0].Addr) || mask == 1<<len(l.Blocks())-1 && gone(s.header.Extents[0].Addr) {
			t.Fatal("wrong blocks count")
		}
		f := im.CoreFile()
		n, err := coredump.OpenCoreFile(f, f.Size())
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, n.Process.Memory, gone)
		var exported bytes.Buffer
		if _, err := im.WriteTo(&exported); err != nil {
			t.Fatal(err)
		}
		again := open(t, exported.Bytes())
		if again.Ledger().ID() != l.ID() {
			t.Fatalf("%b: exported, it has another id", mask)
		}
		for i := range l.Blocks() {
			if again.Has(i) != has(i) {
				t.Fatalf("%b: block %d", mask, i)
			}
		}
		s.check(t, process(t, again).Memory, gone)
		if mask%8 == 0 {
			if err := f.WriteTar(io.Discard, "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDamage changes one byte of a block: that block cannot be read, all
// others can.
func TestDamage(t *testing.T) {
	s := newSample(5)
	var file bytes.Buffer
	l := s.write(t, &file)
	for i, b := range l.Blocks() {
		damaged := slices.Clone(file.Bytes())
		damaged[b.Offset+int64(b.Stored)/2] ^= 1
		im := open(t, damaged)
		for k := range l.Blocks() {
			if _, err := im.Stored(k); (err == nil) != (k != i) || err != nil && !errors.Is(err, inquest.ErrInvalid) {
				t.Errorf("block %d is damaged, block %d: %v", i, k, err)
			}
		}
		good, bad := 0, 0
		memory := process(t, im).Memory
		for a, want := range s.memory {
			p := make([]byte, 1)
			switch _, err := memory.ReadAt(p, int64(a)); {
			case err == nil && p[0] == want:
				good++
			case errors.Is(err, inquest.ErrInvalid):
				bad++
			default:
				t.Fatalf("%#x: %v", a, err)
			}
		}
		if bad != int(b.Size/page) || good+bad != len(s.memory) {
			t.Errorf("block %d is damaged: %d pages good, %d bad", i, good, bad)
		}
	}
}

// TestFlips changes bytes anywhere in a file: nothing wrong is ever read.
func TestFlips(t *testing.T) {
	s := newSample(6)
	var file bytes.Buffer
	s.write(t, &file)
	r := rand.New(rand.NewPCG(6, 6))
	for range 40 {
		b := slices.Clone(file.Bytes())
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		im, err := coredump.OpenImage(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, inquest.ErrInvalid) && !errors.Is(err, inquest.ErrTooLarge) {
				t.Fatal(err)
			}
			continue
		}
		memory := process(t, im).Memory
		for a, want := range s.memory {
			p := make([]byte, 1)
			if _, err := memory.ReadAt(p, int64(a)); err == nil && p[0] != want {
				t.Fatalf("%#x is %d, want %d", a, p[0], want)
			}
		}
	}
}

// TestWrongUse sees that a writer cannot be made to write what cannot be read.
func TestWrongUse(t *testing.T) {
	s := newSample(7)
	w, err := coredump.NewWriter(io.Discard, s.header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, len(s.bytes)+1)); !errors.Is(err, inquest.ErrInvalid) {
		t.Error(err)
	}
	if err := w.Skip(uint64(len(s.bytes)) + 1); !errors.Is(err, inquest.ErrInvalid) {
		t.Error(err)
	}
	l, err := w.Close()
	if err != nil || len(l.Blocks()) != 0 || l.Header().Core.Complete {
		t.Error(l, err)
	}
	if _, err := w.Close(); err == nil {
		t.Error("closed twice")
	}
	at := func(addr, size uint64) coredump.Extent { return coredump.Extent{Addr: addr, Size: size} }
	for name, change := range map[string]func(h *coredump.Header){
		"overlapping segments": func(h *coredump.Header) { h.Segments[1].Addr = h.Segments[0].Addr + page },
		"empty segment":        func(h *coredump.Header) { h.Segments[0].Size = 0 },
		"endless segment":      func(h *coredump.Header) { h.Segments[3].Size = 1<<64 - 1 },
		"overlapping extents":  func(h *coredump.Header) { h.Extents = append(h.Extents, h.Extents[0]) },
		"extent outside":       func(h *coredump.Header) { h.Extents = append(h.Extents, at(0x1000, page)) },
		"extent over an end":   func(h *coredump.Header) { h.Extents = append(h.Extents, at(0x400000+2<<20-page, 2*page)) },
		"empty extent":         func(h *coredump.Header) { h.Extents = append(h.Extents, at(0x400000, 0)) },
		"too large a minicore": func(h *coredump.Header) { h.Mini = len(h.Extents) + 1 },
		"too many notes":       func(h *coredump.Header) { h.Notes = make([]byte, coredump.MaxNotesBytes+1) },
		"too many extents":     func(h *coredump.Header) { h.Extents = make([]coredump.Extent, coredump.MaxExtents+1) },
	} {
		h := *s.header
		h.Segments, h.Extents = slices.Clone(h.Segments), slices.Clone(h.Extents)
		change(&h)
		if _, err := coredump.NewWriter(io.Discard, &h); !errors.Is(err, inquest.ErrInvalid) && !errors.Is(err, inquest.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

// TestFullDisk reports an error of what is written to, and keeps to it.
func TestFullDisk(t *testing.T) {
	s := newSample(8)
	w, err := coredump.NewWriter(&failing{1 << 20}, s.header)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(s.bytes)
	_, again := w.Close()
	if !errors.Is(again, os.ErrDeadlineExceeded) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err, again)
	}
}

// TestLargeCore writes 2 GiB with little memory; 10 GiB take no more.
func TestLargeCore(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const size = 2 << 30
	h := &coredump.Header{Machine: 62, Notes: status(1), Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: 1 << 30, Size: size}}}}
	h.Extents = []coredump.Extent{h.Segments[0].Extent}
	w, err := coredump.NewWriter(io.Discard, h)
	if err != nil {
		t.Fatal(err)
	}
	piece := slices.Concat(newSample(9).bytes, make([]byte, 3<<20))[:4<<20]
	peak := uint64(0)
	for at := 0; at < size; at += len(piece) {
		piece[at>>22%len(piece)]++
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		if at%(256<<20) == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse+m.StackInuse)
		}
	}
	l, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d blocks, %d bytes stored, at most %d MiB of memory", len(l.Blocks()), l.Size(), peak>>20)
	if peak > 64<<20 {
		t.Errorf("it took %d MiB", peak>>20)
	}
}

// TestManyPieces has a core of more pieces than debuggers take.
func TestManyPieces(t *testing.T) {
	if testing.Short() {
		t.Skip("Delve takes its time")
	}
	const pieces = 20_000
	exe := programs[0].build(t)
	f, n := openCore(t, crash(t, exe, "nil"))
	var file bytes.Buffer
	if _, err := coredump.ImportFile(t.Context(), f, &file, coredump.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	im := open(t, file.Bytes())
	h := *im.Ledger().Header()
	at := coredump.Extent{Addr: 0x10000000000, Size: 3 * pieces * page}
	h.Segments = append(slices.Clone(h.Segments), coredump.Segment{Extent: at, Flags: 6, Fill: coredump.FillMissing})
	slices.SortFunc(h.Segments, func(a, b coredump.Segment) int { return int(a.Addr>>12) - int(b.Addr>>12) })
	h.Extents = slices.Clone(h.Extents)
	for i := range uint64(pieces) {
		gap := i % 2 * page
		h.Extents = append(h.Extents, coredump.Extent{Addr: at.Addr + 3*i*page + gap, Size: page})
	}
	var many bytes.Buffer
	w, err := coredump.NewWriter(&many, &h)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range h.Extents {
		b := bytes.Repeat([]byte{1}, int(e.Size))
		if e.Addr < at.Addr || e.Addr >= at.End() {
			if _, err := process(t, im).Memory.ReadAt(b, int64(e.Addr)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	large := open(t, many.Bytes())
	if c := large.CoreFile().Core(); len(c.Missing) != 1 || !strings.Contains(c.Missing[0], "read as zero") {
		t.Errorf("missing %q", c.Missing)
	}
	made := elfOf(t, large)
	_, again := openCore(t, made)
	sameMemory(t, n.Segments, n.Process.Memory, again.Process.Memory)
	b := make([]byte, 8)
	if _, err := again.Process.Memory.ReadAt(b, int64(at.Addr+3*(pieces-2)*page)); err != nil || b[0] != 1 {
		t.Error(b, err)
	}
	out := delve(t, exe, made, "bt", fmt.Sprintf("examinemem -len 1 %#x", at.Addr+3*(pieces-2)*page))
	if !strings.Contains(out, "main.die") || !strings.Contains(out, "0x01") {
		t.Error(out)
	}
	out = gdb(t, exe, made, "bt", fmt.Sprintf("x/bx %#x", at.Addr+3*(pieces-2)*page))
	if !strings.Contains(out, "main.die") || !strings.Contains(out, "0x01") {
		t.Error(out)
	}
}

// TestManyMappings has a process of more mappings than the header of an ELF
// file can count.
func TestManyMappings(t *testing.T) {
	const mappings = 70_000
	h := &coredump.Header{Machine: 62, Notes: status(1)}
	for i := range uint64(mappings) {
		e := coredump.Extent{Addr: 0x10000000000 + 2*i*page, Size: page}
		h.Segments = append(h.Segments, coredump.Segment{Extent: e, Flags: uint32(4 + i%2)})
		h.Extents = append(h.Extents, e)
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range mappings {
		if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, page)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	made := elfOf(t, open(t, file.Bytes()))
	_, n := openCore(t, made)
	last := h.Extents[mappings-1]
	b := make([]byte, page)
	if _, err := n.Process.Memory.ReadAt(b, int64(last.Addr)); err != nil || b[7] != byte((mappings-1)&0xff) || len(n.Segments) != mappings {
		t.Error(len(n.Segments), b[7], err)
	}
	if out := gdb(t, "", made, fmt.Sprintf("x/bx %#x", last.Addr+7)); !strings.Contains(out, fmt.Sprintf("%#02x", byte((mappings-1)&0xff))) {
		t.Error(out)
	}
}
