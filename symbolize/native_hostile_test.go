package symbolize_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/symbolize"
)

// tryNative reads a file that may be damaged and asks what comes of it. It fails
// on what takes too long or too much memory.
func tryNative(t testing.TB, data []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	b, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data)))
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
		t.Errorf("it took %d MB for a file of %d bytes", n>>20, len(data))
	}
	if err != nil {
		if !errors.Is(err, inquest.ErrInvalid) && !errors.Is(err, inquest.ErrTooLarge) {
			t.Errorf("error of no kind: %v", err)
		}
		return
	}
	table, err := symbolize.OpenNative(b)
	if err != nil {
		t.Fatalf("the table of a damaged file cannot be opened: %v", err)
	}
	for a := uint64(0x1000); a < 0x3000; a += 97 {
		table.Frames(nil, a)
	}
}

// TestNativeDamage changes files everywhere, above all in headers and debug
// information.
func TestNativeDamage(t *testing.T) {
	rounds := 800
	if testing.Short() {
		rounds = 150
	}
	for _, file := range []string{
		compileNative(t, "gcc", "-O2", "-gdwarf-4", "sums.c", "sums_main.c"),
		compileNative(t, "gcc", "-O2", "-gdwarf-5", "sums.c", "sums_main.c"),
		compileNative(t, "g++", "-O2", "-gdwarf-5", "shapes.cc", "shapes_main.cc"),
		compileNative(t, "gcc", "-O2", "-gz", "-g", "sums.c", "sums_main.c"),
	} {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		spans := weakSpans(t, good)
		rnd := rand.New(rand.NewPCG(3, uint64(len(good))))
		data := make([]byte, len(good))
		for round := range rounds {
			copy(data, good)
			for range 1 + rnd.IntN(8) {
				s := spans[rnd.IntN(len(spans))]
				at := s[0] + rnd.Uint64N(s[1]-s[0])
				switch rnd.IntN(4) {
				case 0:
					data[at] ^= 1 << rnd.IntN(8)
				case 1:
					data[at] = byte(rnd.Uint32())
				case 2: // huge counts, lengths and offsets
					for i := at; i < min(at+uint64(1+rnd.IntN(8)), uint64(len(data))); i++ {
						data[i] = 0xff
					}
				case 3: // what is elsewhere, so that references lead to each other
					from := s[0] + rnd.Uint64N(s[1]-s[0])
					n := min(uint64(rnd.IntN(64)), s[1]-max(from, at))
					copy(data[at:at+n], data[from:from+n])
				}
			}
			cut := data
			if rnd.IntN(8) == 0 {
				cut = data[:rnd.IntN(len(data))]
			}
			tryNative(t, cut)
			if t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
	}
}

// weakSpans are the offsets of headers, debug information and symbols.
func weakSpans(t *testing.T, data []byte) [][2]uint64 {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	headers := binary.LittleEndian.Uint64(data[40:])
	out := [][2]uint64{{0, 64}, {headers, headers + 64*uint64(len(f.Sections))}}
	for _, s := range f.Sections {
		if strings.Contains(s.Name, "debug") || strings.Contains(s.Name, "tab") {
			out = append(out, [2]uint64{s.Offset, s.Offset + s.FileSize})
		}
	}
	return out
}

// TestNativeDamagedUnit loses a unit, says so, and has what is in the others.
func TestNativeDamagedUnit(t *testing.T) {
	u := hostileUnits[0]
	u.units = 2
	data := u.file()
	second := 64 + 64 + unitHead + len(u.info) // after the header of the file and the code
	data[second+4] = 9                         // its version
	b, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := symbolize.OpenNative(b)
	if err != nil {
		t.Fatal(err)
	}
	if f := table.Frames(nil, 0x1000); len(f) != 1 || f[0].Function != "f" {
		t.Errorf("frames of the good unit: %v, want f", f)
	}
	want := "1 of 2 units of debug information cannot be read; the first: unit at 0x1d of .debug_info: it has version 9, versions 2 to 5 are known"
	if got := table.Damaged(); got != want {
		t.Errorf("damage:\n got %s\nwant %s", got, want)
	}
}

// TestNativeTableDamage changes the table itself: it is refused, or answers.
func TestNativeTableDamage(t *testing.T) {
	file := compileNative(t, "g++", "-O2", "-g", "shapes.cc", "shapes_main.cc")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := symbolize.OpenNative(good[:n]); !errors.Is(err, inquest.ErrInvalid) {
			t.Fatalf("the first %d bytes of %d: error %v, want ErrInvalid", n, len(good), err)
		}
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		b := bytes.Clone(good)
		for range 1 + rnd.IntN(3) {
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		}
		tryNativeTable(t, b)
	}
}

func tryNativeTable(t testing.TB, b []byte) {
	table, err := symbolize.OpenNative(b)
	if err != nil {
		if !errors.Is(err, inquest.ErrInvalid) {
			t.Fatalf("error of no kind: %v", err)
		}
		return
	}
	for a := uint64(0x1000); a < 0x4000; a += 331 {
		if n := len(table.Frames(nil, a)); n > 256 {
			t.Fatalf("%d frames", n)
		}
		table.Source(a)
	}
	table.Functions("main")
}

func FuzzNative(f *testing.F) {
	f.Add(codeFile(elf.EM_X86_64, 64, func([]byte) {}))
	for _, u := range hostileUnits {
		if data := u.file(); len(data) < 4<<10 { // large ones take long to reduce
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { tryNative(t, data) })
}

func FuzzNativeTable(f *testing.F) {
	// Columns of numbers without bytes, once as many as they claimed to be.
	f.Add([]byte("INQNAT\x00\x01\x00\x01\xfc\xfd\xfe\xff\x80\x02\x00\x02\x00\x02\x01\x02\x00\x10\x01\x00\t\x01\x00\x80\x04\x81\x02\x00\xff\r"))
	for _, u := range hostileUnits {
		data := u.file()
		if b, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data))); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { tryNativeTable(t, b) })
}

func FuzzDisassemble(f *testing.F) {
	f.Add([]byte{0xe8, 1, 2, 3, 4, 0xc3}, false)
	f.Add([]byte{0x1f, 0x20, 0x03, 0xd5}, true)
	f.Fuzz(func(t *testing.T, code []byte, arm bool) {
		if len(code) == 0 || len(code) > 1<<16 {
			return
		}
		machine := elf.EM_X86_64
		if arm {
			machine = elf.EM_AARCH64
		}
		data := codeFile(machine, len(code), func(b []byte) { copy(b, code) })
		got, err := symbolize.Disassemble(bytes.NewReader(data), int64(len(data)), 0x1000, 0x1000+uint64(len(code)))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, in := range got {
			n += in.Bytes
		}
		if n != len(code) {
			t.Fatalf("%d bytes of %d", n, len(code))
		}
	})
}

// hostileUnit is debug information made by hand to keep a reader busy.
type hostileUnit struct {
	name         string
	abbrev, info []byte // info without headers
	units        int    // how often info stands there; 0 is once
	function     string // what is at 0x1000 in the end
}

// Attributes of a function with code at 0x1000, in the order of functionAt.
var (
	cuDecl       = []byte{1, 0x11, 1, 0x13, 0x0b, 0, 0}                                        // code 1: a unit, language
	functionDecl = []byte{2, 0x2e, 0, 0x31, 0x13, 0x11, 0x01, 0x12, 0x06, 0, 0}                // code 2: origin, low, high
	namedDecl    = []byte{3, 0x2e, 0, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0}                // code 3: name, low, high
	deepDecl     = []byte{4, 0x0b, 1, 0, 0}                                                    // code 4: a block with children
	inlinedDecl  = []byte{5, 0x1d, 1, 0x31, 0x13, 0x11, 0x01, 0x12, 0x06, 0, 0}                // code 5: an inlined call
	parentDecl   = []byte{6, 0x2e, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0}                // code 6: as 3, with children
	unitHead     = 11                                                                          // bytes of a header of version 4
	code1000     = []byte{0x00, 0x10, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0}                         // low, high
	bigImplicit  = bytes.Repeat([]byte{0x49, 0x21, 0x00}, 20000)                               // values that take no bytes in an entry
	bigDecl      = bytes.Join([][]byte{{7, 0x34, 0}, bigImplicit, {0x8c, 1, 0x19, 0, 0}}, nil) // code 7
)

var hostileUnits = []hostileUnit{
	{name: "good", abbrev: bytes.Join([][]byte{cuDecl, namedDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12, 3, 'f', 0}, code1000, {0}}, nil), function: "f"},
	{name: "its own origin", abbrev: bytes.Join([][]byte{cuDecl, functionDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12, 2, byte(unitHead + 2), 0, 0, 0}, code1000, {0}}, nil)},
	{name: "origins in a circle", abbrev: bytes.Join([][]byte{cuDecl, functionDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12, 2, byte(unitHead + 2 + 17), 0, 0, 0}, code1000, {2, byte(unitHead + 2), 0, 0, 0}, code1000, {0}}, nil)},
	{name: "origin nowhere", abbrev: bytes.Join([][]byte{cuDecl, functionDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12, 2, 0xff, 0xff, 0xff, 0xff}, code1000, {0}}, nil)},
	{name: "a hundred thousand deep", abbrev: bytes.Join([][]byte{cuDecl, deepDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12}, bytes.Repeat([]byte{4}, 100000)}, nil)},
	{name: "inlined in itself", abbrev: bytes.Join([][]byte{cuDecl, inlinedDecl, parentDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12, 6, 'f', 0}, code1000,
			bytes.Repeat(append([]byte{5, byte(unitHead + 2), 0, 0, 0}, code1000...), 900)}, nil), function: "f"},
	{name: "attributes without bytes", abbrev: bytes.Join([][]byte{cuDecl, bigDecl, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12}, bytes.Repeat([]byte{7}, 1<<20), {0}}, nil)},
	{name: "functions of one byte", abbrev: bytes.Join([][]byte{cuDecl, {2, 0x2e, 0, 0x87, 0x40, 0x19, 0, 0}, {0}}, nil),
		info: bytes.Join([][]byte{{1, 12}, bytes.Repeat([]byte{2}, 1<<20), {0}}, nil)},
	{name: "many units of one byte", abbrev: bytes.Join([][]byte{cuDecl, bigDecl, {0}}, nil),
		info: []byte{0}, units: 100000},
}

// file is an ELF file with code at 0x1000 and the debug information.
func (u hostileUnit) file() []byte {
	var info []byte
	for i := range max(1, u.units) {
		info = binary.LittleEndian.AppendUint32(info, uint32(unitHead-4+len(u.info)))
		info = append(info, 4, 0)
		// Units of many have declarations of their own, which overlap.
		info = binary.LittleEndian.AppendUint32(info, uint32(i*3%max(1, len(u.abbrev))))
		info = append(info, 8)
		info = append(info, u.info...)
	}
	names := []byte("\x00.text\x00.debug_info\x00.debug_abbrev\x00")
	code := make([]byte, 64)
	var b bytes.Buffer
	at := uint64(64)
	section := func(name uint32, kind elf.SectionType, flags elf.SectionFlag, addr uint64, data []byte) elf.Section64 {
		s := elf.Section64{Name: name, Type: uint32(kind), Flags: uint64(flags), Addr: addr, Off: at, Size: uint64(len(data))}
		at += s.Size
		return s
	}
	sections := []elf.Section64{
		{},
		section(1, elf.SHT_PROGBITS, elf.SHF_ALLOC|elf.SHF_EXECINSTR, 0x1000, code),
		section(7, elf.SHT_PROGBITS, 0, 0, info),
		section(19, elf.SHT_PROGBITS, 0, 0, u.abbrev),
		section(0, elf.SHT_STRTAB, 0, 0, names),
	}
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64,
		Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1), Shoff: at,
	}
	copy(head.Ident[:], elf.ELFMAG)
	head.Ident[elf.EI_CLASS], head.Ident[elf.EI_DATA], head.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	for _, v := range []any{head, code, info, u.abbrev, names, sections} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err) // all of them have fixed sizes
		}
	}
	return b.Bytes()
}

// TestNativeHostile sees that what is made to keep a reader busy does not.
func TestNativeHostile(t *testing.T) {
	for _, u := range hostileUnits {
		t.Run(u.name, func(t *testing.T) {
			data := u.file()
			tryNative(t, data)
			b, err := symbolize.EncodeNative(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				if u.function != "" {
					t.Error(err)
				}
				return
			}
			table, err := symbolize.OpenNative(b)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if f := table.Frames(nil, 0x1000); len(f) > 0 {
				got = f[0].Function
			}
			if got != u.function {
				t.Errorf("function %q, want %q (damage: %s)", got, u.function, table.Damaged())
			}
		})
	}
}
