// Command small is a small program that dies, for tests that open its core
// many times.
package main

import (
	"os"
	"runtime"
	"strconv"
)

type node struct {
	next *node
	text string
	seen map[string][]int
}

//go:noinline
func wait(n *node, c chan *node) { c <- n }

//go:noinline
func die(n *node, depth int) string {
	if depth > 0 {
		return die(&node{next: n, text: n.text}, depth-1) + n.text
	}
	var none *node
	return none.next.text
}

func main() {
	c := make(chan *node)
	n := &node{text: "text", seen: map[string][]int{"a": {1, 2}, "b": nil}}
	for range 20 {
		go wait(n, c)
	}
	runtime.Gosched()
	os.Stdout.WriteString("ready " + strconv.Itoa(os.Getpid()) + " - 21\n")
	os.Stdout.WriteString(die(n, 5))
}
