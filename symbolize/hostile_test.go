package symbolize_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// What a bad file of a megabyte may take.
const (
	maxTime  = 2 * time.Second
	maxAlloc = 128 << 20
)

// small returns the smallest program, and where its parts are.
func small(t testing.TB) (exe []byte, parts []inquest.Section) {
	t.Helper()
	exe = readFile(t, program{dir: "small", args: []string{"-ldflags=-s -w"}}.build(t))
	id, err := symbolize.Identify(bytes.NewReader(exe), int64(len(exe)))
	if err != nil {
		t.Fatal(err)
	}
	return exe, id.Sections
}

// try uses a file in all ways there are. Only errors of known kinds are
// allowed.
func try(t testing.TB, exe []byte) {
	size := int64(len(exe))
	known := func(err error) bool {
		return err == nil || errors.Is(err, inquest.ErrInvalid) || errors.Is(err, inquest.ErrNotFound) || errors.Is(err, inquest.ErrTooLarge)
	}
	if _, err := symbolize.Identify(bytes.NewReader(exe), size); !known(err) {
		t.Errorf("identify: %v", err)
	}
	if _, err := symbolize.ReadBuild(bytes.NewReader(exe)); !known(err) {
		t.Errorf("read build: %v", err)
	}
	fs, err := symbolize.OpenFunctions(bytes.NewReader(exe), size)
	if !known(err) {
		t.Errorf("open functions: %v", err)
	}
	if err == nil {
		tryFunctions(t, fs)
	}
	var blob bytes.Buffer
	err = symbolize.WriteTable(&blob, symbolize.Input{ReaderAt: bytes.NewReader(exe), Size: size}, nil)
	if !known(err) {
		t.Errorf("write table: %v", err)
	}
	if err == nil {
		tryTable(t, blob.Bytes())
	}
}

func tryFunctions(t testing.TB, fs *symbolize.Functions) {
	rnd := rand.New(rand.NewPCG(5, 6))
	text := fs.Text()
	for range 30 {
		addr := 0x401000 + rnd.Uint64N(1<<19)
		if rnd.IntN(2) == 0 && text.End > text.Start {
			addr = text.Start + rnd.Uint64N(text.End-text.Start)
		}
		if frames := fs.Frames(nil, addr); len(frames) > 1000 {
			t.Errorf("%d frames", len(frames))
		}
		fs.FrameBytes(addr)
		fs.Function(addr)
	}
}

func tryTable(t testing.TB, blob []byte) {
	table, err := symbolize.OpenTable(bytes.NewReader(blob), int64(len(blob)))
	if err != nil {
		if !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("open table: %v", err)
		}
		return
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		if fs := table.Frames(nil, 0x401000+rnd.Uint64N(1<<19)); len(fs) > 1000 {
			t.Errorf("%d frames", len(fs))
		}
	}
	table.Functions("runtime.main")
	table.Files()
	table.Address(rnd.Uint64())
	if err := table.Err(); err != nil && !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("table: %v", err)
	}
}

// bounded fails when f takes too long or too much.
func bounded(t testing.TB, what string, f func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; took > maxTime || n > maxAlloc {
		t.Errorf("%s took %v and %d MB", what, took, n>>20)
	}
}

var extremes = []uint64{
	0, 1, 2, 7, 0xff, 0x7fff, 0xffff, 1 << 16, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 8,
}

// spoil puts an extreme number, or noise, somewhere at off or up to n bytes
// behind it.
func spoil(rnd *rand.Rand, b []byte, off, n uint64) {
	if n == 0 || off >= uint64(len(b)) {
		return
	}
	at := off + rnd.Uint64N(min(n, uint64(len(b))-off))
	switch rnd.IntN(4) {
	case 0:
		b[at] = byte(rnd.Uint32())
	default:
		size := 1 << rnd.IntN(4)
		at -= at % uint64(size)
		var v [8]byte
		binary.LittleEndian.PutUint64(v[:], extremes[rnd.IntN(len(extremes))])
		copy(b[at:], v[:size])
	}
}

// TestSpoiledFiles spoils a program in thousands of ways: headers of the
// file, of the table of functions, its rows, its functions, the module data.
func TestSpoiledFiles(t *testing.T) {
	exe, sections := small(t)
	n := 1200
	if testing.Short() {
		n = 120
	}
	type place struct {
		name   string
		off, n uint64
	}
	places := []place{{"file header", 0, 64}, {"program headers", 64, 56 * 10}, {"any", 0, uint64(len(exe))}}
	places = append(places, place{"section headers", binary.LittleEndian.Uint64(exe[40:]), 64 * 30})
	for _, s := range sections {
		switch s.Name {
		case ".gopclntab":
			rows := binary.LittleEndian.Uint64(exe[s.Offset+64:])
			places = append(places, place{"table header", s.Offset, 72}, place{"rows", s.Offset + rows, 1 << 12},
				place{"table", s.Offset, s.Size}, place{"functions", s.Offset + rows, s.Size - rows})
		case ".go.module", ".noptrdata":
			places = append(places, place{s.Name, s.Offset, 400})
		case ".rodata", ".go.buildinfo", ".note.go.buildid":
			places = append(places, place{s.Name, s.Offset, s.Size})
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	bad := make([]byte, len(exe))
	for i := range n {
		p := places[i%len(places)]
		copy(bad, exe)
		for range 1 + rnd.IntN(4) {
			spoil(rnd, bad, p.off, p.n)
		}
		bounded(t, p.name, func() { try(t, bad) })
		if t.Failed() {
			t.Fatalf("at change %d, of %s", i, p.name)
		}
	}
	for i := range n / 10 {
		cut := rnd.IntN(len(exe))
		if i < 100 {
			cut = i * 8
		}
		bounded(t, "a file cut off", func() { try(t, exe[:cut]) })
	}
}

// TestManyEqualFunctions lets all functions have the largest tables.
func TestManyEqualFunctions(t *testing.T) {
	exe, sections := small(t)
	le := binary.LittleEndian
	for _, s := range sections {
		if s.Name != ".gopclntab" {
			continue
		}
		rows := exe[s.Offset+le.Uint64(exe[s.Offset+64:]):]
		n := le.Uint64(exe[s.Offset+8:])
		largest, size := uint32(0), uint32(0)
		for i := range n {
			if d := le.Uint32(rows[8*i+8:]) - le.Uint32(rows[8*i:]); d > size {
				largest, size = le.Uint32(rows[8*i+4:]), d
			}
		}
		for i := range n + 1 {
			le.PutUint32(rows[8*i:], uint32(i)<<20)
			if i < n {
				le.PutUint32(rows[8*i+4:], largest)
			}
		}
	}
	bounded(t, "equal functions", func() { try(t, exe) })
}

// TestSpoiledTables spoils tables, and makes their checksums right again.
func TestSpoiledTables(t *testing.T) {
	exe, _ := small(t)
	var w bytes.Buffer
	if err := symbolize.WriteTable(&w, symbolize.Input{ReaderAt: bytes.NewReader(exe), Size: int64(len(exe))}, nil); err != nil {
		t.Fatal(err)
	}
	blob := w.Bytes()
	rnd := rand.New(rand.NewPCG(1, 2))
	bad := make([]byte, len(blob))
	n := 700
	if testing.Short() {
		n = 100
	}
	for range n {
		copy(bad, blob)
		for range 1 + rnd.IntN(20) {
			spoil(rnd, bad, rnd.Uint64N(uint64(len(bad))), 64)
		}
		spoil(rnd, bad, uint64(len(bad))-rnd.Uint64N(200)-1, 8)
		bounded(t, "a damaged table", func() { tryTable(t, bad) })
		seal(bad)
		bounded(t, "a wrong table", func() { tryTable(t, bad) })
		cut := bad[:rnd.IntN(len(bad))]
		bounded(t, "half a table", func() { tryTable(t, cut) })
	}
}

// seal computes the checksums of a table anew, if its trailer allows.
func seal(b []byte) {
	const page, trailer = 1 << 12, 32
	le, castagnoli := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
	tail := b[len(b)-trailer:]
	data, dir := le.Uint64(tail), le.Uint64(tail[8:])
	if body := uint64(len(b) - trailer); data > body || dir != body-data {
		return
	}
	sums := b[data : data+dir]
	pages := (data + page - 1) / page
	if uint64(len(sums)) < pages*4 {
		return
	}
	for i := range pages {
		le.PutUint32(sums[dir-(pages-i)*4:], crc32.Checksum(b[i*page:min(data, (i+1)*page)], castagnoli))
	}
	le.PutUint32(tail[16:], crc32.Checksum(sums, castagnoli))
}

// TestDamagedTable sees that no answer comes from a damaged page, and that
// Err says so.
func TestDamagedTable(t *testing.T) {
	exe, _ := small(t)
	var w bytes.Buffer
	if err := symbolize.WriteTable(&w, symbolize.Input{ReaderAt: bytes.NewReader(exe), Size: int64(len(exe))}, nil); err != nil {
		t.Fatal(err)
	}
	blob := w.Bytes()
	good := newTable(t, exe)
	r := good.Functions("runtime.main")
	if len(r) != 1 {
		t.Fatalf("runtime.main is at %x", r)
	}
	for i := 1 << 12; i < len(blob)/2; i += 512 { // not the first page, which opening reads
		blob[i] ^= 0x40
	}
	table, err := symbolize.OpenTable(bytes.NewReader(blob), int64(len(blob)))
	if err == nil {
		if fs := table.Frames(nil, r[0].Start); fs != nil {
			t.Errorf("frames %v of a damaged table", fs)
		}
		err = table.Err()
	}
	if !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("error %v, want an invalid table", err)
	}
}

// FuzzTable changes a program, or its table, in a few places: each is four
// bytes of where and eight of what. (To mutate a file of a megabyte is slow.)
func FuzzTable(f *testing.F) {
	exe, sections := small(f)
	var w bytes.Buffer
	if err := symbolize.WriteTable(&w, symbolize.Input{ReaderAt: bytes.NewReader(exe), Size: int64(len(exe))}, nil); err != nil {
		f.Fatal(err)
	}
	le := binary.LittleEndian
	for _, s := range sections {
		for _, v := range extremes[:6] {
			f.Add(le.AppendUint64(le.AppendUint32(nil, uint32(s.Offset)+64), v), v%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, changes []byte, table bool) {
		data := bytes.Clone(exe)
		if table {
			data = bytes.Clone(w.Bytes())
		}
		for ; len(changes) >= 12; changes = changes[12:] {
			copy(data[le.Uint32(changes)%uint32(len(data)):], changes[4:12])
		}
		if table {
			seal(data)
			tryTable(t, data)
		} else {
			try(t, data)
		}
	})
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01" + string(make([]byte, 100))))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := symbolize.Identify(bytes.NewReader(data), int64(len(data))); err == nil && (b == nil || b.Bytes != int64(len(data))) {
			t.Errorf("a binary %+v", b)
		}
	})
}
