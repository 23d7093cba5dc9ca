// Command dies is for the tests: a program that uses the client and dies, or
// lives, in the way its first argument names.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/goinquest/inquest/client"
	_ "github.com/goinquest/inquest/client/crash"
)

func main() {
	if os.Getenv("CAPTURE_STDERR") != "" {
		if err := client.CaptureStderr(client.Options{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(9)
		}
	}
	switch os.Args[1] {
	case "panic":
		panic("as asked")
	case "throw":
		var mu sync.Mutex
		mu.Unlock()
	case "many":
		n, err := strconv.Atoi(os.Getenv("GOROUTINES"))
		if err != nil {
			n = 2000
		}
		for range n {
			go func() { select {} }()
		}
		time.Sleep(100 * time.Millisecond)
		panic("one of many")
	case "exit":
		fmt.Fprintln(os.Stderr, "the last line")
		os.Exit(7)
	case "log":
		for i := range 20000 {
			fmt.Fprintln(os.Stderr, "line", i)
		}
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "term":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		fmt.Fprintln(os.Stderr, "got", <-c)
		os.Exit(3)
	case "wait-throw":
		_, _ = fmt.Scanln()
		var mu sync.Mutex
		mu.Unlock()
	case "wait": // until a line comes
		fmt.Println("ready")
		_, _ = fmt.Scanln()
		panic("after a wait")
	}
}
