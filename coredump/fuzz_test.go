//go:build linux && amd64

package coredump_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
	"github.com/goinquest/inquest/symbolize"
)

// pages is memory that is kept by pages, some of which are changed.
type pages struct {
	addrs []uint64
	bytes map[uint64][]byte
}

const pageBytes = 4096

func (p pages) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		at := uint64(off) + uint64(n)
		page := p.bytes[at/pageBytes*pageBytes]
		if page == nil {
			return n, inquest.Errorf(inquest.ErrNotFound, "nothing at %#x", at)
		}
		n += copy(b[n:], page[at%pageBytes:])
	}
	return n, nil
}

// read keeps what a minicore has.
func read(t testing.TB, h *testprog.Held, extents []coredump.Extent) pages {
	t.Helper()
	p := pages{bytes: map[uint64][]byte{}}
	for _, e := range extents {
		for at := e.Addr; at < e.End(); at += pageBytes {
			b := make([]byte, pageBytes)
			if _, err := io.ReadFull(io.NewSectionReader(h.Memory, int64(at), pageBytes), b); err != nil {
				t.Fatal(err)
			}
			p.addrs = append(p.addrs, at)
			p.bytes[at] = b
		}
	}
	slices.Sort(p.addrs)
	return p
}

// changed applies changes of 8 bytes each: a page, a place, and what is put
// there: an address of memory, a small number, or anything.
func (p pages) changed(changes []byte) pages {
	out := pages{addrs: p.addrs, bytes: map[uint64][]byte{}}
	for a, b := range p.bytes {
		out.bytes[a] = b
	}
	for ; len(changes) >= 8; changes = changes[8:] {
		addr := p.addrs[int(binary.LittleEndian.Uint16(changes))%len(p.addrs)]
		page := slices.Clone(out.bytes[addr])
		if page == nil {
			continue // it was removed
		}
		v := uint64(binary.LittleEndian.Uint32(changes[4:]))
		switch changes[2] % 4 {
		case 0:
			v = p.addrs[int(v>>12)%len(p.addrs)] + v%pageBytes
		case 1:
			v *= 0x0101010101010101
		case 2:
			delete(out.bytes, addr)
			continue
		}
		binary.LittleEndian.PutUint64(page[int(changes[3])*16%(pageBytes-8):], v)
		out.bytes[addr] = page
	}
	return out
}

// FuzzRuntime changes the memory of a process that died: nothing may panic, take
// long or much memory.
func FuzzRuntime(f *testing.F) {
	h := testprog.Hold(f, testprog.Build{}.Path(f), testprog.Options{Args: []string{"-kind=nil", "-goroutines=20"}}, 0)
	r, funcs := openRuntime(f, h)
	extents, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
	if err != nil {
		f.Fatal(err)
	}
	whole := read(f, h, extents)
	f.Add([]byte{}, uint64(0), uint64(0))
	for i := range 40 { // each of the first pages that matter
		f.Add([]byte{byte(i), 0, byte(i), byte(3 * i), 8, 16, byte(i), 0}, uint64(i), h.Threads[0].SP)
	}
	f.Fuzz(func(t *testing.T, changes []byte, pc, sp uint64) {
		p := h.Process
		p.Memory = whole.changed(changes[:min(len(changes), 1<<12)])
		p.Threads = slices.Clone(p.Threads)
		if sp != 0 {
			p.Threads[0].PC, p.Threads[0].SP = pc, sp
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		coredump.CaptureKey(&p, funcs)
		if r, err := coredump.OpenRuntime(&p, funcs); err == nil {
			for range r.Goroutines() {
			}
			if _, err := coredump.Select(&p, r, coredump.Selection{Present: extents}); err != nil {
				t.Error(err)
			}
		}
		if a, err := coredump.ReadArguments(&p); err == nil {
			coredump.NewBlanker(&p, a, coredump.BlankOptions{})
		}
		runtime.ReadMemStats(&after)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 200 {
			t.Errorf("took %d MiB of memory", n)
		}
	})
}

// FuzzAnalyze changes the minicore of a process that died: a report is always made,
// and bounded.
func FuzzAnalyze(f *testing.F) {
	type subject struct {
		h     *testprog.Held
		funcs *symbolize.Functions
		whole pages
	}
	var subjects []subject
	for _, kind := range []string{"custom", "maps", "nil", "abort"} {
		h := testprog.Hold(f, testprog.Build{Stripped: kind != "nil"}.Path(f), testprog.Options{Args: []string{"-kind=" + kind, "-goroutines=20"}}, 0)
		r, funcs := openRuntime(f, h)
		extents, err := coredump.Select(&h.Process, r, coredump.Selection{Present: present(h)})
		if err != nil {
			f.Fatal(err)
		}
		subjects = append(subjects, subject{h, funcs, read(f, h, extents)})
	}
	f.Add(uint8(0), []byte{}, uint64(0), uint64(0))
	for i := range 80 {
		f.Add(uint8(i), []byte{byte(i / 4), 0, byte(i), byte(3 * i), 8, 16, byte(i), 0}, uint64(0), uint64(i%2)*subjects[0].h.Threads[0].SP)
	}
	f.Fuzz(func(t *testing.T, which uint8, changes []byte, pc, sp uint64) {
		s := subjects[int(which)%len(subjects)]
		p := s.h.Process
		p.Memory = s.whole.changed(changes[:min(len(changes), 1<<12)])
		p.Threads = slices.Clone(p.Threads)
		if sp != 0 {
			p.Threads[0].PC, p.Threads[0].SP = pc, sp
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		rep := coredump.Analyze(&p, s.funcs, coredump.ReportLimits{Goroutines: 1000, Buckets: 100})
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 200 {
			t.Errorf("took %d MiB of memory", n)
		}
		text, err := json.Marshal(rep)
		if err != nil || len(text) > 4<<20 || len(rep.Goroutines) > 1000 || len(rep.Buckets) > 100 || rep.Class == "" {
			t.Errorf("a report of %d bytes, %d goroutines, %d buckets, class %q: %v", len(text), len(rep.Goroutines), len(rep.Buckets), rep.Class, err)
		}
	})
}
