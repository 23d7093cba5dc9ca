//go:build linux

package host_test

import (
	"testing"

	"github.com/goinquest/inquest/agent/host"
)

// BenchmarkScan looks at all processes again when nothing has changed.
func BenchmarkScan(b *testing.B) {
	s := host.NewScanner(host.Options{Want: func(exe string) bool { return exe == "host.test" }})
	for b.Loop() {
		if _, err := s.Scan(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
