package spool_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest/agent/spool"
)

// BenchmarkPut stores profiles of 20 KB with a baseline of 40 KB, as heap
// profiles have it: alone, and from 16 targets at once.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := spool.Open(spool.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			body, state := bytes.Repeat([]byte("b"), 20<<10), bytes.Repeat([]byte("s"), 40<<10)
			var n atomic.Int64
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				key := fmt.Sprint(n.Add(1))
				for pb.Next() {
					if _, err := s.Put(header("s"), body, &spool.Baseline{Key: key, Taken: time.Now(), Data: state}, false); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkOpen opens a spool as an outage leaves it.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	for range 2000 {
		if _, err := s.Put(header("s"), []byte("body"), nil, false); err != nil {
			b.Fatal(err)
		}
	}
	_ = s.Close()
	for b.Loop() {
		s, err := spool.Open(spool.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
