// Command dies dies in the way its first argument names. A second argument is
// how many goroutines wait meanwhile.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

type code int
type failure struct{ name string }
type wrapped struct{ err error }
type point struct{ x, y int }

func (f *failure) Error() string { return "failure of " + f.name }
func (w wrapped) String() string { return "wrapped: " + w.err.Error() }

var (
	sink  any
	zero  int
	empty []int
	none  *point
	table map[int]int
)

//go:noinline
func inner(f func()) { f() }

func pick[T any](v []T, i int) T { return v[i] }

func again(value any) {
	defer func() {
		if r := recover(); r != nil {
			panic(value)
		}
	}()
	panic("first")
}

//go:noinline
func deep(n int) int { return deep(n+1) + deep(n+2) }

var ways = map[string]func(){
	"string":  func() { panic("boom 42") },
	"lines":   func() { panic("boom\n\ngoroutine 1 [running]:\nmain.fake()\n\t/fake.go:1 +0x1") },
	"error":   func() { panic(errors.New("no such thing")) },
	"failure": func() { panic(&failure{"x"}) },
	"string2": func() { panic(wrapped{errors.New("x")}) },
	"code":    func() { panic(code(7)) },
	"struct":  func() { panic(point{1, 2}) },
	"pointer": func() { panic(&point{1, 2}) },
	"again":   func() { again("second") },
	"same":    func() { again("first") },
	"deferred": func() {
		defer func() { panic("in the deferred function") }()
		panic("root")
	},
	"index":      func() { fmt.Println(empty[len(os.Args)+5]) },
	"generic":    func() { fmt.Println(pick(empty, 3)) },
	"nil":        func() { fmt.Println(none.x) },
	"divide":     func() { fmt.Println(1 / zero) },
	"conversion": func() { sink = "s"; fmt.Println(sink.(int)) },
	"closed":     func() { c := make(chan int); close(c); close(c) },
	"nilmap":     func() { table[1] = 1 },
	"maps": func() {
		m := map[int]int{}
		for i := 0; i < 4; i++ {
			go func() {
				for i := 0; ; i++ {
					m[i%100] = i
				}
			}()
		}
		select {}
	},
	"deadlock": func() { select {} },
	"unlock":   func() { var mu sync.Mutex; mu.Unlock() },
	"overflow": func() { deep(0) },
	"memory":   func() { sink = make([]byte, 1<<46) },
	"fault": func() {
		m, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			panic(err)
		}
		fmt.Println(*(*byte)(unsafe.Pointer(&m[0])))
	},
	"goroutine": func() {
		go func() { panic("elsewhere") }()
		time.Sleep(time.Minute)
	},
	"quit":  func() { raise(syscall.SIGQUIT) },
	"abort": func() { raise(syscall.SIGABRT) },
}

func raise(s syscall.Signal) {
	_ = syscall.Kill(os.Getpid(), s)
	time.Sleep(time.Minute)
}

func main() {
	if len(os.Args) > 2 {
		n, _ := strconv.Atoi(os.Args[2])
		for i := 0; i < n; i++ {
			go func() { <-make(chan int, 1) }()
		}
		time.Sleep(50 * time.Millisecond)
	}
	inner(ways[os.Args[1]])
}
