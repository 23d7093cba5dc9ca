package main

import (
	"strings"
	"testing"
)

// TestDivide: whatever the budget, the parts fit into it with room for
// garbage, and bodies of some size are taken.
func TestDivide(t *testing.T) {
	const mib = 1 << 20
	for _, total := range []int64{128 * mib, 200 * mib, 256 * mib, 512 * mib, 1024 * mib, 12 << 30, 500 << 30} {
		for _, processors := range []int{1, 2, 64} {
			b, err := divide(total, 32*mib, processors)
			if err != nil {
				t.Fatal(err)
			}
			parts := b.heads + b.keys + b.caches + b.queries + b.decoding + b.waiting + b.bodies + b.blocks
			if parts > b.soft/5*4 || b.soft >= total {
				t.Errorf("%d MiB: parts of %d MiB, soft limit %d", total/mib, parts/mib, b.soft/mib)
			}
			for name, n := range map[string]int64{"heads": b.heads, "keys": b.keys, "caches": b.caches, "queries": b.queries,
				"waiting": b.waiting, "bodies": b.bodies, "log": b.logBytes()} {
				if n < 2*mib {
					t.Errorf("%d MiB: %s get %d bytes", total/mib, name, n)
				}
			}
			if b.rawBytes < leastRawBytes || b.rawBytes > mostRawBytes || b.bodyBytes > b.rawBytes || b.bodyBytes > b.bodies {
				t.Errorf("%d MiB: bodies of %d bytes, %d unpacked, %d in all", total/mib, b.bodyBytes, b.rawBytes, b.bodies)
			}
			if b.decoders < 1 || b.decoders > processors || int64(b.decoders)*decoderFactor*b.rawBytes > b.decoding {
				t.Errorf("%d MiB, %d processors: %d decoders of %d", total/mib, processors, b.decoders, b.rawBytes)
			}
		}
	}
	if _, err := divide(100*mib, 32*mib, 2); err == nil || !strings.Contains(err.Error(), "128 MiB") {
		t.Errorf("100 MiB: %v", err)
	}
	b, err := divide(12<<30, 32*mib, 8)
	if err != nil || b.rawBytes != mostRawBytes || b.bodyBytes != 32*mib || b.decoders < 4 {
		t.Errorf("plenty: %+v, %v", b, err)
	}
}
