package coredump_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// TestFormat reads an image that was written by version 1 of the format.
func TestFormat(t *testing.T) {
	const name = "testdata/format-v1.image"
	if *update {
		if err := os.WriteFile(name, small(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	im := open(t, b)
	l := im.Ledger()
	if d := cmp.Diff(inquest.Core{
		ID: l.ID(), Crash: "c", Blocks: 2, VirtualBytes: 9 * page, MemoryBytes: 4*page - 3000, StoredBytes: l.Header().Core.StoredBytes,
	}, l.Header().Core); d != "" {
		t.Error(d)
	}
	memory := process(t, im).Memory
	p := make([]byte, 6*1365)
	if _, err := memory.ReadAt(p, 0x12000); err != nil || !bytes.Equal(p, bytes.Repeat([]byte("memory"), 1365)) {
		t.Errorf("%q, %v", p[:20], err)
	}
	for addr, want := range map[int64]error{0x12000 + 6*1365: inquest.ErrNotFound, 0x11000: nil, 0x20000: inquest.ErrNotFound, 0x21000: nil} {
		if _, err := memory.ReadAt(p[:1], addr); !errors.Is(err, want) {
			t.Errorf("%#x: %v", addr, err)
		}
	}
}
