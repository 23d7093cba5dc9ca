package symbolize_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// large returns a large program: the one that LARGE_BINARY names, else the
// collector.
func large(b *testing.B) []byte {
	b.Helper()
	path := os.Getenv("LARGE_BINARY")
	if path == "" {
		path = filepath.Join(b.TempDir(), "collector")
		buildCommand(b, path)
	}
	exe := readFile(b, path)
	b.ReportMetric(float64(len(exe))/1e6, "MB-binary")
	return exe
}

// addresses are n of known code, the same hundreds again and again as in a
// profile: the k-th is asked for 1/k times as often as the first.
func addresses(b *testing.B, exe []byte, table *symbolize.Table, distinct, n int) []uint64 {
	b.Helper()
	id, err := symbolize.Identify(bytes.NewReader(exe), int64(len(exe)))
	if err != nil {
		b.Fatal(err)
	}
	var text inquest.Section
	for _, s := range id.Sections {
		if s.Name == ".text" {
			text = s
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	known := make([]uint64, 0, distinct)
	var fs []inquest.Frame
	for len(known) < distinct {
		pc := text.Addr + rnd.Uint64N(text.Size)
		if fs = table.Frames(fs[:0], pc); len(fs) > 0 {
			known = append(known, pc)
		}
	}
	if n == distinct {
		return known
	}
	zipf := rand.NewZipf(rnd, 1.01, 1, uint64(distinct-1))
	out := make([]uint64, n)
	for i := range out {
		out[i] = known[zipf.Uint64()]
	}
	return out
}

// BenchmarkFrames asks again and again for 5,000 addresses.
func BenchmarkFrames(b *testing.B) {
	exe := large(b)
	table := newTable(b, exe)
	pcs := addresses(b, exe, table, 5000, 1<<16)
	var fs []inquest.Frame
	frames := 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		fs = table.Frames(fs[:0], pcs[i%len(pcs)])
		frames += len(fs)
	}
	b.ReportMetric(float64(len(exe))/1e6, "MB-binary")
	b.ReportMetric(float64(frames)/float64(b.N), "frames/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "M/s")
}

// BenchmarkFirstUse writes and opens a table and asks for 1,000 addresses.
func BenchmarkFirstUse(b *testing.B) {
	exe := large(b)
	path := filepath.Join(b.TempDir(), "table")
	pcs := addresses(b, exe, newTable(b, exe), 1000, 1000)
	var blob int64
	b.ResetTimer()
	for range b.N {
		w, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := symbolize.WriteTable(w, bytes.NewReader(exe), int64(len(exe))); err != nil {
			b.Fatal(err)
		}
		info, err := w.Stat()
		if err != nil {
			b.Fatal(err)
		}
		blob = info.Size()
		table, err := symbolize.OpenTable(w, blob)
		if err != nil {
			b.Fatal(err)
		}
		var fs []inquest.Frame
		for _, pc := range pcs {
			fs = table.Frames(fs[:0], pc)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(exe))/1e6, "MB-binary")
	b.ReportMetric(float64(blob)/1e6, "MB-table")
}

// BenchmarkHeap says what an open table takes after each address of 100,000
// was asked for.
func BenchmarkHeap(b *testing.B) {
	exe := large(b)
	path := filepath.Join(b.TempDir(), "table")
	w, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if err := symbolize.WriteTable(w, bytes.NewReader(exe), int64(len(exe))); err != nil {
		b.Fatal(err)
	}
	info, err := w.Stat()
	if err != nil {
		b.Fatal(err)
	}
	pcs := addresses(b, exe, newTable(b, exe), 100000, 100000)
	for range b.N {
		before := heap()
		table, err := symbolize.OpenTable(w, info.Size())
		if err != nil {
			b.Fatal(err)
		}
		opened := heap()
		var fs []inquest.Frame
		for _, pc := range pcs {
			fs = table.Frames(fs[:0], pc)
		}
		b.ReportMetric(100*(opened-before)/float64(len(exe)), "%opened")
		b.ReportMetric(100*(heap()-before)/float64(len(exe)), "%used")
		runtime.KeepAlive(table)
	}
	b.ReportMetric(float64(len(exe))/1e6, "MB-binary")
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkIdentify hashes the sections; BenchmarkReadBuild reads a few
// kilobytes.
func BenchmarkIdentify(b *testing.B) {
	exe := large(b)
	b.SetBytes(int64(len(exe)))
	for b.Loop() {
		if _, err := symbolize.Identify(bytes.NewReader(exe), int64(len(exe))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadBuild(b *testing.B) {
	exe := large(b)
	for b.Loop() {
		if _, err := symbolize.ReadBuild(bytes.NewReader(exe)); err != nil {
			b.Fatal(err)
		}
	}
}
