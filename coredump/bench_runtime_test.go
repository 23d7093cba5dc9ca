//go:build linux && amd64

package coredump_test

import (
	"testing"

	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
)

// BenchmarkSelect finds the runtime and chooses a minicore, with 10,000
// goroutines and a heap.
func BenchmarkSelect(b *testing.B) {
	h := die(b, testprog.Build{Stripped: true}, "panic", "-goroutines=10000", "-heap=64")
	have := present(h)
	funcs := functionsOf(b, &h.Process)
	b.ReportAllocs()
	for b.Loop() {
		r, err := coredump.OpenRuntime(&h.Process, funcs)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := coredump.Select(&h.Process, r, coredump.Selection{Present: have}); err != nil {
			b.Fatal(err)
		}
	}
}
