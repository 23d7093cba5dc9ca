package coredump_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/goinquest/inquest/coredump"
	"github.com/klauspost/compress/zstd"
)

// benchMemory is memory as a heap of text and pointers has it: a page of text,
// one of pointers, one of zeros, one of noise.
func benchMemory(size int) []byte {
	r := rand.New(rand.NewPCG(1, 1))
	words := bytes.Fields([]byte(`{"id": "name" "value" true, null, "user" "order" items 1048576 "created" "2026-11-22T01:02:03Z"},`))
	b := make([]byte, 0, size)
	for len(b) < size {
		for end := len(b) + page; len(b) < end; {
			b = append(b, words[r.IntN(len(words))]...)
		}
		for range page / 16 {
			b = append(b, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 0x10, 0xc0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0)
		}
		b = append(b, make([]byte, page)...)
		if r.IntN(4) == 0 {
			for range page {
				b = append(b, byte(r.Uint32()))
			}
		}
	}
	return b[:size]
}

func benchHeader(size uint64) *coredump.Header {
	e := coredump.Extent{Addr: 0xc000000000, Size: size}
	return &coredump.Header{Machine: 62, Notes: status(1), Segments: []coredump.Segment{{Extent: e, Flags: 6}}, Extents: []coredump.Extent{e}}
}

// processor reports the processor's time per operation, which a busy machine
// does not spoil as much as it does the clock's.
func processor(b *testing.B) func() {
	now := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
	}
	start := now()
	return func() { b.ReportMetric((now()-start)/float64(b.N), "cpu-ms/op") }
}

// BenchmarkWriter writes an image, beside zstd -1 of the same bytes.
func BenchmarkWriter(b *testing.B) {
	for name, size := range map[string]int{"image": 64 << 20, "hello": 1500 << 10} {
		b.Run(name, func(b *testing.B) { benchWriter(b, benchMemory(size)) })
	}
	memory := benchMemory(64 << 20)
	for _, cpus := range []int{1, 2} {
		b.Run(map[int]string{1: "zstd", 2: "zstd-2cpus"}[cpus], func(b *testing.B) {
			b.SetBytes(int64(len(memory)))
			defer processor(b)()
			for b.Loop() {
				n := &counting{}
				w, err := zstd.NewWriter(n, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(cpus))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(memory); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(n.n)/float64(len(memory))*100, "%stored")
			}
		})
	}
}

func benchWriter(b *testing.B, memory []byte) {
	b.SetBytes(int64(len(memory)))
	b.ReportAllocs()
	defer processor(b)()
	for b.Loop() {
		w, err := coredump.NewWriter(io.Discard, benchHeader(uint64(len(memory))))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(memory); err != nil {
			b.Fatal(err)
		}
		l, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(l.Size())/float64(len(memory))*100, "%stored")
	}
}

// BenchmarkReadAt reads pages of an image: in order, and anywhere.
func BenchmarkReadAt(b *testing.B) {
	memory := benchMemory(64 << 20)
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, benchHeader(uint64(len(memory))))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(memory); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		b.Fatal(err)
	}
	f := open(b, file.Bytes()).CoreFile()
	b.Run("sequential", func(b *testing.B) {
		buf, at := make([]byte, 64<<10), int64(0)
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := f.ReadAt(buf, at); err != nil {
				b.Fatal(err)
			}
			if at += int64(len(buf)); at+int64(len(buf)) > f.Size() {
				at = 0
			}
		}
	})
	b.Run("near", func(b *testing.B) { // pages of some blocks, as a debugger does
		buf, r := make([]byte, page), rand.New(rand.NewPCG(2, 2))
		for b.Loop() {
			if _, err := f.ReadAt(buf, page+r.Int64N(4<<20)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("anywhere", func(b *testing.B) {
		buf, r := make([]byte, page), rand.New(rand.NewPCG(2, 2))
		for b.Loop() {
			if _, err := f.ReadAt(buf, r.Int64N(f.Size()-page)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen is what it takes to read and check a ledger.
func BenchmarkOpen(b *testing.B) {
	l := newSample(1).write(b, io.Discard)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := coredump.ParseLedger(l.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
