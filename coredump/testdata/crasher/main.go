// Crasher is a program that dies with a core, for tests.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

type node struct {
	next *node
	text string
}

var (
	kept    []*node
	table   = map[string]int{}
	barrier sync.Mutex
)

//go:noinline
func wait(n int, ready *sync.WaitGroup) {
	local := fmt.Sprint("waiter ", n)
	ready.Done()
	barrier.Lock()
	fmt.Println(local)
	barrier.Unlock()
}

//go:noinline
func die(n *node) string { return n.next.text }

func main() {
	debug.SetTraceback("crash")
	for i := range 20000 {
		kept = append(kept, &node{text: strings.Repeat("x", i%50)})
		table[fmt.Sprint(i)] = i
	}
	barrier.Lock()
	var ready sync.WaitGroup
	for i := range 8 {
		ready.Add(1)
		go wait(i, &ready)
	}
	ready.Wait()
	fmt.Println("ready")
	switch os.Args[1] {
	case "nil":
		fmt.Println(die(&node{}))
	case "oom":
		kept = append(kept, &node{text: string(make([]byte, 1<<46))})
	case "wait":
		time.Sleep(time.Hour)
	}
}
