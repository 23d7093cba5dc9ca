package store

import (
	"math/rand/v2"
	"testing"
)

// TestIDTable holds the table against a map, over many growths and with keys
// that are ids put together as well as hashes.
func TestIDTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, key := range map[string]func() uint64{
		"hashes": rnd.Uint64,
		"pairs":  func() uint64 { return rnd.Uint64N(300)<<32 | rnd.Uint64N(300) },
		"small":  func() uint64 { return rnd.Uint64N(1 << 15) },
	} {
		t.Run(name, func(t *testing.T) {
			var table idTable
			want := map[uint64]uint32{}
			for i := range uint32(50_000) {
				k := key()
				id, ok := table.get(k)
				if known, there := want[k]; ok != there || id != known {
					t.Fatalf("key %#x: %d, %v, want %d, %v", k, id, ok, known, there)
				}
				if !ok {
					table.put(k, i)
					want[k] = i
				}
			}
			for k, id := range want {
				if got, ok := table.get(k); !ok || got != id {
					t.Fatalf("key %#x: %d, %v, want %d", k, got, ok, id)
				}
			}
		})
	}
}

// TestChildIndex grows a tree as the dictionary does, and holds it against a
// map.
func TestChildIndex(t *testing.T) {
	type edge struct{ parent, label uint32 }
	rnd := rand.New(rand.NewPCG(3, 4))
	var x childIndex
	want := map[edge]uint32{}
	labels := []uint32{0} // of the root, which is nobody's child
	for range 20_000 {
		node := uint32(0)
		for range 1 + rnd.IntN(12) {
			e := edge{node, uint32(rnd.ExpFloat64() * 3)}
			child, ok := x.find(e.parent, e.label, labels)
			if known, there := want[e]; ok != there || ok && child != known {
				t.Fatalf("%v: %d, %v, want %d, %v", e, child, ok, known, there)
			}
			if !ok {
				child = uint32(len(labels))
				labels = append(labels, e.label)
				x.add(e.parent, e.label, child)
				want[e] = child
			}
			node = child
		}
	}
	if len(x.more.slots) == 0 || x.more.n == len(labels) {
		t.Errorf("%d of %d nodes are in the table, want some", x.more.n, len(labels))
	}
}
