package coredump_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

// note is one note as the kernel writes it.
func note(owner string, kind uint32, desc []byte) []byte {
	owner += "\x00"
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(owner)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, owner...)
	b = append(b, make([]byte, -len(owner)&3)...)
	b = append(b, desc...)
	return append(b, make([]byte, -len(desc)&3)...)
}

// TestNotesARM64 reads notes of arm64, whose layout is that of the kernel's
// struct elf_prstatus and user_pt_regs.
func TestNotesARM64(t *testing.T) {
	status := make([]byte, 392)
	binary.LittleEndian.PutUint16(status[12:], 11)
	binary.LittleEndian.PutUint32(status[32:], 4711)
	for i := range 34 {
		binary.LittleEndian.PutUint64(status[112+8*i:], uint64(1000+i))
	}
	var tls, auxv []byte
	tls = binary.LittleEndian.AppendUint64(tls, 77)
	for _, v := range []uint64{6, 65536, 9, 0x400000, 0, 0} {
		auxv = binary.LittleEndian.AppendUint64(auxv, v)
	}
	var files []byte
	for _, v := range []uint64{1, 65536, 0x400000, 0x420000, 1} {
		files = binary.LittleEndian.AppendUint64(files, v)
	}
	files = append(files, "/bin/x\x00"...)
	h := &coredump.Header{
		Machine: 183,
		Notes: bytes.Join([][]byte{
			note("CORE", 1, status), note("LINUX", 0x401, tls), note("CORE", 6, auxv), note("CORE", 0x46494c45, files), note("CORE", 0x12345, nil),
		}, nil),
		Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: 0x410000, Size: 0x10000}, Flags: 5, Fill: coredump.FillMissing}},
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f := open(t, file.Bytes()).CoreFile()
	n, err := coredump.ReadNotes(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	want := &coredump.Process{
		Arch: "arm64", PageSize: 65536, Auxv: map[uint64]uint64{6: 65536, 9: 0x400000},
		Threads:  []coredump.Thread{{TID: 4711, Signal: 11, Registers: coredump.Registers{PC: 1032, SP: 1031, FP: 1029, LR: 1030, TLS: 77, G: 1028}}},
		Mappings: []coredump.Mapping{{Extent: h.Segments[0].Extent, Flags: 5, Offset: 0x20000, Path: "/bin/x"}},
	}
	if d := cmp.Diff(want, n.Process); d != "" {
		t.Error(d)
	}
	if n.Signal != 11 || n.Machine != 183 {
		t.Errorf("signal %d, machine %d", n.Signal, n.Machine)
	}
}

// TestReadNotesTakesNoMore leaves a stream where the notes end.
func TestReadNotesTakesNoMore(t *testing.T) {
	im := open(t, small(t))
	f := im.CoreFile()
	r := &reading{r: io.NewSectionReader(f, 0, f.Size())}
	n, err := coredump.ReadNotes(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(64+4*56) + int64(len(n.Raw)); r.n != want {
		t.Errorf("%d bytes were read, want %d", r.n, want)
	}
}

type reading struct {
	r io.Reader
	n int64
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	return n, err
}

// TestNoCore refuses what is none, and says why.
func TestNoCore(t *testing.T) {
	im := open(t, small(t))
	var core bytes.Buffer
	if _, err := im.CoreFile().WriteTo(&core); err != nil {
		t.Fatal(err)
	}
	with := func(at int, v ...byte) []byte {
		b := bytes.Clone(core.Bytes())
		copy(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"text":           bytes.Repeat([]byte("text"), 100),
		"32 bits":        with(4, 1),
		"big-endian":     with(5, 2),
		"an executable":  with(16, 2),
		"RISC-V":         with(18, 243),
		"no headers":     with(56, 0, 0),
		"no notes":       with(64, 1),
		"too many notes": with(64+32, 0, 0, 0, 0, 1),
		"cut off":        core.Bytes()[:400],
		"overlapping":    with(64+2*56+16, 0, 0, 1, 0, 0, 0, 0, 0),
	} {
		_, err := coredump.ReadNotes(bytes.NewReader(b))
		_, fileErr := coredump.OpenCoreFile(bytes.NewReader(b), int64(len(b)))
		for _, err := range []error{err, fileErr} {
			if !errors.Is(err, inquest.ErrInvalid) && !errors.Is(err, inquest.ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestConcurrentReads reads an image from many goroutines, over more blocks
// than are kept.
func TestConcurrentReads(t *testing.T) {
	memory := benchMemory(20 << 20)
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, benchHeader(uint64(len(memory))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(memory); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := process(t, open(t, file.Bytes()))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			b := make([]byte, 100_000)
			for k := range 60 {
				at := (i*7919 + k*1_000_003) % (len(memory) - len(b))
				if _, err := p.Memory.ReadAt(b, 0xc000000000+int64(at)); err != nil || !bytes.Equal(b, memory[at:at+len(b)]) {
					t.Errorf("at %d: %v", at, err)
				}
			}
		})
	}
	wg.Wait()
}
