package symbolize_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/goinquest/inquest"
)

// TestConcurrent asks one table from several goroutines, which get what one
// alone gets.
func TestConcurrent(t *testing.T) {
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	exe := readFile(t, name)
	alone, shared := newTable(t, exe), newTable(t, exe)
	at := alone.Functions("runtime.mallocgc")
	if len(at) == 0 {
		t.Fatal("there is no runtime.mallocgc")
	}
	from := at[0].Start - 1<<16
	var want [1 << 14][]inquest.Frame
	for i := range want {
		want[i] = alone.Frames(nil, from+8*uint64(i))
	}
	var askers sync.WaitGroup
	for seed := range uint64(8) {
		askers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			var got []inquest.Frame
			for range 20_000 {
				i := r.IntN(len(want))
				if got = shared.Frames(got[:0], from+8*uint64(i)); !slices.Equal(got, want[i]) {
					t.Errorf("%#x: %v, want %v", from+8*uint64(i), got, want[i])
					return
				}
			}
			if len(shared.Functions("runtime.mallocgc")) != len(at) {
				t.Error("a function is not found")
			}
		})
	}
	askers.Wait()
	if err := shared.Err(); err != nil {
		t.Error(err)
	}
}
