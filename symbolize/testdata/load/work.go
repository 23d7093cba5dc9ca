package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"
)

var (
	mu  sync.Mutex
	pcs []uintptr
)

// here takes the stack it is called on.
func here() {
	var buf [64]uintptr
	n := runtime.Callers(1, buf[:])
	mu.Lock()
	pcs = append(pcs, buf[:n]...)
	mu.Unlock()
}

// Inlined several deep.
func leaf(n int) int  { here(); return n + 1 }
func one(n int) int   { return leaf(n) * 2 }
func two(n int) int   { return one(n) + one(n+1) }
func three(n int) int { return two(n) + 1 }

// Generic.
type number interface{ ~int | ~float64 | ~int32 }

func sum[T number](vs []T) (total T) {
	for _, v := range vs {
		total = plus(total, v)
	}
	here()
	return total
}

func plus[T number](a, b T) T { return a + b }

type pair[K comparable, V any] struct {
	key K
	val V
}

func (p *pair[K, V]) String() string { here(); return fmt.Sprint(p.key, p.val) }

type table[K comparable, V any] struct{ m map[K]pair[K, V] }

func (t *table[K, V]) each(f func(K, V)) {
	for k, v := range t.m {
		f(k, v.val)
	}
}

// Wrappers: a method of an embedded value through an interface, method
// values, deferred and started calls with arguments.
type inner struct{ n int }

func (i inner) Touch(by int) int { here(); return i.n + by }

type outer struct {
	*sync.Mutex
	inner
}

type toucher interface{ Touch(int) int }

type big struct {
	a, b, c string
	d       [3]int
}

func (b big) Touch(by int) int { here(); return len(b.a) + by }

func deferred(n int) (out int) {
	defer func() {
		if r := recover(); r != nil {
			here()
			out = n
		}
	}()
	defer leaf(n)
	for i := 0; i < n%3; i++ {
		defer three(i)
	}
	var p *pair[int, int]
	return p.val // a fault in an inlinable place
}

func started(n int) {
	var wg sync.WaitGroup
	wg.Add(2)
	done := func(m int) { three(m); wg.Done() }
	go done(n)
	go func(t toucher) { t.Touch(n); wg.Done() }(&outer{inner: inner{n}})
	wg.Wait()
}

func work(d time.Duration) []uintptr {
	total := 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		total += three(total % 7)
		total += sum([]int{1, 2, total % 3}) + int(sum([]float64{1, 2})) + int(sum([]int32{4}))
		t := &table[string, int]{map[string]pair[string, int]{"a": {"a", 1}}}
		t.each(func(k string, v int) { total += v; here() })
		for _, v := range []toucher{&outer{inner: inner{1}}, inner{2}, &inner{3}, &big{a: "x"}, big{b: "y"}} {
			total += v.Touch(1)
			f := v.Touch
			total += f(2)
			g := toucher.Touch
			total += g(v, 3)
		}
		total += deferred(total % 5)
		started(1)
		total += len(fmt.Sprint(&pair[string, int]{"k", 2}, pair[int, big]{}))
		b, _ := json.Marshal(map[string]any{"a": total, "b": strings.Repeat("x", 100), "c": []big{{}}})
		words := strings.Split(string(b), `"`)
		sort.Slice(words, func(i, j int) bool { return words[i] < words[j] })
		mu.Lock()
		if len(pcs) > 1<<16 {
			pcs = pcs[:1<<15]
		}
		mu.Unlock()
		total += extra(total) % 3
	}
	return pcs
}
