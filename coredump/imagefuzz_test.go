package coredump_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/klauspost/compress/zstd"
)

// small is an image of few bytes, with everything an image can have.
func small(t testing.TB) []byte {
	t.Helper()
	h := &coredump.Header{
		Core: inquest.Core{Crash: "c"}, Machine: 62, Notes: status(7), Mini: 1,
		Segments: []coredump.Segment{
			{Extent: coredump.Extent{Addr: 0x10000, Size: 8 * page}, Flags: 6},
			{Extent: coredump.Extent{Addr: 0x20000, Size: 4 * page}, Flags: 4, Fill: coredump.FillMissing},
		},
		Extents: []coredump.Extent{{Addr: 0x12000, Size: 2 * page}, {Addr: 0x10000, Size: page}, {Addr: 0x21000, Size: page}},
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("memory"), 1365)); err != nil {
		t.Fatal(err)
	}
	if err := w.Skip(3000); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 4*page-3000-6*1365)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// expected fails on an error that is not one of wrong input.
func expected(t *testing.T, err error) {
	t.Helper()
	for _, kind := range []error{inquest.ErrInvalid, inquest.ErrTooLarge, inquest.ErrNotFound} {
		if errors.Is(err, kind) {
			return
		}
	}
	t.Fatalf("%v is of no kind", err)
}

// parts takes an image apart into the bytes its checksums are of: the header,
// and what follows the head.
func parts(t testing.TB, image []byte) (header, rest []byte) {
	t.Helper()
	packed := 48 + binary.LittleEndian.Uint32(image[12:])
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	if header, err = dec.DecodeAll(image[48:packed], nil); err != nil {
		t.Fatal(err)
	}
	return header, image[packed:]
}

func seed(f *testing.F, image []byte) {
	header, rest := parts(f, image)
	f.Add(header, rest)
}

// sealHead makes a head of a header that may be wrong.
func sealHead(header []byte) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	packed := enc.EncodeAll(header, nil)
	b := append([]byte("IQCH"), 1, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(packed)))
	sum := sha256.Sum256(packed)
	return append(append(b, sum[:]...), packed...)
}

// sealTrailer gives what ends in a trailer the right root and size.
func sealTrailer(b []byte, head, trailer int) []byte {
	if len(b)-trailer < 40 {
		return b
	}
	b = slices.Clone(b)
	root := sha256.New()
	root.Write(b[:head])
	root.Write(b[trailer : len(b)-40])
	copy(b[len(b)-40:], root.Sum(nil))
	binary.LittleEndian.PutUint32(b[len(b)-8:], uint32(len(b)-trailer))
	copy(b[len(b)-4:], "IQCE")
	return b
}

// sealFrames gives frames and their blocks the right checksums, and returns
// where they end.
func sealFrames(b []byte, at int) int {
	for len(b)-at >= 56 && (string(b[at:at+4]) == "IQCB" || string(b[at:at+4]) == "IQCA") {
		f := b[at:]
		skips, stored := int(binary.LittleEndian.Uint32(f[16:])), int(binary.LittleEndian.Uint32(f[12:]))
		if skips > 1000 || stored > 1<<20 || 56+8*skips+stored > len(f) {
			break
		}
		if f[3] == 'B' {
			sum := sha256.Sum256(f[56+8*skips:][:stored])
			copy(f[20:52], sum[:])
		} else {
			stored = 0
		}
		crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		crc.Write(f[:52])
		crc.Write(f[56:][:8*skips])
		binary.LittleEndian.PutUint32(f[52:], crc.Sum32())
		at += 56 + 8*skips + stored
	}
	return at
}

func FuzzLedger(f *testing.F) {
	for _, b := range [][]byte{open(f, small(f)).Ledger().Bytes(), newSample(1).write(f, io.Discard).Bytes()} {
		seed(f, b)
	}
	f.Fuzz(func(t *testing.T, header, trailer []byte) {
		head := sealHead(header)
		b := sealTrailer(append(head, trailer...), len(head), len(head))
		l, err := coredump.ParseLedger(b)
		if err != nil {
			expected(t, err)
			return
		}
		if !bytes.Equal(l.Bytes(), b) || l.MiniBlocks() > len(l.Blocks()) {
			t.Fatal("not what was parsed")
		}
		f := coredump.NewImage(l, func(int) ([]byte, error) { return nil, inquest.ErrNotFound }, func(n int) bool { return n%2 == 0 }).CoreFile()
		if _, err := coredump.OpenCoreFile(f, f.Size()); err != nil {
			expected(t, err)
		}
	})
}

// FuzzHeader makes images of any header a writer takes: all of them can be
// opened and read.
func FuzzHeader(f *testing.F) {
	im := open(f, small(f))
	h := im.Ledger().Header()
	f.Add(h.Segments[0].Addr, h.Segments[0].Size, h.Extents[0].Addr, h.Extents[0].Size, h.Extents[1].Addr, h.Extents[1].Size, 1, uint16(3))
	f.Fuzz(func(t *testing.T, addr, size, a, an, b, bn uint64, mini int, skip uint16) {
		h := &coredump.Header{
			Machine: 62, Notes: status(1), Mini: mini,
			Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: addr, Size: size}, Fill: coredump.Fill(skip % 3)}},
			Extents:  []coredump.Extent{{Addr: a, Size: an}, {Addr: b, Size: bn}},
		}
		var file bytes.Buffer
		w, err := coredump.NewWriter(&file, h)
		if err != nil {
			expected(t, err)
			return
		}
		if left := an + bn; left < 1<<20 {
			k := min(uint64(skip), left)
			if err := w.Skip(k); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(bytes.Repeat([]byte{1}, int(left-k))); err != nil {
				t.Fatal(err)
			}
		}
		l, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		im := open(t, file.Bytes())
		if im.Ledger().ID() != l.ID() {
			t.Fatal("another image")
		}
		walk(t, im)
	})
}

// walk uses all of an image.
func walk(t *testing.T, im *coredump.Image) {
	t.Helper()
	c := im.CoreFile()
	read := 0
	for _, e := range c.Extents() {
		if read += int(min(e.Size, 1<<20)); read > 8<<20 {
			break
		}
		if _, err := c.ReadAt(make([]byte, min(e.Size, 1<<20)), int64(e.Addr)); err != nil && err != io.EOF {
			expected(t, err)
		}
	}
	p, err := im.Process()
	if err != nil {
		expected(t, err)
		return
	}
	for _, s := range im.Ledger().Header().Segments {
		b := make([]byte, min(s.Size, 4*page))
		if _, err := p.Memory.ReadAt(b, int64(s.Addr)); err != nil {
			expected(t, err)
		}
	}
	n, err := coredump.OpenCoreFile(c, c.Size())
	if err != nil {
		expected(t, err)
		return
	}
	if len(n.Missing) > 0 {
		t.Fatalf("a core file of our own has less than it says: %v", n.Missing)
	}
	if _, _, err := p.Identify(); err != nil {
		expected(t, err)
	}
	if b, err := im.Stored(0); err == nil && len(b) > coredump.BlockBytes {
		t.Fatal("too large a block")
	}
}

func FuzzImage(f *testing.F) {
	b := small(f)
	seed(f, b)
	seed(f, b[:len(b)-100])
	var some bytes.Buffer
	if _, err := half(open(f, b), func(n int) bool { return n == 1 }).WriteTo(&some); err != nil {
		f.Fatal(err)
	}
	seed(f, some.Bytes())
	f.Fuzz(func(t *testing.T, header, rest []byte) {
		b := sealHead(header)
		head := len(b)
		b = append(b, rest...)
		b = sealTrailer(b, head, sealFrames(b, head))
		im, err := coredump.OpenImage(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			expected(t, err)
			return
		}
		if len(im.Ledger().Blocks()) > 0 {
			walk(t, im)
		}
	})
}

func FuzzNotes(f *testing.F) {
	im := open(f, small(f))
	var core bytes.Buffer
	if _, err := im.CoreFile().WriteTo(&core); err != nil {
		f.Fatal(err)
	}
	f.Add(core.Bytes())
	f.Add(core.Bytes()[:1000])
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := coredump.ReadNotes(bytes.NewReader(b))
		if err != nil {
			expected(t, err)
		} else if len(n.Raw) > len(b) {
			t.Fatal("more notes than bytes")
		}
		n, err = coredump.OpenCoreFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			expected(t, err)
			return
		}
		for _, s := range n.Segments {
			if _, err := n.Process.Memory.ReadAt(make([]byte, min(s.Size, page)), int64(s.Addr)); err != nil {
				expected(t, err)
			}
		}
		if _, _, err := n.Process.Identify(); err != nil {
			expected(t, err)
		}
	})
}
