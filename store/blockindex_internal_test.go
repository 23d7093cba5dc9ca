package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestBlockIndex compares the index with a look at every block.
func TestBlockIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	x := newBlockIndex()
	var all []*block
	for i := range 3000 {
		from := r.Int64N(60*dayNanos) - 30*dayNanos
		length := r.Int64N(dayNanos / 4)
		if r.IntN(50) == 0 {
			length = r.Int64N(20 * dayNanos)
		}
		b := &block{info: &blockInfo{id: fmt.Sprint(i), created: int64(i), from: from, to: from + length}}
		x.add(b)
		all = append(all, b)
		if r.IntN(3) == 0 {
			k := r.IntN(len(all))
			x.remove(all[k])
			all = slices.Delete(all, k, k+1)
		}
		lo := r.Int64N(70*dayNanos) - 35*dayNanos
		hi := lo + r.Int64N(3*dayNanos)
		switch r.IntN(10) {
		case 0:
			lo, hi = math.MinInt64, math.MaxInt64
		case 1:
			hi = lo
		}
		var want []string
		for _, b := range all {
			if b.info.from <= hi && b.info.to >= lo {
				want = append(want, b.info.id)
			}
		}
		var got []string
		for _, b := range x.overlapping(lo, hi) {
			got = append(got, b.info.id)
		}
		if !slices.Equal(want, got) {
			t.Fatalf("%d to %d: %v, want %v", lo, hi, got, want)
		}
	}
}
