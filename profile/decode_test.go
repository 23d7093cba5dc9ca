package profile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

func TestDecodeCorpus(t *testing.T) {
	d := profile.NewDecoder(profile.Limits{})
	for _, b := range corpus.Load() {
		checkAgainstOracle(t, d, b.Name, b.Data)
	}
}

func TestDecodeOtherProducers(t *testing.T) {
	d := profile.NewDecoder(profile.Limits{})
	for name, body := range made(t) {
		checkAgainstOracle(t, d, name, body)
	}
}

// checkAgainstOracle decodes a body that google/pprof accepts, and encodes and
// decodes it once more.
func checkAgainstOracle(t *testing.T, d *profile.Decoder, name string, body []byte) {
	t.Helper()
	want, err := oracle(body)
	if err != nil {
		t.Fatalf("%s: google/pprof: %v", name, err)
	}
	got, err := d.Decode(body)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if diff := compare(got, want); diff != "" {
		t.Errorf("%s: %s", name, diff)
		return
	}
	if diff := compare(got, reread(t, got)); diff != "" {
		t.Errorf("%s, encoded again: %s", name, diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := corpus.Load("cpu")[0].Data
	for _, c := range []struct {
		name string
		body []byte
		want string // in the message
	}{
		{"nothing", nil, "empty"},
		{"gzip of nothing", pack(t, nil, 6), "empty"},
		{"HTML", []byte("<!DOCTYPE html><html>…"), "this is HTML, not a pprof profile; is the URL right?"},
		{"HTML after blanks", []byte("\n\n <html>"), "HTML"},
		{"HTML, gzip", pack(t, []byte("<html><body>login</body></html>"), 6), "HTML"},
		{"JSON", []byte(`{"error":"not found"}`), "this is JSON, not a pprof profile"},
		{"plain text", []byte("404 page not found\n"), "this is text"},
		{"debug=1 text", []byte("goroutine profile: total 7\n"), "fetch it with debug=0"},
		{"debug=1 heap", []byte("heap profile: 1: 2 [3: 4] @ heap/1048576\n"), "fetch it with debug=0"},
		{"zstd", []byte("\x28\xb5\x2f\xfd\x04\x00"), "Content-Encoding: zstd"},
		{"trace", []byte("go 1.26 trace\x00\x00\x00"), "execution trace"},
		{"gzip twice", pack(t, good, 6), "gzip within gzip"},
		{"gzip cut off", good[:len(good)/2], "cut off"},
		{"gzip magic alone", []byte{0x1f, 0x8b}, "gzip"},
		{"gzip trailer cut off", good[:len(good)-3], "cut off"},
		{"garbage behind gzip", append(bytes.Clone(good), "garbage"...), "gzip"},
		{"wrong checksum", flip(good, len(good)-6), "checksum"},
		{"bit flip", flip(good, len(good)/2), "gzip body"},
		{"reserved method", flip(good, 2), "gzip"},
		{"no strings", aType, "no string table"},
		{"first string", str("x"), "must be empty"},
		{"cut off", gunzip(t, good)[:1000], "at byte"},
		{"wrong wire type", slices.Concat(strs, num(4, 5)), "wrong wire type 0 of field 4 (location)"},
		{"wrong wire type within", slices.Concat(strs, sub(5, sub(1, []byte("x")))), "field 1 (id)"},
		{"group", slices.Concat(strs, []byte{0x7b}), "unknown wire type 3"},
		{"string out of range", slices.Concat(aType, str(""), str("a")), "string 2 is referred to, the table has 2"},
		{"negative string", slices.Concat(strs, num(7, ^uint64(0))), "string -1"},
		{"label key out of range", slices.Concat(aType, strs, sub(2, num(2, 1), sub(3, num(1, 9)))), "string 9"},
		{"no location", slices.Concat(aType, strs, aSample), "location id 1"},
		{"location 0", slices.Concat(aType, strs, aFunc, aLoc, sub(2, num(1, 0), num(2, 5))), "location id 0"},
		{"packed location 0", slices.Concat(aType, strs, aFunc, aLoc, sub(2, sub(1, packed(1, 0)), num(2, 5))), "location id 0"},
		{"id 0", slices.Concat(strs, sub(4, num(3, 1))), "the id 0"},
		{"function id 0", slices.Concat(strs, sub(5)), "the id 0"},
		{"mapping id 0", slices.Concat(strs, sub(3)), "the id 0"},
		{"ids twice", slices.Concat(strs, aFunc, aFunc), "another one has"},
		{"ids twice far apart", slices.Concat(strs, sub(3, num(1, 7)), sub(3, num(1, 8)), sub(3, num(1, 7))), "mapping 2"},
		{"no function", slices.Concat(strs, aLoc), "function id 1"},
		{"function 0", slices.Concat(strs, aFunc, sub(4, num(1, 1), sub(4, num(2, 3)))), "function id 0"},
		{"too few values", slices.Concat(aType, aType, strs, sub(2, num(2, 5))), "1 values, there are 2 sample types"},
		{"too many values", slices.Concat(aType, strs, sub(2, num(2, 5), num(2, 5))), "more values"},
		{"too many packed", slices.Concat(aType, strs, sub(2, sub(2, packed(1, 2)))), "more values"},
		{"no types", slices.Concat(strs, sub(2)), "no sample types"},
		{"two profiles", slices.Concat(strs, num(9, 5), strs, num(9, 6)), "several profiles"},
		{"varint too long", slices.Concat(strs, []byte{0x48, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}), "malformed"},
		{"varint beyond its message", slices.Concat(strs, sub(5, []byte{0x08, 0x81}), aFunc), "malformed"},
	} {
		if _, err := oracle(c.body); err == nil {
			t.Errorf("%s: google/pprof accepts it", c.name)
		}
		p, err := profile.NewDecoder(profile.Limits{}).Decode(c.body)
		if p != nil || !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q, want one with %q", c.name, err, c.want)
		}
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x10
	return b
}

// Several gzip members, header fields and a trailer that lies are as good as
// a plain gzip body.
func TestDecodeGzipForms(t *testing.T) {
	raw := gunzip(t, corpus.Load("heap")[0].Data)
	third := len(raw) / 3
	members := slices.Concat(pack(t, raw[:third], 1), pack(t, nil, 6), pack(t, raw[third:], 9))
	named := pack(t, raw, 6)
	named = slices.Concat(named[:3], []byte{8}, named[4:10], []byte("name\x00"), named[10:])
	want := decode(t, raw).AppendPprof(nil)
	for name, body := range map[string][]byte{"members": members, "named": named, "stored": pack(t, raw, 0)} {
		if got := decode(t, body).AppendPprof(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: differs", name)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	body := corpus.Load("heap")[0].Data
	deep := slices.Concat(aType, strs, aFunc, aLoc, sub(2, sub(1, bytes.Repeat([]byte{1}, 101)), num(2, 5)))
	deepUnpacked := slices.Concat(aType, strs, aFunc, aLoc, sub(2, bytes.Repeat(num(1, 1), 101), num(2, 5)))
	for _, c := range []struct {
		name string
		lim  profile.Limits
		body []byte
		want string
	}{
		{"raw", profile.Limits{MaxRawBytes: 1000}, body, "1000 bytes"},
		{"raw, plain", profile.Limits{MaxRawBytes: 1000}, gunzip(t, body), "1000"},
		{"samples", profile.Limits{MaxSamples: 10}, body, "10 samples"},
		{"stack", profile.Limits{MaxStackDepth: 100}, deep, "more than 100 locations"},
		{"stack, not packed", profile.Limits{MaxStackDepth: 100}, deepUnpacked, "more than 100 locations"},
		{"columns", profile.Limits{MaxColumnBytes: 10_000}, body, "10000 bytes of memory"},
	} {
		_, err := profile.NewDecoder(c.lim).Decode(c.body)
		if !errors.Is(err, inquest.ErrTooLarge) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	raw := gunzip(t, body)
	for _, fits := range []profile.Limits{{MaxRawBytes: int64(len(raw))}, {MaxStackDepth: 101}} {
		for _, b := range [][]byte{body, raw} {
			if _, err := profile.NewDecoder(fits).Decode(b); err != nil {
				t.Errorf("%+v: %v", fits, err)
			}
		}
	}
}

// A bomb is refused in bounded memory, whatever its trailer promises, and
// what an outsized body took is given back.
func TestDecodeBomb(t *testing.T) {
	bomb := pack(t, make([]byte, 48<<20), 1)
	d := profile.NewDecoder(profile.Limits{MaxRawBytes: 12 << 20})
	for _, promise := range []uint32{48 << 20, 0, 12 << 20, 1<<32 - 1} {
		binary.LittleEndian.PutUint32(bomb[len(bomb)-4:], promise)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := d.Decode(bomb)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, inquest.ErrTooLarge) {
			t.Errorf("promise %d: %v", promise, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 36<<20 {
			t.Errorf("promise %d: %d bytes allocated", promise, got)
		}
	}
	d.Release()
	if got := d.Retained(); got > 16<<20 {
		t.Errorf("%d bytes retained", got)
	}

	// Little bytes that want large columns.
	many := bytes.Repeat(str(""), 4<<20)
	if _, err := profile.NewDecoder(profile.Limits{MaxRawBytes: 8 << 20}).Decode(many); !errors.Is(err, inquest.ErrTooLarge) {
		t.Errorf("4 M strings: %v", err)
	}
}

// Once warm, decoding allocates nothing.
func TestDecodeAllocatesNothing(t *testing.T) {
	bodies := slices.DeleteFunc(corpus.Load(), func(b corpus.Body) bool { return b.Seq > 2 })
	d := profile.NewDecoder(profile.Limits{})
	all := func() {
		for _, b := range bodies {
			if _, err := d.Decode(b.Data); err != nil {
				t.Fatal(err)
			}
		}
	}
	all()
	if n := testing.AllocsPerRun(2, all); n != 0 {
		t.Errorf("%v allocations for %d bodies", n, len(bodies))
	}
	sparse := made(t)["huge ids"]
	if n := testing.AllocsPerRun(10, func() { _, _ = d.Decode(sparse) }); n != 0 {
		t.Errorf("%v allocations for sparse ids", n)
	}
}

// A Decoder is as good as new after an error.
func TestDecodeAfterError(t *testing.T) {
	d := profile.NewDecoder(profile.Limits{})
	body := corpus.Load("mutex")[0].Data
	want := decode(t, body).AppendPprof(nil)
	raw := gunzip(t, body)
	for i := 1; i < len(raw); i += 97 {
		_, _ = d.Decode(raw[:i])
		got, err := d.Decode(body)
		if err != nil || !bytes.Equal(got.AppendPprof(nil), want) {
			t.Fatalf("after a body cut at %d: %v", i, err)
		}
	}
}

// FuzzDecode accepts and refuses as google/pprof does, and reads the same.
func FuzzDecode(f *testing.F) {
	for _, b := range corpus.Load() {
		if b.Seq == 0 && len(b.Data) < 20<<10 {
			f.Add(gunzip(f, b.Data))
		}
	}
	for _, body := range made(f) {
		f.Add(body)
	}
	d := profile.NewDecoder(profile.Limits{MaxRawBytes: 1 << 20, MaxColumnBytes: 16 << 20})
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := d.Decode(body)
		if errors.Is(err, inquest.ErrTooLarge) {
			return
		}
		want, wantErr := oracle(body)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("ours: %v; google/pprof: %v", err, wantErr)
		}
		if err != nil {
			if !errors.Is(err, inquest.ErrInvalid) {
				t.Fatalf("error without kind: %v", err)
			}
			return
		}
		if diff := compare(got, want); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzRoundTrip encodes what was decoded: google/pprof reads the same, a
// second round gives the same bytes, and merging and truncating keep totals.
func FuzzRoundTrip(f *testing.F) {
	for _, body := range made(f) {
		f.Add(body)
	}
	for _, b := range corpus.Load("mutex", "goroutine") {
		if b.Seq == 0 {
			f.Add(gunzip(f, b.Data))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		lim := profile.Limits{MaxRawBytes: 1 << 20, MaxColumnBytes: 16 << 20}
		p, err := profile.NewDecoder(lim).Decode(body)
		if err != nil {
			return
		}
		encoded := p.AppendPprof(nil)
		if diff := compare(p, reread(t, p)); diff != "" {
			t.Fatal(diff)
		}
		if again := decode(t, encoded).AppendPprof(nil); !bytes.Equal(again, encoded) {
			t.Fatal("encoding is not stable")
		}
		m := profile.NewMerger()
		if err := m.Add(p); err != nil {
			t.Fatal(err)
		}
		merged := m.Profile()
		theirs, err := oracle(body)
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err = pprof.Merge([]*pprof.Profile{theirs}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(contents(theirs), contents(reread(t, merged))); diff != "" {
			t.Fatalf("merged (-pprof +ours):\n%s", diff)
		}
		if !slices.Equal(totals(merged), totals(p)) {
			t.Fatalf("totals %v, merged %v", totals(p), totals(merged))
		}
		before := totals(p)
		p.Truncate(2)
		reread(t, p)
		if !slices.Equal(totals(p), before) {
			t.Fatalf("totals %v, truncated %v", before, totals(p))
		}
	})
}

// totals sums every column.
func totals(p *profile.Profile) []int64 {
	sum := make([]int64, len(p.SampleTypes))
	for i := range p.NumSamples() {
		for c, v := range p.SampleValues(i) {
			sum[c] += v
		}
	}
	return sum
}
