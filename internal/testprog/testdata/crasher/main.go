// Command crasher dies as it is told, for tests.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// deaths are the ways to die.
var deaths = map[string]func(){
	"panic":    func() { handle("explicit") },
	"nil":      func() { handle("nil") },
	"leaf":     func() { handle("leaf") },
	"custom":   func() { handle("custom") },
	"error":    func() { handle("error") },
	"index":    func() { handle("index") },
	"repanic":  func() { handle("repanic") },
	"generic":  func() { handle("generic") },
	"closure":  func() { handle("closure") },
	"divide":   func() { handle("divide") },
	"assert":   func() { handle("assert") },
	"int":      func() { handle("int") },
	"float":    func() { handle("float") },
	"code":     func() { handle("code") },
	"word":     func() { handle("word") },
	"pointer":  func() { handle("pointer") },
	"lines":    func() { handle("lines") },
	"nothing":  func() { handle("nothing") },
	"same":     func() { handle("same") },
	"close":    func() { handle("close") },
	"stale":    func() { handle("stale") },
	"fault":    fault,
	"maps":     writeMap,
	"deadlock": deadlock,
	"locked":   lockTwice,
	"chatty":   func() { chat(); lockTwice() },
	"stack":    func() { debug.SetMaxStack(1 << 20); recurse(0) },
	"oom":      outOfMemory,
	"abort":    func() { kill(syscall.SIGABRT) },
	"segv":     func() { kill(syscall.SIGSEGV) },
	"goexit":   runtime.Goexit,
	"c":        crashInC,
	"exit":     func() { os.Exit(3) },
	"wait":     func() { select {} },
	"spin":     spin,
}

func main() {
	kind := flag.String("kind", "wait", "how to die: "+strings.Join(kinds(), ", "))
	goroutines := flag.Int("goroutines", 0, "that wait")
	heap := flag.Int("heap", 0, "`MiB` of text and pointers to keep")
	addr := flag.String("http", "", "`address` to serve /debug/pprof/ and /die?kind= at")
	after := flag.Duration("after", 0, "how long to live before")
	flag.String("token", "", "a secret")
	other := flag.Bool("other", false, "die in another goroutine than main's")
	flag.Parse()
	die, ok := deaths[*kind]
	if !ok {
		fmt.Fprintf(os.Stderr, "kind %q: one of %s is known\n", *kind, strings.Join(kinds(), ", "))
		os.Exit(2)
	}
	for _, s := range append(os.Environ(), os.Args...) {
		settings = append(settings, []byte(s)) // programs copy what they were told
	}
	fill(*heap)
	startGoroutines(*goroutines)
	listening := "-"
	if *addr != "" {
		listening = listen(*addr)
	}
	fmt.Printf("ready %d %s %d\n", os.Getpid(), listening, runtime.NumGoroutine())
	time.Sleep(*after)
	if *other {
		go die()
		time.Sleep(time.Hour)
	}
	die()
}

func kinds() []string {
	var out []string
	for k := range deaths {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// listen serves, and returns where.
func listen(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	http.HandleFunc("/goroutines", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, runtime.NumGoroutine())
	})
	http.HandleFunc("/die", func(w http.ResponseWriter, r *http.Request) {
		if die, ok := deaths[r.FormValue("kind")]; ok {
			go die() // net/http would recover
		}
	})
	go http.Serve(l, nil)
	return l.Addr().String()
}

// request is what is handled when the program dies.
type request struct {
	ctx     context.Context
	kind    string
	user    *user
	payload []byte
	count   int
}

type user struct {
	name string
	next *user
}

// handle dies a few calls down.
//
//go:noinline
func handle(kind string) {
	ctx := pprof.WithLabels(context.Background(), pprof.Labels("kind", kind))
	pprof.SetGoroutineLabels(ctx)
	r := &request{ctx: ctx, kind: kind, payload: []byte("payload of the request that died"), count: len(kind)}
	r.serve()
}

func (r *request) serve() {
	defer r.done()
	pprof.Do(r.ctx, pprof.Labels("endpoint", "/"+r.kind), func(context.Context) {
		r.dispatch()
	})
}

//go:noinline
func (r *request) done() { r.count++ }

//go:noinline
func (r *request) dispatch() {
	switch r.kind {
	case "explicit":
		explicit(r)
	case "nil":
		fmt.Println(r.inlinedName())
	case "leaf":
		fmt.Println(leaf(r.user))
	case "custom":
		panic(&failure{code: r.count, text: "a failure of our own kind"})
	case "error":
		panic(fmt.Errorf("dispatch: %w", errors.New("something is wrong")))
	case "index":
		fmt.Println(r.at(r.count + 100))
	case "repanic":
		r.again()
	case "generic":
		fmt.Println(pick([]string{"a"}, r.count))
	case "closure":
		r.each(func(i int) { panic(fmt.Sprint("element ", i)) })
	case "divide":
		fmt.Println(100 / len(r.kind[6:]))
	case "assert":
		var v any = r
		fmt.Println(v.(error))
	case "close":
		c := make(chan int)
		close(c)
		close(c)
	case "same":
		defer func() { panic(recover()) }()
		explicit(r)
	case "stale":
		r.recovers()
		explicit(r)
	default:
		r.value()
	}
}

// code and word are no errors, so that they stay what they are when a panic
// writes them.
type (
	code int8
	word string
)

// value panics with values of many types.
//
//go:noinline
func (r *request) value() {
	switch r.kind {
	case "int":
		panic(-r.count)
	case "float":
		panic(float64(r.count) / 4)
	case "code":
		panic(code(-r.count))
	case "word":
		panic(word("of " + r.kind))
	case "pointer":
		panic(&user{name: "somebody"})
	case "lines":
		panic("two\nlines: " + r.kind)
	case "nothing":
		panic(nil)
	}
}

// recovers comes back from a nil dereference.
//
//go:noinline
func (r *request) recovers() {
	defer func() { _ = recover() }()
	fmt.Println(r.inlinedName())
}

// fault writes where the program is.
func fault() {
	p := reflect.ValueOf(fault).Pointer()
	*(*byte)(unsafe.Pointer(p)) = 1
}

//go:noinline
func explicit(r *request) {
	panic("explicit: " + string(r.payload))
}

// inlinedName is inlined, and where it is r.user is nil.
func (r *request) inlinedName() string { return r.user.name }

// leaf has no frame.
//
//go:noinline
func leaf(u *user) *user { return u.next }

//go:noinline
func (r *request) at(i int) byte { return r.payload[i] }

//go:noinline
func (r *request) again() {
	defer func() {
		v := recover()
		panic(fmt.Sprint("again: ", v))
	}()
	explicit(r)
}

//go:noinline
func pick[T any](list []T, i int) T { return list[i] }

//go:noinline
func (r *request) each(f func(int)) {
	for i := range r.payload {
		f(i)
	}
}

type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return fmt.Sprint(f.code, ": ", f.text) }

// writeMap lets goroutines write to one map until the runtime sees it.
func writeMap() {
	m := map[int]int{}
	for i := 0; i < 8; i++ {
		go func() { store(m, i) }()
	}
	select {}
}

//go:noinline
func store(m map[int]int, n int) {
	for i := 0; ; i++ {
		m[i%1000+n] = i
	}
}

// deadlock waits for what cannot happen.
func deadlock() {
	c := make(chan int)
	<-c
}

// chat fills the ring of what the runtime printed, a length of it that the
// environment says.
func chat() {
	for i := 0; i < 30; i++ {
		println("a line of the program itself", i)
	}
	println(os.Getenv("CHAT"))
}

func lockTwice() {
	var mu sync.Mutex
	mu.Unlock()
}

//go:noinline
func recurse(n int) int {
	var pad [100]int
	pad[n%100] = n
	return recurse(n+1) + pad[(n+1)%100]
}

var sink []byte

//go:noinline
func outOfMemory() {
	n := 1 << 46
	sink = make([]byte, n)
}

//go:noinline
func kill(sig syscall.Signal) {
	syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Hour)
}

//go:noinline
func spin() {
	for i := 0; ; i++ {
		sink = append(sink[:0], byte(i))
	}
}

var startOnce sync.WaitGroup

// startGoroutines starts goroutines that wait, each on its own channel.
func startGoroutines(n int) {
	startOnce.Add(n)
	for i := 0; i < n; i++ {
		go waiter(i)
	}
	startOnce.Wait()
}

//go:noinline
func waiter(n int) {
	c := make(chan int)
	startOnce.Done()
	<-c
}

// page is a piece of the heap.
type page struct {
	text []byte
	next *page
	user *user
}

var (
	settings [][]byte

	pages *page
	roots []*user
)

// fill keeps so many MiB: text that can be compressed somewhat, and pointers.
func fill(mib int) {
	var buf bytes.Buffer
	seed := uint32(1)
	for i := 0; i < mib; i++ {
		buf.Reset()
		for buf.Len() < 1<<20-200 {
			seed = seed*1664525 + 1013904223
			fmt.Fprintf(&buf, `{"id":%d,"user":"user-%d","path":"/api/v1/items/%x","ok":%v},`, seed, seed>>20, seed*2654435761, seed&1024 == 0)
		}
		u := &user{name: fmt.Sprint("user ", i)}
		pages = &page{text: append([]byte(nil), buf.Bytes()...), next: pages, user: u}
		roots = append(roots, u)
	}
}
