package profile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/profile"
)

// pack compresses by the standard library.
func pack(t testing.TB, raw []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	zw, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zw.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInflateCorpus(t *testing.T) {
	var g profile.Gunzipper
	for _, b := range corpus.Load() {
		if b.Seq > 3 {
			continue
		}
		want := gunzip(t, b.Data)
		got, ok := g.OneShot(b.Data)
		if !ok || !bytes.Equal(got, want) {
			t.Fatalf("%s: one-shot inflate is wrong (ok %v)", b.Name, ok)
		}
		got, err := g.Stream(b.Data)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: streaming inflate is wrong: %v", b.Name, err)
		}
	}
}

// Every level, and data of every character: runs, text, noise, none.
func TestInflateShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 30_000)
	few := make([]byte, 30_000)
	skewed := make([]byte, 30_000) // long codes
	for i := range noise {
		noise[i] = byte(rng.Uint32())
		few[i] = "ab"[rng.IntN(2)]
		for rng.IntN(2) == 0 && skewed[i] < 60 {
			skewed[i]++
		}
	}
	var g profile.Gunzipper
	for name, raw := range map[string][]byte{
		"empty": nil, "one byte": {7}, "zeros": make([]byte, 100_000), "noise": noise, "two letters": few, "skewed": skewed,
		"pairs": bytes.Repeat([]byte("ab"), 5000), "sevens": bytes.Repeat([]byte("abcdefg"), 5000),
		"far": slices.Concat(noise, few[:2700], noise[:300], few),
	} {
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, gzip.BestSpeed, 3, 6, gzip.BestCompression} {
			body := pack(t, raw, level)
			got, ok := g.OneShot(body)
			if ok && !bytes.Equal(got, raw) {
				t.Errorf("%s, level %d: wrong", name, level)
			}
			// Only what is compressible beyond belief may be left to the stream.
			if !ok && len(raw) < 16*len(body) {
				t.Errorf("%s, level %d: left to the stream", name, level)
			}
			if got, err := g.Stream(body); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%s, level %d: streaming: %v", name, level, err)
			}
		}
	}
}

// Damaged bodies are never taken for whole, and never read or written out of
// bounds.
func TestInflateDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var g profile.Gunzipper
	for _, b := range corpus.Load("goroutine", "mutex") {
		if b.Seq > 0 {
			continue
		}
		for range 300 {
			bad := bytes.Clone(b.Data)
			for range 1 + rng.IntN(4) {
				bad[10+rng.IntN(len(bad)-10)] ^= 1 << rng.IntN(8)
			}
			if rng.IntN(4) == 0 {
				bad = bad[:rng.IntN(len(bad))]
			}
			if _, ok := g.OneShot(bad); ok {
				if _, err := unpack(bad); err != nil {
					t.Fatalf("%s: accepted, but %v", b.Name, err)
				}
			}
		}
	}
}

// FuzzInflate wraps deflate data in a gzip frame whose trailer is what the
// standard library finds in it, so that all of it is reached: what one-shot
// unpacks is what the standard library unpacks.
func FuzzInflate(f *testing.F) {
	for _, b := range corpus.Load("goroutine", "mutex") {
		if b.Seq == 0 {
			f.Add(b.Data[10 : len(b.Data)-8])
		}
	}
	for _, raw := range [][]byte{nil, []byte("hello"), bytes.Repeat([]byte("abc"), 1000), make([]byte, 70000)} {
		for _, level := range []int{gzip.NoCompression, gzip.BestSpeed, gzip.BestCompression, gzip.HuffmanOnly} {
			body := pack(f, raw, level)
			f.Add(body[10 : len(body)-8])
		}
	}
	var g profile.Gunzipper
	f.Fuzz(func(t *testing.T, deflated []byte) {
		frame := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, deflated...)
		raw, clean := inflateStd(deflated)
		if len(raw) == 1<<18 {
			return
		}
		frame = binary.LittleEndian.AppendUint32(frame, crc32.ChecksumIEEE(raw))
		frame = binary.LittleEndian.AppendUint32(frame, uint32(len(raw)))
		want, err := unpack(frame)
		got, ok := g.OneShot(frame)
		if ok && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("one-shot accepts, the standard library says %v; equal: %v", err, bytes.Equal(got, want))
		}
		if clean && !ok {
			// Allowed for codes no compressor makes, but then the stream must do.
			if got, err := g.Stream(frame); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("stream: %v", err)
			}
		}
	})
}
