package symbolize_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
	"github.com/google/go-cmp/cmp"
)

// TestFunctionsLikeTable compares the answers out of the file with those of
// its table, which TestLikeRuntime compares with the runtime's.
func TestFunctionsLikeTable(t *testing.T) {
	for i, p := range append(append([]program{}, local...), append(older, program{arch: "arm64"})...) {
		t.Run(p.String(), func(t *testing.T) {
			if i > 3 && testing.Short() {
				t.Skip("short")
			}
			step := uint64(37)
			if i == 0 {
				step = 3
			}
			functionsLikeTable(t, readFile(t, p.build(t)), step)
		})
	}
}

func functionsLikeTable(t *testing.T, exe []byte, step uint64) {
	table := newTable(t, exe)
	fs, err := symbolize.OpenFunctions(bytes.NewReader(exe), int64(len(exe)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(exe))
	if err != nil {
		t.Fatal(err)
	}
	if fs.Entry() != f.Entry {
		t.Errorf("entry %#x, want %#x", fs.Entry(), f.Entry)
	}
	text := fs.Text()
	var got, want []inquest.Frame
	inlined, deltas, wrong := 0, 0, 0
	for pc := text.Start; pc < text.End; pc += step {
		got, want = fs.Frames(got[:0], pc), table.Frames(want[:0], pc)
		if len(want) > 1 {
			inlined++
		}
		if _, ok := fs.FrameBytes(pc); ok {
			deltas++
		}
		if !cmp.Equal(got, want) {
			if wrong++; wrong <= 3 {
				t.Errorf("%#x (-want, +got):\n%s", pc, cmp.Diff(want, got))
			}
		}
		if len(want) == 0 {
			continue
		}
		if name, entry, ok := fs.Function(pc); !ok || entry > pc || name == "" {
			t.Errorf("%#x: function %q at %#x, %v", pc, name, entry, ok)
		}
	}
	if inlined < 1000 || deltas < 10000 {
		t.Errorf("only %d inlined, %d with a size of the frame", inlined, deltas)
	}
	for _, addr := range []uint64{0, text.Start - 1, text.End, 1 << 63} {
		if got := fs.Frames(nil, addr); got != nil {
			t.Errorf("%#x is outside and has frames: %v", addr, got)
		}
	}
}

// reader counts what is read.
type reader struct {
	io.ReaderAt
	bytes int
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	r.bytes += len(p)
	return r.ReaderAt.ReadAt(p, off)
}

// TestFunctionsAreLight opens the largest program of ours and asks once.
func TestFunctionsAreLight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "collector")
	buildCommand(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	r := &reader{ReaderAt: f}
	fs, err := symbolize.OpenFunctions(r, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	text := fs.Text()
	frames := fs.Frames(nil, text.Start+(text.End-text.Start)/2)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	kb := (after.TotalAlloc - before.TotalAlloc) >> 10
	t.Logf("%d MB: %v, %d KB of memory, %d KB read, %d frames", info.Size()>>20, took, kb, r.bytes>>10, len(frames))
	if len(frames) == 0 || kb > 1024 {
		t.Errorf("%d frames for %d KB of memory", len(frames), kb)
	}
}

// TestFunctionsAtOnce asks from several goroutines.
func TestFunctionsAtOnce(t *testing.T) {
	exe := readFile(t, program{dir: "small"}.build(t))
	fs, err := symbolize.OpenFunctions(bytes.NewReader(exe), int64(len(exe)))
	if err != nil {
		t.Fatal(err)
	}
	table := newTable(t, exe)
	text := fs.Text()
	var wg sync.WaitGroup
	for i := range uint64(4) {
		wg.Go(func() {
			for pc := text.Start + i; pc < text.End; pc += 997 {
				if got, want := fs.Frames(nil, pc), table.Frames(nil, pc); !cmp.Equal(got, want) {
					t.Errorf("%#x: %v, want %v", pc, got, want)
				}
				fs.Function(pc)
				fs.FrameBytes(pc)
			}
		})
	}
	wg.Wait()
}

func TestFunctionsOfOthers(t *testing.T) {
	if _, err := symbolize.OpenFunctions(bytes.NewReader([]byte("no program")), 10); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("of text: %v", err)
	}
	exe := readFile(t, program{}.build(t))
	for _, size := range []int{100, 4096, len(exe) / 3, len(exe) / 2} {
		if _, err := symbolize.OpenFunctions(bytes.NewReader(exe[:size]), int64(size)); err == nil {
			t.Errorf("a file cut at %d has functions", size)
		}
	}
}
