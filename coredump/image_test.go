package coredump_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

const page = 4096

// status is a note of one thread.
func status(pc uint64) []byte {
	desc := make([]byte, 336)
	for i := range 8 {
		desc[112+16*8+i] = byte(pc >> (8 * i))
	}
	return append([]byte{5, 0, 0, 0, 80, 1, 0, 0, 1, 0, 0, 0, 'C', 'O', 'R', 'E', 0, 0, 0, 0}, desc...)
}

// sample is an image's header with memory that goes with it.
type sample struct {
	header *coredump.Header
	memory map[uint64]byte // first byte of each page that is here; 0 too
	bytes  []byte          // the stream
}

// newSample has a segment of 5 MiB with every other page here, one of 2 MiB
// that is here as a whole, one of which nothing is here.
func newSample(seed uint64) *sample {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &sample{memory: map[uint64]byte{}}
	h := &coredump.Header{
		Core: inquest.Core{Crash: "c", Tier: inquest.TierFull, Arch: "amd64"}, Machine: 62, Notes: status(0x1234),
		Segments: []coredump.Segment{
			{Extent: coredump.Extent{Addr: 0x400000, Size: 2 << 20}, Flags: 5, Fill: coredump.FillMissing},
			{Extent: coredump.Extent{Addr: 0xc000000000, Size: 5 << 20}, Flags: 6, Fill: coredump.FillMissing},
			{Extent: coredump.Extent{Addr: 0xc000000000 + 5<<20, Size: 64 << 30}, Flags: 6, Fill: coredump.FillZero},
			{Extent: coredump.Extent{Addr: 0x7f0000000000, Size: 2 << 20}, Flags: 6, Fill: coredump.FillZero},
		},
	}
	add := func(addr, size uint64) {
		h.Extents = append(h.Extents, coredump.Extent{Addr: addr, Size: size})
		for a := addr; a < addr+size; a += page {
			b := make([]byte, page)
			switch a / page % 3 {
			case 0:
				for i := range b {
					b[i] = byte(r.Uint32())
				}
			case 1:
				b[0] = byte(a / page)
			}
			s.memory[a] = b[0]
			s.bytes = append(s.bytes, b...)
		}
	}
	add(0x7f0000000000, 2<<20)
	add(0xc000000000+5<<20+page*100, page*3)
	h.Mini = 2
	for a := uint64(0xc000000000); a < 0xc000000000+5<<20; a += 2 * page {
		add(a, page)
	}
	s.header = h
	return s
}

func (s *sample) write(t testing.TB, w io.Writer) *coredump.Ledger {
	t.Helper()
	iw, err := coredump.NewWriter(w, s.header)
	if err != nil {
		t.Fatal(err)
	}
	for b := s.bytes; len(b) > 0; {
		n := min(len(b), 100_000)
		if _, err := iw.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	l, err := iw.Close()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t testing.TB, b []byte) *coredump.Image {
	t.Helper()
	im, err := coredump.OpenImage(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func process(t testing.TB, im *coredump.Image) *coredump.Process {
	t.Helper()
	p, err := im.Process()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestImage(t *testing.T) {
	s := newSample(1)
	var file bytes.Buffer
	l := s.write(t, &file)
	if l.Size() != int64(file.Len()) {
		t.Errorf("the ledger says %d bytes, the file has %d", l.Size(), file.Len())
	}
	if again, err := coredump.ParseLedger(l.Bytes()); err != nil || again.ID() != l.ID() {
		t.Fatalf("the ledger cannot be parsed: %v", err)
	}
	im := open(t, file.Bytes())
	if im.Ledger().ID() != l.ID() || !bytes.Equal(im.Ledger().Bytes(), l.Bytes()) {
		t.Error("opened, the ledger is another one")
	}
	p := process(t, im)
	if p.Arch != "amd64" || len(p.Threads) != 1 || p.Threads[0].PC != 0x1234 {
		t.Errorf("process %+v", p)
	}
	b := make([]byte, 1)
	for addr, want := range s.memory {
		if _, err := p.Memory.ReadAt(b, int64(addr)); err != nil || b[0] != want {
			t.Fatalf("%#x is %d, %v; want %d", addr, b[0], err, want)
		}
	}
	for _, addr := range []int64{0x400000, 0xc000001000, 0x1000, 0xc000000000 + 5<<20 + 64<<30} {
		if _, err := p.Memory.ReadAt(b, addr); !errors.Is(err, inquest.ErrNotFound) {
			t.Errorf("%#x: %v", addr, err)
		}
	}
	for _, addr := range []int64{0xc000000000 + 5<<20 + 1<<30, 0xc000000000 + 5<<20} {
		b[0] = 1
		if _, err := p.Memory.ReadAt(b, addr); err != nil || b[0] != 0 {
			t.Errorf("%#x: %d, %v", addr, b[0], err)
		}
	}
	c := l.Header().Core
	want := inquest.Core{ID: l.ID(), Crash: "c", Tier: inquest.TierFull, Arch: "amd64", Blocks: len(l.Blocks()), Complete: true,
		VirtualBytes: 64<<30 + 2<<20 + 5<<20/2, MemoryBytes: int64(len(s.bytes)), StoredBytes: c.StoredBytes}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if l.MiniBlocks() != 3 || len(l.Blocks()) != 6 {
		t.Errorf("%d of %d blocks are the minicore", l.MiniBlocks(), len(l.Blocks()))
	}
}

// TestCut opens an image that was cut off anywhere: it has its whole blocks.
func TestCut(t *testing.T) {
	s := newSample(2)
	var file bytes.Buffer
	l := s.write(t, &file)
	blocks := l.Blocks()
	r := rand.New(rand.NewPCG(2, 2))
	head := blocks[0].Offset - 56
	for range 200 {
		n := head + r.Int64N(int64(file.Len())-head)
		im := open(t, file.Bytes()[:n])
		want := 0
		for want < len(blocks) && blocks[want].Offset+int64(blocks[want].Stored) <= n {
			want++
		}
		got := im.Ledger()
		if len(got.Blocks()) != want {
			t.Fatalf("cut at %d: %d blocks, want %d", n, len(got.Blocks()), want)
		}
		again, err := coredump.ParseLedger(got.Bytes())
		if err != nil || again.ID() != got.ID() {
			t.Fatalf("cut at %d: the ledger is not its own: %v", n, err)
		}
		if want < len(blocks) && got.Header().Core.Complete {
			t.Fatalf("cut at %d: complete", n)
		}
		f := im.CoreFile()
		if _, err := coredump.OpenCoreFile(f, f.Size()); err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		for i := range want {
			if b, err := im.Stored(i); err != nil || len(b) != int(blocks[i].Stored) {
				t.Fatalf("cut at %d: block %d: %v", n, i, err)
			}
		}

	}
	for n := range head {
		if _, err := coredump.OpenImage(bytes.NewReader(file.Bytes()[:n]), n); !errors.Is(err, inquest.ErrInvalid) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}
